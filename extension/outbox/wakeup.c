/*-------------------------------------------------------------------------
 *
 * outbox/wakeup.c
 *	  How a relay that sleeps is woken, at no cost while it is awake.
 *
 * A wake-up must not be able to fail, nor to hold a caller.  NOTIFY does both:
 * where its queue is full commits fail, and it keeps a lock of all databases
 * until the commit is written and a synchronous standby has it.  So a writer
 * sends none.  It signals the relay's session, which notifies its own client.
 *
 * A lock says that there is one that sleeps, the hint lock: the relay's session
 * holds it exclusively while the relay sleeps.
 *
 *	  Writer						Relay: relay_sleep()
 *	  W1 PRE_COMMIT: tries to		R1 takes the lock, if it is free at once;
 *		 get the lock shared, and	   if not, it stays awake: it looks again
 *		 never waits				   soon
 *	  W2 becomes visible			R2 takes a snapshot and looks
 *	  W3 COMMIT: if it could not,	R3 sleeps if it found nothing; else it
 *		 signals the session that	   releases the lock
 *		 holds it now
 *	  W4 releases the lock
 *
 * Nothing is slept through.  Take a writer that sent no signal.  If it held the
 * lock, it did from W1 to W4, and the relay's session from R1 until it released
 * it.  Both cannot hold it at a time.  If W4 came before R1, the commit was
 * visible before the snapshot of R2, and the relay found it or had it already.
 * If W1 came after the session released it, the relay was not asleep: whenever
 * the session releases it, the relay is notified (below), or does it itself,
 * and it looks again.  If it did not hold the lock, it found no holder at W3:
 * the session had released it, or R1 came later, and then R2 too, which shows
 * the commit.  A session that was found gets the signal after W2.
 * The lock is the flag and the count of those who have read it in one, and
 * a writer that dies releases it.
 *
 * The session releases the lock at the end of its next transaction, unless that
 * sleeps on or writes, which is the relay's position.  The signal is the one by
 * which NOTIFY says that there is something in the queue: the server then looks
 * there in a transaction of its own, without the relay.  So one signal is
 * enough, even if the relay's process gets no time, or is stopped, and all
 * writers after it send none.  In that transaction the session notifies the
 * relay; it does so too when it reads a notification of another session.
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
#include "storage/proc.h"
#include "storage/procsignal.h"

#include "base/compat.h"
#include "outbox/outbox.h"

#define WAKE_CHANNEL "pgstock_outbox"

PG_FUNCTION_INFO_V1(pgstock_want_hints);
PG_FUNCTION_INFO_V1(pgstock_wake_relay);
PG_FUNCTION_INFO_V1(pgstock_relay_echo);
PG_FUNCTION_INFO_V1(pgstock_relay_beat);

/* A notification to this session's own client, outside of its transaction. */
typedef enum Echo
{
	ECHO_NONE,
	ECHO_ASKED, /* by this transaction */
	ECHO_DUE	/* in the next one */
} Echo;

static bool event_written = false; /* by this transaction */
static bool found_asleep = false;  /* it has found the lock held */
static bool asleep = false;		   /* this session holds the lock */
static bool sleeps_on = false;	   /* and keeps it after this transaction */
static Echo echo = ECHO_NONE;

/* This transaction wrote an event. */
void
wakeup_at_commit(void)
{
	event_written = true;
}

/* The session that holds the lock exclusively, by its process; 0: none. */
static pid_t
sleeper_find(const LOCKTAG *tag, int *number)
{
	uint32	hash = LockTagHashCode(tag);
	LWLock *lock = LockHashPartitionLock(hash);
	pid_t	pid = 0;

	LWLockAcquire(lock, LW_SHARED);
	for (uint32 i = 0; i < ProcGlobal->allProcCount && pid == 0; i++)
	{
		PGPROC *proc = &ProcGlobal->allProcs[i];

		if (!compat_proc_holds(proc, LockHashPartition(hash), tag,
							   ExclusiveLock))
			continue;
		pid = proc->pid;
		*number = compat_proc_number(proc);
	}
	LWLockRelease(lock);
	return pid;
}

