/*
 * test_inbox_batch.c - the inbox pump applies a batch, and what fails in it
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox_fixture.h"

static void
a_batch_is_applied_whole_and_committed(void **state UNUSED)
{
	stream();
	fetch(500);
	expect(INBOX_APPLY);
	assert_int_equal(inbox.from, 0);
	assert_int_equal(inbox.to, 500);
	inbox_on_readable(&inbox);
	expect(INBOX_WAIT); /* one batch at a time */
	assert_true(inbox_on_applied(&inbox, inbox.to - inbox.from, now));
	expect(INBOX_FETCH);
	inbox_on_fetched(&inbox, 0, true, now);
	expect(INBOX_WAIT);
	now += INBOX_COMMIT_US;
	expect(INBOX_COMMIT);
	inbox_on_committed(&inbox);
}

/*
 * The database applies as many messages as fit into one transaction; none when
 * it first records the try.
 */
static void
the_rest_of_a_batch_follows(void **state UNUSED)
{
	stream();
	fetch(10);
	expect(INBOX_APPLY);
	assert_false(inbox_on_applied(&inbox, 0, now));
	expect(INBOX_APPLY);
	assert_int_equal(inbox.from, 0);
	assert_false(inbox_on_applied(&inbox, 4, now));
	expect(INBOX_APPLY);
	assert_int_equal(inbox.from, 4);
	assert_int_equal(inbox.to, 10);

	/* the second half of the rest holds a bad message; alone it is found */
	inbox_on_apply_error(&inbox, SQL_PERMANENT, now);
	expect(INBOX_APPLY);
	assert_int_equal(inbox.to, 7);
	assert_false(inbox_on_applied(&inbox, 1, now));
	expect(INBOX_APPLY);
	assert_int_equal(inbox.from, 5);
	assert_true(inbox.to > 5 && inbox.to < 10);
	while (inbox.from < 9)
	{
		assert_false(inbox_on_applied(&inbox, inbox.to - inbox.from, now));
		expect(INBOX_APPLY);
	}
	inbox_on_apply_error(&inbox, SQL_PERMANENT, now);
	expect(INBOX_APPLY_FAILED);
	assert_true(inbox_on_applied(&inbox, 1, now));
	expect(INBOX_WAIT);
}

static void
a_transient_error_tries_the_same_again(void **state UNUSED)
{
	stream();
	fetch(10);
	expect(INBOX_APPLY);
	inbox_on_apply_error(&inbox, SQL_TRANSIENT, now);
	assert_int_equal(inbox.to, 10);
	assert_true(inbox.apply_at > now);
	expect(INBOX_WAIT);
	now = inbox.apply_at;
	expect(INBOX_APPLY);
	assert_int_equal(inbox.from, 0);
	assert_int_equal(inbox.to, 10);
	assert_true(inbox_on_applied(&inbox, inbox.to - inbox.from, now));
}

/* One try that fails with an error of that class. */
static void
fail_apply(SqlClass class)
{
	now = Max(now, inbox.apply_at);
	inbox.retry_at = inbox.metrics_at = inbox.commit_at = NEVER;
	expect(INBOX_APPLY);
	inbox_on_apply_error(&inbox, class, now);
}

static void
what_does_not_pass_makes_careful_for_a_while(void **state UNUSED)
{
	int64_t failing_since;

	stream();
	fetch(10);
	fail_apply(SQL_TRANSIENT);
	failing_since = now;
	assert_false(
		inbox_applies_one_by_one(&inbox, now)); /* the error may be transient */
	while (!inbox_applies_one_by_one(&inbox, now))
		fail_apply(SQL_TRANSIENT);
	assert_true(now - failing_since >= INBOX_PATIENCE_US);
	assert_true(now - failing_since < INBOX_GIVE_UP_US);
	assert_int_equal(inbox.to, 10); /* the database decides how many */

	now = inbox.apply_at;
	expect(INBOX_APPLY);
	assert_true(inbox_on_applied(&inbox, 10, now));
	inbox.commit_at = NEVER;
	now += INBOX_ONE_BY_ONE_US;
	assert_false(inbox_applies_one_by_one(&inbox, now));

	/* the cause is still there: the first failure is enough */
	fetch(10);
	fail_apply(SQL_TRANSIENT);
	assert_true(inbox_applies_one_by_one(&inbox, now));
	now = inbox.apply_at;
	expect(INBOX_APPLY);
	assert_true(inbox_on_applied(&inbox, 10, now));
	inbox.commit_at = NEVER;

	/* after some time without a failure there is patience again */
	now += INBOX_IMPATIENT_US;
	fetch(10);
	fail_apply(SQL_PERMANENT);
	fail_apply(SQL_TRANSIENT);
	assert_false(inbox_applies_one_by_one(&inbox, now));
}

static void
retries_that_fail_for_a_moment_are_made_carefully(void **state UNUSED)
{
	stream();
	now = inbox.retry_at;
	inbox.metrics_at = NEVER;
	expect(INBOX_RETRY);
	inbox_on_retry_error(&inbox, SQL_PERMANENT, now);
	assert_false(inbox_applies_one_by_one(&inbox, now));
	now = inbox.retry_at;
	expect(INBOX_RETRY);
	inbox_on_retry_error(&inbox, SQL_TRANSIENT, now);
	assert_true(inbox_applies_one_by_one(&inbox, now));
	assert_true(inbox.retry_at > now);
}

/*
 * Batches of any size with any set of bad messages: every good one is applied,
 * every bad one given to relay_apply_failed() alone, each once, in order.
 */
