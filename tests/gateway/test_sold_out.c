/*
 * test_sold_out.c - what a look at a sale refuses, and what it does not
 *
 * The clock is the real one: where something is to be refused, it is tried
 * until a look was used in time.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "../unit/unit.h"

#include <string.h>

#include "api/sold_out.h"
#include "common/clock.h"

#define STATUS_COLUMNS 7
#define SECONDS_MAX	   20

typedef struct World
{
	SoldOut	   *sold_out;
	CallQueue	others[ROLES];
	double		answers;
	double		looks;
	HttpRequest http;
	ApiRequest	request;
} World;

static const Route *
purchase_route(void)
{
	for (int i = 0; i < route_count; i++)
		if (strcmp(routes[i].operation, "purchase") == 0)
			return &routes[i];
	return NULL;
}

static void
world_new_request(World *world, const char *user_id)
{
	for (int i = 0; i < world->http.header_count; i++)
		free(world->http.headers[i].value);
	buf_free(&world->http.answer);
	values_free(&world->request.values);
	world->http = (HttpRequest){0};
	world->request = (ApiRequest){
		.http = &world->http,
		.route = purchase_route(),
	};
	world->request.values.text[PURCHASE_ACTIVITY] = xstrdup("s");
	world->request.values.text[PURCHASE_USER] = xstrdup(user_id);
	world->request.values.text[PURCHASE_ORDER] = xstrdup("o");
}

static int
begin(void **state)
{
	World *world = xcalloc(1, sizeof(World));

	world->sold_out = sold_out_new(world->others, &world->answers,
								   &world->looks);
	world_new_request(world, "bob");
	world->request.insufficient = true;
	sold_out_note(world->sold_out, &world->request);
	world_new_request(world, "bob");
	*state = world;
	return 0;
}

static int
end(void **state)
{
	World *world = *state;

	world_new_request(world, "bob");
	values_free(&world->request.values);
	sold_out_free(world->sold_out);
	free(world);
	return 0;
}

static PGresult *
row(const char *const *values)
{
	static char	 name[] = "column";
	PGresAttDesc columns[STATUS_COLUMNS];
	PGresult	*result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);

	for (int i = 0; i < STATUS_COLUMNS; i++)
		columns[i] = (PGresAttDesc){.name = name};
	assert_true(PQsetResultAttrs(result, STATUS_COLUMNS, columns));
	for (int i = 0; i < STATUS_COLUMNS; i++)
	{
		char *value = xstrdup(values[i]);

		assert_true(PQsetvalue(result, 0, i, value, (int) strlen(value)));
		free(value);
	}
	return result;
}

/* Nothing is left of a sale in which "ann" has bought. */
static void
answer_sold_out(const PoolWork *work)
{
	static const char *const values[STATUS_COLUMNS] = {
		"p", "main", "0", "7", "1", "1", "49915e0d7d4b402e",
	};
	PGresult *result = row(values);

	work->done(work->arg, &(PoolAnswer){.result = result});
	PQclear(result);
}

/* Looks, when a look is due; false: not now. */
static bool
look(World *world, PoolWork *work)
{
	world_new_request(world, "bob");
	world->request.insufficient = true;
	sold_out_note(world->sold_out, &world->request);
	return sold_out_next(world->sold_out, work);
}

static bool
is_refused(World *world, const char *user_id)
{
	world_new_request(world, user_id);
	return sold_out_take(world->sold_out, &world->request, false);
}

/* Until a look was in time to refuse. */
static void
look_until_refused(World *world)
{
	int64_t until = clock_monotonic() + SECONDS_MAX * SEC_US;

	while (clock_monotonic() < until)
	{
		PoolWork work = {0};

		if (look(world, &work))
			answer_sold_out(&work);
		if (is_refused(world, "bob"))
			return;
	}
	fail_msg("no look was in time");
}

static void
test_it_refuses(void **state)
{
	World *world = *state;

	look_until_refused(world);
	assert_int_equal(world->http.status, 409);
	assert_true(world->answers > 0 && world->looks > 0);
}

static void
test_a_buyer_is_not_refused(void **state)
{
	World *world = *state;

	for (int i = 0; i < 10; i++)
	{
		look_until_refused(world);
		assert_false(is_refused(world, "ann"));
	}
}

/* The look may have seen what was before the purchase. */
static void
test_a_purchase_makes_a_look_useless(void **state)
{
	World	*world = *state;
	PoolWork work = {0};

	while (!look(world, &work))
		continue;
	world_new_request(world, "cid");
	sold_out_note(world->sold_out, &world->request);
	answer_sold_out(&work);
	assert_false(is_refused(world, "cid"));
	look_until_refused(world);
}

/*
 * A purchase waits where the last look is old, and no longer than a look that
 * began after it.
 */
static void
test_a_purchase_waits_for_a_look(void **state)
{
	World	*world = *state;
	PoolWork work = {0};
	int64_t	 old;

	look_until_refused(world);
	old = clock_monotonic() + 10 * MS_US;
	while (clock_monotonic() < old)
		continue;
	world_new_request(world, "bob");
	assert_true(sold_out_take(world->sold_out, &world->request, true));
	assert_int_equal(world->http.status, 0);
	assert_int_equal(sold_out_count(world->sold_out), 1);
	assert_true(sold_out_next(world->sold_out, &work));
	answer_sold_out(&work);
	assert_int_equal(world->http.status, 409);
	assert_int_equal(sold_out_count(world->sold_out), 0);
}

/* It may have been sold out before the purchase, and not any more. */
static void
test_an_old_look_decides_nothing(void **state)
{
	World	*world = *state;
	PoolWork work = {0};
	int64_t	 old;

	look_until_refused(world);
	while (!look(world, &work))
		continue;
	old = clock_monotonic() + 10 * MS_US;
	while (clock_monotonic() < old)
		continue;
	world_new_request(world, "bob");
	world->request.role = ROLE_ADMIN;
	assert_true(sold_out_take(world->sold_out, &world->request, true));
	answer_sold_out(&work);
	assert_int_equal(world->http.status, 0);
	/*
	 * the next one does, or an error sends it to the database, in a session of
	 * its role
	 */
	assert_true(sold_out_next(world->sold_out, &work));
	work.done(work.arg, &(PoolAnswer){.error = "the session broke"});
	assert_int_equal(world->http.status, 0);
	assert_int_equal(sold_out_count(world->sold_out), 0);
	assert_ptr_equal(request_queue_take(&world->others[ROLE_ADMIN].waiting),
					 &world->request);
}

static void
test_an_error_makes_it_useless(void **state)
{
	World	*world = *state;
	PoolWork work = {0};

	look_until_refused(world);
	while (!look(world, &work))
		continue;
	work.done(work.arg, &(PoolAnswer){.error = "the session broke"});
	assert_false(is_refused(world, "bob"));
	assert_false(sold_out_next(world->sold_out, &work));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_it_refuses, begin, end),
		cmocka_unit_test_setup_teardown(test_a_buyer_is_not_refused, begin,
										end),
		cmocka_unit_test_setup_teardown(test_a_purchase_makes_a_look_useless,
										begin, end),
		cmocka_unit_test_setup_teardown(test_a_purchase_waits_for_a_look, begin,
										end),
		cmocka_unit_test_setup_teardown(test_an_old_look_decides_nothing, begin,
										end),
		cmocka_unit_test_setup_teardown(test_an_error_makes_it_useless, begin,
										end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
