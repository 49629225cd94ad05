/*-------------------------------------------------------------------------
 *
 * inbox/lock_patience.c
 *	  One message after another, where locks cannot be had.
 *
 * Somebody has locked what a message needs, and does not let go.  Which message
 * that is shows when each takes its locks by itself, in a subtransaction, and
 * waits but shortly.  They are not locked in the one order then; a deadlock
 * ends with that short wait.
 *
 * Many may want what is locked, and would all wait in vain.  So what one has
 * waited for is remembered until the call ends, and another one that wants the
 * same product does not wait.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "inbox/inbox.h"

#define LOCK_TIMEOUT	   "200ms"
#define LOCK_TIMEOUT_AGAIN "1ms"

/* The call ends after so long: what it has locked, others wait for.  A slow
 * server's tests set it: dev/stage. */
#ifndef CAREFUL_MS_MAX
#define CAREFUL_MS_MAX 1000
#endif

void
careful_begin(Careful *careful)
{
	*careful = (Careful){.began_at = GetCurrentTimestamp()};
}

/* Whether the call is to end before a further message. */
bool
careful_is_over(const Careful *careful)
{
	return careful->tried == USER_BATCH_MAX ||
		   (careful->tried > 0 &&
			TimestampDifferenceExceeds(careful->began_at, GetCurrentTimestamp(),
									   CAREFUL_MS_MAX));
}

static bool
wants_what_is_locked(const Careful *careful, const Message *message)
{
	ListCell *cell;

	foreach(cell, message->lines)
	{
		const Line *line = lfirst(cell);

		if (name_map_find(&careful->locked,
						  name_of(line->product_id, line->location, "")) !=
			NULL)
			return true;
	}
	return false;
}

/* How long a message that is parsed waits for its locks.  In a function that
 * has a SET clause, or in a subtransaction: its end takes this back. */
void
careful_wait(const Careful *careful, const Message *message)
{
	(void) set_config_option("lock_timeout",
							 wants_what_is_locked(careful, message)
								 ? LOCK_TIMEOUT_AGAIN
								 : LOCK_TIMEOUT,
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
}

/* Notes how a message fared. */
void
careful_note(Careful *careful, const Message *message, const ErrorData *failure)
{
	ListCell *cell;

	careful->tried++;
	if (failure == NULL || failure->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE ||
		wants_what_is_locked(careful, message))
		return;
	foreach(cell, message->lines)
	{
		Line *line = lfirst(cell);

		name_map_put(&careful->locked,
					 name_of(line->product_id, line->location, ""), line);
	}
}

/*
 * Does a step of a call in a subtransaction; its error, or NULL.  No more than
 * USER_BATCH_MAX to a transaction: beyond 64 subtransactions every snapshot in
 * the cluster does more work.
 */
ErrorData *
guard_call(void (*step)(void *), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile failure = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		step(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		failure = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return failure;
}
