/*-------------------------------------------------------------------------
 *
 * wakeup.c
 *	  How a relay that sleeps is woken, at no cost while it is awake.
 *
 * NOTIFY takes a lock of the whole database until the commit is written, so it
 * is sent only to a relay that sleeps, and no longer than until it is told.
 * A lock says so, the hint lock: the relay's session holds it exclusively while
 * the relay sleeps.
 *
 *	  Writer						Relay: relay_sleep()
 *	  W1 PRE_COMMIT: tries to		R1 takes the lock, if it is free at once;
 *		 get the lock shared, and	   if not, it stays awake: it looks again
 *		 never waits; if it can't,	   soon
 *		 sends NOTIFY				R2 takes a snapshot and looks
 *	  W2 becomes visible			R3 sleeps if it found nothing; else it lets
 *	  W3 lets go of the lock		   go of the lock
 *
 * Nothing is slept through.  Take a writer that sent no NOTIFY: it held the
 * lock from W1 to W3.  The relay's session held it from R1 until it let go.
 * Both cannot hold it at a time.  If W3 came before R1, the commit was visible
 * before the snapshot of R2, and the relay found it or had it already.  If W1
 * came after the session let go, the relay was not asleep: whenever the session
 * lets go, the relay is told (below), or does it itself, and it looks again.
 * And a writer that sent NOTIFY wakes the relay after W2, as NOTIFY does.
 * The lock is the flag and the count of those who have read it in one, and
 * a writer that dies lets go of it.
 *
 * The session lets go at the end of its next transaction, unless that sleeps on
 * or writes, which is the relay's position.  So it does when it reads the first
 * notification, which the server does without the relay: one hint is enough,
 * even if the relay's process gets no time, or is stopped, and all writers
 * after it send none.  As that notification may be another's, it then sends one
 * to the relay itself.
 *
 * What takes no part: PREPARE TRANSACTION, whose COMMIT PREPARED runs nothing
 * of ours, and pgstock.notify = off.  Those are found when the relay looks by
 * itself, at the latest after poll_interval.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"

#include "pgstock.h"

#define WAKE_CHANNEL	"pgstock_outbox"
#define LOCK_CLASS_HINT 0x706f /* of a 16-bit field */

/*
 * One stuck listener anywhere keeps the notification queue, and when it is
 * full commits fail.  Above this share of it we leave the hint out: the relay
 * polls.
 */
#define QUEUE_USAGE_MAX	  0.25
#define QUEUE_CHECK_EVERY 64 /* hints of this backend */

PG_FUNCTION_INFO_V1(pgstock_want_hints);

static bool event_written = false; /* by this transaction */
static bool asleep = false;		   /* this session holds the lock */
static bool sleeps_on = false;	   /* and keeps it after this transaction */

static bool queue_is_full = false;

/* This transaction wrote an event. */
void
wakeup_at_commit(void)
{
	event_written = true;
}

static LOCKTAG
hint_lock(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, LOCK_CLASS_HINT);
	return tag;
}

/* Sends the hint, unless the queue is in danger. */
static void
send_hint(void)
{
	static int until_check = 0;

	if (until_check-- == 0)
	{
		Datum usage = DirectFunctionCall1(pg_notification_queue_usage,
										  (Datum) 0);

		queue_is_full = DatumGetFloat8(usage) > QUEUE_USAGE_MAX;
		until_check = QUEUE_CHECK_EVERY - 1;
	}
	if (!queue_is_full)
		Async_Notify(WAKE_CHANNEL, NULL);
}

/* W1 of the banner; the lock is the transaction's. */
static bool
relay_sleeps(void)
{
	LOCKTAG tag = hint_lock();

	return LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL;
}

static void
let_go(void)
{
	LOCKTAG tag = hint_lock();

	(void) LockRelease(&tag, ExclusiveLock, true);
	asleep = false;
}

/*
 * want_hints(wanted boolean) RETURNS boolean
 *
 * R1 and R3 of the banner: whether this session is told from now on of every
 * commit with an event, and can see all those of which nobody was.
 */
Datum
pgstock_want_hints(PG_FUNCTION_ARGS)
{
	LOCKTAG tag = hint_lock();

	sleeps_on = PG_GETARG_BOOL(0);
	if (sleeps_on && !asleep)
		asleep = LockAcquire(&tag, ExclusiveLock, true, true) !=
				 LOCKACQUIRE_NOT_AVAIL;
	else if (!sleeps_on && asleep)
		let_go();
	PG_RETURN_BOOL(asleep);
}

/*
 * The client is told as by NOTIFY.  To read notifications again flushes it,
 * whatever else this transaction is.
 */
static void
wake_client(void)
{
	if (sleeps_on || TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	let_go();
	NotifyMyFrontEnd(WAKE_CHANNEL, "", MyProcPid);
	HandleNotifyInterrupt();
}

static void
on_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (event_written && pgstock_notify && relay_sleeps())
				send_hint();
			if (asleep)
				wake_client();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			event_written = false;
			sleeps_on = false;
			break;
		case XACT_EVENT_PRE_PREPARE:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
	}
}

void
wakeup_init(void)
{
	RegisterXactCallback(on_transaction, NULL);
}
