/*
 * test_inbox_offsets.c - which offsets the inbox pump reads from
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox_fixture.h"

/* Queries the offsets, and then the broker's. */
static void
survey(InboxFound found, bool placed)
{
	assert_int_equal(inbox_next(&inbox, now), INBOX_SURVEY);
	inbox_on_survey_begun(&inbox);
	assert_int_not_equal(inbox_next(&inbox, now), INBOX_SURVEY);
	assert_int_equal(inbox_on_surveyed(&inbox, found, now), placed);
}

static void
answer_upkeep_until(InboxAction wanted)
{
	InboxAction action;

	for (int i = 0; (action = next_action()) != wanted; i++)
	{
		assert_true(i < 10);
		if (action == INBOX_RETRY)
			inbox_on_retried(&inbox, 0, now);
		else if (action == INBOX_READ_METRICS)
			inbox_on_metrics(&inbox, now);
		else if (action == INBOX_COMMIT)
			inbox_on_committed(&inbox);
		else
			fail_msg("an unexpected action");
	}
}

static void
an_idle_consumer_is_served(void **state UNUSED)
{
	stream();
	for (int i = 0; i < 1000; i++)
	{
		int64_t at = inbox_deadline(&inbox);

		assert_true(at <= now + INBOX_SERVE_US);
		now = Max(now, at);
		if (i < 900)
			answer_upkeep_until(INBOX_WAIT);
		else /* the database answers no more, so nothing else is due */
			(void) next_action();
		assert_true(inbox.serve_at > now);
	}
}

static void
what_the_broker_has_may_change_the_database_first(void **state UNUSED)
{
	stream();
	inbox_on_rebalance(&inbox, true, now);
	expect(INBOX_READ_OFFSETS);
	assert_true(inbox_on_offsets(&inbox, now));
	survey(INBOX_TO_STORE, false);
	expect(INBOX_STORE_PLACE);
	inbox_on_stored(&inbox, true, now);
	expect(INBOX_STORE_PLACE);
	inbox_on_stored(&inbox, false, now);
	expect(INBOX_READ_OFFSETS);
	assert_true(inbox_on_offsets(&inbox, now));
	survey(INBOX_TO_STORE, false);
	expect(INBOX_STORE_PLACE);
	inbox_on_offsets_failed(&inbox, now);
	now += 10 * SEC_US;
	answer_upkeep_until(INBOX_READ_OFFSETS);
	assert_true(inbox_on_offsets(&inbox, now));
	/* the broker did not report where each begins: it is queried again soon */
	survey(INBOX_WAITS, true);
	assert_true(inbox.placed);
	assert_true(inbox.survey_at <= now + SEC_US);
	now = inbox.survey_at;
	survey(INBOX_FITS, false);
	assert_true(inbox.survey_at > now + SEC_US);
}

static void
an_answer_of_the_broker_to_an_older_question_places_nothing(void **state UNUSED)
{
	stream();
	inbox_on_rebalance(&inbox, true, now);
	expect(INBOX_READ_OFFSETS);
	assert_true(inbox_on_offsets(&inbox, now));
	assert_int_equal(inbox_next(&inbox, now), INBOX_SURVEY);
	inbox_on_survey_begun(&inbox);
	inbox_on_rebalance(&inbox, true, now);
	assert_int_equal(inbox_next(&inbox, now), INBOX_READ_OFFSETS);
	assert_true(inbox_on_offsets(&inbox, now));
	assert_false(inbox_on_surveyed(&inbox, INBOX_FITS, now));
	survey(INBOX_FITS, true);
}

static void
a_disturbed_consumer_is_placed_anew_once_its_batch_is_applied(
	void **state UNUSED)
{
	stream();
	fetch(3);
	inbox_on_disturbed(&inbox);
	expect(INBOX_APPLY);
	assert_true(inbox_on_applied(&inbox, 3, now));
	expect(INBOX_SUSPEND);
	inbox_on_suspended(&inbox);
	assert_false(inbox.placed);
	/* the pauses grow, so that a partition that stays bad costs little */
	for (int i = 0; i < 12; i++)
	{
		now = Max(now, inbox.offsets_at);
		answer_upkeep_until(INBOX_READ_OFFSETS);
		assert_true(inbox_on_offsets(&inbox, now));
		survey(INBOX_FITS, true);
		inbox_on_disturbed(&inbox);
		expect(INBOX_SUSPEND);
		inbox_on_suspended(&inbox);
	}
	assert_int_equal(inbox.place_retry.failures, 13);
}

static void
a_survey_that_does_not_fit_any_more_places_anew(void **state UNUSED)
{
	stream();
	now += INBOX_SURVEY_US;
	inbox_on_fetched(&inbox, 0, true, now);
	inbox.commit_at = NEVER;
	survey(INBOX_MISPLACED, false);
	expect(INBOX_SUSPEND);
}

static void
what_was_learned_is_stored_while_it_is_read(void **state UNUSED)
{
	stream();
	inbox_on_learned(&inbox, now);
	expect(INBOX_STORE_PLACE);
	inbox_on_stored(&inbox, false, now);
	expect(INBOX_WAIT);
	assert_true(inbox.placed);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_idle_consumer_is_served),
		cmocka_unit_test(what_the_broker_has_may_change_the_database_first),
		cmocka_unit_test(
			an_answer_of_the_broker_to_an_older_question_places_nothing),
		cmocka_unit_test(
			a_disturbed_consumer_is_placed_anew_once_its_batch_is_applied),
		cmocka_unit_test(a_survey_that_does_not_fit_any_more_places_anew),
		cmocka_unit_test(what_was_learned_is_stored_while_it_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
