/*
 * test_client_list.c - which connection has to go, and of which address
 *
 * The story: clients that asked for a long page and did not read it could not
 * be shut down, because their requests had arrived; enough of them kept every
 * new client out.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "../unit/unit.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/client_list.h"

#define CLIENTS 12

typedef struct World
{
	ClientList	list;
	Client		clients[CLIENTS];
	HttpRequest requests[CLIENTS];
	Address		addresses[CLIENTS];
	int			peers[CLIENTS];
} World;

static void
move(World *world, int i, int address)
{
	Client *client = &world->clients[i];

	if (client->address != NULL)
	{
		client->address->connections--;
		client->address->unserved -= !client->served;
	}
	client->address = &world->addresses[address];
	client->address->connections++;
	client->address->unserved += !client->served;
}

static void
serve(World *world, int first, int last)
{
	for (int i = first; i <= last; i++)
		client_serve(&world->clients[i]);
}

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
		move(world, i, 0);
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

/* Which one gives up its place; CLIENTS: none. */
static long
gives_up(const World *world)
{
	const Client *client = client_list_find_heaviest(&world->list);

	return client != NULL ? client - world->clients : CLIENTS;
}

static void
the_oldest_goes_first(void **state)
{
	World *world = *state;

	assert_int_equal(gives_up(world), 0);
	serve(world, 0, 0);
	assert_int_equal(gives_up(world), 1);
	serve(world, 1, CLIENTS - 1);
	assert_int_equal(gives_up(world), 0);
	ask(world, 0, 5, 0);
	world->requests[0].running = false; /* it has not arrived */
	assert_int_equal(gives_up(world), 1);
}

/*
 * Whatever the one of another address has not done: one address would else send
 * a request on each of its connections, and keep all others out.
 */
static void
an_address_with_too_many_gives_one_up(void **state)
{
	World *world = *state;

	move(world, 0, 1);
	serve(world, 1, CLIENTS - 1);
	assert_int_equal(gives_up(world), 1);
	for (int i = 1; i < CLIENTS; i++)
		ask(world, i, 5, i < CLIENTS - 1 ? 0 : 9);
	assert_int_equal(gives_up(world), CLIENTS - 1);
	ask(world, CLIENTS - 1, 5, 0);
	assert_int_equal(gives_up(world), 0);
}

/*
 * The story: thousands of IPv6 networks, with a connection each, took the
 * places of a reverse proxy's connections, for its address had the most.
 */
static void
many_addresses_do_not_displace_a_proxy(void **state)
{
	World *world = *state;

	for (int i = 3; i < CLIENTS; i++)
		move(world, i, i);
	serve(world, 0, 1); /* the proxy's; its third one is new */
	assert_int_equal(gives_up(world), 2);
	move(world, 3, 4);
	assert_int_equal(gives_up(world), 3); /* two that are new */
	/* they send a request each */
	serve(world, 2, CLIENTS - 1);
	assert_int_equal(gives_up(world), 0);
	for (int i = 0; i < 3; i++)
		ask(world, i, 5, 9);
	assert_int_equal(gives_up(world), 3);
}

static void
one_that_waits_for_its_answer_stays(void **state)
{
	World *world = *state;

	for (int i = 0; i < CLIENTS; i++)
		ask(world, i, 5, i == 1 ? 9 : 0); /* 1 does not read its answer */
	assert_int_equal(gives_up(world), 1);
	ask(world, 1, 5, 0);
	assert_int_equal(gives_up(world), CLIENTS);
}

static void
the_slowest_reader_is_found(void **state)
{
	World *world = *state;

	ask(world, 0, 5, 12);
	ask(world, 1, 6, 9);
	ask(world, 2, 7, 8); /* all of its answer was sent */
	assert_null(client_list_find_slowest(&world->list));
	world->requests[0].unread = world->requests[1].unread = 1;
	assert_ptr_equal(client_list_find_slowest(&world->list),
					 &world->clients[1]);
}

static AddressTable table;

static Address *
from(const char *text)
{
	struct sockaddr_in	v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	struct sockaddr		local = {.sa_family = AF_UNIX};

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return address_open(&table, (struct sockaddr *) &v4);
	if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
		return address_open(&table, (struct sockaddr *) &v6);
	return address_open(&table, &local);
}

/* Of IPv6 a client has a whole network; what is IPv4 in it is IPv4. */
static void
an_address_is_known_again(void **state UNUSED)
{
	static const char *const same[][2] = {
		{"192.0.2.1", "::ffff:192.0.2.1"},
		{"2001:db8::1", "2001:db8::ffff:0:0:1"},
		{"unix", "unix"},
	};
	Address *found[2 * Lengthof(same)] = {NULL};
	Address *other;

	for (size_t i = 0; i < Lengthof(found); i++)
		found[i] = from(same[i / 2][i % 2]);
	for (size_t i = 0; i < Lengthof(found); i++)
		for (size_t j = 0; j < Lengthof(found); j++)
			assert_int_equal(found[i] == found[j], i / 2 == j / 2);
	other = from("2001:db8:0:1::1");
	assert_ptr_not_equal(other, found[2]);
	for (size_t i = 0; i < Lengthof(found); i++)
		address_close(&table, found[i]);
	address_close(&table, other);
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
		cmocka_unit_test_setup_teardown(an_address_with_too_many_gives_one_up,
										set_up, tear_down),
		cmocka_unit_test_setup_teardown(many_addresses_do_not_displace_a_proxy,
										set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_slowest_reader_is_found, set_up,
										tear_down),
		cmocka_unit_test(an_address_is_known_again),
		cmocka_unit_test_setup_teardown(one_that_waits_for_its_answer_stays,
										set_up, tear_down),
		cmocka_unit_test_setup_teardown(slow_ones_are_ended, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_drain_ends_those_without_a_request,
										set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
