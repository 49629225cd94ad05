/*
 * test_outbox_state.c - decisions of the outbox pump without faults
 *
 * One decision at a time.  test_outbox_simulation.c checks what they guarantee
 * together.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox_fixture.h"

/* ---- start, lead ------------------------------------------------------- */

static void
a_start_goes_from_handshake_over_lead_to_the_position(void **state UNUSED)
{
	open_producer();
	assert_false(outbox_makes_progress(&outbox, now));
	connect_and_greet();
	assert_int_equal(outbox.pump, PUMP_LEADER_WAIT);
	assert_false(outbox_leads(&outbox));
	lead();
	assert_true(outbox_leads(&outbox));
	assert_false(outbox_makes_progress(&outbox, now));
	outbox_on_position(&outbox, "w0", 0, true, now);
	assert_true(outbox_makes_progress(&outbox, now));
	/* it looks at once, without being woken */
	expect(OUTBOX_LOOK);
	assert_string_equal(outbox.window, "w0");
	assert_int_equal(outbox.cause, CAUSE_AWAKE);
}

static void
a_relay_that_does_not_lead_asks_again_every_second(void **state UNUSED)
{
	open_producer();
	connect_and_greet();
	for (int i = 0; i < 3; i++)
	{
		expect(OUTBOX_ASK_LEAD);
		outbox_on_lead(&outbox, 0, now);
		expect(OUTBOX_WAIT);
		expect_deadline(now + OUTBOX_LEAD_US);
		assert_false(outbox_leads(&outbox));
		assert_true(
			outbox_makes_progress(&outbox, now)); /* it stands by: ready */
		now += OUTBOX_LEAD_US;
	}
	lead();
}

static void
a_leader_without_a_producer_does_not_ask_for_the_position(void **state UNUSED)
{
	expect(OUTBOX_NEW_PRODUCER);
	outbox_on_producer_failed(&outbox, now);
	connect_and_greet();
	expect(OUTBOX_ASK_LEAD);
	outbox_on_lead(&outbox, EPOCH, now);
	expect(OUTBOX_ASK_HELD);
	outbox_on_held(&outbox);
	expect(OUTBOX_WAIT);
	expect_deadline(outbox.producer_at);
	now = outbox.producer_at;
	open_producer();
	expect(OUTBOX_ASK_POSITION);
}

/* ---- windows and pages ------------------------------------------------- */

static void
a_window_is_read_produced_and_stored(void **state UNUSED)
{
	uint64_t id;

	stream();
	expect(OUTBOX_LOOK);
	assert_true(outbox_on_window(&outbox, "w1"));
	assert_string_equal(outbox.window, "w1");
	assert_true(outbox.page_after == 0);
	assert_true(outbox_on_page(&outbox, 2, 200, 12));
	expect(OUTBOX_PRODUCE);
	id = produce_page(11);
	expect(OUTBOX_WAIT);
	expect_deadline(outbox.poll_at);
	doze();

	ack_all(id);
	expect(OUTBOX_WAIT);
	expect_deadline(outbox.store_at);
	now = outbox.store_at;
	expect_stored("w1", 12, true);
	expect(OUTBOX_WAIT);
}

/*
 * While the pump is awake no writer needs to wake it, and an interval of a few
 * ms is enough; it sleeps only when the database allows it.
 */
static void
a_pump_that_finds_nothing_sleeps_soon(void **state UNUSED)
{
	stream();
	outbox.poll_us = 300 * MS_US;
	look_in_vain();
	expect(OUTBOX_ASK_SLEEP);
	assert_string_equal(outbox.window, "w1");
	assert_int_equal(outbox.cause, CAUSE_AWAKE);
	outbox_on_sleep(&outbox, "w2", true, now);
	expect(OUTBOX_WAIT);
	expect_deadline(now + 300 * MS_US);
	now += 300 * MS_US;
	expect(OUTBOX_ASK_SLEEP);
	assert_string_equal(outbox.window, "w2");
	assert_int_equal(outbox.cause, CAUSE_POLL);
}

