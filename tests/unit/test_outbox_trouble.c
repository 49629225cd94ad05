/*
 * test_outbox_trouble.c - decisions of the outbox pump when a connection or
 * producer is lost, and when it stops
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox_fixture.h"

/* ---- the connection is lost -------------------------------------------- */

typedef enum Stage
{
	STAGE_CONNECT,
	STAGE_HANDSHAKE,
	STAGE_LEAD,
	STAGE_STAND_BY,
	STAGE_POSITION,
	STAGE_IDLE,
	STAGE_WINDOW,
	STAGE_PAGE,
	STAGE_ROWS,
	STAGE_FLYING,
	STAGE_STORE,
	STAGES,
} Stage;

static void
go_streaming_to(Stage stage)
{
	uint64_t id;

	outbox_on_position(&outbox, "w0", 0, true, now);
	outbox_on_wake(&outbox);
	if (stage == STAGE_IDLE)
		return;
	expect(OUTBOX_LOOK);
	if (stage == STAGE_WINDOW)
		return;
	assert_true(outbox_on_window(&outbox, "w1"));
	if (stage == STAGE_PAGE)
		return;
	assert_true(outbox_on_page(&outbox, 2, 200, 2));
	if (stage == STAGE_ROWS)
		return;
	expect(OUTBOX_PRODUCE);
	id = produce_page(1);
	if (stage == STAGE_FLYING)
		return;
	ack_all(id);
	now = outbox.store_at;
	expect(OUTBOX_STORE);
}

/* Runs until the pump returns that action. */
static void
go_to(Stage stage)
{
	open_producer();
	if (stage == STAGE_CONNECT)
	{
		expect(OUTBOX_CONNECT);
		return;
	}
	if (stage == STAGE_HANDSHAKE)
	{
		expect(OUTBOX_CONNECT);
		outbox_on_connected(&outbox, now);
		expect(OUTBOX_ASK_HELLO);
		return;
	}
	connect_and_greet();
	expect(OUTBOX_ASK_LEAD);
	if (stage == STAGE_LEAD)
		return;
	outbox_on_lead(&outbox, stage == STAGE_STAND_BY ? 0 : EPOCH, now);
	if (stage == STAGE_STAND_BY)
		return;
	expect(OUTBOX_ASK_HELD);
	outbox_on_held(&outbox);
	expect(OUTBOX_ASK_POSITION);
	if (stage > STAGE_POSITION)
		go_streaming_to(stage);
}

static void
a_lost_connection_starts_over_from_the_stored_position(void **state)
{
	for (Stage stage = STAGE_CONNECT; stage < STAGES; stage++)
	{
		uint64_t flown;

		end(state);
		begin(state);
		go_to(stage);
		flown = in_flight_next_id(&outbox.in_flight);
		outbox_on_down(&outbox, now);
		assert_int_equal(outbox.pump, PUMP_DOWN);
		assert_false(outbox_leads(&outbox));
		assert_false(outbox_makes_progress(&outbox, now));
		assert_int_equal(outbox_row(&outbox), -1);
		assert_int_equal(in_flight_count(&outbox.in_flight), 0);
		/* events that were in flight arrive, and are not counted */
		for (uint64_t id = 0; id < flown; id++)
			assert_true(in_flight_ack(&outbox.in_flight, id) == -1);
		outbox_on_acked(&outbox, now);

		expect(OUTBOX_WAIT);
		expect_deadline(outbox.connect_at);
		assert_true(outbox.connect_at > now);
		now = outbox.connect_at;
		connect_and_greet();
		lead();
		outbox_on_position(&outbox, "w0", 0, true, now);
		fly_window("w1", 2);
	}
}

static void
tries_to_connect_get_rarer_until_one_succeeds(void **state UNUSED)
{
	int64_t longest = 0;

	open_producer();
	for (int i = 0; i < 100; i++)
	{
		expect(OUTBOX_CONNECT);
		outbox_on_down(&outbox, now);
		longest = Max(longest, outbox.connect_at - now);
		now = outbox.connect_at;
	}
	assert_true(longest > SEC_US / 2 && longest <= DB_RETRY_US_MAX);
	connect_and_greet();
	lead();
	outbox_on_position(&outbox, "w0", 0, true, now);
	fly_window("w1", 1);
	assert_int_equal(outbox.db_retry.failures, 0);
}

