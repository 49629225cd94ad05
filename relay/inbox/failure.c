/*
 * failure.c - what a failure costs the inbox
 *
 * A lost connection or consumer is closed and opened again; messages are read
 * again from the offsets that the database has.
 *
 * Tries on record.  The database counts the tries that a process has begun and
 * not ended, because the process may have crashed in one.  A process that is
 * still alive did not, so it names itself by a random id with each call.  A
 * call that only puts the try on record cannot crash anything: if its answer is
 * lost, the next call may begin that try.  If the answer to the try itself is
 * lost, the server's session may have crashed in it: the process takes a new
 * id, and the try counts.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox/pump_private.h"

#include <stdlib.h>
#include <sys/random.h>

#define LOG_MODULE "inbox"

void
inbox_new_process_id(Inbox *inbox)
{
	if (getrandom(&inbox->process_id, sizeof(inbox->process_id), 0) !=
		sizeof(inbox->process_id))
		abort();
}

void
inbox_set_trouble(Inbox *inbox, const char *what, const char *why)
{
	buf_clear(&inbox->trouble);
	buf_printf(&inbox->trouble, "%s: %s", what, why);
}

/* The answer to a call was lost, or to none if it was not under way. */
static void
inbox_lose_answer(Inbox *inbox, InboxAction call, bool *recorded)
{
	bool under_way = inbox->state.call == call;

	if (under_way && *recorded)
		inbox_new_process_id(inbox);
	*recorded = under_way && !*recorded;
}

void
inbox_db_failed(Inbox *inbox, const char *why)
{
	int64_t now = loop_now(inbox->loop);

	inbox_set_trouble(inbox, "database", why);
	inbox_lose_answer(inbox, INBOX_APPLY, &inbox->apply_recorded);
	inbox_lose_answer(inbox, INBOX_RETRY, &inbox->retry_recorded);
	inbox_forget_levels(inbox);
	pg_connection_close(inbox->conn);
	inbox_on_down(&inbox->state, now);
	Assert(inbox->state.call == INBOX_WAIT && inbox->state.size == 0);
	db_log_failure(&inbox->db_throttle, now, LOG_MODULE, inbox->config, why);
}

void
inbox_consumer_failed(Inbox *inbox, const char *why)
{
	int64_t now = loop_now(inbox->loop);

	inbox_set_trouble(inbox, "kafka", why);
	consumer_close(inbox->consumer);
	inbox_on_consumer_failed(&inbox->state, now);
	Assert(!inbox->state.consumer_up && inbox->state.size == 0);
	log_throttled(&inbox->consumer_throttle, now, LEVEL_WARNING, LOG_MODULE,
				  "lost the consumer: %s", why);
}
