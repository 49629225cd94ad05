/*
 * live.c - what happens now, as server-sent events
 *
 * A response holds one event, and a client asks for the next one as every
 * client of server-sent events does when a stream has ended: with the id of the
 * last event that it has.  All that wait get the same event, so the database
 * has one query a second however many look on, and none when no client waits.
 * Each request shows its token again: one that was withdrawn sees no more.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/live.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CLIENTS_MAX 500
#define EVERY_US	SEC_US

struct Live
{
	Loop		*loop;
	LoopTimer	*timer; /* turns the loop when the next query may run */
	RequestQueue waiting;
	PgStatement	 statement;
	bool		 asked;	  /* the database, and it has not answered yet */
	bool		 stale;	  /* its last answer was one of such a session */
	int64_t		 read_at; /* the last query was sent */
	int64_t		 id;	  /* of the last event; 0: there is none */
	Buf			 event;
};

static void
live_on_timer(void *arg UNUSED)
{
	/* the turn asks the sources for work */
}

static void
live_give(const Live *live, HttpRequest *http)
{
	Buf body = {0};

	Assert(live->id > 0 && live->event.len > 0);
	buf_add(&body, live->event.data, live->event.len);
	http_answer(http, 200, "text/event-stream", &body);
}

static void
live_done(void *arg, const PoolAnswer *answer)
{
	Live	   *live = arg;
	ApiRequest *request;
	bool		good = answer->result != NULL &&
				PQresultStatus(answer->result) == PGRES_TUPLES_OK;

	Assert(live->asked);
	live->asked = false;
	live->stale = answer->stale && !live->stale;
	if (live->stale)
	{
		live->read_at = -EVERY_US;
		return;
	}
	if (good)
	{
		live->id++;
		buf_free(&live->event);
		buf_printf(&live->event,
				   "retry: 1000\nid: %" PRId64 "\nevent: activity\n"
				   "data: %s\n\n",
				   live->id, PQgetvalue(answer->result, 0, 0));
	}
	while ((request = request_queue_take(&live->waiting)) != NULL)
		if (good)
			live_give(live, request->http);
		else if (answer->result == NULL)
			problem_give(request->http, PROBLEM_DATABASE_AWAY, NULL);
		else
			problem_give_failure(request->http, answer);
}

/* Whether the client has seen the last event. */
static bool
live_is_known(const Live *live, const HttpRequest *http)
{
	const char *text = http_request_header(http, "Last-Event-ID");
	int64_t		id;

	return text != NULL && parse_number(text, &id) && id == live->id;
}

void
live_add(Live *live, ApiRequest *request)
{
	bool fresh = live->id > 0 &&
				 loop_now(live->loop) - live->read_at < EVERY_US;

	live->statement = route_statement(request->route, &request->values);
	if (fresh && !live->asked && !live_is_known(live, request->http))
		live_give(live, request->http);
	else if (live->waiting.count >= CLIENTS_MAX)
		problem_give(request->http, PROBLEM_OVERLOADED,
					 "too many clients look on");
	else
		request_queue_add(&live->waiting, request);
}

bool
live_next(void *arg, PoolWork *work)
{
	Live   *live = arg;
	int64_t at = live->read_at + EVERY_US;

	if (live->waiting.count == 0 || live->asked)
		return false;
	if (loop_now(live->loop) < at)
	{
		loop_timer_set(live->timer, at);
		return false;
	}
	Assert(live->waiting.count <= CLIENTS_MAX && live->statement.sql != NULL);
	live->asked = true;
	live->read_at = loop_now(live->loop);
	*work = (PoolWork){
		.statement = &live->statement,
		.patience_us = POOL_PATIENCE_US,
		.done = live_done,
		.arg = live,
	};
	return true;
}

void
live_fail(Live *live, ProblemId id)
{
	request_queue_fail(&live->waiting, id, NULL);
}

Live *
live_new(Loop *loop)
{
	Live *live = xcalloc(1, sizeof(Live));

	live->loop = loop;
	live->read_at = -EVERY_US;
	live->timer = loop_timer_new(loop, live_on_timer, NULL);
	return live;
}

void
live_free(Live *live)
{
	if (live == NULL)
		return;
	Assert(live->waiting.count == 0 && !live->asked);
	loop_timer_free(live->timer);
	buf_free(&live->event);
	free(live);
}