/* The interval until the next look if each finds that many rows. */
static int64_t
pace_of(uint32_t rows)
{
	for (int i = 0; i < 3; i++)
	{
		now = outbox.poll_at;
		outbox.store_at = now +
						  SEC_US; /* storing the position is not tested here */
		expect(OUTBOX_LOOK);
		assert_true(outbox_on_window(&outbox, "w"));
		take_page(rows, rows);
		expect(OUTBOX_PRODUCE);
		ack_all(produce_page(1));
	}
	return outbox.poll_at - now;
}

static void
the_more_there_is_the_later_it_looks_again(void **state UNUSED)
{
	stream();
	assert_true(pace_of(1) == 866);
	assert_true(pace_of(3) == 1500); /* 2,000 a second */
	assert_true(pace_of(12) == 3 * MS_US);
	outbox.found = UINT32_MAX;
	now = outbox.poll_at;
	expect(OUTBOX_LOOK);
	assert_true(outbox.poll_at == now + OUTBOX_AWAKE_MAX_US);
}

static void
a_pump_that_may_not_sleep_looks_again_and_again(void **state UNUSED)
{
	int64_t pace = OUTBOX_AWAKE_US << OUTBOX_VAIN_LOOKS;

	stream();
	look_in_vain();
	for (int i = 0; i < 10; i++)
	{
		expect(OUTBOX_ASK_SLEEP);
		assert_int_equal(outbox.cause, i == 0 ? CAUSE_AWAKE : CAUSE_WRITERS);
		outbox_on_sleep(&outbox, "w2", false, now);
		take_page(0, 0);
		expect(OUTBOX_WAIT);
		expect_deadline(now + pace);
		now += pace;
		pace = Min(2 * pace, OUTBOX_AWAKE_MAX_US);
	}
	/* an event found then makes it look as often as before */
	expect(OUTBOX_ASK_SLEEP);
	outbox_on_sleep(&outbox, "w3", false, now);
	take_page(2, 2);
	expect(OUTBOX_PRODUCE);
	produce_page(1);
	now += OUTBOX_AWAKE_MAX_US;
	expect(OUTBOX_LOOK);
	assert_int_equal(outbox.cause, CAUSE_AWAKE);
	assert_true(outbox_on_window(&outbox, "w4"));
	take_page(0, 0);
	expect_deadline(now + 1224); /* because it found two */
}

static void
a_notification_brings_the_next_look_forward(void **state UNUSED)
{
	stream();
	doze();
	outbox_on_wake(&outbox);
	expect(OUTBOX_LOOK);
	assert_int_equal(outbox.cause, CAUSE_NOTIFY);
	/* a wake-up while the pump awaits the answer is not lost */
	outbox_on_wake(&outbox);
	assert_true(outbox_on_window(&outbox, "w1"));
	take_page(0, 0);
	expect(OUTBOX_LOOK);
	assert_int_equal(outbox.cause, CAUSE_NOTIFY);
	assert_true(outbox_on_window(&outbox, "w2"));
	take_page(0, 0);
	expect(OUTBOX_WAIT);
	/* nor one that arrives with the answer */
	doze();
	now = outbox.poll_at;
	expect(OUTBOX_ASK_SLEEP);
	outbox_on_wake(&outbox);
	outbox_on_sleep(&outbox, "w3", true, now);
	expect(OUTBOX_LOOK);
	assert_int_equal(outbox.cause, CAUSE_NOTIFY);
}

static void
an_unfinished_window_is_gone_on_with_where_it_was_left(void **state UNUSED)
{
	uint64_t id;

	open_producer();
	connect_and_greet();
	lead();
	outbox_on_position(&outbox, "w5", 77, false, now);
	expect(OUTBOX_ASK_PAGE);
	assert_string_equal(outbox.window, "w5");
	assert_true(outbox.page_after == 77);
	assert_true(outbox_on_page(&outbox, 1, 100, 80));
	expect(OUTBOX_LOOK); /* the next one, while this one is produced */
	expect(OUTBOX_PRODUCE);
	id = produce_page(80);
	assert_true(outbox_on_window(&outbox, "w6"));
	take_page(0, 0);
	ack_all(id);
	now = outbox.store_at;
	expect_stored("w6", 0, true);
}

