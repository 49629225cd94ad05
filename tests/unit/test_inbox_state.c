/*
 * test_inbox_state.c - what the inbox pump decides
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include "inbox/state.h"

static InboxCore core;
static int64_t	 now = SEC_US;

/* What is next, besides serving an idle consumer and a broker that answers at
 * once and has what is expected. */
static InboxAction
next_action(void)
{
	for (;;)
	{
		InboxAction action = inbox_next(&core, now);

		if (action == INBOX_FETCH && !core.readable)
			inbox_on_fetched(&core, 0, true, now);
		else if (action == INBOX_SURVEY)
		{
			bool placed = core.placed;

			inbox_on_survey_begun(&core);
			assert_int_equal(inbox_on_surveyed(&core, INBOX_FITS, now),
							 !placed);
		}
		else
			return action;
	}
}

/* A macro, so that a failure names the line of the test. */
#define expect(action) assert_int_equal(next_action(), action)

/* Connected, in the group, placed; the first looks at the database done. */
static void
stream(void)
{
	inbox_core_init(&core, true, 99);
	expect(INBOX_CONNECT);
	inbox_on_connected(&core);
	expect(INBOX_ASK_HELLO);
	inbox_on_hello(&core, now);
	expect(INBOX_NEW_CONSUMER);
	inbox_on_consumer_up(&core);
	expect(INBOX_FETCH);
	inbox_on_rebalance(&core, true, now);
	inbox_on_fetched(&core, 0, true, now);
	for (int i = 0; i < 3; i++)
		switch (next_action())
		{
			case INBOX_ASK_OFFSETS:
				assert_true(inbox_on_offsets(&core, now));
				break;
			case INBOX_ASK_RETRY:
				inbox_on_retried(&core, 0, now);
				break;
			case INBOX_ASK_METRICS:
				inbox_on_metrics(&core, now);
				break;
			default:
				fail_msg("an unexpected action");
		}
	expect(INBOX_WAIT);
	assert_true(core.placed);
}

static void
fetch(uint32_t messages)
{
	inbox_on_readable(&core);
	expect(INBOX_FETCH);
	inbox_on_fetched(&core, messages, true, now);
}

static void
nothing_is_read_before_the_database_says_where(void **state UNUSED)
{
	inbox_core_init(&core, true, 1);
	expect(INBOX_CONNECT);
	inbox_on_connected(&core);
	expect(INBOX_ASK_HELLO);
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
		if (action == INBOX_ASK_OFFSETS)
			assert_true(inbox_on_offsets(&core, now));
		else if (action == INBOX_ASK_RETRY)
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
	expect(INBOX_ASK_HELLO);
	inbox_on_hello(&core, now);
	expect(INBOX_ASK_METRICS);
	inbox_on_metrics(&core, now);
	expect(INBOX_ASK_RETRY);
	inbox_on_retried(&core, 0, now);
	expect(INBOX_WAIT);
	assert_true(inbox_moves(&core, now));
}

static void
a_batch_is_applied_whole_and_committed(void **state UNUSED)
{
	stream();
	fetch(500);
	expect(INBOX_APPLY);
	assert_int_equal(core.from, 0);
	assert_int_equal(core.to, 500);
	inbox_on_readable(&core);
	expect(INBOX_WAIT); /* one batch at a time */
	assert_true(inbox_on_applied(&core, core.to - core.from, now));
	expect(INBOX_FETCH);
	inbox_on_fetched(&core, 0, true, now);
	expect(INBOX_WAIT);
	now += INBOX_COMMIT_US;
	expect(INBOX_COMMIT);
	inbox_on_committed(&core);
}

/* The database takes as many as go into one transaction; none, when it has put
 * the try on record first. */
static void
the_rest_of_a_batch_follows(void **state UNUSED)
{
	stream();
	fetch(10);
	expect(INBOX_APPLY);
	assert_false(inbox_on_applied(&core, 0, now));
	expect(INBOX_APPLY);
	assert_int_equal(core.from, 0);
	assert_false(inbox_on_applied(&core, 4, now));
	expect(INBOX_APPLY);
	assert_int_equal(core.from, 4);
	assert_int_equal(core.to, 10);

	/* the second half of what is left holds a bad one, alone it is started */
	inbox_on_apply_error(&core, SQL_PERMANENT, now);
	expect(INBOX_APPLY);
	assert_int_equal(core.to, 7);
	assert_false(inbox_on_applied(&core, 1, now));
	expect(INBOX_APPLY);
	assert_int_equal(core.from, 5);
	assert_true(core.to > 5 && core.to < 10);
	while (core.from < 9)
	{
		assert_false(inbox_on_applied(&core, core.to - core.from, now));
		expect(INBOX_APPLY);
	}
	inbox_on_apply_error(&core, SQL_PERMANENT, now);
	expect(INBOX_APPLY_FAILED);
	assert_true(inbox_on_applied(&core, 1, now));
	expect(INBOX_WAIT);
}

