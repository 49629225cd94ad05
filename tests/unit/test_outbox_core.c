/*
 * test_outbox_core.c - each decision of the outbox pump, one at a time
 *
 * The test plays database, producer and clock.  What all of it together
 * promises is in test_outbox_simulation.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include "outbox_core.h"

#define IN_FLIGHT_MAX 16384
#define EPOCH 7

static OutboxCore core;
static int64_t now;

static int
begin(void **state UNUSED)
{
	outbox_core_init(&core, IN_FLIGHT_MAX, 1);
	now = 1000 * SEC_US;
	return 0;
}

static int
end(void **state UNUSED)
{
	outbox_core_fini(&core);
	return 0;
}

/* A macro, so that a failure names the line of the test. */
#define expect(action) assert_int_equal(outbox_next(&core, now), action)
#define expect_deadline(at) assert_true(outbox_deadline(&core) == (at))

/* ---- ways to get somewhere --------------------------------------------- */

static void
open_sink(void)
{
	expect(OUTBOX_NEW_SINK);
	outbox_on_sink_up(&core, now);
}

static void
connect_and_greet(void)
{
	expect(OUTBOX_CONNECT);
	expect(OUTBOX_WAIT);
	outbox_on_connected(&core, now);
	for (OutboxAction step = OUTBOX_ASK_HELLO; step <= OUTBOX_ASK_TOPICS;
		 step++)
	{
		expect(step);
		expect(OUTBOX_WAIT);
		outbox_on_step_done(&core, now);
	}
}

static void
lead(void)
{
	expect(OUTBOX_ASK_LEAD);
	outbox_on_lead(&core, EPOCH, now);
	expect(OUTBOX_ASK_POSITION);
}

/* Streaming, with the position at the end of "w0". */
static void
stream(void)
{
	open_sink();
	connect_and_greet();
	lead();
	outbox_on_position(&core, "w0", 0, true, now);
}

static void
open_window(const char *window)
{
	outbox_on_wake(&core);
	expect(OUTBOX_ASK_WINDOW);
	outbox_on_window(&core, window);
}

/* A page of rows of 100 bytes; the last has that seq. */
static void
take_page(uint32_t rows, int64_t last_seq)
{
	expect(OUTBOX_ASK_PAGE);
	assert_int_equal(outbox_on_page(&core, rows, (size_t) rows * 100,
									last_seq), rows > 0);
}

/* Produces the oldest page, whose first row has that seq; the first id. */
static uint64_t
produce_page(int64_t first_seq)
{
	uint64_t	id = ring_next_id(&core.ring);
	bool		done = false;

	expect(OUTBOX_PRODUCE);
	for (int64_t row = 0; !done; row++)
	{
		assert_int_equal(outbox_row(&core), row);
		done = outbox_on_produced(&core, first_seq + row, 0, now);
	}
	return id;
}

/* A window of that many rows in flight, seq from 1 on. */
static uint64_t
fly_window(const char *window, uint32_t rows)
{
	uint64_t	first = ring_next_id(&core.ring);

	open_window(window);
	for (uint32_t sent = 0; core.reading;)
	{
		uint32_t	page = Min(rows - sent, core.page_rows);

		take_page(page, sent + page);
		if (page > 0)
		{
			if (core.reading)
			{
				/* the next one is asked for already */
				expect(OUTBOX_ASK_PAGE);
				core.asked = OUTBOX_WAIT;
			}
			produce_page(sent + 1);
		}
		sent += page;
	}
	return first;
}

static void
ack(uint64_t id)
{
	assert_true(ring_ack(&core.ring, id) >= 0);
	outbox_on_acked(&core, now);
}

static void
ack_all(uint64_t first)
{
	while (first < ring_next_id(&core.ring))
		ack(first++);
}

static void
expect_stored(const char *window, int64_t seq, bool finished)
{
	expect(OUTBOX_STORE);
	assert_string_equal(core.storing.window, window);
	assert_true(core.storing.seq == seq);
	assert_int_equal(core.storing.finished, finished);
	outbox_on_stored(&core, now);
}

