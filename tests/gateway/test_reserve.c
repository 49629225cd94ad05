/*
 * test_reserve.c - batches of reservations against an imagined database
 *
 * A simulation: requests of a few orders, products, keys and actors arrive at
 * random; a database that refuses some keys, meets conflicts and locks and
 * breaks now and then answers the batches, as many at a time as there are
 * sessions.  Whatever
 * happens, each request is answered once, a batch names no order and no key
 * twice and has one actor, and only the requests with a refused key fail for
 * it.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "../unit/unit.h"

#include <jansson.h>
#include <string.h>

#include "api/lines.h"
#include "api/reserve.h"
#include "config/metric_table.h"

#define REQUESTS 400
#define SESSIONS 3
#define ORDERS	 12
#define BAD_KEY	 "bad"
#define LOCKED	 "p0" /* a product that another session holds now and then */

typedef struct World
{
	ReserveQueue *queue;
	Metrics		 *metrics;
	int64_t		  batch_max;
	HttpRequest	  http[REQUESTS];
	ApiRequest	  requests[REQUESTS];
	int			  arrived;
	bool		  locks; /* LOCKED is locked now */
	bool		  busy[SESSIONS];
	PoolWork	  work[SESSIONS];
	json_t		 *orders[SESSIONS];
} World;

static const Route *
reserve_route(const char *operation)
{
	for (int i = 0; i < route_count; i++)
		if (strcmp(routes[i].operation, operation) == 0)
			return &routes[i];
	return NULL;
}

/* Its number is its user, so that the database can tell which it is. */
static void
arrive(World *world)
{
	int			n = world->arrived++;
	ApiRequest *request = &world->requests[n];
	bool		whole = one_in(2);
	char	  **values = request->values.text;

	request->http = &world->http[n];
	request->route = reserve_route(whole ? "reserveOrder" : "reserveStock");
	values[RESERVE_ORDER_ID] = xasprintf("o\"%u", below(ORDERS));
	values[RESERVE_USER_ID] = xasprintf("%d", n);
	if (whole)
		values[RESERVE_ITEMS] = xasprintf("[{\"product_id\":\"p%u\","
										  "\"quantity\":1},"
										  "{\"product_id\":\"p%u\","
										  "\"quantity\":1}]",
										  below(4), below(4));
	else
	{
		values[RESERVE_PRODUCT_ID] = xasprintf("p%u", below(4));
		values[RESERVE_QUANTITY] = xstrdup("1");
	}
	if (one_in(10))
		values[RESERVE_KEY] = xstrdup(BAD_KEY);
	else if (one_in(3))
		values[RESERVE_KEY] = xasprintf("k%u", below(20));
	request->actor = one_in(4) ? xstrdup("other") : NULL;
	reserve_queue_add(world->queue, request);
}

/* The number that a member ends with. */
static int
member_number(const json_t *order, const char *name, size_t skip)
{
	const char *text = json_string_value(json_object_get(order, name));

	return (int) strtol(text + skip, NULL, 10);
}

static void
check_batch(World *world, const json_t *orders, const PoolWork *work)
{
	bool	seen[ORDERS] = {false};
	bool	bad = false;
	size_t	i;
	json_t *order;

	assert_in_range(json_array_size(orders), 1, world->batch_max);
	json_array_foreach((json_t *) (uintptr_t) orders, i, order)
	{
		int			n = member_number(order, "user_id", 0);
		int			number = member_number(order, "order_id", 2);
		const char *key = json_string_value(
			json_object_get(order, "idempotency_key"));
		const char *actor = world->requests[n].actor;

		assert_false(seen[number]);
		seen[number] = true;
		assert_false(bad && key != NULL && strcmp(key, BAD_KEY) == 0);
		bad = bad || (key != NULL && strcmp(key, BAD_KEY) == 0);
		assert_int_equal(actor == NULL, work->actor == NULL);
		assert_int_equal(world->http[n].status, 0);
	}
}

/* A free session asks for work. */
static void
ask(World *world, int session)
{
	PoolWork *work = &world->work[session];

	if (!reserve_next(world->queue, work) &&
		!reserve_next_locked(world->queue, work))
		return;
	world->busy[session] = true;
	world->orders[session] = json_loads(work->params[0].data, 0, NULL);
	assert_non_null(world->orders[session]);
	check_batch(world, world->orders[session], work);
}

