/*
 * test_held_topics.c - a topic that the broker refuses, step by step
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox_fixture.h"

#include <string.h>

#define HELD  "small"
#define OTHER "other"

/* Streaming, with a topic that was refused and a window behind "w0". */
static void
hold_unseen(void)
{
	stream();
	assert_true(outbox_on_refused(&outbox, HELD, "too large", now));
	open_producer();
	expect(OUTBOX_HOLD);
	assert_string_equal(outbox.held.storing->name, HELD);
	outbox_on_hold_stored(&outbox);
	expect(OUTBOX_ASK_POSITION);
	outbox_on_position(&outbox, "w0", 0, true, now);
}

/* ... as if its event had been read again. */
static void
hold(void)
{
	hold_unseen();
	outbox.held.topics[0]->unseen = false;
}

static void
produce_row(const char *topic, int64_t seq)
{
	bool done UNUSED;

	assert_true(outbox_row(&outbox) >= 0);
	if (held_route(&outbox.held, topic) == HELD_ASIDE)
		done = outbox_on_aside(&outbox, seq, 0, now);
	else
		done = outbox_on_produced(&outbox, seq, 0, 1, now);
}

static void
store_asides(uint32_t count)
{
	expect(OUTBOX_SET_ASIDE);
	assert_int_equal(outbox.held.aside_asked, count);
	outbox_on_asides_stored(&outbox, now);
}

/* The topic's next try begins, with a page of that many rows. */
static void
read_held(uint32_t rows)
{
	expect(OUTBOX_ASK_HELD_PAGE);
	assert_string_equal(outbox.held.topic->name, HELD);
	assert_int_equal(outbox_on_held_page(&outbox, rows, 0, now), rows > 0);
}

static void
send_held(uint32_t rows, int64_t first_seq)
{
	expect(OUTBOX_PRODUCE_HELD);
	for (uint32_t row = 0; row < rows; row++)
		held_on_sent(&outbox.held, first_seq + row);
}

static void
open_lane(void)
{
	expect(OUTBOX_NEW_LANE);
	outbox.held.lane_up = true;
}

static void
cross_off(uint32_t rows, bool resume)
{
	expect(OUTBOX_CROSS_OFF);
	assert_int_equal(held_cross_off(&outbox.held), rows);
	assert_int_equal(outbox.held.resuming, resume);
	assert_int_equal(outbox_on_crossed_off(&outbox, resume, now), resume);
}

static void
wait_for_the_try(void)
{
	int64_t at = outbox_deadline(&outbox);

	while (at < outbox.held.topics[0]->try_at)
	{
		now = at;
		outbox.vain = 0; /* it stays awake */
		if (outbox_next(&outbox, now) == OUTBOX_LOOK)
		{
			assert_true(outbox_on_window(&outbox, "w"));
			assert_false(outbox_on_page(&outbox, 0, 0, 0));
		}
		at = outbox_deadline(&outbox);
	}
	now = outbox.held.topics[0]->try_at;
	outbox.vain = 0;
	outbox.store_at = now +
					  1000 *
						  SEC_US; /* storing the position is not tested here */
}

static void
its_events_are_set_aside_and_the_others_flow(void **state UNUSED)
{
	uint64_t id;

	hold();
	open_window("w1");
	take_page(3, 3);
	id = in_flight_next_id(&outbox.in_flight);
	produce_row(HELD, 1);
	produce_row(OTHER, 2);
	produce_row(HELD, 3);
	store_asides(2);
	now += OUTBOX_STORE_US;
	expect_stored("w1", 1, false); /* event 2 is not in Kafka yet */
	ack(id + 1);
	now += OUTBOX_STORE_US;
	expect_stored("w1", 3, true);
}

/* It would seem that there is none. */
static void
it_is_not_tried_before_its_event_comes_again(void **state UNUSED)
{
	hold_unseen();
	now = outbox.held.topics[0]->try_at + SEC_US;
	outbox.store_at = NEVER;
	open_window("w1");
	take_page(1, 1);
	expect(OUTBOX_PRODUCE);
	produce_row(HELD, 1);
	store_asides(1);
	read_held(1);
}