/* ---- start, lead ------------------------------------------------------- */

static void
a_start_goes_from_handshake_over_lead_to_the_position(void **state UNUSED)
{
	open_sink();
	assert_false(outbox_moves(&core, now));
	connect_and_greet();
	assert_int_equal(core.state, PUMP_LEADER_WAIT);
	assert_false(outbox_leads(&core));
	lead();
	assert_true(outbox_leads(&core));
	assert_false(outbox_moves(&core, now));
	outbox_on_position(&core, "w0", 0, true, now);
	assert_true(outbox_moves(&core, now));
	/* it looks at once, without being woken */
	expect(OUTBOX_ASK_WINDOW);
	assert_string_equal(core.window, "w0");
	assert_true(core.polled);
}

static void
a_relay_that_does_not_lead_asks_again_every_second(void **state UNUSED)
{
	open_sink();
	connect_and_greet();
	for (int i = 0; i < 3; i++)
	{
		expect(OUTBOX_ASK_LEAD);
		outbox_on_lead(&core, 0, now);
		expect(OUTBOX_WAIT);
		expect_deadline(now + OUTBOX_LEAD_US);
		assert_false(outbox_leads(&core));
		assert_true(outbox_moves(&core, now));	/* it stands by: ready */
		now += OUTBOX_LEAD_US;
	}
	lead();
}

static void
a_leader_without_a_producer_does_not_ask_for_the_position(void **state UNUSED)
{
	expect(OUTBOX_NEW_SINK);
	outbox_on_sink_failed(&core, now);
	connect_and_greet();
	expect(OUTBOX_ASK_LEAD);
	outbox_on_lead(&core, EPOCH, now);
	expect(OUTBOX_WAIT);
	expect_deadline(core.sink_at);
	now = core.sink_at;
	open_sink();
	expect(OUTBOX_ASK_POSITION);
}

/* ---- windows and pages ------------------------------------------------- */

static void
a_window_is_read_produced_and_stored(void **state UNUSED)
{
	uint64_t	id;

	stream();
	expect(OUTBOX_ASK_WINDOW);
	outbox_on_window(&core, "w1");
	expect(OUTBOX_ASK_PAGE);
	assert_string_equal(core.window, "w1");
	assert_true(core.page_after == 0);
	assert_true(outbox_on_page(&core, 2, 200, 12));
	id = produce_page(11);
	expect(OUTBOX_WAIT);
	expect_deadline(core.poll_at);

	ack_all(id);
	expect(OUTBOX_WAIT);
	expect_deadline(core.store_at);
	now = core.store_at;
	expect_stored("w1", 12, true);
	expect(OUTBOX_WAIT);
}

static void
an_empty_window_is_followed_by_the_next_poll(void **state UNUSED)
{
	stream();
	core.poll_us = 300 * MS_US;
	expect(OUTBOX_ASK_WINDOW);
	outbox_on_window(&core, "w1");
	take_page(0, 0);
	expect(OUTBOX_WAIT);
	expect_deadline(now + 300 * MS_US);
	now += 300 * MS_US;
	expect(OUTBOX_ASK_WINDOW);
	assert_string_equal(core.window, "w1");
	assert_true(core.polled);
}

static void
a_notification_brings_the_next_look_forward(void **state UNUSED)
{
	stream();
	expect(OUTBOX_ASK_WINDOW);
	/* one that comes while the answer is awaited is not lost */
	outbox_on_wake(&core);
	outbox_on_window(&core, "w1");
	take_page(0, 0);
	expect(OUTBOX_ASK_WINDOW);
	assert_false(core.polled);
	outbox_on_window(&core, "w2");
	take_page(0, 0);
	expect(OUTBOX_WAIT);
}

