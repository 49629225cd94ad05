/*
 * test_inbox_state.c - the inbox pump connects, rebalances and stops
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox_fixture.h"

static void
nothing_is_read_before_the_database_says_where(void **state UNUSED)
{
	inbox_state_init(&inbox, true, 1);
	expect(INBOX_CONNECT);
	inbox_on_connected(&inbox);
	expect(INBOX_HELLO);
	expect(INBOX_WAIT);
	inbox_on_hello(&inbox, now);
	expect(INBOX_NEW_CONSUMER);
	inbox_on_consumer_up(&inbox);
	expect(INBOX_FETCH);
	inbox_on_rebalance(&inbox, true, now);
	inbox_on_fetched(&inbox, 0, true, now);
	assert_false(inbox.placed);
	while (!inbox.placed)
	{
		InboxAction action = next_action();

		assert_int_not_equal(action, INBOX_APPLY);
		if (action == INBOX_READ_OFFSETS)
			assert_true(inbox_on_offsets(&inbox, now));
		else if (action == INBOX_RETRY)
			inbox_on_retried(&inbox, 0, now);
		else
			inbox_on_metrics(&inbox, now);
	}
}

static void
without_topics_there_is_no_consumer(void **state UNUSED)
{
	inbox_state_init(&inbox, false, 1);
	expect(INBOX_CONNECT);
	inbox_on_connected(&inbox);
	expect(INBOX_HELLO);
	inbox_on_hello(&inbox, now);
	expect(INBOX_READ_METRICS);
	inbox_on_metrics(&inbox, now);
	expect(INBOX_RETRY);
	inbox_on_retried(&inbox, 0, now);
	expect(INBOX_WAIT);
	assert_true(inbox_makes_progress(&inbox, now));
}

static void
a_lost_database_stops_the_reading(void **state UNUSED)
{
	stream();
	fetch(5);
	expect(INBOX_APPLY);
	inbox_on_down(&inbox, now);
	assert_int_equal(inbox.size, 0);
	expect(INBOX_SUSPEND);
	inbox_on_suspended(&inbox);
	inbox_on_readable(&inbox);
	expect(INBOX_FETCH); /* rebalances are served all the time */
	inbox_on_fetched(&inbox, 0, true, now);
	now = inbox.connect_at;
	expect(INBOX_CONNECT);
	inbox_on_connected(&inbox);
	expect(INBOX_HELLO);
	inbox_on_hello(&inbox, now);
	assert_false(inbox.placed);
}

static void
offsets_asked_for_before_a_rebalance_are_not_used(void **state UNUSED)
{
	stream();
	inbox_on_rebalance(&inbox, false, now);
	assert_false(inbox.placed);
	inbox_on_rebalance(&inbox, true, now);
	expect(INBOX_READ_OFFSETS);
	inbox_on_rebalance(&inbox, true, now);
	assert_false(inbox_on_offsets(&inbox, now));
	expect(INBOX_READ_OFFSETS);
	assert_true(inbox_on_offsets(&inbox, now));
}

static void
a_revocation_waits_for_the_end_of_the_batch(void **state UNUSED)
{
	stream();
	inbox.retry_at = NEVER;
	fetch(3);
	expect(INBOX_APPLY);
	inbox_on_readable(&inbox); /* it waits in the consumer's queue */
	expect(INBOX_WAIT);
	inbox_on_apply_error(&inbox, SQL_TRANSIENT, now);
	expect(INBOX_WAIT);
	now = inbox.apply_at;
	expect(INBOX_APPLY);
	assert_true(inbox_on_applied(&inbox, inbox.to - inbox.from, now));
	expect(INBOX_FETCH);
	inbox_on_rebalance(&inbox, false, now);
	inbox_on_fetched(&inbox, 0, true, now);
	assert_false(inbox.placed);
	/* applied offsets are still committed to Kafka, and no more is read */
	now += INBOX_COMMIT_US;
	expect(INBOX_COMMIT);
	inbox_on_committed(&inbox);
	expect(INBOX_WAIT);
}

static void
a_revocation_forgets_what_was_fetched_before_it(void **state UNUSED)
{
	stream();
	inbox.retry_at = NEVER;
	fetch(3);
	inbox_on_rebalance(&inbox, false, now);
	assert_int_equal(inbox.size, 0);
	expect(INBOX_WAIT);
	inbox_on_rebalance(&inbox, true, now);
	expect(INBOX_READ_OFFSETS);
	assert_true(inbox_on_offsets(&inbox, now));
	expect(INBOX_WAIT);
	fetch(3);
	expect(INBOX_APPLY);
}

