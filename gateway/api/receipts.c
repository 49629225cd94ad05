/*
 * receipts.c - requests that wait until Kafka has an event
 *
 * One session asks for all of them.  In turns it reads the states of their
 * events, and waits for one that is pending, at most ROUND_US: while a session
 * waits, the relay stores its position at once, and so the others' events are
 * seen as published in the next round.  A client that comes meanwhile is in
 * the next round too.  When no request waits, the session is idle.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/receipts.h"

#include <stdlib.h>
#include <string.h>

#include "extension/protocol/receipt_state.h"

#define WAITERS_MAX 1000
#define LOOK_MAX	100			 /* events whose states one call reads */
#define ROUND_US	(10 * MS_US) /* as the statement has it */

typedef enum ReceiptsStep
{
	RECEIPTS_IDLE,
	RECEIPTS_LOOK, /* the states of the first waiters are being read */
	RECEIPTS_WAIT,
} ReceiptsStep;

typedef struct Waiter
{
	ApiRequest *request;
	int64_t		until;
	bool		pending; /* as it was read last */
} Waiter;

struct Receipts
{
	Loop		*loop;
	LoopTimer	*timer; /* turns the loop when the next look may begin */
	Waiter		 waiters[WAITERS_MAX];
	int			 count;
	ReceiptsStep step;	  /* that a session does */
	bool		 looked;  /* a wait is next */
	int			 looking; /* waiters whose states are being read */
	int64_t		 look_at; /* not before */
	bool		 stale;	  /* the last look met such a session (db/pool.h) */
	bool		 stopping;
	Buf			 ids;
	PgParam		 param;
};

/* Columns of a look. */
enum
{
	LOOK_STATE,
	LOOK_BODY,
	LOOK_COLUMNS,
};

static const PgStatement statement_look = {
	.name = "look_at_events",
	.sql = "SELECT s.state, row_to_json(s) FROM unnest($1::uuid[]) "
		   "WITH ORDINALITY e (id, n), event_status(e.id) s ORDER BY e.n",
	.nparams = 1,
	.id = POOL_STATEMENT_LOOK,
};
static const PgStatement statement_wait = {
	.name = "wait_for_event",
	.sql = "SELECT wait_for_event($1::uuid, '10ms'::interval)",
	.nparams = 1,
	.id = POOL_STATEMENT_WAIT,
};

static const char *
receipts_event(const Waiter *waiter)
{
	return request_value(waiter->request, "event_id");
}

bool
receipts_want(const ApiRequest *request)
{
	const char *wait = request_value(request, "wait");

	return wait != NULL && strcmp(wait, "0") != 0;
}

/* ---- a look at the states ---------------------------------------------- */

static bool
receipts_is(const PGresult *result, int row, ReceiptState state)
{
	return strcmp(PQgetvalue(result, row, LOOK_STATE),
				  receipt_state_texts[state]) == 0;
}

/* As the statement of the route without a wait. */
static void
receipts_answer(const Waiter *waiter, const PGresult *result, int row)
{
	Buf body = {0};

	if (receipts_is(result, row, RECEIPT_UNKNOWN))
	{
		problem_give(waiter->request->http, PROBLEM_UNKNOWN_EVENT, NULL);
		return;
	}
	buf_printf(&body, "%s\n", PQgetvalue(result, row, LOOK_BODY));
	http_answer(waiter->request->http,
				receipts_is(result, row, RECEIPT_PUBLISHED) ? 200 : 202,
				"application/json", &body);
}

/* Whether the waiter goes on waiting. */
static bool
receipts_keep(const Receipts *receipts, Waiter *waiter, const PGresult *result,
			  int row)
{
	Assert(PQnfields(result) == LOOK_COLUMNS);
	waiter->pending = receipts_is(result, row, RECEIPT_PENDING);
	return !receipts_is(result, row, RECEIPT_PUBLISHED) &&
		   !receipts->stopping && loop_now(receipts->loop) < waiter->until;
}

/* Those that are not answered go behind the others. */
static void
receipts_looked(void *arg, const PoolAnswer *answer)
{
	Receipts *receipts = arg;
	Waiter	  seen[LOOK_MAX];
	int		  n = receipts->looking;
	bool	  good = answer->result != NULL &&
				PQresultStatus(answer->result) == PGRES_TUPLES_OK;

	Assert(receipts->step == RECEIPTS_LOOK && n <= receipts->count);
	Assert(!good || PQntuples(answer->result) == n);
	memcpy(seen, receipts->waiters, (size_t) n * sizeof(Waiter));
	receipts->count -= n;
	memmove(receipts->waiters, receipts->waiters + n,
			(size_t) receipts->count * sizeof(Waiter));
	receipts->stale = answer->stale && !receipts->stale;
	for (int i = 0; i < n; i++)
		if (answer->result == NULL)
			problem_give(seen[i].request->http, PROBLEM_DATABASE_AWAY, NULL);
		else if (!good && !receipts->stale)
			problem_give_failure(seen[i].request->http, answer);
		else if (receipts->stale ||
				 receipts_keep(receipts, &seen[i], answer->result, i))
			receipts->waiters[receipts->count++] = seen[i];
		else
			receipts_answer(&seen[i], answer->result, i);
	Assert(receipts->count <= WAITERS_MAX);
	receipts->step = RECEIPTS_IDLE;
	receipts->looked = !receipts->stale;
}

