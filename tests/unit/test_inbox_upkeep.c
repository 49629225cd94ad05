/*
 * test_inbox_upkeep.c - the inbox pump retries, purges, expires and measures
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox_fixture.h"

/* Of the upkeep without the level stream. */
static void
lead(void)
{
	inbox_on_leads(&inbox, true, now);
	inbox.levels_at = NEVER;
}

/*
 * The next action while messages arrive without end; it fetches and applies
 * them.
 */
static InboxAction
step_in_a_flood(int64_t step_us, int *applied)
{
	InboxAction action;

	inbox_on_readable(&inbox);
	action = next_action();
	now += step_us;
	if (action == INBOX_FETCH)
		inbox_on_fetched(&inbox, 5, false, now);
	else if (action == INBOX_APPLY)
	{
		++*applied;
		assert_true(inbox_on_applied(&inbox, inbox.to - inbox.from, now));
	}
	return action;
}

/*
 * Under a stream of messages, waiting messages are still retried every second,
 * and a long list of them does not delay the stream.
 */
static void
no_work_starves_another(void **state UNUSED)
{
	int applied = 0;
	int retried = 0;

	stream();
	for (int i = 0; i < 1000; i++)
	{
		InboxAction action = step_in_a_flood(10 * MS_US, &applied);

		if (action == INBOX_RETRY)
		{
			retried++;
			inbox_on_retried(&inbox, INBOX_RETRY_ROWS, now);
		}
		else if (action != INBOX_FETCH && action != INBOX_APPLY)
			inbox_on_committed(&inbox);
	}
	assert_true(applied > 100);
	assert_true(retried > 100);
}

static void
what_waits_is_looked_at_every_second_and_at_once_after_a_find(
	void **state UNUSED)
{
	stream();
	expect(INBOX_WAIT);
	assert_true(inbox_deadline(&inbox) == now + INBOX_RETRY_US);
	now += INBOX_RETRY_US;
	expect(INBOX_RETRY);
	inbox_on_retried(&inbox, 1, now); /* it may have made another due */
	expect(INBOX_RETRY);
	inbox_on_retried(&inbox, 0, now);
	expect(INBOX_WAIT);
}

static void
only_the_leader_purges(void **state UNUSED)
{
	stream();
	inbox.retry_at = NEVER;
	now += INBOX_PURGE_US;
	expect(INBOX_WAIT);
	lead();
	inbox.expire_at = NEVER;
	expect(INBOX_PURGE); /* once at the start, too */
	inbox_on_purged(&inbox, 0, 3600 * SEC_US, now);
	expect(INBOX_WAIT);
}

/* A batch that found something is followed by the next one at once. */
static void
a_long_purge_goes_on_in_batches(void **state UNUSED)
{
	stream();
	inbox.retry_at = inbox.expire_at = NEVER;
	lead();
	now += INBOX_PURGE_US;
	expect(INBOX_PURGE);
	inbox_on_purged(&inbox, INBOX_PURGE_ROWS, 3600 * SEC_US, now);
	expect(INBOX_PURGE);
	inbox_on_purged(&inbox, 0, 3600 * SEC_US, now);
	assert_int_equal(inbox.purge_at, now + INBOX_PURGE_US);
}

static void
a_short_retention_is_looked_at_more_often(void **state UNUSED)
{
	stream();
	inbox.retry_at = inbox.expire_at = NEVER;
	lead();
	expect(INBOX_PURGE);
	inbox_on_purged(&inbox, 0, 80 * SEC_US, now);
	assert_int_equal(inbox.purge_at, now + 10 * SEC_US);
	now += 10 * SEC_US;
	expect(INBOX_PURGE);
	inbox_on_purged(&inbox, 0, 0, now);
	assert_int_equal(inbox_deadline(&inbox), now + INBOX_PURGE_US_MIN);
}

static void
reservations_expire_when_the_database_reports(void **state UNUSED)
{
	stream();
	inbox.retry_at = inbox.purge_at = NEVER;
	expect(INBOX_WAIT);
	lead();
	expect(INBOX_EXPIRE);
	inbox_on_expired(&inbox, 300 * MS_US, now);
	expect(INBOX_WAIT);
	assert_int_equal(inbox_deadline(&inbox), now + 300 * MS_US);
	now += 300 * MS_US;
	expect(INBOX_EXPIRE);
	inbox_on_expired(&inbox, 0, now); /* there are more */
	expect(INBOX_EXPIRE);
	inbox_on_expired(&inbox, INT64_MAX, now);
	assert_true(inbox.expire_at == now + INBOX_EXPIRE_US_MAX);
	inbox_on_leads(&inbox, false, now);
	now = inbox.expire_at;
	expect(INBOX_WAIT);
}

/*
 * So many steps in a second, however long one takes; fewer if it finds nothing;
 * and one where there is no stream, which turns it off.
 */
