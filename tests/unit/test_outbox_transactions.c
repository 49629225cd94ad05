/*
 * test_outbox_transactions.c - decisions of the outbox pump in transactional
 * mode
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox_fixture.h"

static int
begin_transactional(void **state UNUSED)
{
	outbox_state_init(&outbox, IN_FLIGHT_MAX, true, 1);
	outbox.page_rows_max = PAGE_ROWS;
	now = 1000 * SEC_US;
	return 0;
}

#define test_once(name) \
	cmocka_unit_test_setup_teardown(name, begin_transactional, end)

/* ---- ways to get somewhere --------------------------------------------- */

/* Once in a connection. */
static void
hear_of_held_topics(void)
{
	if (outbox.held.known)
		return;
	expect(OUTBOX_ASK_HELD);
	outbox_on_held(&outbox);
}

static void
lead_and_open(void)
{
	expect(OUTBOX_ASK_LEAD);
	outbox_on_lead(&outbox, EPOCH, now);
	open_producer();
	hear_of_held_topics();
	expect(OUTBOX_ASK_POSITION);
	outbox_on_position(&outbox, "w0", 0, true, now);
}

static void
stream_transactional(void)
{
	connect_and_greet();
	lead_and_open();
}

/* A window with one page of rows, produced; seq from 1 on. */
static void
fly_page(const char *window, uint32_t rows)
{
	open_window(window);
	take_page(rows, rows);
	expect(OUTBOX_PRODUCE);
	produce_page(1);
}

static void
arrive_all(void)
{
	for (uint64_t id = in_flight_first_id(&outbox.in_flight);
		 id < in_flight_next_id(&outbox.in_flight); id++)
		outbox_on_arrived(&outbox, id);
	outbox_on_acked(&outbox, now);
}

static void
expect_commit_at_once(const char *window, int64_t seq, bool finished)
{
	OutboxPosition position;

	expect(OUTBOX_COMMIT);
	position = in_flight_end(&outbox.in_flight);
	assert_string_equal(position.window, window);
	assert_true(position.seq == seq);
	assert_int_equal(position.finished, finished);
	outbox_on_committing(&outbox, now);
}

static void
expect_commit(const char *window, int64_t seq, bool finished)
{
	expect(OUTBOX_WAIT);
	arrive_all();
	expect_commit_at_once(window, seq, finished);
}

static void
committed(void)
{
	while (in_flight_count(&outbox.in_flight) > 0)
		assert_true(in_flight_ack(&outbox.in_flight,
								  in_flight_first_id(&outbox.in_flight)) >= 0);
	outbox_on_committed(&outbox, now);
}

/* ---- the producer ------------------------------------------------------ */

static void
only_the_leader_makes_a_producer(void **state UNUSED)
{
	connect_and_greet();
	expect(OUTBOX_ASK_LEAD);
	outbox_on_lead(&outbox, 0, now);
	expect(OUTBOX_WAIT);
	now += OUTBOX_LEAD_US;
	expect(OUTBOX_ASK_LEAD);
	outbox_on_lead(&outbox, EPOCH, now);
	expect(OUTBOX_NEW_PRODUCER);
	hear_of_held_topics();
	expect(OUTBOX_WAIT); /* opening may take any time */
	expect_deadline(NEVER);
	now += 60 * SEC_US;
	expect(OUTBOX_WAIT);
	outbox_on_producer_up(&outbox, now);
	expect(OUTBOX_ASK_POSITION);
}

static void
after_the_loss_of_a_producer_the_lead_is_asked_for_again(void **state UNUSED)
{
	stream_transactional();
	fly_page("w1", 3);
	outbox_on_producer_failed(&outbox, now);
	expect(OUTBOX_WAIT);
	assert_int_equal(outbox.pump, PUMP_LEADER_WAIT);
	assert_true(outbox_leads(&outbox));
	assert_false(outbox_makes_progress(&outbox, now));
	expect_deadline(outbox.lead_at);
	now = outbox.lead_at;
	lead_and_open();
}

static void
a_former_leader_makes_no_producer(void **state UNUSED)
{
	stream_transactional();
	outbox_on_producer_failed(&outbox, now);
	now = outbox.lead_at;
	expect(OUTBOX_ASK_LEAD);
	outbox_on_lead(&outbox, 0, now);
	assert_false(outbox_leads(&outbox));
	expect(OUTBOX_WAIT);
	expect_deadline(now + OUTBOX_LEAD_US);
}

static void
a_lost_connection_loses_the_producer(void **state UNUSED)
{
	stream_transactional();
	fly_page("w1", 3);
	expect_commit("w1", 3, true);
	outbox_on_down(&outbox, now);
	assert_false(outbox.producer_up);
	assert_int_equal(in_flight_count(&outbox.in_flight), 0);
	outbox_on_committed(&outbox, now); /* too late: the producer is given up */
	now = outbox.connect_at;
	connect_and_greet();
	lead_and_open();
}

