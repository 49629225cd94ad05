/*-------------------------------------------------------------------------
 *
 * worker/launcher.c
 *	  Starts a worker in each database where something is due, if the module
 *	  is preloaded.
 *
 * The launcher, connected to no database, sleeps until the first database is
 * due, and starts a worker in it.  The worker expires due reservations, purges
 * history, waits for what is due within its second of life, and exits.  So no
 * session stays connected to an idle database: DROP DATABASE, which waits five
 * seconds for other sessions to end, RENAME and CREATE DATABASE ... TEMPLATE
 * succeed.  (They lock the database, and the next worker waits for that lock
 * before it counts as connected.)  A worker's transactions are batches, and it
 * holds no lock while it is idle; each transaction locks the extension first,
 * and does nothing while DROP EXTENSION holds it.
 *
 * Each database has an entry in shared memory with the time of the next look
 * (base/due_time.c).  The launcher lists the databases once a minute; one that
 * has not been looked at is due at once, and one without the extension never.
 *
 * What no commit of ours announces is found by a look once a minute.  So a time
 * that lies further ahead was noted while the clock was ahead, and is invalid:
 * the database is due.
 *
 * A worker that fails leaves "looking" set; the launcher sees to it that the
 * database is looked at again.  After a crash shared memory is made anew, and
 * everything begins by looking at every database.  There is no launcher during
 * recovery: a standby starts one when it is promoted.  Nor is there one in a
 * server that pg_upgrade has started: what changes there after the dump is
 * lost, or lies behind a sequence that was dumped before.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/due_time.h"
#include "worker/worker.h"

#define WORKERS_MAX 3 /* at a time: max_worker_processes is 8 by default */

#define AFTER_FAILURE_MS 5000
#define LATE_MS			 2000 /* later than that the relay takes over */

PG_FUNCTION_INFO_V1(pgstock_keeper_is_here);
PG_FUNCTION_INFO_V1(pgstock_keeper_call);

extern PGDLLEXPORT void pgstock_keeper_main(Datum arg);

/* A worker as the launcher knows it. */
typedef struct Started
{
	BackgroundWorkerHandle *handle; /* NULL: none */
	DueDatabase			   *entry;
} Started;

static Started started[WORKERS_MAX];

/* keeper_call() RETURNS void */
Datum
pgstock_keeper_call(PG_FUNCTION_ARGS)
{
	due_time_note(GetCurrentTimestamp());
	PG_RETURN_VOID();
}

/* keeper_is_here() RETURNS boolean */
Datum
pgstock_keeper_is_here(PG_FUNCTION_ARGS)
{
	TimestampTz	 late = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													-LATE_MS);
	DueDatabase *entry = due_times != NULL ? due_time_find(MyDatabaseId) : NULL;

	PG_RETURN_BOOL(entry != NULL && due_times->launcher != NULL &&
				   due_time_read(entry) > late);
}

/* ---- The launcher ---- */

/* A place for a database that has none. */
static void
launcher_add_database(Oid database)
{
	static bool	 warned = false;
	DueDatabase *entry = due_time_find(database);

	Assert(OidIsValid(database));
	if (entry != NULL)
		return;
	entry = due_time_find(InvalidOid);
	if (entry == NULL)
	{
		if (!warned)
			ereport(WARNING,
					(errmsg("pgstock workers serve at most %d databases",
							DUE_DATABASES_MAX),
					 errhint("In the other databases, the relay does "
							 "the upkeep.")));
		warned = true;
		return;
	}
	entry->purge_at = entry->retry_at = 0;
	entry->worker = NULL;
	entry->looking = false;
	pg_atomic_write_u64(&entry->due_at, (uint64) GetCurrentTimestamp());
	pg_write_barrier();
	entry->database = database;
}

/* The databases that one can connect to; the others lose their place. */
static void
launcher_list_databases(void)
{
	bool		  there[DUE_DATABASES_MAX] = {false};
	Relation	  rel;
	TableScanDesc scan;
	HeapTuple	  tuple;

	due_times->list_is_stale = false;
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		DueDatabase		*entry;

		/* A negative limit other than -1: half dropped. */
		if (!form->datallowconn || form->datistemplate ||
			form->datconnlimit < -1)
			continue;
		launcher_add_database(form->oid);
		entry = due_time_find(form->oid);
		if (entry != NULL)
			there[entry - due_times->databases] = true;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	for (int i = 0; i < DUE_DATABASES_MAX; i++)
	{
		if (!there[i])
			due_times->databases[i].database = InvalidOid;
	}
}

/* Perhaps because the database has been dropped: look at the list. */
static void
launcher_note_failure(DueDatabase *entry)
{
	TimestampTz now = GetCurrentTimestamp();

	entry->looking = false;
	entry->retry_at = TimestampTzPlusMilliseconds(now, AFTER_FAILURE_MS);
	(void) due_time_lower(entry, now);
	due_times->list_is_stale = true;
}

/* Forgets workers that have ended. */
static void
launcher_reap_workers(void)
{
	for (int i = 0; i < WORKERS_MAX; i++)
	{
		Started *worker = &started[i];
		pid_t	 pid;

		if (worker->handle == NULL ||
			GetBackgroundWorkerPid(worker->handle, &pid) != BGWH_STOPPED)
			continue;
		Assert(worker->entry != NULL);
		worker->entry->worker = NULL;
		if (worker->entry->looking)
			launcher_note_failure(worker->entry);
		pfree(worker->handle);
		worker->handle = NULL;
	}
}