/* It has waited for a server that is frozen; the next try begins at once. */
static void
a_try_that_took_long_is_pause_enough(void **state UNUSED)
{
	open_producer();
	expect(OUTBOX_CONNECT);
	now += DB_RETRY_US_MAX;
	outbox_on_down(&outbox, now);
	assert_true(outbox.connect_at == now);
	expect(OUTBOX_CONNECT);
	outbox_on_down(&outbox, now);
	assert_true(outbox.connect_at > now);
}

/* ---- the producer is lost ---------------------------------------------- */

static void
a_lost_producer_goes_back_to_the_stored_position(void **state)
{
	for (Stage stage = STAGE_POSITION; stage < STAGES; stage++)
	{
		end(state);
		begin(state);
		go_to(stage);
		outbox_on_producer_failed(&outbox, now);
		assert_true(outbox_leads(&outbox)); /* the lead is the database's */
		assert_int_equal(in_flight_count(&outbox.in_flight), 0);
		assert_int_equal(outbox_row(&outbox), -1);
		expect(OUTBOX_WAIT);
		assert_true(outbox_deadline(&outbox) == outbox.producer_at);

		/* the answer to the request is obsolete */
		if (stage == STAGE_POSITION)
			outbox_on_position(&outbox, "w0", 0, true, now);
		else if (stage == STAGE_WINDOW)
			assert_false(outbox_on_window(&outbox, "w1"));
		else if (stage == STAGE_PAGE)
			assert_false(outbox_on_page(&outbox, 2, 200, 2));
		else if (stage == STAGE_STORE)
			outbox_on_stored(&outbox, false, now);
		expect(OUTBOX_WAIT);
		now = outbox.producer_at;
		open_producer();
		expect(OUTBOX_ASK_POSITION);
		outbox_on_position(&outbox, "w0", 0, true, now);
		fly_window("w1", 2);
	}
}

static void
an_answer_for_the_lost_producer_does_not_reach_the_next(void **state UNUSED)
{
	go_to(STAGE_PAGE);
	outbox_on_producer_failed(&outbox, now);
	now = outbox.producer_at;
	open_producer();
	/*
	 * the page was requested for the old producer: the new one does not use it
	 */
	expect(OUTBOX_WAIT);
	assert_false(outbox_on_page(&outbox, 2, 200, 2));
	expect(OUTBOX_ASK_POSITION);
}

static void
a_producer_that_acknowledges_nothing_is_given_up(void **state UNUSED)
{
	uint64_t id;

	stream();
	outbox.poll_us = 3600 * SEC_US;
	id = fly_window("w1", 2);
	now += OUTBOX_STALL_US - SEC_US;
	ack(id);
	expect_stored("w1", 1, false);
	assert_true(outbox_makes_progress(&outbox, now));
	now += OUTBOX_STALL_US - 1;
	expect(OUTBOX_WAIT);
	assert_false(outbox_makes_progress(&outbox, now));
	now++;
	expect(OUTBOX_WAIT);
	assert_int_equal(in_flight_count(&outbox.in_flight), 0);
	now = outbox.producer_at;
	open_producer();
	expect(OUTBOX_ASK_POSITION);
}

static void
a_producer_with_nothing_in_flight_is_not_given_up(void **state UNUSED)
{
	stream();
	outbox.poll_us = 3600 * SEC_US;
	ack_all(fly_window("w1", 1));
	now = outbox.store_at;
	expect_stored("w1", 1, true);
	now += 2 * OUTBOX_STALL_US;
	expect(OUTBOX_WAIT);
	assert_true(outbox.producer_up);
	/* nor is a producer that has just got its first event for hours */
	fly_window("w2", 1);
	expect(OUTBOX_WAIT);
	assert_true(outbox.producer_up);
}

static void
a_producer_that_stays_full_is_given_up(void **state UNUSED)
{
	stream();
	outbox.poll_us = 3600 * SEC_US;
	open_window("w1");
	take_page(1, 1);
	expect(OUTBOX_PRODUCE);
	outbox_on_producer_full(&outbox,
							now); /* with events of before the rewind */
	doze();
	assert_true(outbox_makes_progress(&outbox, now));
	now += OUTBOX_STALL_US - 1;
	expect(OUTBOX_WAIT);
	assert_false(outbox_makes_progress(&outbox, now));
	now++;
	expect(OUTBOX_WAIT);
	assert_false(outbox.producer_up);
	assert_true(outbox_deadline(&outbox) == outbox.producer_at);
}

