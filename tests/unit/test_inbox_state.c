/*
 * test_inbox_state.c - the inbox pump connects, rebalances and stops
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox_fixture.h"

static void
nothing_is_read_before_the_database_says_where(void **state UNUSED)
{
	inbox_core_init(&core, true, 1);
	expect(INBOX_CONNECT);
	inbox_on_connected(&core);
	expect(INBOX_HELLO);
	expect(INBOX_WAIT);
	inbox_on_hello(&core, now);
	expect(INBOX_NEW_CONSUMER);
	inbox_on_consumer_up(&core);
	expect(INBOX_FETCH);
	inbox_on_rebalance(&core, true, now);
	inbox_on_fetched(&core, 0, true, now);
	assert_false(core.placed);
	while (!core.placed)
	{
		InboxAction action = next_action();

		assert_int_not_equal(action, INBOX_APPLY);
		if (action == INBOX_READ_OFFSETS)
			assert_true(inbox_on_offsets(&core, now));
		else if (action == INBOX_RETRY)
			inbox_on_retried(&core, 0, now);
		else
			inbox_on_metrics(&core, now);
	}
}

static void
without_topics_there_is_no_consumer(void **state UNUSED)
{
	inbox_core_init(&core, false, 1);
	expect(INBOX_CONNECT);
	inbox_on_connected(&core);
	expect(INBOX_HELLO);
	inbox_on_hello(&core, now);
	expect(INBOX_READ_METRICS);
	inbox_on_metrics(&core, now);
	expect(INBOX_RETRY);
	inbox_on_retried(&core, 0, now);
	expect(INBOX_WAIT);
	assert_true(inbox_moves(&core, now));
}

static void
a_lost_database_stops_the_reading(void **state UNUSED)
{
	stream();
	fetch(5);
	expect(INBOX_APPLY);
	inbox_on_down(&core, now);
	assert_int_equal(core.size, 0);
	expect(INBOX_SUSPEND);
	inbox_on_suspended(&core);
	inbox_on_readable(&core);
	expect(INBOX_FETCH); /* rebalances are served all the time */
	inbox_on_fetched(&core, 0, true, now);
	now = core.connect_at;
	expect(INBOX_CONNECT);
	inbox_on_connected(&core);
	expect(INBOX_HELLO);
	inbox_on_hello(&core, now);
	assert_false(core.placed);
}

static void
offsets_asked_for_before_a_rebalance_are_not_used(void **state UNUSED)
{
	stream();
	inbox_on_rebalance(&core, false, now);
	assert_false(core.placed);
	inbox_on_rebalance(&core, true, now);
	expect(INBOX_READ_OFFSETS);
	inbox_on_rebalance(&core, true, now);
	assert_false(inbox_on_offsets(&core, now));
	expect(INBOX_READ_OFFSETS);
	assert_true(inbox_on_offsets(&core, now));
}

static void
a_revocation_waits_for_the_end_of_the_batch(void **state UNUSED)
{
	stream();
	core.retry_at = NEVER;
	fetch(3);
	expect(INBOX_APPLY);
	inbox_on_readable(&core); /* it waits in the consumer's queue */
	expect(INBOX_WAIT);
	inbox_on_apply_error(&core, SQL_TRANSIENT, now);
	expect(INBOX_WAIT);
	now = core.apply_at;
	expect(INBOX_APPLY);
	assert_true(inbox_on_applied(&core, core.to - core.from, now));
	expect(INBOX_FETCH);
	inbox_on_rebalance(&core, false, now);
	inbox_on_fetched(&core, 0, true, now);
	assert_false(core.placed);
	/* applied offsets are still committed to Kafka, and no more is read */
	now += INBOX_COMMIT_US;
	expect(INBOX_COMMIT);
	inbox_on_committed(&core);
	expect(INBOX_WAIT);
}

static void
a_revocation_forgets_what_was_fetched_before_it(void **state UNUSED)
{
	stream();
	core.retry_at = NEVER;
	fetch(3);
	inbox_on_rebalance(&core, false, now);
	assert_int_equal(core.size, 0);
	expect(INBOX_WAIT);
	inbox_on_rebalance(&core, true, now);
	expect(INBOX_READ_OFFSETS);
	assert_true(inbox_on_offsets(&core, now));
	expect(INBOX_WAIT);
	fetch(3);
	expect(INBOX_APPLY);
}

static void
offsets_that_could_not_be_read_are_asked_for_again(void **state UNUSED)
{
	stream();
	core.retry_at = NEVER;
	inbox_on_rebalance(&core, true, now);
	expect(INBOX_READ_OFFSETS);
	inbox_on_offsets_failed(&core, now);
	assert_false(core.placed);
	expect(INBOX_WAIT);
	assert_true(inbox_deadline(&core) == core.offsets_at);
	now = core.offsets_at;
	expect(INBOX_READ_OFFSETS);
	assert_true(inbox_on_offsets(&core, now));
}

static void
a_consumer_lost_while_offsets_are_asked_for_is_not_placed(void **state UNUSED)
{
	stream();
	inbox_on_rebalance(&core, true, now);
	expect(INBOX_READ_OFFSETS);
	inbox_on_consumer_failed(&core, now);
	assert_false(inbox_on_offsets(&core, now));
}

static void
a_lost_consumer_comes_back(void **state UNUSED)
{
	stream();
	fetch(5);
	inbox_on_consumer_failed(&core, now);
	assert_int_equal(core.size, 0);
	core.retry_at = NEVER;
	expect(INBOX_WAIT);
	assert_true(inbox_deadline(&core) == core.consumer_at);
	now = core.consumer_at;
	expect(INBOX_NEW_CONSUMER);
}

static void
an_answer_that_does_not_come_is_overdue(void **state UNUSED)
{
	stream();
	fetch(1);
	expect(INBOX_APPLY);
	now += INBOX_ANSWER_US + PUMP_GRACE_US;
	core.survey_at = NEVER;
	assert_false(inbox_overdue(&core, now));
	assert_true(inbox_overdue(&core, now + 1));
	assert_false(inbox_moves(&core, now));
}

static void
stopping_finishes_the_batch_and_leaves_the_group(void **state UNUSED)
{
	stream();
	fetch(5);
	expect(INBOX_APPLY);
	inbox_on_stop(&core, now + 10 * SEC_US);
	expect(INBOX_WAIT);
	assert_true(inbox_on_applied(&core, core.to - core.from, now));
	expect(INBOX_COMMIT);
	inbox_on_committed(&core);
	expect(INBOX_CLOSE);
	expect(INBOX_WAIT);
	inbox_on_readable(&core);
	expect(INBOX_FETCH);
	inbox_on_fetched(&core, 0, true, now);
	inbox_on_closed(&core);
	expect(INBOX_DONE);

	stream(); /* a group that does not answer */
	inbox_on_stop(&core, now + 10 * SEC_US);
	expect(INBOX_CLOSE);
	now += 10 * SEC_US;
	expect(INBOX_DONE);
}

static void
stopping_while_connecting_is_safe(void **state UNUSED)
{
	inbox_core_init(&core, true, 3);
	expect(INBOX_CONNECT);
	inbox_on_stop(&core, now + SEC_US);
	expect(INBOX_DONE);
	inbox_on_connected(&core);
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