static void
a_transient_error_tries_the_same_again(void **state UNUSED)
{
	stream();
	fetch(10);
	expect(INBOX_APPLY);
	inbox_on_apply_error(&core, SQL_TRANSIENT, now);
	assert_int_equal(core.to, 10);
	assert_true(core.apply_at > now);
	expect(INBOX_WAIT);
	now = core.apply_at;
	expect(INBOX_APPLY);
	assert_int_equal(core.from, 0);
	assert_int_equal(core.to, 10);
	assert_true(inbox_on_applied(&core, core.to - core.from, now));
}

/* One try that comes to what "class" says. */
static void
fail_apply(SqlClass class)
{
	now = Max(now, core.apply_at);
	core.retry_at = core.metrics_at = core.commit_at = NEVER;
	expect(INBOX_APPLY);
	inbox_on_apply_error(&core, class, now);
}

static void
what_does_not_pass_makes_careful_for_a_while(void **state UNUSED)
{
	int64_t failing_since;

	stream();
	fetch(10);
	fail_apply(SQL_TRANSIENT);
	failing_since = now;
	assert_false(inbox_is_careful(&core, now)); /* it may pass */
	while (!inbox_is_careful(&core, now))
		fail_apply(SQL_TRANSIENT);
	assert_true(now - failing_since >= INBOX_PATIENCE_US);
	assert_true(now - failing_since < INBOX_GIVE_UP_US);
	assert_int_equal(core.to, 10); /* the database says how many */

	now = core.apply_at;
	expect(INBOX_APPLY);
	assert_true(inbox_on_applied(&core, 10, now));
	core.commit_at = NEVER;
	now += INBOX_CAREFUL_US;
	assert_false(inbox_is_careful(&core, now));

	/* it is still there: the first failure is enough */
	fetch(10);
	fail_apply(SQL_TRANSIENT);
	assert_true(inbox_is_careful(&core, now));
	now = core.apply_at;
	expect(INBOX_APPLY);
	assert_true(inbox_on_applied(&core, 10, now));
	core.commit_at = NEVER;

	/* after some time in peace there is patience again */
	now += INBOX_WARY_US;
	fetch(10);
	fail_apply(SQL_PERMANENT);
	fail_apply(SQL_TRANSIENT);
	assert_false(inbox_is_careful(&core, now));
}

static void
retries_that_fail_for_a_moment_are_made_carefully(void **state UNUSED)
{
	stream();
	now = core.retry_at;
	core.metrics_at = NEVER;
	expect(INBOX_ASK_RETRY);
	inbox_on_retry_error(&core, SQL_PERMANENT, now);
	assert_false(inbox_is_careful(&core, now));
	now = core.retry_at;
	expect(INBOX_ASK_RETRY);
	inbox_on_retry_error(&core, SQL_TRANSIENT, now);
	assert_true(inbox_is_careful(&core, now));
	assert_true(core.retry_at > now);
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
				uint32_t	range = ((1u << core.to) - 1) &
								 ~((1u << core.from) - 1);

				assert_true(calls++ < 100);
				assert_int_equal(core.from, done);
				if (action == INBOX_APPLY && (range & bad) != 0)
				{
					inbox_on_apply_error(&core, SQL_PERMANENT, now);
					continue;
				}
				if (action == INBOX_APPLY_FAILED)
				{
					assert_int_equal(core.to, core.from + 1);
					assert_int_not_equal(range & bad, 0);
				}
				else
					assert_int_equal(action, INBOX_APPLY);
				done = core.to;
				finished = inbox_on_applied(&core, core.to - core.from, now);
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
		if (action == INBOX_APPLY && core.from <= 300 && core.to > 300)
			inbox_on_apply_error(&core, SQL_PERMANENT, now);
		else
			finished = inbox_on_applied(&core, core.to - core.from, now);
	}
	assert_in_range(calls, 10, 25);
}