/* ---- stopping ---------------------------------------------------------- */

static void
a_relay_that_does_not_stream_stops_at_once(void **state)
{
	for (Stage stage = STAGE_CONNECT; stage <= STAGE_STAND_BY; stage++)
	{
		end(state);
		begin(state);
		go_to(stage);
		outbox_on_stop(&outbox, now + 10 * SEC_US);
		expect(OUTBOX_DONE);
	}
}

static void
a_stop_waits_for_events_in_flight_and_stores_the_position(void **state UNUSED)
{
	uint64_t id;

	stream();
	id = fly_window("w1", 2);
	open_window("w2");
	take_page(2, 9);
	outbox_on_wake(&outbox);
	outbox_on_stop(&outbox, now + 10 * SEC_US);
	expect(OUTBOX_WAIT); /* the rows at hand stay where they are */
	expect_deadline(outbox.stop_by);
	ack(id);
	now = outbox.store_at;
	expect_stored("w1", 1, false);
	expect(OUTBOX_WAIT);
	ack(id + 1);
	expect_stored("w1", 2, true);
	expect(OUTBOX_DONE);
}

static void
a_stop_waits_for_the_answer_that_is_under_way(void **state UNUSED)
{
	go_to(STAGE_STORE);
	outbox_on_stop(&outbox, now + 10 * SEC_US);
	expect(OUTBOX_WAIT);
	outbox_on_stored(&outbox, false, now);
	expect(OUTBOX_DONE);
}

static void
an_idle_leader_stops_at_once(void **state UNUSED)
{
	stream();
	outbox_on_stop(&outbox, now + 10 * SEC_US);
	expect(OUTBOX_DONE);
}

static void
a_stop_ends_in_time_whatever_is_in_flight(void **state UNUSED)
{
	stream();
	fly_window("w1", 2);
	outbox_on_stop(&outbox, now + 10 * SEC_US);
	now += 10 * SEC_US - 1;
	expect(OUTBOX_WAIT);
	now++;
	expect(OUTBOX_DONE);
}

static void
a_stop_without_a_peer_ends_at_once(void **state)
{
	stream();
	fly_window("w1", 2);
	outbox_on_stop(&outbox, now + 10 * SEC_US);
	outbox_on_down(&outbox, now);
	expect(OUTBOX_DONE); /* no database: nowhere to store */

	end(state);
	begin(state);
	stream();
	fly_window("w1", 2);
	outbox_on_stop(&outbox, now + 10 * SEC_US);
	outbox_on_producer_failed(&outbox, now);
	expect(OUTBOX_DONE); /* no producer: nothing will arrive */
}

/* ---- the watchdog ------------------------------------------------------ */

static void
an_answer_that_does_not_come_is_overdue(void **state UNUSED)
{
	go_to(STAGE_WINDOW);
	now += OUTBOX_ANSWER_US + PUMP_GRACE_US;
	assert_false(outbox_overdue(&outbox, now));
	now++;
	assert_true(outbox_overdue(&outbox, now));
	assert_true(outbox_on_window(&outbox, "w1"));
	take_page(0, 0);
	expect(OUTBOX_LOOK);
	assert_false(outbox_overdue(&outbox, now));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test(a_lost_connection_starts_over_from_the_stored_position),
		test(tries_to_connect_get_rarer_until_one_succeeds),
		test(a_try_that_took_long_is_pause_enough),
		test(a_lost_producer_goes_back_to_the_stored_position),
		test(an_answer_for_the_lost_producer_does_not_reach_the_next),
		test(a_producer_that_acknowledges_nothing_is_given_up),
		test(a_producer_with_nothing_in_flight_is_not_given_up),
		test(a_producer_that_stays_full_is_given_up),
		test(a_relay_that_does_not_stream_stops_at_once),
		test(a_stop_waits_for_events_in_flight_and_stores_the_position),
		test(a_stop_waits_for_the_answer_that_is_under_way),
		test(an_idle_leader_stops_at_once),
		test(a_stop_ends_in_time_whatever_is_in_flight),
		test(a_stop_without_a_peer_ends_at_once),
		test(an_answer_that_does_not_come_is_overdue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