static void
halving_finds_each_bad_message(void **state UNUSED)
{
	for (uint32_t size = 1; size <= 9; size++)
		for (uint32_t bad = 0; bad < 1u << size; bad++)
		{
			uint32_t done = 0;
			bool	 finished = false;
			int		 calls = 0;

			stream();
			fetch(size);
			while (!finished)
			{
				InboxAction action = next_action();
				uint32_t	range = ((1u << inbox.to) - 1) &
								 ~((1u << inbox.from) - 1);

				assert_true(calls++ < 100);
				assert_int_equal(inbox.from, done);
				if (action == INBOX_APPLY && (range & bad) != 0)
				{
					inbox_on_apply_error(&inbox, SQL_PERMANENT, now);
					continue;
				}
				if (action == INBOX_APPLY_FAILED)
				{
					assert_int_equal(inbox.to, inbox.from + 1);
					assert_int_not_equal(range & bad, 0);
				}
				else
					assert_int_equal(action, INBOX_APPLY);
				done = inbox.to;
				finished = inbox_on_applied(&inbox, inbox.to - inbox.from, now);
			}
			assert_int_equal(done, size);
		}
}

static void
one_bad_of_many_costs_few_calls(void **state UNUSED)
{
	int	 calls = 0;
	bool finished = false;

	stream();
	fetch(512);
	while (!finished)
	{
		InboxAction action = next_action();

		calls++;
		if (action == INBOX_APPLY && inbox.from <= 300 && inbox.to > 300)
			inbox_on_apply_error(&inbox, SQL_PERMANENT, now);
		else
			finished = inbox_on_applied(&inbox, inbox.to - inbox.from, now);
	}
	assert_in_range(calls, 10, 25);
}

static void
a_batch_that_fails_for_long_is_given_up(void **state UNUSED)
{
	int64_t began = now;

	stream();
	fetch(5);
	while (inbox.size > 0)
	{
		InboxAction action = next_action();

		if (action == INBOX_APPLY)
			inbox_on_apply_error(&inbox, SQL_TRANSIENT, now);
		else if (action == INBOX_RETRY)
			inbox_on_retried(&inbox, 0, now);
		now = Max(now + 1, Min(inbox.apply_at, inbox.retry_at));
		assert_true(now < began + 2 * INBOX_GIVE_UP_US);
	}
	assert_true(now >= began + INBOX_GIVE_UP_US);
	assert_false(inbox_makes_progress(&inbox, now) && inbox.placed);
	expect(INBOX_SUSPEND);
	inbox_on_suspended(&inbox);
	now += 10 * SEC_US;
	while (!inbox.placed)
	{
		InboxAction action = next_action();

		if (action == INBOX_RETRY)
			inbox_on_retried(&inbox, 0, now);
		else if (!inbox.placed)
		{
			assert_int_equal(action, INBOX_READ_OFFSETS);
			assert_true(inbox_on_offsets(&inbox, now));
		}
	}
}

static void
a_message_alone_is_tried_again_as_such_after_a_transient_error(
	void **state UNUSED)
{
	stream();
	fetch(1);
	expect(INBOX_APPLY);
	inbox_on_apply_error(&inbox, SQL_PERMANENT, now);
	expect(INBOX_APPLY_FAILED);
	inbox_on_apply_error(&inbox, SQL_TRANSIENT, now);
	inbox.retry_at = NEVER;
	expect(INBOX_WAIT);
	assert_true(inbox_deadline(&inbox) == inbox.apply_at);
	now = inbox.apply_at;
	expect(INBOX_APPLY_FAILED);
	assert_true(inbox_on_applied(&inbox, inbox.to - inbox.from, now));
	/* the next batch starts with a clean slate */
	fetch(2);
	expect(INBOX_APPLY);
	assert_int_equal(inbox.to, 2);
	assert_true(inbox_on_applied(&inbox, inbox.to - inbox.from, now));
}

static void
a_message_that_nothing_can_take_is_tried_ever_more_rarely(void **state UNUSED)
{
	int64_t began = now;
	int		calls = 0;

	stream();
	inbox.retry_at = NEVER;
	fetch(1);
	expect(INBOX_APPLY);
	inbox_on_apply_error(&inbox, SQL_PERMANENT, now);
	while (inbox.size > 0)
	{
		expect(INBOX_APPLY_FAILED);
		inbox_on_apply_error(&inbox, SQL_PERMANENT, now);
		assert_true(inbox.apply_at > now);
		now = inbox.apply_at;
		calls++;
	}
	assert_true(now >= began + INBOX_GIVE_UP_US);
	assert_in_range(calls, 5, 200);
	expect(INBOX_SUSPEND);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_batch_is_applied_whole_and_committed),
		cmocka_unit_test(the_rest_of_a_batch_follows),
		cmocka_unit_test(a_transient_error_tries_the_same_again),
		cmocka_unit_test(what_does_not_pass_makes_careful_for_a_while),
		cmocka_unit_test(retries_that_fail_for_a_moment_are_made_carefully),
		cmocka_unit_test(halving_finds_each_bad_message),
		cmocka_unit_test(one_bad_of_many_costs_few_calls),
		cmocka_unit_test(a_batch_that_fails_for_long_is_given_up),
		cmocka_unit_test(
			a_message_alone_is_tried_again_as_such_after_a_transient_error),
		cmocka_unit_test(
			a_message_that_nothing_can_take_is_tried_ever_more_rarely),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