static void
a_batch_that_fails_for_long_is_given_up(void **state UNUSED)
{
	int64_t began = now;

	stream();
	fetch(5);
	while (core.size > 0)
	{
		InboxAction action = next_action();

		if (action == INBOX_APPLY)
			inbox_on_apply_error(&core, SQL_TRANSIENT, now);
		else if (action == INBOX_ASK_RETRY)
			inbox_on_retried(&core, 0, now);
		now = Max(now + 1, Min(core.apply_at, core.retry_at));
		assert_true(now < began + 2 * INBOX_GIVE_UP_US);
	}
	assert_true(now >= began + INBOX_GIVE_UP_US);
	assert_false(inbox_moves(&core, now) && core.placed);
	expect(INBOX_SUSPEND);
	inbox_on_suspended(&core);
	now += 10 * SEC_US;
	while (!core.placed)
	{
		InboxAction action = next_action();

		if (action == INBOX_ASK_RETRY)
			inbox_on_retried(&core, 0, now);
		else if (!core.placed)
		{
			assert_int_equal(action, INBOX_ASK_OFFSETS);
			assert_true(inbox_on_offsets(&core, now));
		}
	}
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
	expect(INBOX_ASK_HELLO);
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
	expect(INBOX_ASK_OFFSETS);
	inbox_on_rebalance(&core, true, now);
	assert_false(inbox_on_offsets(&core, now));
	expect(INBOX_ASK_OFFSETS);
	assert_true(inbox_on_offsets(&core, now));
}

/* The next step while messages come without end; those are fetched and applied
 * here. */
static InboxAction
step_in_a_flood(int64_t step_us, int *applied)
{
	InboxAction action;

	inbox_on_readable(&core);
	action = next_action();
	now += step_us;
	if (action == INBOX_FETCH)
		inbox_on_fetched(&core, 5, false, now);
	else if (action == INBOX_APPLY)
	{
		++*applied;
		assert_true(inbox_on_applied(&core, core.to - core.from, now));
	}
	return action;
}

/* Under a stream of messages, what waits is still looked at every second, and
 * a long list of what waits does not hold up the messages. */
static void
no_work_starves_another(void **state UNUSED)
{
	int applied = 0;
	int retried = 0;

	stream();
	for (int i = 0; i < 1000; i++)
	{
		InboxAction action = step_in_a_flood(10 * MS_US, &applied);

		if (action == INBOX_ASK_RETRY)
		{
			retried++;
			inbox_on_retried(&core, INBOX_RETRY_ROWS, now);
		}
		else if (action != INBOX_FETCH && action != INBOX_APPLY)
			inbox_on_committed(&core);
	}
	assert_true(applied > 100);
	assert_true(retried > 100);
}

static void
only_the_leader_purges(void **state UNUSED)
{
	stream();
	core.retry_at = NEVER;
	now += INBOX_PURGE_US;
	expect(INBOX_WAIT);
	core.leads = true;
	core.expire_at = NEVER;
	expect(INBOX_ASK_PURGE); /* once at the start, too */
	inbox_on_purged(&core, 0, 3600 * SEC_US, now);
	expect(INBOX_WAIT);
}

/* A batch that found something is followed by the next one at once. */
static void
a_long_purge_goes_on_in_batches(void **state UNUSED)
{
	stream();
	core.retry_at = core.expire_at = NEVER;
	core.leads = true;
	now += INBOX_PURGE_US;
	expect(INBOX_ASK_PURGE);
	inbox_on_purged(&core, INBOX_PURGE_ROWS, 3600 * SEC_US, now);
	expect(INBOX_ASK_PURGE);
	inbox_on_purged(&core, 0, 3600 * SEC_US, now);
	assert_int_equal(core.purge_at, now + INBOX_PURGE_US);
}

static void
a_short_retention_is_looked_at_more_often(void **state UNUSED)
{
	stream();
	core.retry_at = core.expire_at = NEVER;
	core.leads = true;
	expect(INBOX_ASK_PURGE);
	inbox_on_purged(&core, 0, 80 * SEC_US, now);
	assert_int_equal(core.purge_at, now + 10 * SEC_US);
	now += 10 * SEC_US;
	expect(INBOX_ASK_PURGE);
	inbox_on_purged(&core, 0, 0, now);
	assert_int_equal(inbox_deadline(&core), now + INBOX_PURGE_US_MIN);
}