static void
the_level_stream_has_its_pace(void **state UNUSED)
{
	stream();
	inbox.retry_at = inbox.purge_at = inbox.expire_at = NEVER;
	inbox.levels_at = NEVER;
	expect(INBOX_WAIT);
	inbox_on_leads(&inbox, true, now);
	expect(INBOX_LEVELS);
	now += 30 * MS_US;
	inbox_on_levels(&inbox, 200 * MS_US, false, now);
	expect(INBOX_WAIT);
	assert_int_equal(inbox_deadline(&inbox), now + 170 * MS_US);
	now += 170 * MS_US;
	expect(INBOX_LEVELS);
	now += 300 * MS_US;
	inbox_on_levels(&inbox, 200 * MS_US, false, now);
	expect(INBOX_LEVELS);
	inbox_on_levels(&inbox, 200 * MS_US, true, now);
	assert_int_equal(inbox_deadline(&inbox), now + INBOX_LEVELS_US_IDLE);
	now += INBOX_LEVELS_US_IDLE;
	expect(INBOX_LEVELS);
	now += 500 * MS_US; /* also of one that was to turn it off */
	inbox_on_levels_failed(&inbox, now);
	expect(INBOX_WAIT);
	assert_int_equal(inbox_deadline(&inbox), now + INBOX_FAILED_US);
	now += INBOX_FAILED_US;
	expect(INBOX_LEVELS);
	inbox_on_levels_read(&inbox, now); /* the step itself follows at once */
	expect(INBOX_LEVELS);
	inbox_on_levels(&inbox, 0, true, now);
	now += 3600 * SEC_US;
	expect(INBOX_WAIT);
	inbox_on_leads(&inbox, true, now); /* it has led before */
	expect(INBOX_WAIT);
	inbox_on_leads(&inbox, false, now);
	inbox_on_leads(&inbox, true, now);
	expect(INBOX_LEVELS);
}

/*
 * 100,000 lines that are due at once are many batches; orders and payments are
 * applied in between.
 */
static void
a_backlog_of_due_lines_does_not_hold_up_messages(void **state UNUSED)
{
	int applied = 0;
	int expired = 0;

	stream();
	lead();
	inbox.purge_at = NEVER;
	for (int i = 0; i < 400; i++)
	{
		InboxAction action = step_in_a_flood(MS_US, &applied);

		if (action == INBOX_FETCH || action == INBOX_APPLY)
			continue;
		assert_int_equal(action, INBOX_EXPIRE);
		expired++;
		inbox_on_expired(&inbox, 0, now);
	}
	assert_in_range(applied, expired - 2, expired + 2);
}

static void
metrics_are_queried_while_they_are_scraped(void **state UNUSED)
{
	int asked = 0;

	stream();
	inbox.retry_at = NEVER;
	now += INBOX_METRICS_US;
	expect(INBOX_WAIT);
	inbox_on_metrics_wanted(&inbox, now);
	for (int second = 0; second < 600; second++)
	{
		if (next_action() == INBOX_READ_METRICS)
		{
			asked++;
			inbox_on_metrics(&inbox, now);
		}
		now += SEC_US;
	}
	/* for a time after each scrape, and not more often than they change */
	assert_in_range(asked, 19, 21);
}

/* After a time without a scrape, the first scrape waits for new values. */
static void
gauges_are_new_after_they_were_read(void **state UNUSED)
{
	stream();
	inbox.retry_at = NEVER;
	now += INBOX_METRICS_KEEP_US;
	assert_false(inbox_gauges_are_new(&inbox, now));
	inbox_on_metrics_wanted(&inbox, now);
	expect(INBOX_READ_METRICS);
	assert_false(inbox_gauges_are_new(&inbox, now));
	inbox_on_metrics(&inbox, now);
	assert_true(inbox_gauges_are_new(&inbox, now));
	/* a scrape does not wait for a database that is down */
	now += INBOX_METRICS_KEEP_US;
	inbox_on_down(&inbox, now);
	assert_true(inbox_gauges_are_new(&inbox, now));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_work_starves_another),
		cmocka_unit_test(
			what_waits_is_looked_at_every_second_and_at_once_after_a_find),
		cmocka_unit_test(only_the_leader_purges),
		cmocka_unit_test(a_long_purge_goes_on_in_batches),
		cmocka_unit_test(a_short_retention_is_looked_at_more_often),
		cmocka_unit_test(the_level_stream_has_its_pace),
		cmocka_unit_test(reservations_expire_when_the_database_reports),
		cmocka_unit_test(a_backlog_of_due_lines_does_not_hold_up_messages),
		cmocka_unit_test(metrics_are_queried_while_they_are_scraped),
		cmocka_unit_test(gauges_are_new_after_they_were_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