static void
receipts_look(Receipts *receipts, PoolWork *work)
{
	Assert(receipts->step == RECEIPTS_IDLE && receipts->count > 0);
	receipts->looking = Min(receipts->count, LOOK_MAX);
	receipts->step = RECEIPTS_LOOK;
	buf_free(&receipts->ids);
	for (int i = 0; i < receipts->looking; i++)
		buf_printf(&receipts->ids, "%s%s", i > 0 ? "," : "{",
				   receipts_event(&receipts->waiters[i]));
	buf_add_str(&receipts->ids, "}");
	receipts->param.data = buf_str(&receipts->ids);
	*work = (PoolWork){
		.statement = &statement_look,
		.params = &receipts->param,
		.done = receipts_looked,
		.arg = receipts,
	};
}

/* ---- a wait for one of them -------------------------------------------- */

/* On a standby for one it is an error, at once: the pause is then ours. */
static void
receipts_waited(void *arg, const PoolAnswer *answer)
{
	Receipts *receipts = arg;

	Assert(receipts->step == RECEIPTS_WAIT);
	receipts->step = RECEIPTS_IDLE;
	receipts->looked = false;
	if (answer->sqlstate == NULL)
		receipts->look_at = loop_now(receipts->loop);
}

static void
receipts_wait(Receipts *receipts, PoolWork *work)
{
	const Waiter *waiter = receipts->waiters;

	for (int i = 0; i < receipts->count; i++)
		if (receipts->waiters[i].pending)
		{
			waiter = &receipts->waiters[i];
			break;
		}
	Assert(receipts->step == RECEIPTS_IDLE && receipts->count > 0);
	receipts->step = RECEIPTS_WAIT;
	receipts->look_at = loop_now(receipts->loop) + ROUND_US;
	receipts->param.data = receipts_event(waiter);
	*work = (PoolWork){
		.statement = &statement_wait,
		.params = &receipts->param,
		.done = receipts_waited,
		.arg = receipts,
	};
}

bool
receipts_next(void *arg, PoolWork *work)
{
	Receipts *receipts = arg;

	if (receipts->count == 0)
		receipts->looked = false;
	if (receipts->count == 0 || receipts->step != RECEIPTS_IDLE)
		return false;
	if (receipts->looked)
		receipts_wait(receipts, work);
	else if (loop_now(receipts->loop) < receipts->look_at)
	{
		loop_timer_set(receipts->timer, receipts->look_at);
		return false;
	}
	else
		receipts_look(receipts, work);
	return true;
}

/* ---- requests ---------------------------------------------------------- */

void
receipts_add(Receipts *receipts, ApiRequest *request)
{
	int64_t wait;

	if (!parse_number(request_value(request, "wait"), &wait))
		Assert(!"a field that was read");
	if (receipts->count >= WAITERS_MAX)
	{
		problem_give(request->http, PROBLEM_OVERLOADED,
					 "too many requests wait for an event");
		return;
	}
	receipts->waiters[receipts->count++] = (Waiter){
		.request = request,
		.until = loop_now(receipts->loop) + wait,
	};
}

void
receipts_stop(Receipts *receipts)
{
	receipts->stopping = true;
}

void
receipts_fail(Receipts *receipts, ProblemId id)
{
	Assert(receipts->step == RECEIPTS_IDLE);
	for (int i = 0; i < receipts->count; i++)
		problem_give(receipts->waiters[i].request->http, id, NULL);
	receipts->count = 0;
}

static void
receipts_on_timer(void *arg UNUSED)
{
	/* the turn asks the sources for work */
}

Receipts *
receipts_new(Loop *loop)
{
	Receipts *receipts = xcalloc(1, sizeof(Receipts));

	receipts->loop = loop;
	receipts->timer = loop_timer_new(loop, receipts_on_timer, NULL);
	return receipts;
}

void
receipts_free(Receipts *receipts)
{
	if (receipts == NULL)
		return;
	Assert(receipts->count == 0 && receipts->step == RECEIPTS_IDLE);
	loop_timer_free(receipts->timer);
	buf_free(&receipts->ids);
	free(receipts);
}