static void
what_is_not_stored_is_not_passed(void **state UNUSED)
{
	hold();
	open_window("w1");
	take_page(1, 1);
	produce_row(HELD, 1);
	expect(OUTBOX_SET_ASIDE);
	now += OUTBOX_STORE_US;
	expect(OUTBOX_WAIT);
	outbox_on_asides_stored(&outbox, now);
	expect_stored("w1", 1, true);
}

/* An event that is refused each time does not affect others. */
static void
a_try_begins_with_one_event_and_fails_into_a_pause(void **state UNUSED)
{
	hold();
	wait_for_the_try();
	expect(OUTBOX_ASK_HELD_PAGE);
	assert_int_equal(outbox.held.page_rows, 1);
	assert_true(outbox_on_held_page(&outbox, 1, 0, now));
	open_lane();
	send_held(1, 1);
	held_on_lane_failed(&outbox.held, "still too large", now);
	expect(OUTBOX_HOLD); /* the reason, and that it was tried */
	assert_string_equal(outbox.held.storing->reason, "still too large");
	outbox_on_hold_stored(&outbox);
	assert_true(outbox.held.topics[0]->try_at >= now + SEC_US);
	assert_true(outbox.producer_up);
}

static void
what_arrived_of_a_failed_page_is_crossed_off(void **state UNUSED)
{
	hold();
	wait_for_the_try();
	read_held(1);
	open_lane();
	send_held(1, 1);
	held_on_acked(&outbox.held, 0, now);
	cross_off(1, false);
	expect(OUTBOX_ASK_HELD_PAGE);
	assert_int_equal(outbox.held.page_rows, HELD_PAGE_ROWS);
	assert_true(outbox_on_held_page(&outbox, 3, 0, now));
	send_held(3, 2);
	held_on_acked(&outbox.held, 1, now);
	held_on_lane_failed(&outbox.held, "no", now);
	expect(OUTBOX_HOLD);
	outbox_on_hold_stored(&outbox);
	cross_off(1, false);
	assert_true(outbox.held.seqs[0] == 3);
	assert_true(outbox.held.topics[0]->try_at > now);
}

static void
a_try_without_an_answer_ends(void **state UNUSED)
{
	hold();
	wait_for_the_try();
	read_held(1);
	open_lane();
	send_held(1, 1);
	assert_true(outbox_deadline(&outbox) <= now + HELD_TRY_US);
	now += HELD_TRY_US;
	expect(OUTBOX_CLOSE_LANE);
	outbox.held.lane_up = false;
	assert_true(outbox.held.topics[0]->try_at > now);
}

/*
 * All events set aside are published: the outbox waits before the topic's next
 * event until those set aside meanwhile are published too.
 */
static void
mended_it_is_caught_up_with_and_flows(void **state UNUSED)
{
	hold();
	open_window("w1");
	take_page(2, 9);
	wait_for_the_try();
	read_held(1);
	open_lane();
	send_held(1, 1);
	produce_row(HELD, 8);
	held_on_acked(&outbox.held, 0, now);
	store_asides(1);
	cross_off(1, false);
	read_held(1); /* 8, and no more are left */
	send_held(1, 8);
	held_on_acked(&outbox.held, 0, now);
	cross_off(1, false);
	assert_int_equal(held_route(&outbox.held, HELD), HELD_WAITS);
	assert_true(outbox_row(&outbox) < 0);
	read_held(0);
	cross_off(0, true);
	expect(OUTBOX_CLOSE_LANE);
	outbox.held.lane_up = false;
	assert_true(outbox_row(&outbox) >= 0);
	assert_int_equal(held_route(&outbox.held, HELD), HELD_FLOWS);
}

static void
the_outbox_waits_a_second_at_most(void **state UNUSED)
{
	hold();
	wait_for_the_try();
	read_held(0); /* nothing yet: read once more while the outbox waits */
	expect(OUTBOX_ASK_HELD_PAGE);
	assert_int_equal(held_route(&outbox.held, HELD), HELD_WAITS);
	assert_true(outbox_deadline(&outbox) <= now + HELD_CLOSING_US);
	now += HELD_CLOSING_US;
	expect(OUTBOX_WAIT);
	assert_int_equal(held_route(&outbox.held, HELD), HELD_ASIDE);
	assert_true(outbox_on_held_page(&outbox, 1, 0, now));
	expect(OUTBOX_LOOK);
	assert_true(outbox_on_window(&outbox, "w9"));
	assert_false(outbox_on_page(&outbox, 0, 0, 0));
	open_lane();
	send_held(1, 1);
	held_on_acked(&outbox.held, 0, now);
	cross_off(1, false); /* another event may have been set aside since */
}