static void
a_window_that_ends_with_a_full_page_is_closed_by_an_empty_one(
	void **state UNUSED)
{
	uint64_t id;

	stream();
	open_window("w1");
	take_page(PAGE_ROWS, PAGE_ROWS);
	take_page(0, 0);
	expect(OUTBOX_PRODUCE);
	id = produce_page(1);
	ack_all(id);
	now = outbox.store_at;
	expect_stored("w1", PAGE_ROWS, true);
}

static void
the_next_page_is_asked_for_before_this_one_is_produced(void **state UNUSED)
{
	stream();
	open_window("w1");
	take_page(64, 64);
	expect(OUTBOX_ASK_PAGE);
	assert_true(outbox.page_after == 64);
	expect(OUTBOX_PRODUCE);
}

static void
two_pages_at_hand_are_enough(void **state UNUSED)
{
	stream();
	open_window("w1");
	take_page(64, 64);
	take_page(64, 128);
	expect(OUTBOX_PRODUCE);
	outbox_on_producer_full(&outbox, now);
	expect(OUTBOX_WAIT);
	outbox_on_acked(&outbox, now);
	expect(OUTBOX_PRODUCE);
	produce_page(1);
	expect(OUTBOX_ASK_PAGE);
	assert_true(outbox.page_after == 128);
}

static void
a_page_that_ends_with_its_bytes_is_not_the_last(void **state UNUSED)
{
	stream();
	open_window("w1");
	assert_true(outbox_on_page(&outbox, 2, OUTBOX_PAGE_BYTES, 2));
	expect(OUTBOX_ASK_PAGE);
	assert_true(outbox.page_after == 2);
	assert_true(outbox_on_page(&outbox, 2, OUTBOX_PAGE_BYTES - 1, 4));
	produce_page(1);
	produce_page(3);
	outbox_on_wake(&outbox);
	expect(OUTBOX_LOOK);
}

/* New settings hold from the next page on. */
static void
a_page_is_measured_by_what_was_asked_for(void **state UNUSED)
{
	stream();
	open_window("w1");
	outbox_on_settings(&outbox, SEC_US, 2 * PAGE_ROWS, now);
	assert_int_equal(outbox.page_rows, PAGE_ROWS);
	assert_true(outbox_on_page(&outbox, PAGE_ROWS, 100, PAGE_ROWS));
	expect(OUTBOX_ASK_PAGE);
	assert_int_equal(outbox.page_rows, 2 * PAGE_ROWS);
}

/* ---- back-pressure ----------------------------------------------------- */

static void
a_full_producer_gets_no_row_until_something_arrives(void **state UNUSED)
{
	uint64_t id;

	stream();
	open_window("w1");
	take_page(3, 3);
	id = in_flight_next_id(&outbox.in_flight);
	expect(OUTBOX_PRODUCE);
	assert_false(outbox_on_produced(&outbox, 1, 0, 1, now));
	outbox_on_producer_full(&outbox, now);
	assert_int_equal(outbox_row(&outbox), -1);
	expect(OUTBOX_WAIT);
	ack(id);
	expect(OUTBOX_PRODUCE);
	assert_int_equal(outbox_row(&outbox), 1);
}

static void
what_is_in_flight_is_bounded(void **state UNUSED)
{
	uint64_t id;

	outbox_state_fini(&outbox);
	outbox_state_init(&outbox, 4, false, 1);
	stream();
	open_window("w1");
	take_page(10, 10);
	id = in_flight_next_id(&outbox.in_flight);
	expect(OUTBOX_PRODUCE);
	for (int64_t seq = 1; seq <= 4; seq++)
		assert_false(outbox_on_produced(&outbox, seq, 0, 1, now));
	assert_int_equal(outbox_row(&outbox), -1);
	expect(OUTBOX_WAIT);
	ack(id + 1);
	assert_int_equal(outbox_row(&outbox), -1); /* the oldest is still there */
	ack(id);
	assert_int_equal(outbox_row(&outbox), 4);
}

