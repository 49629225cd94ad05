/*-------------------------------------------------------------------------
 *
 * base/durability.c
 *	  What happens at COMMIT: early lock release, the fence.
 *
 * Early lock release.  A row lock held across the commit's flush caps a hot
 * product at one sale a flush.  So a transaction that took stock releases its
 * locks after its commit record is written, and COMMIT returns only after the
 * record is flushed:
 *
 *	  XACT_EVENT_PRE_COMMIT		synchronous_commit is remembered and set to off
 *	  (CommitTransaction)		writes the commit record, leaves the proc array,
 *								releases the locks
 *	  RESOURCE_RELEASE_AFTER_LOCKS, commit, first call
 *								restores the setting, flushes up to the commit
 *								record, waits for the synchronous standby
 *	  COMMIT returns
 *
 * (XACT_EVENT_COMMIT would be too early: the locks are still held.)  The idea
 * is DeWitt et al., Implementation Techniques for Main Memory Database Systems,
 * SIGMOD 1984.
 *
 * Invariants:
 *	1. COMMIT returns only when its record is as durable as the session's
 *	   synchronous_commit requires; with off or in a prepared transaction
 *	   nothing of this happens.
 *	2. The setting is what it was whenever user code can see it: reset at
 *	   PREPARE, at ABORT, and in the release callback.
 *	3. Nothing in the release callback can raise an error: the transaction has
 *	   committed.  (A failed flush is a PANIC, as it is for any commit.)
 *	4. Others see a commit that a crash can still erase.  So an answer that
 *	   rests on another session's commit acknowledges it, and waits until it is
 *	   durable: durability_fence_answer, or durability_fence_error where the
 *	   answer is an error.  The relay waits likewise before it publishes what
 *	   it sees: durability_fence.
 *	5. "Not enough" and "there is none" acknowledge nothing: they do not wait.
 *	6. The fence's wait for the standby ends when synchronous_standby_names is
 *	   emptied, as that of a commit does.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"

#include "base/base.h"

#define STANDBY_LOOK_MS 1

/* Requested by this transaction for its commit; false between transactions. */
static bool release_early = false;
static bool fence_answer = false;

/* Between PRE_COMMIT and the release callback. */
static bool flush_pending = false;
static int	saved_synchronous_commit;

/* This transaction took stock: its locks are released before the flush. */
void
durability_release_locks_early(void)
{
	Assert(IsTransactionState() && !flush_pending);
	release_early = true;
}

/* This transaction's answer depends on another transaction's commit. */
void
durability_fence_answer(void)
{
	Assert(IsTransactionState() && !flush_pending);
	fence_answer = true;
}

/*
 * The end of what has been inserted into the WAL, in the form that XLogFlush
 * takes: at the start of a page the insert position lies behind the page
 * header, which may not have been written yet.
 */
static XLogRecPtr
durability_insert_end(void)
{
	XLogRecPtr lsn = GetXLogInsertRecPtr();
	uint64	   in_page = lsn % XLOG_BLCKSZ;

	if (in_page == SizeOfXLogShortPHD)
		return lsn - SizeOfXLogShortPHD;
	if (in_page == SizeOfXLogLongPHD &&
		XLogSegmentOffset(lsn, wal_segment_size) == SizeOfXLogLongPHD)
		return lsn - SizeOfXLogLongPHD;
	return lsn;
}

/*
 * PostgreSQL 15.13, 16.9 and 17.5 made a boolean, whether a standby is named,
 * two flags of the same byte.  The server that runs may be older or newer than
 * the one whose headers this was built with, so the byte is read as the version
 * of the server has it.
 */
#ifdef SYNC_STANDBY_DEFINED
#define STANDBY_STATUS(control) ((uint8) (control)->sync_standbys_status)
#else
#define STANDBY_STATUS(control) ((uint8) (control)->sync_standbys_defined)
#endif
#define STANDBY_KNOWN 0x01 /* the setting was read since the server started */
#define STANDBY_NAMED 0x02

static bool
durability_status_has_flags(void)
{
	static const int first[] = {150013, 160009, 170005};
	int				 version = pg_strtoint32(
					 GetConfigOption("server_version_num", false, false));

	for (int i = 0; i < lengthof(first); i++)
		if (version / 10000 == first[i] / 10000)
			return version >= first[i];
	return version / 10000 > 17;
}

/* As this session has read the setting. */
static bool
durability_session_names_standby(void)
{
	return SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0';
}

/*
 * Whether a synchronous standby is named.  A session reads a changed setting
 * before its next command only; until then the checkpointer, which reads it at
 * once, knows better.
 */
