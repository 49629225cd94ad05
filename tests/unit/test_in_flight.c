/*
 * test_in_flight.c - the position passes only acknowledged events
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "outbox/in_flight.h"

static uint64_t
push(InFlight *in_flight, int64_t seq)
{
	uint64_t id = in_flight_next_id(in_flight);

	in_flight_push(in_flight, seq, seq * 10, 1);
	return id;
}

static void
expect_position(InFlight *in_flight, const char *window, int64_t seq,
				bool finished)
{
	OutboxPosition position;

	assert_true(in_flight_position(in_flight, &position));
	assert_string_equal(position.window, window);
	assert_true(position.seq == seq);
	assert_int_equal(position.finished, finished);
}

static void
expect_no_position(InFlight *in_flight)
{
	OutboxPosition position;

	assert_false(in_flight_position(in_flight, &position));
}

static void
position_waits_for_the_oldest(void **state UNUSED)
{
	InFlight in_flight;
	uint64_t ids[3];

	in_flight_init(&in_flight, 8);
	expect_no_position(&in_flight);
	in_flight_open(&in_flight, "w1", 0);
	for (int i = 0; i < 3; i++)
		ids[i] = push(&in_flight, 11 + i);
	assert_int_equal(in_flight_count(&in_flight), 3);

	assert_true(in_flight_ack(&in_flight, ids[2]) == 130);
	expect_no_position(&in_flight);
	assert_true(in_flight_ack(&in_flight, ids[0]) == 110);
	expect_position(&in_flight, "w1", 11, false);
	assert_true(in_flight_ack(&in_flight, ids[1]) == 120);
	expect_position(&in_flight, "w1", 13, false);
	assert_int_equal(in_flight_count(&in_flight), 0);

	in_flight_close(&in_flight);
	expect_position(&in_flight, "w1", 13, true);
	in_flight_fini(&in_flight);
}

static void
closed_window_is_finished_by_its_last_event(void **state UNUSED)
{
	InFlight in_flight;
	uint64_t first;
	uint64_t second;

	in_flight_init(&in_flight, 8);
	in_flight_open(&in_flight, "w1", 0);
	first = push(&in_flight, 5);
	in_flight_close(&in_flight);
	in_flight_open(&in_flight, "w2", 0);
	second = push(&in_flight, 3);
	in_flight_close(&in_flight);

	in_flight_ack(&in_flight, second);
	expect_no_position(&in_flight);
	in_flight_ack(&in_flight, first);
	expect_position(&in_flight, "w2", 3, true);
	in_flight_fini(&in_flight);
}

static void
empty_windows_move_the_position_but_do_not_count(void **state UNUSED)
{
	InFlight in_flight;
	uint64_t id;

	in_flight_init(&in_flight, 4);
	in_flight_open(&in_flight, "w1", 0);
	in_flight_close(&in_flight);
	expect_position(&in_flight, "w1", 0, true);
	assert_false(in_flight_position_counts(&in_flight));

	in_flight_open(&in_flight, "w2", 0);
	id = push(&in_flight, 9);
	in_flight_close(&in_flight);
	in_flight_open(&in_flight, "w3", 0);
	in_flight_close(&in_flight);
	expect_position(&in_flight, "w1", 0, true); /* w2 has not arrived */
	in_flight_ack(&in_flight, id);
	expect_position(&in_flight, "w3", 0, true);
	assert_true(in_flight_position_counts(&in_flight));
	in_flight_fini(&in_flight);
}

static void
stored_position_is_not_given_again(void **state UNUSED)
{
	InFlight in_flight;
	uint64_t id;

	in_flight_init(&in_flight, 4);
	in_flight_open(&in_flight, "w1", 40);
	id = push(&in_flight, 41);
	in_flight_ack(&in_flight, id);
	assert_int_equal(in_flight.passed, 1);
	in_flight_stored(&in_flight);
	expect_no_position(&in_flight);
	assert_int_equal(in_flight.passed, 0);

	/* the end of a window that is stored in part must be stored soon */
	in_flight_close(&in_flight);
	expect_position(&in_flight, "w1", 41, true);
	assert_true(in_flight_position_counts(&in_flight));
	in_flight_fini(&in_flight);
}

static void
reset_forgets_and_ignores_late_acknowledgements(void **state UNUSED)
{
	InFlight in_flight;
	uint64_t old;
	uint64_t fresh;

	in_flight_init(&in_flight, 4);
	in_flight_open(&in_flight, "w1", 0);
	old = push(&in_flight, 1);
	in_flight_reset(&in_flight);
	assert_int_equal(in_flight_count(&in_flight), 0);
	assert_int_equal(in_flight.window_count, 0);

	in_flight_open(&in_flight, "w1", 0);
	fresh = push(&in_flight, 1);
	assert_true(fresh > old);
	assert_true(in_flight_ack(&in_flight, old) == -1);
	expect_no_position(&in_flight);
	assert_true(in_flight_ack(&in_flight, fresh) == 10);
	expect_position(&in_flight, "w1", 1, false);
	in_flight_fini(&in_flight);
}