static void
windows_in_flight_are_bounded(void **state UNUSED)
{
	uint64_t first;

	stream();
	first = fly_window("w", 1);
	while (outbox.in_flight.window_count + OUTBOX_PAGES_MAX <
		   IN_FLIGHT_WINDOWS_MAX)
		fly_window("w", 1);
	outbox_on_wake(&outbox);
	expect(OUTBOX_WAIT);
	expect_deadline(outbox.acked_at + OUTBOX_STALL_US);
	ack(first);
	expect(OUTBOX_LOOK);
}

/* ---- the position ------------------------------------------------------ */

static void
the_position_is_stored_after_200_ms(void **state UNUSED)
{
	uint64_t id;

	stream();
	id = fly_window("w1", 9);
	ack_all(id);
	now = outbox.store_at - 1;
	expect(OUTBOX_WAIT);
	now++;
	expect_stored("w1", 9, true);

	id = fly_window("w2", 9);
	ack_all(id);
	expect(OUTBOX_WAIT);
	expect_deadline(now + 200 * MS_US);
}

static void
the_position_is_stored_after_10000_events(void **state UNUSED)
{
	uint64_t id;

	stream();
	id = fly_window("w1", 10001);
	for (int i = 0; i < 9999; i++)
		ack(id++);
	expect(OUTBOX_WAIT);
	ack(id++);
	expect_stored("w1", 10000, false);
	ack(id);
	expect(OUTBOX_WAIT);
	now += OUTBOX_STORE_US;
	expect_stored("w1", 10001, true);
}

/*
 * wait_for_event: the position is stored as soon as it moves, in half of
 * the time at most, until no session waits.
 */
static void
the_position_is_stored_at_once_for_a_waiter(void **state UNUSED)
{
	uint64_t id;

	stream();
	id = fly_window("w1", 5);
	outbox_on_waiter(&outbox);
	expect(OUTBOX_WAIT); /* it has not moved */
	ack(id);
	expect(OUTBOX_STORE);
	now += MS_US;
	outbox_on_stored(&outbox, true, now);
	ack(id + 1);
	expect(OUTBOX_WAIT);
	expect_deadline(now + MS_US);
	now += MS_US;
	expect(OUTBOX_STORE);
	now += 70 * MS_US; /* a store that is slow */
	outbox_on_stored(&outbox, true, now);
	ack(id + 2);
	expect(OUTBOX_WAIT);
	expect_deadline(now + 70 * MS_US);
	now += 70 * MS_US;
	expect(OUTBOX_STORE);
	outbox_on_stored(&outbox, false, now);
	now += 10 * MS_US;
	ack(id + 3);
	expect(OUTBOX_WAIT);
	now += OUTBOX_STORE_US;
	expect_stored("w1", 4, false);
}

/* One that began to wait while the answer was on its way is not in it. */
static void
a_waiter_that_comes_while_the_position_is_stored_counts(void **state UNUSED)
{
	uint64_t id;

	stream();
	id = fly_window("w1", 2);
	ack(id);
	now += OUTBOX_STORE_US;
	expect(OUTBOX_STORE);
	outbox_on_waiter(&outbox);
	outbox_on_stored(&outbox, false, now);
	now += OUTBOX_STORE_PROMPT_US;
	ack(id + 1);
	expect_stored("w1", 2, true);
	outbox_on_waiter(&outbox);
	outbox_on_down(&outbox, now);
	assert_false(outbox.prompt); /* its waiters call the next session */
}

static void
the_position_does_not_pass_what_is_not_acknowledged(void **state UNUSED)
{
	uint64_t id;

	stream();
	id = fly_window("w1", 3);
	ack(id + 1);
	ack(id + 2);
	now += OUTBOX_STORE_US;
	expect(OUTBOX_WAIT);
	ack(id);
	expect_stored("w1", 3, true);
}

static void
a_window_within_is_stored_as_unfinished(void **state UNUSED)
{
	uint64_t first;
	uint64_t second;

	stream();
	first = fly_window("w1", 2);
	second = fly_window("w2", 2);
	ack(second + 1);
	ack(first);
	now += OUTBOX_STORE_US;
	expect_stored("w1", 1, false);
	ack(first + 1);
	now += OUTBOX_STORE_US;
	expect_stored("w1", 2, true);
	ack(second);
	now += OUTBOX_STORE_US;
	expect_stored("w2", 2, true);
}

