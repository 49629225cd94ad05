/*
 * reserve.c - requests that reserve: gathered into batches
 *
 * What waits when a session is free goes together, in one reserve_orders() and
 * one commit; each request gets its own answer from its own rows.  Nothing
 * waits for company: with one client, each batch is one request.
 *
 * A batch holds an order and an idempotency key once, because the rows of two
 * requests for one order could not be distinguished; the second one is in a
 * later batch, and stays behind the first.  A batch is of one actor, which the
 * ledger names.
 *
 * An error of the database fails a batch as a whole.  If fewer requests may
 * fare better, the batch is sent again in halves, down to the one that is
 * refused: 2 * log2(n) calls more for one bad request among n.
 *
 * A product that another session holds for long holds up no other product.  A
 * batch waits for a lock LOCK_WAIT at most; then its requests are sent again, a
 * batch for each product.  The product that fails again is noted as locked
 * (api/locked.c): requests for it are no part of other batches, and wait for
 * the lock in one session, a product at a time, as long as other statements do.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/reserve.h"

#include <stdlib.h>
#include <string.h>

#include "api/lines.h"
#include "api/locked.h"
#include "common/json.h"

#define BATCH_MAX		   1000	 /* the option's own maximum */
#define NAMES_MAX		   4096	 /* slots for the orders and keys of a batch */
#define BATCH_BYTES_MAX	   65536 /* of items: some 1,000 lines */
#define ORDERS_BYTES_KEPT  1048576
#define AGAIN_MAX		   2 /* how often a batch is sent again as it is */
#define LOCK_WAIT		   "300ms"
#define LOCKED_WAITING_MAX 500

_Static_assert(
	NAMES_MAX > 4 * BATCH_MAX,
	"twice the batch is looked at, with two names each: a slot is free");

typedef struct Batch
{
	ReserveQueue *queue;
	struct Batch *next;		  /* in the list of those to be sent again */
	int			  sent_again; /* as it is */
	bool		  locked;	  /* its product is */
	int			  count;
	ApiRequest	 *requests[];
} Batch;

/* A name in the batch that is being gathered. */
typedef struct Name
{
	uint64_t hash;
	uint64_t batch; /* its number: another one is of an earlier batch */
} Name;

struct ReserveQueue
{
	RequestQueue   waiting;
	Batch		  *again; /* batches to be sent again, first of all */
	LockedProducts locked;
	RequestQueue   locked_waiting; /* for one of those products */
	const int64_t *batch_max;
	Metrics		  *metrics;
	int			   histogram;
	uint64_t	   batch; /* number of the one that is being gathered */
	const char	  *actor; /* its own */
	Name		   names[NAMES_MAX];
	Buf			   orders; /* of the last batch, as JSON */
	PgParam		   param;
	PgStatement	   statement;
};

/* ---- gathering --------------------------------------------------------- */

/*
 * The slot of the name in the batch, or the free one where it would be.  Two
 * names of one hash are taken for one: the second waits, no more.
 */
static Name *
reserve_find_name(ReserveQueue *queue, uint64_t hash)
{
	size_t at = hash % NAMES_MAX;

	Assert(queue->batch > 0);
	while (queue->names[at].batch == queue->batch &&
		   queue->names[at].hash != hash)
		at = (at + 1) % NAMES_MAX;
	return &queue->names[at];
}

/* kind: an order and a key of one text are two names. */
static bool
reserve_has_name(ReserveQueue *queue, const char *text, uint64_t kind)
{
	return text != NULL &&
		   reserve_find_name(queue, hash_text(text, kind))->batch ==
			   queue->batch;
}

static void
reserve_add_name(ReserveQueue *queue, const char *text, uint64_t kind)
{
	uint64_t hash;
	Name	*name;

	if (text == NULL)
		return;
	hash = hash_text(text, kind);
	name = reserve_find_name(queue, hash);
	*name = (Name){.hash = hash, .batch = queue->batch};
}

