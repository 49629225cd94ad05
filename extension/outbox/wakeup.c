/*-------------------------------------------------------------------------
 *
 * outbox/wakeup.c
 *	  How a relay that sleeps is woken, at no cost while it is awake.
 *
 * A wake-up must neither fail nor delay a caller.  NOTIFY does both: commits
 * fail when its queue is full, and it holds a lock of all databases until the
 * commit is written and a synchronous standby has it.  So a writer sends none.
 * It signals the relay's session, which notifies its own client.
 *
 * The hint lock marks a relay that sleeps: the relay's session holds it
 * exclusively while the relay sleeps.
 *
 *	  Writer						Relay: relay_sleep()
 *	  W1 PRE_COMMIT: tries to		R1 acquires the lock if it is free; if not,
 *		 acquire the lock shared,	   the relay stays awake and polls again
 *		 and never waits			   soon
 *	  W2 becomes visible			R2 takes a snapshot and reads the outbox
 *	  W3 COMMIT: if it could not,	R3 sleeps if it found no event; else
 *		 signals the session that	   releases the lock
 *		 holds it now
 *	  W4 releases the lock
 *
 * No event is slept through.  Take a writer that sent no signal.  If it held
 * the lock, then from W1 to W4, and the relay's session from R1 until it
 * released it; both cannot hold it at the same time.  If W4 was before R1, the
 * commit was visible before the snapshot of R2, and the relay found the event
 * or had it already.
 * If W1 was after the session released the lock, the relay was not asleep:
 * whenever the session releases it, it notifies the relay (below), or the relay
 * requested that itself, and the relay polls again.  If the writer did not hold
 * the lock, it found no holder at W3: the session had released it, or R1 was
 * later, and then R2 too, which shows the commit.  A session that was found
 * receives the signal after W2.
 * The lock is both the flag and the count of the writers that have read it, and
 * a writer that dies releases it.
 *
 * The session releases the lock at the end of its next transaction, unless that
 * one continues the sleep or writes (the relay's position).  The signal is the
 * one that NOTIFY uses to announce an entry in its queue: the server then reads
 * the queue in a transaction of its own, without the relay.  So one signal is
 * enough, even if the relay's process gets no time or is stopped, and later
 * writers send none.  In that transaction the session notifies the relay; it
 * does so too when it reads a notification of another session.
 *
 * Not covered: PREPARE TRANSACTION, whose COMMIT PREPARED runs no code of ours,
 * and pgstock.notify = off.  The relay finds those events when it polls, at the
 * latest after poll_interval.
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
#include "protocol/channel.h"

#define RECEIPT_PAYLOAD \
	"receipt" /* a session waits for an event: receipt_board.c */

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

/* The process of the session that holds the lock exclusively; 0: none. */
static pid_t
wakeup_find_sleeper(const LOCKTAG *tag, int *number)
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
wakeup_signal_sleeper(void)
{
	LOCKTAG tag = lock_tag_database(LOCK_HINT);
	int		number;
	pid_t	pid = wakeup_find_sleeper(&tag, &number);

	/* W3 is for a writer that W1 refused: a lock held means there is none */
	Assert(event_written && found_asleep);
	if (pid != 0)
		(void) SendProcSignal(pid, PROCSIG_NOTIFY_INTERRUPT, number);
}

/*
 * W1 of the banner; the lock is held until the transaction ends.  False: the
 * relay sleeps; or the lock table is full, and W3 finds no holder.
 */
static bool
wakeup_try_hint_lock(void)
{
	LOCKTAG tag = lock_tag_database(LOCK_HINT);

	Assert(event_written && !found_asleep);
	return compat_try_lock(&tag, ShareLock, false);
}

static void
wakeup_release_hint(void)
{
	LOCKTAG tag = lock_tag_database(LOCK_HINT);

	bool released PG_USED_FOR_ASSERTS_ONLY;

	Assert(asleep);
	released = LockRelease(&tag, ExclusiveLock, true);
	Assert(released);
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
		wakeup_release_hint();
	/* R3: the lock is held after this transaction, or not at all */
	Assert(!asleep || sleeps_on);
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
wakeup_notify_client(const char *payload)
{
	NotifyMyFrontEnd(CHANNEL_OUTBOX, payload, MyProcPid);
	HandleNotifyInterrupt();
}

static void
wakeup_signal_client(void)
{
	Assert(asleep && IsTransactionState());
	if (sleeps_on || TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	wakeup_release_hint();
	wakeup_notify_client("");
}

static void
wakeup_before_commit(void)
{
	if (event_written && pgstock_notify)
		found_asleep = !wakeup_try_hint_lock();
	if (asleep)
		wakeup_signal_client();
	if (echo == ECHO_DUE)
	{
		echo = ECHO_NONE;
		wakeup_notify_client("");
	}
	if (receipt_take_request())
		wakeup_notify_client(RECEIPT_PAYLOAD);
}

static void
wakeup_after_commit(void)
{
	Assert(echo != ECHO_DUE); /* PRE_COMMIT has sent it */
	if (found_asleep)
		wakeup_signal_sleeper();
	if (echo == ECHO_ASKED)
	{
		echo = ECHO_DUE;
		HandleNotifyInterrupt();
	}
}

static void
wakeup_forget(void)
{
	event_written = found_asleep = sleeps_on = false;
	if (echo == ECHO_ASKED)
		echo = ECHO_NONE;
}

static void
wakeup_on_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			wakeup_before_commit();
			break;
		case XACT_EVENT_COMMIT:
			wakeup_after_commit();
			wakeup_forget();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			wakeup_forget();
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
	RegisterXactCallback(wakeup_on_transaction, NULL);
}