static void
an_unfinished_window_is_gone_on_with_where_it_was_left(void **state UNUSED)
{
	uint64_t	id;

	open_sink();
	connect_and_greet();
	lead();
	outbox_on_position(&core, "w5", 77, false, now);
	expect(OUTBOX_ASK_PAGE);
	assert_string_equal(core.window, "w5");
	assert_true(core.page_after == 77);
	assert_true(outbox_on_page(&core, 1, 100, 80));
	id = produce_page(80);
	ack_all(id);
	now = core.store_at;
	expect_stored("w5", 80, true);
}

static void
a_window_that_ends_with_a_full_page_is_closed_by_an_empty_one(
	void **state UNUSED)
{
	uint64_t	id;

	stream();
	open_window("w1");
	take_page(OUTBOX_PAGE_ROWS_FIRST, OUTBOX_PAGE_ROWS_FIRST);
	take_page(0, 0);
	id = produce_page(1);
	ack_all(id);
	now = core.store_at;
	expect_stored("w1", OUTBOX_PAGE_ROWS_FIRST, true);
}

static void
the_next_page_is_asked_for_before_this_one_is_produced(void **state UNUSED)
{
	stream();
	open_window("w1");
	take_page(64, 64);
	expect(OUTBOX_ASK_PAGE);
	assert_true(core.page_after == 64);
	expect(OUTBOX_PRODUCE);
}

static void
two_pages_at_hand_are_enough(void **state UNUSED)
{
	stream();
	open_window("w1");
	take_page(64, 64);
	take_page(128, 192);
	expect(OUTBOX_PRODUCE);
	outbox_on_sink_full(&core);
	expect(OUTBOX_WAIT);
	outbox_on_acked(&core, now);
	produce_page(1);
	expect(OUTBOX_ASK_PAGE);
	assert_true(core.page_after == 192);
}

static void
pages_grow_up_to_their_bytes_and_rows(void **state UNUSED)
{
	uint32_t	rows = OUTBOX_PAGE_ROWS_FIRST;
	int64_t		seq = 0;

	stream();
	core.page_rows_max = 1000;
	open_window("w1");
	for (int i = 0; i < 6; i++)
	{
		assert_int_equal(core.page_rows, rows);
		take_page(rows, seq + rows);
		expect(OUTBOX_ASK_PAGE);
		core.asked = OUTBOX_WAIT;
		produce_page(seq + 1);
		seq += rows;
		rows = Min(2 * rows, 1000);
	}
	/* rows of a megabyte: as many as fit, and one at least */
	expect(OUTBOX_ASK_PAGE);
	assert_true(outbox_on_page(&core, rows, (size_t) rows << 20, seq + rows));
	assert_int_equal(core.page_rows, OUTBOX_PAGE_BYTES >> 20);
	expect(OUTBOX_ASK_PAGE);
	assert_true(outbox_on_page(&core, 4, (size_t) 4 << 30, seq + rows + 4));
	assert_int_equal(core.page_rows, 1);
}

/* ---- back-pressure ----------------------------------------------------- */

static void
a_full_producer_gets_no_row_until_something_arrives(void **state UNUSED)
{
	uint64_t	id;

	stream();
	open_window("w1");
	take_page(3, 3);
	id = ring_next_id(&core.ring);
	expect(OUTBOX_PRODUCE);
	assert_false(outbox_on_produced(&core, 1, 0, now));
	outbox_on_sink_full(&core);
	assert_int_equal(outbox_row(&core), -1);
	expect(OUTBOX_WAIT);
	ack(id);
	expect(OUTBOX_PRODUCE);
	assert_int_equal(outbox_row(&core), 1);
}

static void
what_is_in_flight_is_bounded(void **state UNUSED)
{
	uint64_t	id;

	outbox_core_fini(&core);
	outbox_core_init(&core, 4, 1);
	stream();
	open_window("w1");
	take_page(10, 10);
	id = ring_next_id(&core.ring);
	expect(OUTBOX_PRODUCE);
	for (int64_t seq = 1; seq <= 4; seq++)
		assert_false(outbox_on_produced(&core, seq, 0, now));
	assert_int_equal(outbox_row(&core), -1);
	expect(OUTBOX_WAIT);
	ack(id + 1);
	assert_int_equal(outbox_row(&core), -1);	/* the oldest is still there */
	ack(id);
	assert_int_equal(outbox_row(&core), 4);
}