bool
durability_standby_is_named(void)
{
	uint8 status;

	if (!ConfigReloadPending)
		return durability_session_names_standby();
	LWLockAcquire(SyncRepLock, LW_SHARED);
	status = STANDBY_STATUS(WalSndCtl);
	LWLockRelease(SyncRepLock);
	if (!durability_status_has_flags())
		return status != 0;
	if (!(status & STANDBY_KNOWN))
		return durability_session_names_standby();
	return (status & STANDBY_NAMED) != 0;
}

/* How far the synchronous standbys are, as this session's setting counts. */
static XLogRecPtr
durability_standby_reached(void)
{
	int		   mode = synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_WRITE
						  ? SYNC_REP_WAIT_WRITE
						  : SYNC_REP_WAIT_FLUSH;
	XLogRecPtr reached;

	LWLockAcquire(SyncRepLock, LW_SHARED);
	reached = WalSndCtl->lsn[mode];
	LWLockRelease(SyncRepLock);
	return reached;
}

bool
durability_standby_has(XLogRecPtr lsn)
{
	return durability_standby_reached() >= lsn;
}

/*
 * Waits until the synchronous standby has flushed the LSN, if one is named.
 * Not by SyncRepWaitForLSN: cancelled, or after the postmaster has died, it
 * returns as if it had succeeded, and has used the cancel up.
 */
static void
durability_wait_for_standby(XLogRecPtr lsn)
{
	Assert(!XLogRecPtrIsInvalid(lsn));
	if (!SyncRepRequested())
		return;
	while (durability_standby_is_named() && !durability_standby_has(lsn))
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(NULL, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 STANDBY_LOOK_MS, WAIT_EVENT_SYNC_REP);
	}
}

/*
 * Waits until everything that has been visible so far is durable, here and, if
 * it is to be so, at the synchronous standby; returns up to where.  May raise
 * an error.
 */
XLogRecPtr
durability_fence(bool at_standby)
{
	XLogRecPtr lsn = durability_insert_end();

	XLogFlush(lsn);
	Assert(GetFlushRecPtr(NULL) >= lsn);
	if (at_standby)
		durability_wait_for_standby(lsn);
	return lsn;
}

/* Not so for an xid alone, or one that wrote only to temporary tables. */
static bool
durability_will_flush(void)
{
	return TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
		   !XLogRecPtrIsInvalid(XactLastRecEnd);
}

/*
 * The error to be raised next reports another session's commit.
 * No COMMIT follows it that could wait, so the wait is here, under the locks
 * that the call holds.
 */
void
durability_fence_error(void)
{
	if (synchronous_commit > SYNCHRONOUS_COMMIT_OFF)
		(void) durability_fence(true);
}

static void
durability_before_commit(void)
{
	Assert(!flush_pending);
	/* A commit that is flushed covers what its answer depends on. */
	if (fence_answer && synchronous_commit > SYNCHRONOUS_COMMIT_OFF &&
		!durability_will_flush())
		(void) durability_fence(true);

	if (release_early && pgstock_early_lock_release &&
		synchronous_commit > SYNCHRONOUS_COMMIT_OFF &&
		TransactionIdIsValid(GetTopTransactionIdIfAny()))
	{
		saved_synchronous_commit = synchronous_commit;
		synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
		flush_pending = true;
	}
}

static void
durability_forget(void)
{
	release_early = false;
	fence_answer = false;
}

/* After an error between PRE_COMMIT and the commit record. */
static void
durability_restore_setting(void)
{
	if (flush_pending)
		synchronous_commit = saved_synchronous_commit;
	flush_pending = false;
}

static void
durability_on_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			durability_before_commit();
			break;
		case XACT_EVENT_COMMIT:
			durability_forget();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			durability_restore_setting();
			durability_forget();
			break;
		case XACT_EVENT_PRE_PREPARE:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
	}
}

/*
 * From version 17 on the callback is called for child owners first: the first
 * call of the phase flushes.
 */
static void
durability_on_release(ResourceReleasePhase phase, bool is_commit,
					  bool is_top_level, void *arg)
{
	if (!flush_pending || phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_commit ||
		!is_top_level)
		return;
	Assert(!XLogRecPtrIsInvalid(XactLastCommitEnd));
	Assert(synchronous_commit == SYNCHRONOUS_COMMIT_OFF &&
		   saved_synchronous_commit > SYNCHRONOUS_COMMIT_OFF);
	durability_restore_setting();
	XLogFlush(XactLastCommitEnd);
	SyncRepWaitForLSN(XactLastCommitEnd, true);
}

void
durability_init(void)
{
	RegisterXactCallback(durability_on_transaction, NULL);
	RegisterResourceReleaseCallback(durability_on_release, NULL);
}