static void
as_many_as_wait_to_be_stored_have_a_limit(void **state UNUSED)
{
	hold();
	for (int64_t seq = 1; seq <= HELD_ASIDES_MAX; seq++)
	{
		assert_int_equal(held_route(&outbox.held, HELD), HELD_ASIDE);
		held_put_aside(&outbox.held, 0, seq);
	}
	assert_int_equal(held_route(&outbox.held, HELD), HELD_WAITS);
	assert_true(outbox_row(&outbox) < 0);
	outbox.held.aside_asked = outbox.held.aside_count - 1;
	held_asides_stored(&outbox.held);
	assert_int_equal(outbox.held.aside_seqs[0], HELD_ASIDES_MAX);
	assert_int_equal(held_route(&outbox.held, HELD), HELD_ASIDE);
}

static void
a_stopping_relay_tries_no_topic(void **state UNUSED)
{
	hold();
	wait_for_the_try();
	expect(OUTBOX_ASK_HELD_PAGE);
	outbox_on_stop(&outbox, now + SEC_US);
	assert_false(outbox_on_held_page(&outbox, 1, 0, now));
	expect(OUTBOX_STORE);
	outbox_on_stored(&outbox, false, now);
	expect(OUTBOX_DONE);
}

/* It is a failure like others: a pause, and no second row in the database. */
static void
a_refusal_that_is_no_news_is_a_failure(void **state UNUSED)
{
	hold();
	assert_false(outbox_on_refused(&outbox, HELD, "again", now));
	assert_int_equal(outbox.held.count, 1);
	outbox_on_down(&outbox, now);
	assert_false(outbox_on_refused(&outbox, OTHER, "no", now));
	assert_int_equal(outbox.held.count, 0);
}

/* ---- many topics ------------------------------------------------------- */

static void
take_suspect(int number)
{
	char name[16];

	snprintf(name, sizeof(name), "t%02d", number);
	held_load(&outbox.held, name, "no", now);
}

static void
lead_with_suspects(int count)
{
	open_producer();
	connect_and_greet();
	expect(OUTBOX_ASK_LEAD);
	outbox_on_lead(&outbox, EPOCH, now);
	expect(OUTBOX_ASK_HELD);
	for (int number = count; number-- > 0;)
		take_suspect(number);
	outbox_on_held(&outbox);
	expect(OUTBOX_ASK_POSITION);
	outbox_on_position(&outbox, "w0", 0, true, now);
}

static void
many_held_topics_make_it_suspicious(void **state UNUSED)
{
	lead_with_suspects(HELD_SUSPECTS - 1);
	assert_false(held_suspects(&outbox.held));
	assert_true(outbox_on_refused(&outbox, OTHER, "no", now));
	assert_true(held_suspects(&outbox.held));
	for (uint32_t i = 1; i < outbox.held.count; i++)
		assert_true(strcmp(outbox.held.topics[i - 1]->name,
						   outbox.held.topics[i]->name) < 0);
	assert_false(outbox_on_refused(&outbox, OTHER, "again", now));
	assert_false(outbox_on_refused(&outbox, "t00", "again", now));
}

/*
 * A role may name topics that exist, and that the relay may not write: their
 * refusals delay the others for a bounded time.
 */
static void
many_refusals_make_it_wary(void **state UNUSED)
{
	char name[16];

	lead_with_suspects(0);
	for (int number = 0; number < HELD_REFUSALS_MAX; number++)
	{
		assert_false(held_is_wary(&outbox.held, now));
		snprintf(name, sizeof(name), "r%d", number);
		assert_true(outbox_on_refused(&outbox, name, "no", now));
		now += SEC_US;
	}
	assert_true(held_is_wary(&outbox.held, now));
	/* one that is held without a try costs nothing, and does not count */
	now += HELD_REFUSALS_US - 5 * SEC_US;
	assert_true(held_is_wary(&outbox.held, now));
	assert_true(outbox_on_doubted(&outbox, OTHER, "unknown", now));
	now += SEC_US;
	assert_false(held_is_wary(&outbox.held, now));
	assert_true(outbox_on_refused(&outbox, HELD, "no", now));
	assert_false(held_is_wary(&outbox.held, now));
}