static void
empty_windows_are_stored_once_a_minute(void **state UNUSED)
{
	int64_t begun = now;

	stream();
	doze();
	now = outbox.poll_at;
	while (now < begun + OUTBOX_STORE_US + OUTBOX_STORE_IDLE_US)
	{
		expect(OUTBOX_ASK_SLEEP);
		outbox_on_sleep(&outbox, "empty", true, now);
		expect(OUTBOX_WAIT);
		now = outbox_deadline(&outbox);
	}
	expect_stored("empty", 0, true);
}

/*
 * The server ends an idle session; so a session sends a beat also when it has
 * nothing to query because the broker is down or another relay leads.
 */
static void
an_idle_session_sends_a_beat(void **state UNUSED)
{
	outbox_beat_every(&outbox, OUTBOX_BEAT_US);
	expect(OUTBOX_NEW_PRODUCER); /* and none comes */
	connect_and_greet();
	expect(OUTBOX_BEAT);
	expect(OUTBOX_WAIT);
	outbox_on_beat(&outbox, now);
	expect(OUTBOX_ASK_LEAD);
	outbox_on_lead(&outbox, EPOCH, now);
	expect(OUTBOX_ASK_HELD);
	outbox_on_held(&outbox);
	for (int i = 0; i < 10; i++)
	{
		expect(OUTBOX_WAIT);
		expect_deadline(now + OUTBOX_BEAT_US);
		now += OUTBOX_BEAT_US;
		expect(OUTBOX_BEAT);
		outbox_on_beat(&outbox, now);
	}
}

/* Or its position could not be stored. */
static void
so_does_the_session_of_a_relay_that_stops(void **state UNUSED)
{
	uint64_t id;

	stream();
	id = fly_window("w1", 1);
	outbox_beat_every(&outbox, OUTBOX_BEAT_US);
	expect(OUTBOX_BEAT);
	outbox_on_beat(&outbox, now);
	outbox_on_stop(&outbox, now + 10 * SEC_US);
	expect_deadline(now + OUTBOX_BEAT_US);
	now += OUTBOX_BEAT_US;
	expect(OUTBOX_BEAT);
	outbox_on_beat(&outbox, now);
	expect(OUTBOX_WAIT);
	ack(id);
	expect_stored("w1", 1, true);
	expect(OUTBOX_DONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test(a_start_goes_from_handshake_over_lead_to_the_position),
		test(a_relay_that_does_not_lead_asks_again_every_second),
		test(a_leader_without_a_producer_does_not_ask_for_the_position),
		test(a_window_is_read_produced_and_stored),
		test(a_pump_that_finds_nothing_sleeps_soon),
		test(the_more_there_is_the_later_it_looks_again),
		test(a_pump_that_may_not_sleep_looks_again_and_again),
		test(a_notification_brings_the_next_look_forward),
		test(an_unfinished_window_is_gone_on_with_where_it_was_left),
		test(a_window_that_ends_with_a_full_page_is_closed_by_an_empty_one),
		test(the_next_page_is_asked_for_before_this_one_is_produced),
		test(two_pages_at_hand_are_enough),
		test(a_page_that_ends_with_its_bytes_is_not_the_last),
		test(a_page_is_measured_by_what_was_asked_for),
		test(a_full_producer_gets_no_row_until_something_arrives),
		test(what_is_in_flight_is_bounded),
		test(windows_in_flight_are_bounded),
		test(the_position_is_stored_after_200_ms),
		test(the_position_is_stored_after_10000_events),
		test(the_position_is_stored_at_once_for_a_waiter),
		test(a_waiter_that_comes_while_the_position_is_stored_counts),
		test(the_position_does_not_pass_what_is_not_acknowledged),
		test(a_window_within_is_stored_as_unfinished),
		test(empty_windows_are_stored_once_a_minute),
		test(an_idle_session_sends_a_beat),
		test(so_does_the_session_of_a_relay_that_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