static void
reservations_are_let_go_when_the_database_says(void **state UNUSED)
{
	stream();
	core.retry_at = core.purge_at = NEVER;
	expect(INBOX_WAIT);
	core.leads = true;
	expect(INBOX_ASK_EXPIRE);
	inbox_on_expired(&core, 300 * MS_US, now);
	expect(INBOX_WAIT);
	assert_int_equal(inbox_deadline(&core), now + 300 * MS_US);
	now += 300 * MS_US;
	expect(INBOX_ASK_EXPIRE);
	inbox_on_expired(&core, 0, now); /* there are more */
	expect(INBOX_ASK_EXPIRE);
	inbox_on_expired(&core, INT64_MAX, now);
	assert_true(core.expire_at == now + INBOX_EXPIRE_US_MAX);
	core.leads = false;
	now = core.expire_at;
	expect(INBOX_WAIT);
}

/* 100,000 lines that are due at once are many batches; orders and payments
 * come in between. */
static void
a_backlog_of_due_lines_does_not_hold_up_messages(void **state UNUSED)
{
	int applied = 0;
	int expired = 0;

	stream();
	core.leads = true;
	core.purge_at = NEVER;
	for (int i = 0; i < 400; i++)
	{
		InboxAction action = step_in_a_flood(MS_US, &applied);

		if (action == INBOX_FETCH || action == INBOX_APPLY)
			continue;
		assert_int_equal(action, INBOX_ASK_EXPIRE);
		expired++;
		inbox_on_expired(&core, 0, now);
	}
	assert_in_range(applied, expired - 2, expired + 2);
}

static void
metrics_are_asked_for_while_somebody_looks(void **state UNUSED)
{
	int asked = 0;

	stream();
	core.retry_at = NEVER;
	now += INBOX_METRICS_US;
	expect(INBOX_WAIT);
	inbox_on_metrics_wanted(&core, now);
	for (int second = 0; second < 600; second++)
	{
		if (next_action() == INBOX_ASK_METRICS)
		{
			asked++;
			inbox_on_metrics(&core, now);
		}
		now += SEC_US;
	}
	/* while it counts, and not more often than they change */
	assert_in_range(asked, 19, 21);
}

/* After a time without a look, the first look waits for new ones. */
static void
gauges_are_new_after_they_were_read(void **state UNUSED)
{
	stream();
	core.retry_at = NEVER;
	now += INBOX_METRICS_KEEP_US;
	assert_false(inbox_gauges_are_new(&core, now));
	inbox_on_metrics_wanted(&core, now);
	expect(INBOX_ASK_METRICS);
	assert_false(inbox_gauges_are_new(&core, now));
	inbox_on_metrics(&core, now);
	assert_true(inbox_gauges_are_new(&core, now));
	/* nobody waits for a database that is away */
	now += INBOX_METRICS_KEEP_US;
	inbox_on_down(&core, now);
	assert_true(inbox_gauges_are_new(&core, now));
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

	stream(); /* a group that does not let go */
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

/* ---- what goes wrong within a batch ------------------------------------ */

static void
a_message_alone_is_tried_again_as_such_after_a_transient_error(
	void **state UNUSED)
{
	stream();
	fetch(1);
	expect(INBOX_APPLY);
	inbox_on_apply_error(&core, SQL_PERMANENT, now);
	expect(INBOX_APPLY_FAILED);
	inbox_on_apply_error(&core, SQL_TRANSIENT, now);
	core.retry_at = NEVER;
	expect(INBOX_WAIT);
	assert_true(inbox_deadline(&core) == core.apply_at);
	now = core.apply_at;
	expect(INBOX_APPLY_FAILED);
	assert_true(inbox_on_applied(&core, core.to - core.from, now));
	/* the next batch starts with a clean slate */
	fetch(2);
	expect(INBOX_APPLY);
	assert_int_equal(core.to, 2);
	assert_true(inbox_on_applied(&core, core.to - core.from, now));
}

static void
a_message_that_nothing_can_take_is_tried_ever_more_rarely(void **state UNUSED)
{
	int64_t began = now;
	int		calls = 0;

	stream();
	core.retry_at = NEVER;
	fetch(1);
	expect(INBOX_APPLY);
	inbox_on_apply_error(&core, SQL_PERMANENT, now);
	while (core.size > 0)
	{
		expect(INBOX_APPLY_FAILED);
		inbox_on_apply_error(&core, SQL_PERMANENT, now);
		assert_true(core.apply_at > now);
		now = core.apply_at;
		calls++;
	}
	assert_true(now >= began + INBOX_GIVE_UP_US);
	assert_in_range(calls, 5, 200);
	expect(INBOX_SUSPEND);
}

static void
a_revocation_is_not_heard_before_the_batch_is_through(void **state UNUSED)
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
	/* what was applied is told to Kafka all the same, and no more is read */
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
	expect(INBOX_ASK_OFFSETS);
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
	expect(INBOX_ASK_OFFSETS);
	inbox_on_offsets_failed(&core, now);
	assert_false(core.placed);
	expect(INBOX_WAIT);
	assert_true(inbox_deadline(&core) == core.offsets_at);
	now = core.offsets_at;
	expect(INBOX_ASK_OFFSETS);
	assert_true(inbox_on_offsets(&core, now));
}