/* The outbox waits for one topic more: its events have no place to go. */
static void
too_many_held_topics_are_a_failure(void **state UNUSED)
{
	lead_with_suspects(HELD_TOPICS_MAX - 1);
	assert_false(held_has_no_room(&outbox.held, OTHER));
	assert_true(outbox_on_refused(&outbox, OTHER, "no", now));
	assert_int_equal(outbox.held.count, HELD_TOPICS_MAX);
	assert_false(held_has_no_room(&outbox.held, OTHER));
	assert_true(held_has_no_room(&outbox.held, HELD));
	assert_false(outbox_on_refused(&outbox, HELD, "no", now));
	assert_false(outbox_on_doubted(&outbox, HELD, "unknown", now));
	assert_int_equal(outbox.held.count, HELD_TOPICS_MAX);
	assert_true(held_route(&outbox.held, HELD) == HELD_FLOWS);
}

/* None of its events was sent: the producer and events in flight remain. */
static void
a_doubted_topic_is_held_at_no_cost(void **state UNUSED)
{
	outbox.poll_us = 1000 * SEC_US;
	lead_with_suspects(0);
	open_window("w1");
	take_page(3, 3);
	expect(OUTBOX_PRODUCE);
	produce_row(OTHER, 1);
	assert_true(outbox_on_doubted(&outbox, HELD, "unknown", now));
	produce_row(HELD, 2);
	produce_row(OTHER, 3);
	assert_true(outbox.producer_up && outbox.positioned);
	assert_int_equal(in_flight_count(&outbox.in_flight), 3);
	expect(OUTBOX_HOLD);
	assert_string_equal(outbox.held.storing->name, HELD);
	outbox_on_hold_stored(&outbox);
	store_asides(1);
	assert_int_equal(in_flight_count(&outbox.in_flight), 3);
}

/* Events set aside of a topic that is not stored would never be published. */
static void
at_the_end_too_the_topic_is_stored_first(void **state UNUSED)
{
	lead_with_suspects(0);
	open_window("w1");
	take_page(2, 2);
	expect(OUTBOX_PRODUCE);
	produce_row(OTHER, 1);
	assert_true(outbox_on_doubted(&outbox, HELD, "unknown", now));
	produce_row(HELD, 2);
	outbox_on_stop(&outbox, now + SEC_US);
	expect(OUTBOX_HOLD);
	outbox_on_hold_stored(&outbox);
	store_asides(1);
}

/* Topics that are refused for good leave room for those that recover. */
static void
the_topic_refused_least_often_is_tried_first(void **state UNUSED)
{
	lead_with_suspects(20);
	for (uint32_t i = 0; i < outbox.held.count; i++)
	{
		outbox.held.topics[i]->retry.failures = 1 + i % 5;
		outbox.held.topics[i]->try_at = now - (int64_t) i;
	}
	outbox.held.topics[7]->retry.failures = 0;
	outbox.held.topics[7]->try_at = now;
	expect(OUTBOX_ASK_HELD_PAGE);
	assert_string_equal(outbox.held.topic->name, "t07");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test(its_events_are_set_aside_and_the_others_flow),
		test(it_is_not_tried_before_its_event_comes_again),
		test(what_is_not_stored_is_not_passed),
		test(a_try_begins_with_one_event_and_fails_into_a_pause),
		test(what_arrived_of_a_failed_page_is_crossed_off),
		test(a_try_without_an_answer_ends),
		test(mended_it_is_caught_up_with_and_flows),
		test(the_outbox_waits_a_second_at_most),
		test(as_many_as_wait_to_be_stored_have_a_limit),
		test(a_stopping_relay_tries_no_topic),
		test(a_refusal_that_is_no_news_is_a_failure),
		test(many_held_topics_make_it_suspicious),
		test(many_refusals_make_it_wary),
		test(too_many_held_topics_are_a_failure),
		test(a_doubted_topic_is_held_at_no_cost),
		test(at_the_end_too_the_topic_is_stored_first),
		test(the_topic_refused_least_often_is_tried_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
