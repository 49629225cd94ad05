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
push(Ring *ring, int64_t seq)
{
	uint64_t id = ring_next_id(ring);

	ring_push(ring, seq, seq * 10);
	return id;
}

static void
expect_position(Ring *ring, const char *window, int64_t seq, bool finished)
{
	RingPosition position;

	assert_true(ring_position(ring, &position));
	assert_string_equal(position.window, window);
	assert_true(position.seq == seq);
	assert_int_equal(position.finished, finished);
}

static void
expect_no_position(Ring *ring)
{
	RingPosition position;

	assert_false(ring_position(ring, &position));
}

static void
position_waits_for_the_oldest(void **state UNUSED)
{
	Ring	 ring;
	uint64_t ids[3];

	ring_init(&ring, 8);
	expect_no_position(&ring);
	ring_open(&ring, "w1", 0);
	for (int i = 0; i < 3; i++)
		ids[i] = push(&ring, 11 + i);
	assert_int_equal(ring_in_flight(&ring), 3);

	assert_true(ring_ack(&ring, ids[2]) == 130);
	expect_no_position(&ring);
	assert_true(ring_ack(&ring, ids[0]) == 110);
	expect_position(&ring, "w1", 11, false);
	assert_true(ring_ack(&ring, ids[1]) == 120);
	expect_position(&ring, "w1", 13, false);
	assert_int_equal(ring_in_flight(&ring), 0);

	ring_close(&ring);
	expect_position(&ring, "w1", 13, true);
	ring_fini(&ring);
}

static void
closed_window_is_finished_by_its_last_event(void **state UNUSED)
{
	Ring	 ring;
	uint64_t first;
	uint64_t second;

	ring_init(&ring, 8);
	ring_open(&ring, "w1", 0);
	first = push(&ring, 5);
	ring_close(&ring);
	ring_open(&ring, "w2", 0);
	second = push(&ring, 3);
	ring_close(&ring);

	ring_ack(&ring, second);
	expect_no_position(&ring);
	ring_ack(&ring, first);
	expect_position(&ring, "w2", 3, true);
	ring_fini(&ring);
}

static void
empty_windows_move_the_position_but_do_not_count(void **state UNUSED)
{
	Ring	 ring;
	uint64_t id;

	ring_init(&ring, 4);
	ring_open(&ring, "w1", 0);
	ring_close(&ring);
	expect_position(&ring, "w1", 0, true);
	assert_false(ring_position_counts(&ring));

	ring_open(&ring, "w2", 0);
	id = push(&ring, 9);
	ring_close(&ring);
	ring_open(&ring, "w3", 0);
	ring_close(&ring);
	expect_position(&ring, "w1", 0, true); /* w2 has not arrived */
	ring_ack(&ring, id);
	expect_position(&ring, "w3", 0, true);
	assert_true(ring_position_counts(&ring));
	ring_fini(&ring);
}

static void
stored_position_is_not_given_again(void **state UNUSED)
{
	Ring	 ring;
	uint64_t id;

	ring_init(&ring, 4);
	ring_open(&ring, "w1", 40);
	id = push(&ring, 41);
	ring_ack(&ring, id);
	assert_int_equal(ring.passed, 1);
	ring_stored(&ring);
	expect_no_position(&ring);
	assert_int_equal(ring.passed, 0);

	/* the end of a window that is stored in part must be stored soon */
	ring_close(&ring);
	expect_position(&ring, "w1", 41, true);
	assert_true(ring_position_counts(&ring));
	ring_fini(&ring);
}

static void
reset_forgets_and_ignores_late_acknowledgements(void **state UNUSED)
{
	Ring	 ring;
	uint64_t old;
	uint64_t fresh;

	ring_init(&ring, 4);
	ring_open(&ring, "w1", 0);
	old = push(&ring, 1);
	ring_reset(&ring);
	assert_int_equal(ring_in_flight(&ring), 0);
	assert_int_equal(ring.window_count, 0);

	ring_open(&ring, "w1", 0);
	fresh = push(&ring, 1);
	assert_true(fresh > old);
	assert_true(ring_ack(&ring, old) == -1);
	expect_no_position(&ring);
	assert_true(ring_ack(&ring, fresh) == 10);
	expect_position(&ring, "w1", 1, false);
	ring_fini(&ring);
}

static void
room_is_limited(void **state UNUSED)
{
	Ring	 ring;
	uint64_t first;

	ring_init(&ring, 2);
	ring_open(&ring, "w", 0);
	first = push(&ring, 1);
	assert_true(ring_has_room(&ring));
	push(&ring, 2);
	assert_false(ring_has_room(&ring));
	ring_ack(&ring, first);
	assert_true(ring_has_room(&ring));
	ring_fini(&ring);

	ring_init(&ring, 2);
	ring_open(&ring, "w", 0);
	first = push(&ring, 1);
	ring_close(&ring);
	while (ring_may_open(&ring))
	{
		ring_open(&ring, "more", 0);
		ring_close(&ring);
	}
	assert_int_equal(ring.window_count, RING_WINDOWS_MAX);
	ring_ack(&ring, first);
	assert_int_equal(ring.window_count, 0);
	ring_fini(&ring);
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
	Ring	 ring;
	bool	 acked[EVENTS] = {0};
	uint64_t ids[EVENTS];
	int		 pushed = 0;
	int		 arrived = 0;

	begin_dice("ring");
	ring_init(&ring, CAPACITY);
	ring_open(&ring, "w", 0);
	while (arrived < EVENTS)
	{
		RingPosition position;
		int			 prefix = 0;

		if (pushed < EVENTS && ring_has_room(&ring) && one_in(2))
		{
			if (one_in(4) && ring_may_open(&ring))
			{
				ring_close(&ring);
				ring_open(&ring, "w", 0);
			}
			ids[pushed] = push(&ring, pushed + 1);
			pushed++;
		}
		else if (pushed > arrived)
		{
			int pick = pushed - 1 -
					   (int) below(Min((uint32_t) pushed, CAPACITY));

			while (acked[pick])
				pick = (pick + 1) % pushed;
			acked[pick] = true;
			assert_true(ring_ack(&ring, ids[pick]) == (pick + 1) * 10);
			arrived++;
		}
		while (prefix < pushed && acked[prefix])
			prefix++;
		assert_int_equal(ring_in_flight(&ring), pushed - prefix);
		if (ring_position(&ring, &position) && !position.finished)
			assert_true(position.seq == prefix);
	}
	ring_fini(&ring);
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
		cmocka_unit_test(random_orders_agree_with_the_definition),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