static void
windows_in_flight_are_bounded(void **state UNUSED)
{
	uint64_t	first;

	stream();
	first = fly_window("w", 1);
	while (core.ring.window_count + OUTBOX_PAGES_MAX < RING_WINDOWS_MAX)
		fly_window("w", 1);
	outbox_on_wake(&core);
	expect(OUTBOX_WAIT);
	expect_deadline(core.acked_at + OUTBOX_STALL_US);
	ack(first);
	expect(OUTBOX_ASK_WINDOW);
}

/* ---- the position ------------------------------------------------------ */

static void
the_position_is_stored_after_200_ms(void **state UNUSED)
{
	uint64_t	id;

	stream();
	id = fly_window("w1", 9);
	ack_all(id);
	now = core.store_at - 1;
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
	uint64_t	id;

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

static void
the_position_does_not_pass_what_is_not_acknowledged(void **state UNUSED)
{
	uint64_t	id;

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
	uint64_t	first;
	uint64_t	second;

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
	int64_t		begun = now;

	stream();
	while (now < begun + OUTBOX_STORE_US + OUTBOX_STORE_IDLE_US)
	{
		expect(OUTBOX_ASK_WINDOW);
		outbox_on_window(&core, "empty");
		take_page(0, 0);
		expect(OUTBOX_WAIT);
		now = outbox_deadline(&core);
	}
	expect_stored("empty", 0, true);
}

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
	uint64_t	id;

	outbox_on_position(&core, "w0", 0, true, now);
	outbox_on_wake(&core);
	if (stage == STAGE_IDLE)
		return;
	expect(OUTBOX_ASK_WINDOW);
	if (stage == STAGE_WINDOW)
		return;
	outbox_on_window(&core, "w1");
	expect(OUTBOX_ASK_PAGE);
	if (stage == STAGE_PAGE)
		return;
	assert_true(outbox_on_page(&core, 2, 200, 2));
	if (stage == STAGE_ROWS)
		return;
	id = produce_page(1);
	if (stage == STAGE_FLYING)
		return;
	ack_all(id);
	now = core.store_at;
	expect(OUTBOX_STORE);
}

/* To the moment in which that is done or asked for. */
static void
go_to(Stage stage)
{
	open_sink();
	if (stage == STAGE_CONNECT)
	{
		expect(OUTBOX_CONNECT);
		return;
	}
	if (stage == STAGE_HANDSHAKE)
	{
		expect(OUTBOX_CONNECT);
		outbox_on_connected(&core, now);
		expect(OUTBOX_ASK_HELLO);
		return;
	}
	connect_and_greet();
	expect(OUTBOX_ASK_LEAD);
	if (stage == STAGE_LEAD)
		return;
	outbox_on_lead(&core, stage == STAGE_STAND_BY ? 0 : EPOCH, now);
	if (stage == STAGE_STAND_BY)
		return;
	expect(OUTBOX_ASK_POSITION);
	if (stage > STAGE_POSITION)
		go_streaming_to(stage);
}

static void
a_lost_connection_starts_over_from_the_stored_position(void **state)
{
	for (Stage stage = STAGE_CONNECT; stage < STAGES; stage++)
	{
		uint64_t	flown;

		end(state);
		begin(state);
		go_to(stage);
		flown = ring_next_id(&core.ring);
		outbox_on_down(&core, now);
		assert_int_equal(core.state, PUMP_DOWN);
		assert_false(outbox_leads(&core));
		assert_false(outbox_moves(&core, now));
		assert_int_equal(outbox_row(&core), -1);
		assert_int_equal(ring_in_flight(&core.ring), 0);
		/* what was in flight arrives, and counts for nothing */
		for (uint64_t id = 0; id < flown; id++)
			assert_true(ring_ack(&core.ring, id) == -1);
		outbox_on_acked(&core, now);

		expect(OUTBOX_WAIT);
		expect_deadline(core.connect_at);
		assert_true(core.connect_at > now);
		now = core.connect_at;
		connect_and_greet();
		lead();
		outbox_on_position(&core, "w0", 0, true, now);
		fly_window("w1", 2);
	}
}

