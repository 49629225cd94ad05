/*
 * inbox_fixture.h - an inbox pump whose database, consumer and clock are the
 * test
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_INBOX_FIXTURE_H
#define PGSTOCK_INBOX_FIXTURE_H

#include "unit.h"

#include "inbox/state.h"

static InboxState inbox;
static int64_t	  now = SEC_US;

/*
 * The next action, after an idle consumer is served and a broker has answered
 * at once that its offsets fit.
 */
static inline InboxAction
next_action(void)
{
	for (;;)
	{
		InboxAction action = inbox_next(&inbox, now);

		if (action == INBOX_FETCH && !inbox.readable)
			inbox_on_fetched(&inbox, 0, true, now);
		else if (action == INBOX_SURVEY)
		{
			bool placed = inbox.placed;

			inbox_on_survey_begun(&inbox);
			assert_int_equal(inbox_on_surveyed(&inbox, INBOX_FITS, now),
							 !placed);
		}
		else
			return action;
	}
}

/* A macro, so that a failure names the line of the test. */
#define expect(action) assert_int_equal(next_action(), action)

/* Connected, in the group, placed; the first queries are answered. */
static inline void
stream(void)
{
	inbox_state_init(&inbox, true, 99);
	expect(INBOX_CONNECT);
	inbox_on_connected(&inbox);
	expect(INBOX_HELLO);
	inbox_on_hello(&inbox, now);
	expect(INBOX_NEW_CONSUMER);
	inbox_on_consumer_up(&inbox);
	expect(INBOX_FETCH);
	inbox_on_rebalance(&inbox, true, now);
	inbox_on_fetched(&inbox, 0, true, now);
	for (int i = 0; i < 3; i++)
		switch (next_action())
		{
			case INBOX_READ_OFFSETS:
				assert_true(inbox_on_offsets(&inbox, now));
				break;
			case INBOX_RETRY:
				inbox_on_retried(&inbox, 0, now);
				break;
			case INBOX_READ_METRICS:
				inbox_on_metrics(&inbox, now);
				break;
			default:
				fail_msg("an unexpected action");
		}
	expect(INBOX_WAIT);
	assert_true(inbox.placed);
}

static inline void
fetch(uint32_t messages)
{
	inbox_on_readable(&inbox);
	expect(INBOX_FETCH);
	inbox_on_fetched(&inbox, messages, true, now);
}

#endif
