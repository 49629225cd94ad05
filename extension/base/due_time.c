/*-------------------------------------------------------------------------
 *
 * base/due_time.c
 *	  When each database has something due, in shared memory: a commit lowers
 *	  the time, a background worker (worker/) acts on it.
 *
 * Each database has an entry with the time of the next look at it, due_at.  A
 * transaction notes the earliest time that it writes (due_time_note).  How a
 * line that is due earlier than all others is not missed: its writer, when its
 * commit has become visible, lowers due_at to the line's time, if that is
 * earlier, and sets the latch of the process that sleeps.  A worker
 *
 *	  1. sets due_at to infinity,
 *	  2. takes a snapshot and reads the first time that is due, N,
 *	  3. lowers due_at to N, if that is earlier.
 *
 * If the snapshot shows the line, N is not later than it.  If not, its commit
 * became visible after the snapshot was taken, so its writer read due_at after
 * step 1: it lowered it, and step 3 only ever lowers.  Becoming visible and
 * taking a snapshot both take ProcArrayLock; that is the memory barrier that
 * the writer's first read, a plain one, relies on.  A writer sets the latch
 * after it has lowered the time, and a sleeper resets it before it reads the
 * time.
 *
 * What no commit of ours announces (COMMIT PREPARED, rows that a restore copies
 * in) is found by a look once a minute.
 *
 * Where the module is not preloaded there is no shared memory, and nothing is
 * recorded.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "base/base.h"
#include "base/due_time.h"

DueTimes *due_times = NULL;

StaticAssertDecl(sizeof(TimestampTz) == sizeof(uint64),
				 "an atomic holds a time");

/* The earliest time that this transaction wrote; DT_NOEND: none. */
static TimestampTz due_time_noted = DT_NOEND;

/* The entry of a database, or NULL. */
DueDatabase *
due_time_find(Oid database)
{
	Assert(due_times != NULL);
	for (int i = 0; i < DUE_DATABASES_MAX; i++)
	{
		if (due_times->databases[i].database == database)
			return &due_times->databases[i];
	}
	return NULL;
}

TimestampTz
due_time_read(DueDatabase *entry)
{
	return (TimestampTz) pg_atomic_read_u64(&entry->due_at);
}

/* Lowers the time of the next look, never raises it; true if it did. */
bool
due_time_lower(DueDatabase *entry, TimestampTz at)
{
	uint64 present = pg_atomic_read_u64(&entry->due_at);

	while (at < (TimestampTz) present)
	{
		if (pg_atomic_compare_exchange_u64(&entry->due_at, &present,
										   (uint64) at))
			return true;
	}
	return false;
}

/* ---- In a transaction ---- */

/* This transaction writes something that is due then. */
void
due_time_note(TimestampTz due_at)
{
	Assert(IsTransactionState());
	Assert(!TIMESTAMP_NOT_FINITE(due_at));
	if (due_at < due_time_noted)
		due_time_noted = due_at;
}

static void
due_time_wake(Latch *latch)
{
	if (latch != NULL)
		SetLatch(latch);
}

/*
 * The transaction has become visible: lowers the time and wakes the process
 * that would sleep longer.  Raises no error; costs one read unless the noted
 * time is the earliest.
 */
static void
due_time_publish(void)
{
	static DueDatabase *entry = NULL;
	static bool			reported = false;

	if (due_times == NULL || due_time_noted == DT_NOEND)
		return;
	if (entry == NULL || entry->database != MyDatabaseId)
		entry = due_time_find(MyDatabaseId);
	if (entry == NULL && !reported)
	{
		/* A new database: the launcher will make an entry and look. */
		reported = due_times->list_is_stale = true;
		due_time_wake(due_times->launcher);
	}
	Assert(entry == NULL || entry->database == MyDatabaseId);
	if (entry != NULL && due_time_lower(entry, due_time_noted))
		due_time_wake(entry->worker != NULL ? entry->worker
											: due_times->launcher);
}

static void
due_time_on_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			due_time_publish();
			due_time_noted = DT_NOEND;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			due_time_noted = DT_NOEND;
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
	}
}

/* ---- Start ---- */

static void
due_time_attach(void)
{
	bool found;

	due_times = ShmemInitStruct("pgstock keeper", sizeof(DueTimes), &found);
	if (!found)
	{
		MemSet(due_times, 0, sizeof(DueTimes));
		for (int i = 0; i < DUE_DATABASES_MAX; i++)
			pg_atomic_init_u64(&due_times->databases[i].due_at, 0);
	}
}

void
due_time_init(void)
{
	Assert(due_times == NULL && due_time_noted == DT_NOEND);
	RegisterXactCallback(due_time_on_transaction, NULL);
	shared_memory_use(sizeof(DueTimes), due_time_attach);
}