static bool
reserve_is_actor(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/*
 * Whether the request can join the batch; its names are in it then, or they
 * keep later requests for the same order out of it.
 */
static bool
reserve_joins(ReserveQueue *queue, const ApiRequest *request)
{
	const char *order = request->values.text[RESERVE_ORDER_ID];
	const char *key = request->values.text[RESERVE_KEY];
	bool		joins = reserve_is_actor(request->actor, queue->actor) &&
				 !reserve_has_name(queue, order, 0) &&
				 !reserve_has_name(queue, key, 1);

	reserve_add_name(queue, order, 0);
	reserve_add_name(queue, key, 1);
	return joins;
}

static Batch *
reserve_new_batch(ReserveQueue *queue, int max)
{
	Batch *batch = xcalloc(1,
						   sizeof(Batch) + (size_t) max * sizeof(ApiRequest *));

	batch->queue = queue;
	return batch;
}

/* Nothing more joins; NULL: nothing has. */
static Batch *
reserve_end_batch(Batch *batch)
{
	ReserveQueue *queue = batch->queue;

	if (batch->count == 0)
	{
		free(batch);
		return NULL;
	}
	Assert(batch->count <= BATCH_MAX);
	metrics_observe(queue->metrics, queue->histogram, batch->count);
	return batch;
}

static void
reserve_put_aside(ReserveQueue *queue, ApiRequest *request)
{
	Assert(queue->locked_waiting.count <= LOCKED_WAITING_MAX);
	if (queue->locked_waiting.count < LOCKED_WAITING_MAX)
		request_queue_add(&queue->locked_waiting, request);
	else
		problem_give(request->http, PROBLEM_CONFLICT,
					 "another session holds the product");
}

/* Takes what waits, in its order; what cannot join yet keeps its place. */
static Batch *
reserve_gather(ReserveQueue *queue)
{
	int			 max = (int) Min(*queue->batch_max, queue->waiting.count);
	int			 looks = Min(2 * max, queue->waiting.count);
	size_t		 bytes = 0;
	Batch		*batch;
	RequestQueue left = {0};
	ApiRequest	*request;

	if (max == 0)
		return NULL;
	batch = reserve_new_batch(queue, max);
	queue->batch++;
	while (batch->count < max && looks > 0 &&
		   (request = request_queue_take_present(&queue->waiting)) != NULL)
	{
		if (locked_is_named(&queue->locked, request))
		{
			reserve_put_aside(queue, request);
			continue;
		}
		looks--;
		bytes += strlen(request->values.text[RESERVE_ITEMS]);
		if (batch->count == 0)
			queue->actor = request->actor;
		else if (bytes > BATCH_BYTES_MAX)
		{
			request_queue_add(&left, request);
			break;
		}
		if (reserve_joins(queue, request))
			batch->requests[batch->count++] = request;
		else
			request_queue_add(&left, request);
	}
	/* nothing is left out of an empty batch: the first of it always joins */
	Assert(batch->count > 0 || left.count == 0);
	request_queue_put_back(&queue->waiting, &left);
	return reserve_end_batch(batch);
}

/*
 * Takes the first that waits for a product that is locked, and the others that
 * name the same product and nothing else.
 */
static Batch *
reserve_gather_locked(ReserveQueue *queue)
{
	int		 max = (int) Min(*queue->batch_max, queue->locked_waiting.count);
	uint64_t product = 0;
	Batch	*batch;
	RequestQueue left = {0};
	ApiRequest	*request;

	if (max == 0)
		return NULL;
	batch = reserve_new_batch(queue, max);
	batch->locked = true;
	queue->batch++;
	while (batch->count < max && (request = request_queue_take_present(
									  &queue->locked_waiting)) != NULL)
	{
		bool first = batch->count == 0;

		if (first)
		{
			queue->actor = request->actor;
			product = locked_product(request);
		}
		if ((first || (product != 0 && locked_product(request) == product)) &&
			reserve_joins(queue, request))
			batch->requests[batch->count++] = request;
		else
			request_queue_add(&left, request);
	}
	Assert(batch->count > 0 || left.count == 0);
	request_queue_put_back(&queue->locked_waiting, &left);
	return reserve_end_batch(batch);
}

/* ---- one call ---------------------------------------------------------- */

static void
reserve_add_member(Buf *json, const char *name, const char *value)
{
	if (value == NULL)
		return;
	buf_add_str(json, ",");
	json_add_name(json, name);
	json_add_string(json, value);
}

static void
reserve_add_items(Buf *json, const ApiRequest *request)
{
	char *const *values = request->values.text;

	if (request->route->fields[RESERVE_ITEMS].type == FIELD_ITEMS)
	{
		buf_add_str(json, ",\"items\":");
		buf_add_str(json, values[RESERVE_ITEMS]);
		return;
	}
	buf_add_str(json, ",\"whole\":false,\"items\":[{\"product_id\":");
	json_add_string(json, values[RESERVE_PRODUCT_ID]);
	buf_add_str(json, ",\"quantity\":");
	buf_add_str(json, values[RESERVE_QUANTITY]);
	reserve_add_member(json, "location", values[RESERVE_LOCATION]);
	buf_add_str(json, "}]");
}

/* An element of the argument "orders" of reserve_orders(). */
static void
reserve_add_order(Buf *json, const ApiRequest *request)
{
	char *const *values = request->values.text;

	buf_add_str(json, "{\"order_id\":");
	json_add_string(json, values[RESERVE_ORDER_ID]);
	reserve_add_member(json, "user_id", values[RESERVE_USER_ID]);
	reserve_add_member(json, "ttl", values[RESERVE_TTL]);
	reserve_add_member(json, "idempotency_key", values[RESERVE_KEY]);
	reserve_add_member(json, "trace_id", request->trace);
	reserve_add_items(json, request);
	buf_add_str(json, "}");
}

/* ---- answers ----------------------------------------------------------- */

static void
reserve_answer_all(const Batch *batch, ProblemId id, const char *detail)
{
	for (int i = 0; i < batch->count; i++)
		problem_give(batch->requests[i]->http, id, detail);
}

/* The rows are in the order of the requests, and those of one are together. */
static void
reserve_answer_rows(const Batch *batch, const PGresult *result)
{
	int row = 0;

	for (int i = 0; i < batch->count; i++)
	{
		ApiRequest *request = batch->requests[i];
		const char *order_id = request->values.text[RESERVE_ORDER_ID];
		int			first = row;

		while (row < PQntuples(result) &&
			   strcmp(PQgetvalue(result, row, LINE_ORDER_ID), order_id) == 0)
			row++;
		if (row > first)
			lines_answer(request, result, first, row);
		else
			problem_give(request->http, PROBLEM_INTERNAL,
						 "the database has returned no row for the order");
	}
}

static void
reserve_send_again(ReserveQueue *queue, Batch *batch)
{
	Assert(batch->count > 0 && batch->queue == queue);
	batch->locked = false;
	batch->next = queue->again;
	queue->again = batch;
}

/* The second half first: the first one is then in front of it. */
static void
reserve_halve(ReserveQueue *queue, const Batch *batch)
{
	int begin[] = {batch->count / 2, 0};
	int end[] = {batch->count, batch->count / 2};

	for (size_t half = 0; half < Lengthof(begin); half++)
	{
		int	   count = end[half] - begin[half];
		Batch *part = reserve_new_batch(queue, count);

		Assert(count > 0);
		part->count = count;
		memcpy(part->requests, batch->requests + begin[half],
			   (size_t) count * sizeof(ApiRequest *));
		reserve_send_again(queue, part);
	}
}

/*
 * Whether one request alone may be the reason: what all would meet, such as a
 * missing right or a full disk, is no reason to repeat them.
 */
static bool
reserve_is_worth_halving(const char *sqlstate)
{
	static const char *const classes[] = {"SK", "22", "23", "54"};

	for (size_t i = 0; i < Lengthof(classes); i++)
		if (sqlstate != NULL && strncmp(sqlstate, classes[i], 2) == 0)
			return true;
	return false;
}

/* Whether the batch met another transaction; it is over now. */
static bool
reserve_is_conflict(const char *sqlstate)
{
	return sqlstate != NULL && strncmp(sqlstate, "40", 2) == 0;
}

/*
 * A batch for each product, and for each request that names several.  True if
 * there is more than one.
 */
static bool
reserve_part(ReserveQueue *queue, const Batch *batch)
{
	uint64_t products[BATCH_MAX];
	bool	 taken[BATCH_MAX] = {false};
	int		 parts = 0;

	Assert(batch->count > 0 && batch->count <= BATCH_MAX);
	for (int i = 0; i < batch->count; i++)
	{
		products[i] = locked_product(batch->requests[i]);
		parts += i == 0 || products[i] == 0 || products[i] != products[0];
	}
	if (parts < 2)
		return false;
	for (int i = 0; i < batch->count; i++)
	{
		Batch *part;

		if (taken[i])
			continue;
		part = reserve_new_batch(queue, batch->count - i);
		for (int j = i; j < batch->count; j++)
			if (j == i || (products[i] != 0 && products[j] == products[i]))
			{
				part->requests[part->count++] = batch->requests[j];
				taken[j] = true;
			}
		reserve_send_again(queue, part);
	}
	return true;
}

/* It has waited for a lock in vain. */
static void
reserve_locked(Batch *batch, const PoolAnswer *answer)
{
	ReserveQueue *queue = batch->queue;

	if (!batch->locked && reserve_part(queue, batch))
		return;
	Assert(batch->count > 0);
	locked_add(&queue->locked, batch->requests[0]);
	for (int i = 0; i < batch->count; i++)
		if (batch->locked)
			problem_give_failure(batch->requests[i]->http, answer);
		else
			reserve_put_aside(queue, batch->requests[i]);
}

/* True if the batch is to be sent again, as it is. */
static bool
reserve_failed(Batch *batch, const PoolAnswer *answer)
{
	if ((answer->stale || reserve_is_conflict(answer->sqlstate)) &&
		batch->sent_again++ < AGAIN_MAX)
	{
		reserve_send_again(batch->queue, batch);
		return true;
	}
	if (answer->sqlstate != NULL && strcmp(answer->sqlstate, "55P03") == 0)
		reserve_locked(batch, answer);
	else if (batch->count > 1 && reserve_is_worth_halving(answer->sqlstate))
		reserve_halve(batch->queue, batch);
	else
		for (int i = 0; i < batch->count; i++)
			problem_give_failure(batch->requests[i]->http, answer);
	return false;
}

static void
reserve_done(void *arg, const PoolAnswer *answer)
{
	Batch *batch = arg;

	if (answer->result == NULL)
		reserve_answer_all(batch, PROBLEM_OUTCOME_UNKNOWN, answer->error);
	else if (PQresultStatus(answer->result) == PGRES_TUPLES_OK)
	{
		if (batch->locked)
			locked_remove(&batch->queue->locked, batch->requests[0]);
		reserve_answer_rows(batch, answer->result);
	}
	else if (reserve_failed(batch, answer))
		return;
	free(batch);
}

/* ---- the queue --------------------------------------------------------- */

static void
reserve_send(ReserveQueue *queue, Batch *batch, PoolWork *work)
{
	Assert(batch->count > 0 && batch->queue == queue);
	Assert(batch->sent_again <= AGAIN_MAX);
	if (queue->orders.size > ORDERS_BYTES_KEPT)
		buf_free(&queue->orders);
	buf_clear(&queue->orders);
	for (int i = 0; i < batch->count; i++)
	{
		buf_add_str(&queue->orders, i == 0 ? "[" : ",");
		reserve_add_order(&queue->orders, batch->requests[i]);
	}
	buf_add_str(&queue->orders, "]");
	queue->param = (PgParam){.data = buf_str(&queue->orders)};
	queue->statement = route_statement(batch->requests[0]->route,
									   &batch->requests[0]->values);
	queue->statement.nparams = 1;
	*work = (PoolWork){
		.statement = &queue->statement,
		.params = &queue->param,
		.actor = batch->requests[0]->actor,
		.lock_wait = batch->locked ? NULL : LOCK_WAIT,
		.done = reserve_done,
		.arg = batch,
	};
}

bool
reserve_next(void *arg, PoolWork *work)
{
	ReserveQueue *queue = arg;
	Batch		 *batch = queue->again;

	if (batch != NULL)
		queue->again = batch->next;
	else
		batch = reserve_gather(queue);
	if (batch != NULL)
		reserve_send(queue, batch, work);
	return batch != NULL;
}

bool
reserve_next_locked(void *arg, PoolWork *work)
{
	ReserveQueue *queue = arg;
	Batch		 *batch = reserve_gather_locked(queue);

	if (batch != NULL)
		reserve_send(queue, batch, work);
	return batch != NULL;
}

ReserveQueue *
reserve_queue_new(const int64_t *batch_max, Metrics *metrics, int histogram)
{
	ReserveQueue *queue = xcalloc(1, sizeof(ReserveQueue));

	queue->batch_max = batch_max;
	queue->metrics = metrics;
	queue->histogram = histogram;
	return queue;
}

void
reserve_queue_add(ReserveQueue *queue, ApiRequest *request)
{
	Assert(request->route->kind == ROUTE_RESERVE);
	request_queue_add(&queue->waiting, request);
}

int
reserve_queue_count(const ReserveQueue *queue)
{
	int count = queue->waiting.count + queue->locked_waiting.count;

	for (const Batch *batch = queue->again; batch != NULL; batch = batch->next)
		count += batch->count;
	return count;
}

void
reserve_queue_fail(ReserveQueue *queue, ProblemId id, const char *detail)
{
	Batch *batch;

	request_queue_fail(&queue->waiting, id, detail);
	request_queue_fail(&queue->locked_waiting, id, detail);
	while ((batch = queue->again) != NULL)
	{
		queue->again = batch->next;
		reserve_answer_all(batch, id, detail);
		free(batch);
	}
}

void
reserve_queue_expire(ReserveQueue *queue, int64_t now)
{
	request_queue_expire(&queue->waiting, now);
	request_queue_expire(&queue->locked_waiting, now);
}

void
reserve_queue_free(ReserveQueue *queue)
{
	if (queue == NULL)
		return;
	Assert(reserve_queue_count(queue) == 0);
	buf_free(&queue->orders);
	free(queue);
}
