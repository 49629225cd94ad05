/*
 * test_client_list.c - which connection has to go
 *
 * The story: clients that asked for a long page and did not read it could not
 * be shut down, because their requests had arrived; enough of them kept every
 * new client out.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "../unit/unit.h"

#include <sys/socket.h>
#include <unistd.h>

#include "http/client_list.h"

#define CLIENTS 3

typedef struct World
{
	ClientList	list;
	Client		clients[CLIENTS];
	HttpRequest requests[CLIENTS];
	int			peers[CLIENTS];
} World;

static int
set_up(void **state)
{
	World *world = xcalloc(1, sizeof(World));

	for (int i = 0; i < CLIENTS; i++)
	{
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		world->clients[i].fd = pair[0];
		world->clients[i].since = i;
		world->peers[i] = pair[1];
		client_list_add(&world->list, &world->clients[i]);
	}
	*state = world;
	return 0;
}

static int
tear_down(void **state)
{
	World *world = *state;

	for (int i = 0; i < CLIENTS; i++)
	{
		client_list_remove(&world->list, &world->clients[i]);
		close(world->clients[i].fd);
		close(world->peers[i]);
	}
	assert_null(world->list.oldest);
	assert_null(world->list.newest);
	free(world);
	return 0;
}

static bool
is_open(const World *world, int i)
{
	char byte;

	return recv(world->peers[i], &byte, 1, MSG_DONTWAIT) != 0;
}

/* A request; its answer began to be sent later, or it waits for one (0). */
static void
ask(World *world, int i, int64_t began_at, int64_t answered_at)
{
	world->requests[i] = (HttpRequest){
		.began_at = began_at,
		.answered_at = answered_at,
		.running = true,
		.status = answered_at > 0 ? 200 : 0,
	};
	world->clients[i].request = &world->requests[i];
}

static void
the_oldest_goes_first(void **state)
{
	World *world = *state;

	assert_true(client_list_evict(&world->list));
	assert_false(is_open(world, 0));
	assert_true(is_open(world, 1) && is_open(world, 2));
}

static void
one_that_waits_for_its_answer_stays(void **state)
{
	World *world = *state;

	ask(world, 0, 5, 0);
	ask(world, 1, 5, 9); /* it does not read its answer */
	ask(world, 2, 5, 0);
	assert_true(client_list_evict(&world->list));
	assert_true(is_open(world, 0) && is_open(world, 2));
	assert_false(is_open(world, 1));
	ask(world, 1, 5, 0);
	assert_false(client_list_evict(&world->list));
}

static void
slow_ones_are_ended(void **state)
{
	World *world = *state;

	ask(world, 0, 5, 0);
	ask(world, 1, 5, 9);
	ask(world, 2, 5, 0);
	world->requests[2].running = false; /* it has not arrived */
	client_list_end_slow(&world->list, 4);
	assert_true(is_open(world, 1) && is_open(world, 2));
	client_list_end_slow(&world->list, 5);
	assert_true(is_open(world, 0) && is_open(world, 1));
	assert_false(is_open(world, 2));
	client_list_end_slow(&world->list, 9);
	assert_true(is_open(world, 0));
	assert_false(is_open(world, 1));
}

static void
a_drain_ends_those_without_a_request(void **state)
{
	World *world = *state;

	ask(world, 0, 5, 0);
	assert_int_equal(send(world->peers[1], "G", 1, 0), 1); /* not read yet */
	client_list_end_idle(&world->list);
	assert_true(is_open(world, 0) && is_open(world, 1));
	assert_false(is_open(world, 2));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_oldest_goes_first, set_up,
										tear_down),
		cmocka_unit_test_setup_teardown(one_that_waits_for_its_answer_stays,
										set_up, tear_down),
		cmocka_unit_test_setup_teardown(slow_ones_are_ended, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_drain_ends_those_without_a_request,
										set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