static bool
launcher_has_worker(const DueDatabase *entry)
{
	for (int i = 0; i < WORKERS_MAX; i++)
	{
		if (started[i].handle != NULL && started[i].entry == entry)
			return true;
	}
	return false;
}

static TimestampTz
launcher_start_time(DueDatabase *entry)
{
	return Max(due_time_read(entry), entry->retry_at);
}

/* The database without a worker that is to be looked at first, or NULL. */
static DueDatabase *
launcher_first_database(void)
{
	DueDatabase *first = NULL;

	for (int i = 0; i < DUE_DATABASES_MAX; i++)
	{
		DueDatabase *entry = &due_times->databases[i];

		if (entry->database != InvalidOid && !launcher_has_worker(entry) &&
			(first == NULL ||
			 launcher_start_time(entry) < launcher_start_time(first)))
			first = entry;
	}
	return first;
}

static bool
launcher_start_worker(Started *worker, DueDatabase *entry)
{
	BackgroundWorker settings = {0};

	Assert(worker->handle == NULL && OidIsValid(entry->database));
	Assert(!launcher_has_worker(entry) && entry->worker == NULL);
	strlcpy(settings.bgw_name, "pgstock keeper worker", BGW_MAXLEN);
	strlcpy(settings.bgw_type, "pgstock keeper worker", BGW_MAXLEN);
	strlcpy(settings.bgw_library_name, "pgstock", BGW_MAXLEN);
	strlcpy(settings.bgw_function_name, "pgstock_keeper_worker_main",
			BGW_MAXLEN);
	settings.bgw_flags = BGWORKER_SHMEM_ACCESS |
						 BGWORKER_BACKEND_DATABASE_CONNECTION;
	settings.bgw_start_time = BgWorkerStart_RecoveryFinished;
	settings.bgw_restart_time = BGW_NEVER_RESTART;
	settings.bgw_main_arg = Int32GetDatum(
		(int32) (entry - due_times->databases));
	settings.bgw_notify_pid = MyProcPid;
	worker->entry = entry;
	entry->looking = true;
	return RegisterDynamicBackgroundWorker(&settings, &worker->handle);
}

/* Starts workers where one is due; when to check again. */
static TimestampTz
launcher_start_workers(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < WORKERS_MAX; i++)
	{
		DueDatabase *entry;

		if (started[i].handle != NULL)
			continue;
		entry = launcher_first_database();
		if (entry == NULL)
			return DT_NOEND;
		if (launcher_start_time(entry) > now)
			return launcher_start_time(entry);
		if (!launcher_start_worker(&started[i], entry))
			return TimestampTzPlusMilliseconds(now, 1000);
	}
	/* The end of one will wake us. */
	return DT_NOEND;
}

/*
 * Resets times that were noted while the clock was ahead: they lie further
 * ahead than any process sets them.
 */
static void
launcher_reset_future_times(TimestampTz now)
{
	TimestampTz latest = TimestampTzPlusMilliseconds(now, LOOK_EVERY_MS +
															  AFTER_FAILURE_MS);

	for (int i = 0; i < DUE_DATABASES_MAX; i++)
	{
		DueDatabase *entry = &due_times->databases[i];
		TimestampTz	 at = due_time_read(entry);

		if (entry->purge_at > latest)
			entry->purge_at = 0;
		if (entry->retry_at > latest)
			entry->retry_at = 0;
		if (at > latest && at != DT_NOEND)
			(void) due_time_lower(entry, now);
	}
}

static void
launcher_leave(int code, Datum arg)
{
	due_times->launcher = NULL;
}

static void
launcher_begin(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(launcher_leave, 0);
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	/* Whatever an earlier launcher knew of its workers. */
	for (int i = 0; i < DUE_DATABASES_MAX; i++)
	{
		due_times->databases[i].worker = NULL;
		(void) due_time_lower(&due_times->databases[i], GetCurrentTimestamp());
	}
	Assert(due_times->launcher == NULL);
	due_times->launcher = MyLatch;
}

void
pgstock_keeper_main(Datum arg)
{
	TimestampTz list_at = 0;

	launcher_begin();
	while (!ShutdownRequestPending)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz wake_at;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		launcher_reap_workers();
		launcher_reset_future_times(now);
		if (due_times->list_is_stale || now >= list_at ||
			list_at > TimestampTzPlusMilliseconds(now, LOOK_EVERY_MS))
		{
			launcher_list_databases();
			list_at = TimestampTzPlusMilliseconds(now, LOOK_EVERY_MS);
		}
		wake_at = Min(launcher_start_workers(), list_at);
		(void)
			WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  Min(TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														  wake_at),
						  LOOK_EVERY_MS),
					  PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	/* With code 0 it would never be started again. */
	proc_exit(1);
}

void
launcher_init(void)
{
	BackgroundWorker settings = {0};

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	strlcpy(settings.bgw_name, "pgstock keeper", BGW_MAXLEN);
	strlcpy(settings.bgw_type, "pgstock keeper", BGW_MAXLEN);
	strlcpy(settings.bgw_library_name, "pgstock", BGW_MAXLEN);
	strlcpy(settings.bgw_function_name, "pgstock_keeper_main", BGW_MAXLEN);
	settings.bgw_flags = BGWORKER_SHMEM_ACCESS |
						 BGWORKER_BACKEND_DATABASE_CONNECTION;
	settings.bgw_start_time = BgWorkerStart_RecoveryFinished;
	settings.bgw_restart_time = AFTER_FAILURE_MS / 1000;
	RegisterBackgroundWorker(&settings);
}