static void
tries_to_connect_get_rarer_until_one_succeeds(void **state UNUSED)
{
	int64_t		longest = 0;

	open_sink();
	for (int i = 0; i < 100; i++)
	{
		expect(OUTBOX_CONNECT);
		outbox_on_down(&core, now);
		longest = Max(longest, core.connect_at - now);
		now = core.connect_at;
	}
	assert_true(longest > SEC_US && longest <= 5 * SEC_US);
	connect_and_greet();
	lead();
	outbox_on_position(&core, "w0", 0, true, now);
	fly_window("w1", 1);
	assert_int_equal(core.db_retry.failures, 0);
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
		outbox_on_sink_failed(&core, now);
		assert_true(outbox_leads(&core));	/* the lead is the database's */
		assert_int_equal(ring_in_flight(&core.ring), 0);
		assert_int_equal(outbox_row(&core), -1);
		expect(OUTBOX_WAIT);
		assert_true(outbox_deadline(&core) == core.sink_at);

		/* the answer to what was asked is of no use any more */
		if (stage == STAGE_POSITION)
			outbox_on_position(&core, "w0", 0, true, now);
		else if (stage == STAGE_WINDOW)
			outbox_on_window(&core, "w1");
		else if (stage == STAGE_PAGE)
			assert_false(outbox_on_page(&core, 2, 200, 2));
		else if (stage == STAGE_STORE)
			outbox_on_stored(&core, now);
		expect(OUTBOX_WAIT);
		now = core.sink_at;
		open_sink();
		expect(OUTBOX_ASK_POSITION);
		outbox_on_position(&core, "w0", 0, true, now);
		fly_window("w1", 2);
	}
}

static void
an_answer_for_the_lost_producer_does_not_reach_the_next(void **state UNUSED)
{
	go_to(STAGE_PAGE);
	outbox_on_sink_failed(&core, now);
	now = core.sink_at;
	open_sink();
	/* the page was asked for in the old life: it is not taken in this one */
	expect(OUTBOX_WAIT);
	assert_false(outbox_on_page(&core, 2, 200, 2));
	expect(OUTBOX_ASK_POSITION);
}

static void
a_producer_that_acknowledges_nothing_is_given_up(void **state UNUSED)
{
	uint64_t	id;

	stream();
	id = fly_window("w1", 2);
	now += OUTBOX_STALL_US - SEC_US;
	core.poll_at = NEVER;
	ack(id);
	expect_stored("w1", 1, false);
	assert_true(outbox_moves(&core, now));
	now += OUTBOX_STALL_US - 1;
	expect(OUTBOX_WAIT);
	assert_false(outbox_moves(&core, now));
	now++;
	expect(OUTBOX_WAIT);
	assert_int_equal(ring_in_flight(&core.ring), 0);
	now = core.sink_at;
	open_sink();
	expect(OUTBOX_ASK_POSITION);
}

static void
a_producer_with_nothing_in_flight_is_not_given_up(void **state UNUSED)
{
	stream();
	core.poll_us = NEVER - now;
	ack_all(fly_window("w1", 1));
	now = core.store_at;
	expect_stored("w1", 1, true);
	now += 2 * OUTBOX_STALL_US;
	expect(OUTBOX_WAIT);
	assert_true(core.sink_up);
	/* nor is one that just got its first event for hours */
	fly_window("w2", 1);
	expect(OUTBOX_WAIT);
	assert_true(core.sink_up);
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
		outbox_on_stop(&core, now + 10 * SEC_US);
		expect(OUTBOX_DONE);
	}
}