/* ---- when to commit ---------------------------------------------------- */

static void
an_event_alone_is_committed_at_once(void **state UNUSED)
{
	stream_transactional();
	open_window("w1");
	take_page(1, 7);
	expect(OUTBOX_PRODUCE);
	produce_page(7);
	expect_commit("w1", 7, true);
	expect(OUTBOX_WAIT);
	committed();
	doze();
	now += OUTBOX_STORE_US;
	expect_stored("w1", 7, true);
	expect(OUTBOX_WAIT);
}

/*
 * Whatever ends the transaction early, it holds the position only if it holds
 * every event that the position passes.  It takes no event that arrives
 * meanwhile, or it would never end.
 */
static void
the_position_waits_for_the_last_event(void **state UNUSED)
{
	uint64_t first;

	stream_transactional();
	fly_page("w1", 3);
	first = in_flight_first_id(&outbox.in_flight);
	expect(OUTBOX_WAIT);
	open_window("w2");
	take_page(1, 9);
	doze();
	expect(OUTBOX_WAIT);
	assert_true(outbox_row(&outbox) == -1);
	for (uint64_t i = 3; i-- > 0;)
	{
		now += OUTBOX_COMMIT_US * 3 / 5;
		expect(OUTBOX_WAIT);
		assert_true(outbox_deadline(&outbox) > now);
		outbox_on_arrived(&outbox, first + i);
		outbox_on_acked(&outbox, now);
	}
	expect(OUTBOX_COMMIT);
	outbox_on_committing(&outbox, now);
	committed();
	expect(OUTBOX_PRODUCE);
}

static void
meanwhile_it_reads_and_produces_nothing(void **state UNUSED)
{
	stream_transactional();
	fly_page("w1", 1);
	expect_commit("w1", 1, true);
	open_window("w2");
	take_page(5, 20);
	open_window("w3");
	take_page(2, 30);
	expect(OUTBOX_WAIT);
	assert_true(outbox_row(&outbox) == -1);
	assert_false(outbox.in_flight.moved);
	committed();
	expect(OUTBOX_PRODUCE);
	produce_page(16);
	expect(OUTBOX_PRODUCE);
	produce_page(29);
	expect_commit("w3", 30, true);
}

static void
more_of_the_window_is_waited_for_but_not_long(void **state UNUSED)
{
	stream_transactional();
	open_window("w1");
	take_page(PAGE_ROWS, 100);
	expect(OUTBOX_ASK_PAGE);
	expect(OUTBOX_PRODUCE);
	produce_page(100 - PAGE_ROWS + 1);
	expect(OUTBOX_WAIT);
	expect_deadline(now + OUTBOX_COMMIT_US);
	now += OUTBOX_COMMIT_US;
	expect_commit("w1", 100, false);
}

static void
a_full_ring_is_committed(void **state UNUSED)
{
	outbox_state_fini(&outbox);
	outbox_state_init(&outbox, 4, true, 1);
	outbox.page_rows_max = PAGE_ROWS;
	stream_transactional();
	open_window("w1");
	take_page(6, 6);
	expect(OUTBOX_PRODUCE);
	for (int64_t seq = 1; seq <= 4; seq++)
		assert_false(outbox_on_produced(&outbox, seq, 0, 1, now));
	expect_commit("w1", 4, false);
	committed();
	expect(OUTBOX_PRODUCE);
}

static void
a_full_producer_is_waited_for(void **state UNUSED)
{
	stream_transactional();
	fly_page("w1", 3);
	expect(OUTBOX_WAIT);
	arrive_all();
	expect(OUTBOX_COMMIT);
	outbox_on_producer_full(&outbox, now); /* no room for the position */
	expect(OUTBOX_WAIT);
	outbox_on_acked(&outbox, now);
	assert_int_equal(in_flight_count(&outbox.in_flight), 3);
	expect_commit_at_once("w1", 3, true);
}

/* A commit without an answer is as bad as a broker that does not answer. */
static void
a_commit_that_stalls_ends_the_producer(void **state UNUSED)
{
	stream_transactional();
	fly_page("w1", 3);
	expect_commit("w1", 3, true);
	now += OUTBOX_STALL_US;
	expect(OUTBOX_WAIT);
	assert_int_equal(outbox.pump, PUMP_LEADER_WAIT);
	assert_false(outbox.producer_up);
}

/* ---- held topics ------------------------------------------------------- */