/* W3 of the banner.  Cannot fail: the transaction has committed. */
static void
wake_sleeper(void)
{
	LOCKTAG tag = lock_tag_database(LOCK_HINT);
	int		number;
	pid_t	pid = sleeper_find(&tag, &number);

	if (pid != 0)
		(void) SendProcSignal(pid, PROCSIG_NOTIFY_INTERRUPT, number);
}

/*
 * W1 of the banner; the lock is the transaction's.  Where the table of locks is
 * full, it is as if the relay slept: W3 will see.
 */
static bool
relay_sleeps(void)
{
	LOCKTAG tag = lock_tag_database(LOCK_HINT);

	return !compat_try_lock(&tag, ShareLock, false);
}

static void
release_hint_lock(void)
{
	LOCKTAG tag = lock_tag_database(LOCK_HINT);

	(void) LockRelease(&tag, ExclusiveLock, true);
	asleep = false;
}

/*
 * want_hints(wanted boolean) RETURNS boolean
 *
 * R1 and R3 of the banner: whether this session is signalled from now on at
 * every commit with an event, and can see all those without a signal.
 */
Datum
pgstock_want_hints(PG_FUNCTION_ARGS)
{
	LOCKTAG tag = lock_tag_database(LOCK_HINT);

	sleeps_on = PG_GETARG_BOOL(0);
	if (sleeps_on && !asleep)
		asleep = compat_try_lock(&tag, ExclusiveLock, true);
	else if (!sleeps_on && asleep)
		release_hint_lock();
	PG_RETURN_BOOL(asleep);
}

/* wake_relay() RETURNS void: an event was written by SQL */
Datum
pgstock_wake_relay(PG_FUNCTION_ARGS)
{
	wakeup_at_commit();
	PG_RETURN_VOID();
}

/*
 * relay_echo() RETURNS void
 *
 * Whether notifications reach the client of this session, without NOTIFY, which
 * fails where its queue is full.
 */
Datum
pgstock_relay_echo(PG_FUNCTION_ARGS)
{
	echo = ECHO_ASKED;
	PG_RETURN_VOID();
}

/*
 * relay_beat(OUT max_event_bytes int) RETURNS int
 *
 * A session that sleeps sleeps on: it still holds the lock, and R2 has shown
 * all that was written before it took it.
 */
Datum
pgstock_relay_beat(PG_FUNCTION_ARGS)
{
	sleeps_on = asleep;
	PG_RETURN_INT32(pgstock_max_event_bytes);
}

/*
 * Notifies the client, as NOTIFY would.  To read notifications again flushes
 * it, whatever else this transaction is.
 */
static void
notify_client(void)
{
	NotifyMyFrontEnd(WAKE_CHANNEL, "", MyProcPid);
	HandleNotifyInterrupt();
}

static void
wake_client(void)
{
	if (sleeps_on || TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	release_hint_lock();
	notify_client();
}

static void
before_commit(void)
{
	if (event_written && pgstock_notify)
		found_asleep = relay_sleeps();
	if (asleep)
		wake_client();
	if (echo == ECHO_DUE)
	{
		echo = ECHO_NONE;
		notify_client();
	}
}

static void
after_commit(void)
{
	if (found_asleep)
		wake_sleeper();
	if (echo == ECHO_ASKED)
	{
		echo = ECHO_DUE;
		HandleNotifyInterrupt();
	}
}

static void
forget(void)
{
	event_written = found_asleep = sleeps_on = false;
	if (echo == ECHO_ASKED)
		echo = ECHO_NONE;
}

static void
on_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			before_commit();
			break;
		case XACT_EVENT_COMMIT:
			after_commit();
			forget();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			forget();
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