static void
a_consumer_lost_while_offsets_are_asked_for_is_not_placed(void **state UNUSED)
{
	stream();
	inbox_on_rebalance(&core, true, now);
	expect(INBOX_ASK_OFFSETS);
	inbox_on_consumer_failed(&core, now);
	assert_false(inbox_on_offsets(&core, now));
}

/* ---- upkeep ------------------------------------------------------------ */

static void
what_waits_is_looked_at_every_second_and_at_once_after_a_find(
	void **state UNUSED)
{
	stream();
	expect(INBOX_WAIT);
	assert_true(inbox_deadline(&core) == now + INBOX_RETRY_US);
	now += INBOX_RETRY_US;
	expect(INBOX_ASK_RETRY);
	inbox_on_retried(&core, 1, now); /* it may have woken another */
	expect(INBOX_ASK_RETRY);
	inbox_on_retried(&core, 0, now);
	expect(INBOX_WAIT);
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

/* ---- where partitions are read from -------------------------------------- */

/* Asked for offsets, and then for what the broker has. */
static void
survey(InboxFound found, bool placed)
{
	assert_int_equal(inbox_next(&core, now), INBOX_SURVEY);
	inbox_on_survey_begun(&core);
	assert_int_not_equal(inbox_next(&core, now), INBOX_SURVEY);
	assert_int_equal(inbox_on_surveyed(&core, found, now), placed);
}

static void
answer_upkeep_until(InboxAction wanted)
{
	InboxAction action;

	for (int i = 0; (action = next_action()) != wanted; i++)
	{
		assert_true(i < 10);
		if (action == INBOX_ASK_RETRY)
			inbox_on_retried(&core, 0, now);
		else if (action == INBOX_ASK_METRICS)
			inbox_on_metrics(&core, now);
		else if (action == INBOX_COMMIT)
			inbox_on_committed(&core);
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
		int64_t at = inbox_deadline(&core);

		assert_true(at <= now + INBOX_SERVE_US);
		now = Max(now, at);
		if (i < 900)
			answer_upkeep_until(INBOX_WAIT);
		else /* the database answers no more, so nothing else is due */
			(void) next_action();
		assert_true(core.serve_at > now);
	}
}

static void
what_the_broker_has_may_change_the_database_first(void **state UNUSED)
{
	stream();
	inbox_on_rebalance(&core, true, now);
	expect(INBOX_ASK_OFFSETS);
	assert_true(inbox_on_offsets(&core, now));
	survey(INBOX_TO_STORE, false);
	expect(INBOX_STORE_PLACE);
	inbox_on_stored(&core, true, now);
	expect(INBOX_STORE_PLACE);
	inbox_on_stored(&core, false, now);
	expect(INBOX_ASK_OFFSETS);
	assert_true(inbox_on_offsets(&core, now));
	survey(INBOX_TO_STORE, false);
	expect(INBOX_STORE_PLACE);
	inbox_on_offsets_failed(&core, now);
	now += 10 * SEC_US;
	answer_upkeep_until(INBOX_ASK_OFFSETS);
	assert_true(inbox_on_offsets(&core, now));
	/* the broker did not say where all begin: it is asked again soon */
	survey(INBOX_WAITS, true);
	assert_true(core.placed);
	assert_true(core.survey_at <= now + SEC_US);
	now = core.survey_at;
	survey(INBOX_FITS, false);
	assert_true(core.survey_at > now + SEC_US);
}

static void
an_answer_of_the_broker_to_an_older_question_places_nothing(void **state UNUSED)
{
	stream();
	inbox_on_rebalance(&core, true, now);
	expect(INBOX_ASK_OFFSETS);
	assert_true(inbox_on_offsets(&core, now));
	assert_int_equal(inbox_next(&core, now), INBOX_SURVEY);
	inbox_on_survey_begun(&core);
	inbox_on_rebalance(&core, true, now);
	assert_int_equal(inbox_next(&core, now), INBOX_ASK_OFFSETS);
	assert_true(inbox_on_offsets(&core, now));
	assert_false(inbox_on_surveyed(&core, INBOX_FITS, now));
	survey(INBOX_FITS, true);
}

static void
a_disturbed_consumer_is_placed_anew_once_its_batch_is_applied(
	void **state UNUSED)
{
	stream();
	fetch(3);
	inbox_on_disturbed(&core);
	expect(INBOX_APPLY);
	assert_true(inbox_on_applied(&core, 3, now));
	expect(INBOX_SUSPEND);
	inbox_on_suspended(&core);
	assert_false(core.placed);
	/* the pauses grow, so that a partition that stays bad costs little */
	for (int i = 0; i < 12; i++)
	{
		now = Max(now, core.offsets_at);
		answer_upkeep_until(INBOX_ASK_OFFSETS);
		assert_true(inbox_on_offsets(&core, now));
		survey(INBOX_FITS, true);
		inbox_on_disturbed(&core);
		expect(INBOX_SUSPEND);
		inbox_on_suspended(&core);
	}
	assert_int_equal(core.place_retry.failures, 13);
}

static void
a_survey_that_does_not_fit_any_more_places_anew(void **state UNUSED)
{
	stream();
	now += INBOX_SURVEY_US;
	inbox_on_fetched(&core, 0, true, now);
	core.commit_at = NEVER;
	survey(INBOX_MISPLACED, false);
	expect(INBOX_SUSPEND);
}

static void
what_was_learned_is_stored_while_it_is_read(void **state UNUSED)
{
	stream();
	inbox_on_learned(&core, now);
	expect(INBOX_STORE_PLACE);
	inbox_on_stored(&core, false, now);
	expect(INBOX_WAIT);
	assert_true(core.placed);
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
		cmocka_unit_test(nothing_is_read_before_the_database_says_where),
		cmocka_unit_test(without_topics_there_is_no_consumer),
		cmocka_unit_test(a_batch_is_applied_whole_and_committed),
		cmocka_unit_test(the_rest_of_a_batch_follows),
		cmocka_unit_test(a_transient_error_tries_the_same_again),
		cmocka_unit_test(what_does_not_pass_makes_careful_for_a_while),
		cmocka_unit_test(retries_that_fail_for_a_moment_are_made_carefully),
		cmocka_unit_test(halving_finds_each_bad_message),
		cmocka_unit_test(one_bad_of_many_costs_few_calls),
		cmocka_unit_test(a_batch_that_fails_for_long_is_given_up),
		cmocka_unit_test(a_lost_database_stops_the_reading),
		cmocka_unit_test(offsets_asked_for_before_a_rebalance_are_not_used),
		cmocka_unit_test(no_work_starves_another),
		cmocka_unit_test(only_the_leader_purges),
		cmocka_unit_test(a_long_purge_goes_on_in_batches),
		cmocka_unit_test(a_short_retention_is_looked_at_more_often),
		cmocka_unit_test(reservations_are_let_go_when_the_database_says),
		cmocka_unit_test(a_backlog_of_due_lines_does_not_hold_up_messages),
		cmocka_unit_test(metrics_are_asked_for_while_somebody_looks),
		cmocka_unit_test(gauges_are_new_after_they_were_read),
		cmocka_unit_test(stopping_finishes_the_batch_and_leaves_the_group),
		cmocka_unit_test(stopping_while_connecting_is_safe),
		cmocka_unit_test(a_lost_consumer_comes_back),
		cmocka_unit_test(
			a_message_alone_is_tried_again_as_such_after_a_transient_error),
		cmocka_unit_test(
			a_message_that_nothing_can_take_is_tried_ever_more_rarely),
		cmocka_unit_test(a_revocation_is_not_heard_before_the_batch_is_through),
		cmocka_unit_test(a_revocation_forgets_what_was_fetched_before_it),
		cmocka_unit_test(offsets_that_could_not_be_read_are_asked_for_again),
		cmocka_unit_test(
			a_consumer_lost_while_offsets_are_asked_for_is_not_placed),
		cmocka_unit_test(
			what_waits_is_looked_at_every_second_and_at_once_after_a_find),
		cmocka_unit_test(an_answer_that_does_not_come_is_overdue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
