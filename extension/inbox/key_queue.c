/*-------------------------------------------------------------------------
 *
 * inbox/key_queue.c
 *	  Messages that wait behind an earlier one of their topic and key.
 *
 * The messages of a key are applied in their order.  So while one waits, later
 * ones queue behind it: they wait too, without a time of their own.  The one
 * that ends, in whatever way, makes the next one due.
 *
 * A session that queues a message and one that ends the message before it must
 * not pass each other: the first would wait for a wake-up that the second never
 * sends.  So both lock the key and look again (base/lock.h has the rank of that
 * lock).
 *
 * An empty key is none.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "inbox/inbox.h"

/* The name of a record's topic and key. */
char *
key_queue_name(const Record *record)
{
	int	  length = VARSIZE_ANY_EXHDR(record->key);
	char *hex = palloc(length * 2 + 1);

	Assert(record_has_key(record));
	hex_encode(VARDATA_ANY(record->key), length, hex);
	hex[length * 2] = '\0';
	return psprintf("%s\t%s", record->topic, hex);
}

/* Locks the key; then the snapshot shows other sessions' earlier changes. */
static void
key_queue_lock(Call *call, const Record *record)
{
	lock_acquire(call, LOCK_WAITING_KEY, key_queue_name(record));
	call_refresh_snapshot();
}

/* Whether an earlier message of the same topic and key waits. */
static bool
key_queue_is_behind(Call *call, const Message *message)
{
	int64			own = message->failed.id;
	ItemPointerData tid;
	int64 first = failed_event_first_waiting(call, message->record, 0, &tid);

	return first != 0 && (own == 0 || first < own);
}

/* Whether a message must queue; its key is locked then, and stays so. */
bool
key_queue_lock_if_behind(Call *call, const Message *message)
{
	if (!record_has_key(message->record) || !key_queue_is_behind(call, message))
		return false;
	key_queue_lock(call, message->record);
	return key_queue_is_behind(call, message);
}

/* The same for a message that is due, which it is no longer then. */
bool
key_queue_suspend_if_behind(Call *call, Message *message)
{
	if (!key_queue_lock_if_behind(call, message))
		return false;
	Assert(message->failed.id != 0);
	failed_event_suspend(call, message);
	return true;
}

/* A message has ended: makes the next one of its key due. */
void
key_queue_wake_next(Call *call, const Message *message)
{
	ItemPointerData next;

	Assert(message->failed.id != 0);
	Assert(message->outcome.kind != OUTCOME_WAITING);
	if (!record_has_key(message->record))
		return;
	key_queue_lock(call, message->record);
	if (failed_event_first_waiting(call, message->record, message->failed.id,
								   &next) != 0)
		failed_event_make_due(call, &next);
}