static void
offsets_that_could_not_be_read_are_asked_for_again(void **state UNUSED)
{
	stream();
	inbox.retry_at = NEVER;
	inbox_on_rebalance(&inbox, true, now);
	expect(INBOX_READ_OFFSETS);
	inbox_on_offsets_failed(&inbox, now);
	assert_false(inbox.placed);
	expect(INBOX_WAIT);
	assert_true(inbox_deadline(&inbox) == inbox.offsets_at);
	now = inbox.offsets_at;
	expect(INBOX_READ_OFFSETS);
	assert_true(inbox_on_offsets(&inbox, now));
}

static void
a_consumer_lost_while_offsets_are_asked_for_is_not_placed(void **state UNUSED)
{
	stream();
	inbox_on_rebalance(&inbox, true, now);
	expect(INBOX_READ_OFFSETS);
	inbox_on_consumer_failed(&inbox, now);
	assert_false(inbox_on_offsets(&inbox, now));
}

static void
a_lost_consumer_comes_back(void **state UNUSED)
{
	stream();
	fetch(5);
	inbox_on_consumer_failed(&inbox, now);
	assert_int_equal(inbox.size, 0);
	inbox.retry_at = NEVER;
	expect(INBOX_WAIT);
	assert_true(inbox_deadline(&inbox) == inbox.consumer_at);
	now = inbox.consumer_at;
	expect(INBOX_NEW_CONSUMER);
}

static void
an_answer_that_does_not_come_is_overdue(void **state UNUSED)
{
	stream();
	fetch(1);
	expect(INBOX_APPLY);
	now += INBOX_ANSWER_US + PUMP_GRACE_US;
	inbox.survey_at = NEVER;
	assert_false(inbox_overdue(&inbox, now));
	assert_true(inbox_overdue(&inbox, now + 1));
	assert_false(inbox_makes_progress(&inbox, now));
}

static void
stopping_finishes_the_batch_and_leaves_the_group(void **state UNUSED)
{
	stream();
	fetch(5);
	expect(INBOX_APPLY);
	inbox_on_stop(&inbox, now + 10 * SEC_US);
	expect(INBOX_WAIT);
	assert_true(inbox_on_applied(&inbox, inbox.to - inbox.from, now));
	expect(INBOX_COMMIT);
	inbox_on_committed(&inbox);
	expect(INBOX_CLOSE);
	expect(INBOX_WAIT);
	inbox_on_readable(&inbox);
	expect(INBOX_FETCH);
	inbox_on_fetched(&inbox, 0, true, now);
	inbox_on_closed(&inbox);
	expect(INBOX_DONE);

	stream(); /* a group that does not answer */
	inbox_on_stop(&inbox, now + 10 * SEC_US);
	expect(INBOX_CLOSE);
	now += 10 * SEC_US;
	expect(INBOX_DONE);
}

static void
stopping_while_connecting_is_safe(void **state UNUSED)
{
	inbox_state_init(&inbox, true, 3);
	expect(INBOX_CONNECT);
	inbox_on_stop(&inbox, now + SEC_US);
	expect(INBOX_DONE);
	inbox_on_connected(&inbox);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_read_before_the_database_says_where),
		cmocka_unit_test(without_topics_there_is_no_consumer),
		cmocka_unit_test(a_lost_database_stops_the_reading),
		cmocka_unit_test(offsets_asked_for_before_a_rebalance_are_not_used),
		cmocka_unit_test(a_revocation_waits_for_the_end_of_the_batch),
		cmocka_unit_test(a_revocation_forgets_what_was_fetched_before_it),
		cmocka_unit_test(offsets_that_could_not_be_read_are_asked_for_again),
		cmocka_unit_test(
			a_consumer_lost_while_offsets_are_asked_for_is_not_placed),
		cmocka_unit_test(a_lost_consumer_comes_back),
		cmocka_unit_test(an_answer_that_does_not_come_is_overdue),
		cmocka_unit_test(stopping_finishes_the_batch_and_leaves_the_group),
		cmocka_unit_test(stopping_while_connecting_is_safe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