static void
room_is_limited(void **state UNUSED)
{
	InFlight in_flight;
	uint64_t first;

	in_flight_init(&in_flight, 2);
	in_flight_open(&in_flight, "w", 0);
	first = push(&in_flight, 1);
	assert_true(in_flight_has_room(&in_flight));
	push(&in_flight, 2);
	assert_false(in_flight_has_room(&in_flight));
	in_flight_ack(&in_flight, first);
	assert_true(in_flight_has_room(&in_flight));
	in_flight_fini(&in_flight);

	in_flight_init(&in_flight, 2);
	in_flight_open(&in_flight, "w", 0);
	first = push(&in_flight, 1);
	in_flight_close(&in_flight);
	while (in_flight_may_open(&in_flight))
	{
		in_flight_open(&in_flight, "more", 0);
		in_flight_close(&in_flight);
	}
	assert_int_equal(in_flight.window_count, IN_FLIGHT_WINDOWS_MAX);
	in_flight_ack(&in_flight, first);
	assert_int_equal(in_flight.window_count, 0);
	in_flight_fini(&in_flight);
}

/* Whatever capacity is left; what Kafka has needs no memory. */
static void
bytes_are_bounded(void **state UNUSED)
{
	InFlight in_flight;

	in_flight_init(&in_flight, 8);
	in_flight_open(&in_flight, "w1", 0);
	in_flight_push(&in_flight, 11, 0, IN_FLIGHT_BYTES_MAX - 1);
	assert_true(in_flight_has_room(&in_flight));
	in_flight_push(&in_flight, 12, 0, IN_FLIGHT_BYTES_MAX);
	assert_false(in_flight_has_room(&in_flight));
	in_flight_arrive(&in_flight, 1);
	assert_true(in_flight_has_room(&in_flight));
	in_flight_push(&in_flight, 13, 0, 1);
	assert_false(in_flight_has_room(&in_flight));
	(void) in_flight_ack(&in_flight, 1);
	assert_false(in_flight_has_room(&in_flight));
	(void) in_flight_ack(&in_flight, 0);
	assert_true(in_flight_has_room(&in_flight));
	in_flight_reset(&in_flight);
	in_flight_open(&in_flight, "w2", 0);
	in_flight_push(&in_flight, 11, 0, IN_FLIGHT_BYTES_MAX);
	in_flight_reset(&in_flight);
	assert_true(in_flight_has_room(&in_flight));
	in_flight_fini(&in_flight);
}

/*
 * Random windows and acknowledgements against the plain definition: the
 * position is the longest prefix of acknowledged events.
 */
static void
random_orders_agree_with_the_definition(void **state UNUSED)
{
	enum
	{
		EVENTS = 5000,
		CAPACITY = 64,
	};
	InFlight in_flight;
	bool	 acked[EVENTS] = {0};
	uint64_t ids[EVENTS];
	int		 pushed = 0;
	int		 arrived = 0;

	begin_dice("ring");
	in_flight_init(&in_flight, CAPACITY);
	in_flight_open(&in_flight, "w", 0);
	while (arrived < EVENTS)
	{
		OutboxPosition position;
		int			   prefix = 0;

		if (pushed < EVENTS && in_flight_has_room(&in_flight) && one_in(2))
		{
			if (one_in(4) && in_flight_may_open(&in_flight))
			{
				in_flight_close(&in_flight);
				in_flight_open(&in_flight, "w", 0);
			}
			ids[pushed] = push(&in_flight, pushed + 1);
			pushed++;
		}
		else if (pushed > arrived)
		{
			int pick = pushed - 1 -
					   (int) below(Min((uint32_t) pushed, CAPACITY));

			while (acked[pick])
				pick = (pick + 1) % pushed;
			acked[pick] = true;
			assert_true(in_flight_ack(&in_flight, ids[pick]) ==
						(pick + 1) * 10);
			arrived++;
		}
		while (prefix < pushed && acked[prefix])
			prefix++;
		assert_int_equal(in_flight_count(&in_flight), pushed - prefix);
		if (in_flight_position(&in_flight, &position) && !position.finished)
			assert_true(position.seq == prefix);
	}
	in_flight_fini(&in_flight);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(position_waits_for_the_oldest),
		cmocka_unit_test(closed_window_is_finished_by_its_last_event),
		cmocka_unit_test(empty_windows_move_the_position_but_do_not_count),
		cmocka_unit_test(stored_position_is_not_given_again),
		cmocka_unit_test(reset_forgets_and_ignores_late_acknowledgements),
		cmocka_unit_test(room_is_limited),
		cmocka_unit_test(bytes_are_bounded),
		cmocka_unit_test(random_orders_agree_with_the_definition),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