/* The position passes it, so it must be stored first. */
static void
what_is_set_aside_is_stored_before_the_commit(void **state UNUSED)
{
	connect_and_greet();
	expect(OUTBOX_ASK_LEAD);
	outbox_on_lead(&outbox, EPOCH, now);
	open_producer();
	expect(OUTBOX_ASK_HELD);
	held_load(&outbox.held, "t1", "no", NEVER);
	outbox_on_held(&outbox);
	expect(OUTBOX_ASK_POSITION);
	outbox_on_position(&outbox, "w0", 0, true, now);
	open_window("w1");
	take_page(2, 2);
	expect(OUTBOX_PRODUCE);
	assert_false(outbox_on_produced(&outbox, 1, 0, 1, now));
	assert_int_equal(held_route(&outbox.held, "t1"), HELD_ASIDE);
	assert_true(outbox_on_aside(&outbox, 2, 0, now));
	expect(OUTBOX_SET_ASIDE);
	expect(OUTBOX_WAIT);
	outbox_on_arrived(&outbox, in_flight_first_id(&outbox.in_flight));
	expect(OUTBOX_WAIT);
	outbox_on_asides_stored(&outbox, now);
	expect_commit_at_once("w1", 2, true);
	committed();
	now += OUTBOX_STORE_US;
	expect_stored("w1", 2, true);
}

/* A transaction with nothing else in it has nothing to commit. */
static void
what_is_set_aside_alone_is_no_transaction(void **state UNUSED)
{
	connect_and_greet();
	expect(OUTBOX_ASK_LEAD);
	outbox_on_lead(&outbox, EPOCH, now);
	open_producer();
	expect(OUTBOX_ASK_HELD);
	held_load(&outbox.held, "t1", "no", NEVER);
	outbox_on_held(&outbox);
	expect(OUTBOX_ASK_POSITION);
	outbox_on_position(&outbox, "w0", 0, true, now);
	open_window("w1");
	take_page(1, 1);
	expect(OUTBOX_PRODUCE);
	assert_int_equal(held_route(&outbox.held, "t1"), HELD_ASIDE);
	assert_true(outbox_on_aside(&outbox, 1, 0, now));
	expect(OUTBOX_SET_ASIDE);
	expect(OUTBOX_WAIT);
	outbox_on_asides_stored(&outbox, now);
	open_window("w2");
	take_page(1, 2);
	expect(OUTBOX_PRODUCE);
	produce_page(2);
	expect_commit("w2", 2, true);
}

/* Other topics do not wait: the pump requests the lead at once. */
static void
a_refused_topic_is_held_and_the_lead_asked_for_again(void **state UNUSED)
{
	stream_transactional();
	fly_page("w1", 3);
	assert_true(outbox_on_refused(&outbox, "t1", "no", now));
	expect(OUTBOX_ASK_LEAD);
	outbox_on_lead(&outbox, EPOCH + 1, now);
	open_producer();
	expect(OUTBOX_HOLD);
	assert_string_equal(outbox.held.storing->name, "t1");
	outbox_on_hold_stored(&outbox);
	expect(OUTBOX_ASK_POSITION);
}

/* ---- stopping ---------------------------------------------------------- */

static void
what_flies_is_committed_before_the_end(void **state UNUSED)
{
	stream_transactional();
	open_window("w1");
	take_page(PAGE_ROWS, 100);
	expect(OUTBOX_ASK_PAGE);
	expect(OUTBOX_PRODUCE);
	produce_page(100 - PAGE_ROWS + 1);
	outbox_on_stop(&outbox, now + 10 * SEC_US);
	expect_commit("w1", 100, false);
	expect(OUTBOX_WAIT);
	assert_false(outbox_on_page(&outbox, 1, 100, 101));
	committed();
	expect_stored("w1", 100, false);
	expect(OUTBOX_DONE);
}

static void
a_commit_that_lasts_does_not_hold_the_end_up(void **state UNUSED)
{
	stream_transactional();
	fly_page("w1", 3);
	expect_commit("w1", 3, true);
	outbox_on_stop(&outbox, now + 10 * SEC_US);
	expect(OUTBOX_WAIT);
	expect_deadline(now + 10 * SEC_US);
	now += 10 * SEC_US;
	expect(OUTBOX_DONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test_once(only_the_leader_makes_a_producer),
		test_once(after_the_loss_of_a_producer_the_lead_is_asked_for_again),
		test_once(a_former_leader_makes_no_producer),
		test_once(a_lost_connection_loses_the_producer),
		test_once(an_event_alone_is_committed_at_once),
		test_once(the_position_waits_for_the_last_event),
		test_once(meanwhile_it_reads_and_produces_nothing),
		test_once(more_of_the_window_is_waited_for_but_not_long),
		test_once(a_full_ring_is_committed),
		test_once(a_full_producer_is_waited_for),
		test_once(a_commit_that_stalls_ends_the_producer),
		test_once(what_is_set_aside_is_stored_before_the_commit),
		test_once(what_is_set_aside_alone_is_no_transaction),
		test_once(a_refused_topic_is_held_and_the_lead_asked_for_again),
		test_once(what_flies_is_committed_before_the_end),
		test_once(a_commit_that_lasts_does_not_hold_the_end_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