static PGresult *
rows(const json_t *orders)
{
	static char	 name[] = "column";
	PGresAttDesc columns[LINE_COLUMNS];
	PGresult	*result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	size_t		 i;
	json_t		*order;

	for (int column = 0; column < LINE_COLUMNS; column++)
		columns[column] = (PGresAttDesc){.name = name};
	assert_true(PQsetResultAttrs(result, LINE_COLUMNS, columns));
	json_array_foreach((json_t *) (uintptr_t) orders, i, order)
	{
		const char *id = json_string_value(json_object_get(order, "order_id"));
		const char *values[LINE_COLUMNS] = {id,		"p",
											"main", "1",
											"1",	"granted",
											"9",	"2026-11-28 05:36:29.5+00",
											"2",	"f"};

		for (int column = 0; column < LINE_COLUMNS; column++)
		{
			char *value = xstrdup(values[column]);

			assert_true(PQsetvalue(result, (int) i, column, value,
								   (int) strlen(value)));
			free(value);
		}
	}
	return result;
}

static bool
has_bad_key(const json_t *orders)
{
	size_t	i;
	json_t *order;

	json_array_foreach((json_t *) (uintptr_t) orders, i, order)
	{
		const json_t *key = json_object_get(order, "idempotency_key");

		if (key != NULL && strcmp(json_string_value(key), BAD_KEY) == 0)
			return true;
	}
	return false;
}

static bool
names_locked(const json_t *orders)
{
	char *text = json_dumps(orders, 0);
	bool  names = strstr(text, "\"" LOCKED "\"") != NULL;

	free(text);
	return names;
}

/* The database answers, or its session breaks. */
static void
answer(World *world, int session)
{
	PoolWork   *work = &world->work[session];
	PoolAnswer	answer = {.error = "the session broke"};
	PGresult   *result = NULL;
	const char *sqlstate = has_bad_key(world->orders[session]) ? "SK007"
						   : one_in(6)						   ? "40001"
						   : world->locks &&
								   names_locked(world->orders[session])
							   ? "55P03"
							   : NULL;

	if (!one_in(8))
	{
		result = sqlstate != NULL ? PQmakeEmptyPGresult(NULL, PGRES_FATAL_ERROR)
								  : rows(world->orders[session]);
		answer = (PoolAnswer){.result = result, .sqlstate = sqlstate};
	}
	work->done(work->arg, &answer);
	PQclear(result);
	json_decref(world->orders[session]);
	world->busy[session] = false;
}

static void
step(World *world)
{
	int session = (int) below(SESSIONS);

	if (one_in(20))
		world->locks = !world->locks;
	if (world->arrived < REQUESTS && one_in(2))
		arrive(world);
	else if (world->busy[session])
		answer(world, session);
	else
		ask(world, session);
}

static bool
is_over(const World *world)
{
	for (int i = 0; i < SESSIONS; i++)
		if (world->busy[i])
			return false;
	return world->arrived == REQUESTS && reserve_queue_count(world->queue) == 0;
}

static World *
new_world(int64_t batch_max)
{
	World *world = xcalloc(1, sizeof(World));

	world->batch_max = batch_max;
	world->metrics = metrics_new(&metric_table);
	world->queue = reserve_queue_new(&world->batch_max, world->metrics,
									 HISTOGRAM_BATCH);
	return world;
}

static void
free_world(World *world)
{
	for (int i = 0; i < REQUESTS; i++)
	{
		for (int j = 0; j < world->http[i].header_count; j++)
			free(world->http[i].headers[j].value);
		buf_free(&world->http[i].answer);
		free(world->requests[i].actor);
		values_free(&world->requests[i].values);
	}
	reserve_queue_free(world->queue);
	metrics_free(world->metrics);
	free(world);
}

static void
check_answers(const World *world)
{
	for (int i = 0; i < REQUESTS; i++)
	{
		const char *key = world->requests[i].values.text[RESERVE_KEY];
		bool		bad = key != NULL && strcmp(key, BAD_KEY) == 0;

		assert_true(world->http[i].status == (bad ? 422 : 201) ||
					world->http[i].status == 503);
	}
}

static void
each_request_is_answered_once(void **state UNUSED)
{
	begin_dice("batches");
	for (int round = 0; round < 200; round++)
	{
		World *world = new_world(1 + below(30));

		while (!is_over(world))
			step(world);
		check_answers(world);
		free_world(world);
	}
}

/* What is not the fault of one request is answered, and not sent again. */
static void
a_failure_of_all_is_not_halved(void **state UNUSED)
{
	static const char *const of_all[] = {"25006", "42501", "53100", "57P01"};

	for (size_t i = 0; i < Lengthof(of_all); i++)
	{
		World	 *world = new_world(30);
		PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_FATAL_ERROR);

		while (world->arrived < REQUESTS)
			arrive(world);
		ask(world, 0);
		world->work[0].done(world->work[0].arg,
							&(PoolAnswer){.result = result,
										  .sqlstate = of_all[i]});
		for (int n = 0; n < (int) json_array_size(world->orders[0]); n++)
			assert_true(
				world
					->http[member_number(json_array_get(world->orders[0],
														(size_t) n),
										 "user_id", 0)]
					.status >= 400);
		PQclear(result);
		json_decref(world->orders[0]);
		reserve_queue_fail(world->queue, PROBLEM_DATABASE_AWAY, NULL);
		free_world(world);
	}
}

