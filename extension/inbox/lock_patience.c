/*-------------------------------------------------------------------------
 *
 * inbox/lock_patience.c
 *	  Lock timeouts while messages are applied one by one.
 *
 * When another session keeps a lock that a batch needs, the whole batch waits
 * and fails.  Then each message takes its locks by itself, in a subtransaction,
 * with a short timeout: those that time out wait for another try, all others
 * are applied.  The locks are not taken in the one order then; the short
 * timeout ends a deadlock.
 *
 * Many messages may need the product that is locked, and each would wait in
 * vain.  So a product whose lock has timed out is remembered until the call
 * ends, and the next message that needs it hardly waits.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/timestamp.h"

#include "inbox/inbox.h"

#define LOCK_TIMEOUT	   "200ms"
#define LOCK_TIMEOUT_AGAIN "1ms"

/*
 * The call ends after so long: other sessions wait for what it has locked.  A
 * slow server's tests set it: dev/stage.
 */
#ifndef ONE_BY_ONE_MS_MAX
#define ONE_BY_ONE_MS_MAX 1000
#endif

void
lock_patience_begin(LockPatience *patience)
{
	*patience = (LockPatience){.began_at = GetCurrentTimestamp()};
}

/* Whether the call is to end before a further message. */
bool
lock_patience_is_over(const LockPatience *patience)
{
	Assert(patience->tried <= SAVEPOINTS_MAX);
	return patience->tried == SAVEPOINTS_MAX ||
		   (patience->tried > 0 &&
			TimestampDifferenceExceeds(patience->began_at,
									   GetCurrentTimestamp(),
									   ONE_BY_ONE_MS_MAX));
}

static char *
lock_patience_name(const Line *line)
{
	return name_map_key(line->product_id, line->location, "");
}

/* Whether a message needs a product whose lock has timed out. */
static bool
lock_patience_is_known(const LockPatience *patience, const Parsed *parsed)
{
	ListCell *cell;

	foreach(cell, parsed->lines)
	{
		if (name_map_find(&patience->locked,
						  lock_patience_name(lfirst(cell))) != NULL)
			return true;
	}
	return false;
}

/*
 * Sets how long a parsed message waits for each of its locks.  The end of the
 * subtransaction, or of the function with its SET clause, restores the setting.
 */
void
lock_patience_set_timeout(const LockPatience *patience, const Parsed *parsed)
{
	const char *timeout = lock_patience_is_known(patience, parsed)
							  ? LOCK_TIMEOUT_AGAIN
							  : LOCK_TIMEOUT;

	(void) set_config_option("lock_timeout", timeout, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* Counts a message, and remembers its products if a lock has timed out. */
void
lock_patience_note(LockPatience *patience, const Parsed *parsed,
				   const ErrorData *error)
{
	ListCell *cell;

	patience->tried++;
	Assert(patience->tried <= SAVEPOINTS_MAX);
	if (error == NULL || error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE ||
		lock_patience_is_known(patience, parsed))
		return;
	foreach(cell, parsed->lines)
		name_map_put(&patience->locked, lock_patience_name(lfirst(cell)),
					 lfirst(cell));
}