static void
a_stop_lets_what_is_in_flight_arrive_and_stores_it(void **state UNUSED)
{
	uint64_t	id;

	stream();
	id = fly_window("w1", 2);
	open_window("w2");
	take_page(2, 9);
	outbox_on_wake(&core);
	outbox_on_stop(&core, now + 10 * SEC_US);
	expect(OUTBOX_WAIT);		/* the rows at hand stay where they are */
	expect_deadline(core.stop_by);
	ack(id);
	now = core.store_at;
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
	outbox_on_stop(&core, now + 10 * SEC_US);
	expect(OUTBOX_WAIT);
	outbox_on_stored(&core, now);
	expect(OUTBOX_DONE);
}

static void
an_idle_leader_stops_at_once(void **state UNUSED)
{
	stream();
	outbox_on_stop(&core, now + 10 * SEC_US);
	expect(OUTBOX_DONE);
}

static void
a_stop_ends_in_time_whatever_is_in_flight(void **state UNUSED)
{
	stream();
	fly_window("w1", 2);
	outbox_on_stop(&core, now + 10 * SEC_US);
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
	outbox_on_stop(&core, now + 10 * SEC_US);
	outbox_on_down(&core, now);
	expect(OUTBOX_DONE);		/* no database: nowhere to store */

	end(state);
	begin(state);
	stream();
	fly_window("w1", 2);
	outbox_on_stop(&core, now + 10 * SEC_US);
	outbox_on_sink_failed(&core, now);
	expect(OUTBOX_DONE);		/* no producer: nothing will arrive */
}

/* ---- the watchdog ------------------------------------------------------ */

static void
an_answer_that_does_not_come_is_overdue(void **state UNUSED)
{
	go_to(STAGE_WINDOW);
	now += PUMP_ANSWER_US + PUMP_GRACE_US;
	assert_false(outbox_overdue(&core, now));
	now++;
	assert_true(outbox_overdue(&core, now));
	outbox_on_window(&core, "w1");
	take_page(0, 0);
	expect(OUTBOX_ASK_WINDOW);
	assert_false(outbox_overdue(&core, now));
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test(a_start_goes_from_handshake_over_lead_to_the_position),
		test(a_relay_that_does_not_lead_asks_again_every_second),
		test(a_leader_without_a_producer_does_not_ask_for_the_position),
		test(a_window_is_read_produced_and_stored),
		test(an_empty_window_is_followed_by_the_next_poll),
		test(a_notification_brings_the_next_look_forward),
		test(an_unfinished_window_is_gone_on_with_where_it_was_left),
		test(a_window_that_ends_with_a_full_page_is_closed_by_an_empty_one),
		test(the_next_page_is_asked_for_before_this_one_is_produced),
		test(two_pages_at_hand_are_enough),
		test(pages_grow_up_to_their_bytes_and_rows),
		test(a_full_producer_gets_no_row_until_something_arrives),
		test(what_is_in_flight_is_bounded),
		test(windows_in_flight_are_bounded),
		test(the_position_is_stored_after_200_ms),
		test(the_position_is_stored_after_10000_events),
		test(the_position_does_not_pass_what_is_not_acknowledged),
		test(a_window_within_is_stored_as_unfinished),
		test(empty_windows_are_stored_once_a_minute),
		test(a_lost_connection_starts_over_from_the_stored_position),
		test(tries_to_connect_get_rarer_until_one_succeeds),
		test(a_lost_producer_goes_back_to_the_stored_position),
		test(an_answer_for_the_lost_producer_does_not_reach_the_next),
		test(a_producer_that_acknowledges_nothing_is_given_up),
		test(a_producer_with_nothing_in_flight_is_not_given_up),
		test(a_relay_that_does_not_stream_stops_at_once),
		test(a_stop_lets_what_is_in_flight_arrive_and_stores_it),
		test(a_stop_waits_for_the_answer_that_is_under_way),
		test(an_idle_leader_stops_at_once),
		test(a_stop_ends_in_time_whatever_is_in_flight),
		test(a_stop_without_a_peer_ends_at_once),
		test(an_answer_that_does_not_come_is_overdue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