static ApiRequest *
want(World *world, const char *product)
{
	ApiRequest *request = &world->requests[world->arrived];

	request->http = &world->http[world->arrived];
	request->route = reserve_route("reserveStock");
	request->values.text[RESERVE_ORDER_ID] = xasprintf("o\"%d", world->arrived);
	request->values.text[RESERVE_USER_ID] = xasprintf("%d", world->arrived);
	request->values.text[RESERVE_PRODUCT_ID] = xstrdup(product);
	request->values.text[RESERVE_QUANTITY] = xstrdup("1");
	world->arrived++;
	reserve_queue_add(world->queue, request);
	return request;
}

static const char stale[] = "26000";

/* The answer to the batch of a session, which has no other. */
static void
give(World *world, int session, const char *sqlstate)
{
	PGresult *result = sqlstate == NULL
						   ? rows(world->orders[session])
						   : PQmakeEmptyPGresult(NULL, PGRES_FATAL_ERROR);

	assert_true(world->busy[session]);
	world->work[session].done(world->work[session].arg,
							  &(PoolAnswer){.result = result,
											.sqlstate = sqlstate,
											.stale = sqlstate == stale});
	PQclear(result);
	json_decref(world->orders[session]);
	world->busy[session] = false;
}

/*
 * The session has forgotten its statements, or another one has: twice the batch
 * is sent again as it is.
 */
static void
a_batch_that_met_a_stale_session_is_sent_again(void **state UNUSED)
{
	World	   *world = new_world(30);
	ApiRequest *request[] = {want(world, "p1"), want(world, "p2")};

	for (int i = 0; i < 3; i++)
	{
		ask(world, 0);
		assert_int_equal(json_array_size(world->orders[0]), 2);
		assert_int_equal(request[0]->http->status, 0);
		give(world, 0, i < 2 ? stale : NULL);
	}
	assert_int_equal(request[0]->http->status, 201);
	assert_int_equal(request[1]->http->status, 201);
	request[0] = want(world, "p3");
	for (int i = 0; i < 3; i++)
	{
		ask(world, 0);
		give(world, 0, stale);
	}
	assert_int_equal(request[0]->http->status, 500);
	free_world(world);
}

/*
 * A lock that is waited for in vain: each product goes by itself then, and the
 * one that is locked waits apart from the others, until it is free.
 */
static void
a_locked_product_waits_apart(void **state UNUSED)
{
	World	   *world = new_world(30);
	ApiRequest *blocked = want(world, LOCKED);
	ApiRequest *free_one = want(world, "p1");

	ask(world, 0);
	assert_int_equal(json_array_size(world->orders[0]), 2);
	give(world, 0, "55P03");
	for (int part = 0; part < 2; part++)
	{
		ask(world, 0);
		assert_int_equal(json_array_size(world->orders[0]), 1);
		assert_non_null(world->work[0].lock_wait);
		give(world, 0, names_locked(world->orders[0]) ? "55P03" : NULL);
	}
	assert_int_equal(free_one->http->status, 201);
	assert_int_equal(blocked->http->status, 0);
	/* it waits; what arrives for it does too, and others go on */
	ask(world, 0);
	assert_true(names_locked(world->orders[0]));
	assert_null(world->work[0].lock_wait);
	(void) want(world, LOCKED);
	free_one = want(world, "p2");
	ask(world, 1);
	assert_int_equal(json_array_size(world->orders[1]), 1);
	give(world, 1, NULL);
	assert_int_equal(free_one->http->status, 201);
	give(world, 0, "55P03");
	assert_int_equal(blocked->http->status, 503);
	/* it is free: the next one is a batch like others */
	ask(world, 0);
	give(world, 0, NULL);
	(void) want(world, LOCKED);
	(void) want(world, "p1");
	ask(world, 0);
	assert_int_equal(json_array_size(world->orders[0]), 2);
	give(world, 0, NULL);
	assert_int_equal(reserve_queue_count(world->queue), 0);
	free_world(world);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_request_is_answered_once),
		cmocka_unit_test(a_failure_of_all_is_not_halved),
		cmocka_unit_test(a_locked_product_waits_apart),
		cmocka_unit_test(a_batch_that_met_a_stale_session_is_sent_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
