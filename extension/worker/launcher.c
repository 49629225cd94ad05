/*-------------------------------------------------------------------------
 *
 * worker/launcher.c
 *	  What runs by itself, where the module is preloaded: due reservations are
 *	  let go, and history that is past its retention.
 *
 * A launcher, connected to no database, sleeps until the first database is to
 * be looked at, and starts a worker in it.  A worker looks, waits for what is
 * due within its second of life, and ends.  So no session is connected to an
 * idle database: DROP DATABASE, which waits five seconds for others to leave,
 * RENAME and CREATE DATABASE ... TEMPLATE go through.  (They lock the database,
 * and the next worker waits for that lock before it counts as connected.)  A
 * worker's transactions are batches, and hold no lock when it is idle; each
 * locks the extension first, and does nothing while DROP EXTENSION has it.
 *
 * Each database has a place in shared memory that says when it is to be looked
 * at: look_at.  It is found by listing the databases, once a minute; one that
 * has not been looked at is due at once, and one without the extension never.
 *
 * The worker is in worker.c.
 *
 * How a line that is due earlier than all others is not missed.  Its writer,
 * when its commit has become visible, lowers look_at to the line's time, if
 * that is earlier, and wakes whoever sleeps.  A worker
 *
 *	  1. sets look_at to infinity,
 *	  2. takes a snapshot and reads the first time that is due, N,
 *	  3. lowers look_at to N, if that is earlier.
 *
 * If the snapshot shows the line, N is not later than it.  If not, its commit
 * became visible after the snapshot was taken, so its writer looked at look_at
 * after step 1: it lowered it, and step 3 only ever lowers.  Becoming visible
 * and taking a snapshot both take ProcArrayLock; that is the memory barrier
 * that the writer's first look, which is a plain read, relies on.  And who
 * lowers sets a latch after; who sleeps resets it before it reads look_at.
 *
 * What no commit of ours announces (COMMIT PREPARED, rows that a restore copies
 * in) is found by a look once a minute.  So a time that lies further ahead was
 * noted by a clock that was ahead, and is of no use: the database is due.
 *
 * A worker that fails leaves "looking" set; the launcher sees to it that the
 * database is looked at again.  After a crash shared memory is made anew, and
 * everything begins by looking at every database.  There is no keeper during
 * recovery: a standby gets its launcher when it is promoted.  Nor is there one in
 * a server that pg_upgrade has started: what changes there after the dump is
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
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "pgstock.h"

#define DATABASES_MAX 1024
#define WORKERS_MAX	  3 /* at a time: max_worker_processes is 8 by default */

#define AFTER_FAILURE_MS 5000
#define LATE_MS			 2000 /* later than that the relay takes over */

PG_FUNCTION_INFO_V1(pgstock_keeper_is_here);
PG_FUNCTION_INFO_V1(pgstock_keeper_call);

extern PGDLLEXPORT void pgstock_keeper_main(Datum arg);

typedef struct Keeper
{
	Latch *launcher; /* NULL: there is none */
	bool   list;	 /* somebody found no place for his database */
	Kept   kept[DATABASES_MAX];
} Keeper;

/* A worker as the launcher knows it. */
typedef struct Started
{
	BackgroundWorkerHandle *handle; /* NULL: none */
	Kept				   *kept;
} Started;

static Keeper				  *keeper = NULL; /* NULL: not preloaded */
static shmem_request_hook_type next_shmem_request_hook = NULL;
static shmem_startup_hook_type next_shmem_startup_hook = NULL;

/* The earliest time that this transaction wrote; DT_NOEND: none. */
static TimestampTz wanted = DT_NOEND;

static Started started[WORKERS_MAX];

/* ---- Shared memory ---- */

static void
shmem_request(void)
{
	if (next_shmem_request_hook)
		next_shmem_request_hook();
	RequestAddinShmemSpace(sizeof(Keeper));
}

static void
shmem_startup(void)
{
	bool found;

	if (next_shmem_startup_hook)
		next_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	keeper = ShmemInitStruct("pgstock keeper", sizeof(Keeper), &found);
	if (!found)
	{
		MemSet(keeper, 0, sizeof(Keeper));
		for (int i = 0; i < DATABASES_MAX; i++)
			pg_atomic_init_u64(&keeper->kept[i].look_at, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

TimestampTz
keeper_look_at(Kept *kept)
{
	return (TimestampTz) pg_atomic_read_u64(&kept->look_at);
}

/* Lowers the time of the next look, never raises it; true if it did. */
bool
keeper_look_by(Kept *kept, TimestampTz at)
{
	uint64 present = pg_atomic_read_u64(&kept->look_at);

	while (at < (TimestampTz) present)
	{
		if (pg_atomic_compare_exchange_u64(&kept->look_at, &present,
										   (uint64) at))
			return true;
	}
	return false;
}

/* A place by its number, as a worker gets it. */
Kept *
keeper_place(int number)
{
	Assert(number >= 0 && number < DATABASES_MAX);
	return &keeper->kept[number];
}

/* The place of a database, or NULL. */
static Kept *
kept_find(Oid database)
{
	for (int i = 0; i < DATABASES_MAX; i++)
	{
		if (keeper->kept[i].database == database)
			return &keeper->kept[i];
	}
	return NULL;
}

/* ---- In every backend ---- */

/* This transaction writes something that is due then. */
void
keeper_want(TimestampTz due_at)
{
	if (due_at < wanted)
		wanted = due_at;
}

void
keeper_forget(void)
{
	wanted = DT_NOEND;
}

static void
wake(Latch *latch)
{
	if (latch != NULL)
		SetLatch(latch);
}

/*
 * The transaction has become visible: whoever sleeps longer than it wants shall
 * know.  Raises no error, and costs a read if it is not the earliest.
 */
void
keeper_tell(void)
{
	static Kept *kept = NULL;
	static bool	 told = false;

	if (keeper == NULL || wanted == DT_NOEND)
		return;
	if (kept == NULL || kept->database != MyDatabaseId)
		kept = kept_find(MyDatabaseId);
	if (kept == NULL && !told)
	{
		/* A new database: the launcher will make a place and look. */
		told = keeper->list = true;
		wake(keeper->launcher);
	}
	if (kept != NULL && keeper_look_by(kept, wanted))
		wake(kept->worker != NULL ? kept->worker : keeper->launcher);
}

/* keeper_call() RETURNS void */
Datum
pgstock_keeper_call(PG_FUNCTION_ARGS)
{
	keeper_want(GetCurrentTimestamp());
	PG_RETURN_VOID();
}

/* keeper_is_here() RETURNS boolean */
Datum
pgstock_keeper_is_here(PG_FUNCTION_ARGS)
{
	TimestampTz late = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												   -LATE_MS);
	Kept	   *kept = keeper != NULL ? kept_find(MyDatabaseId) : NULL;

	PG_RETURN_BOOL(kept != NULL && keeper->launcher != NULL &&
				   keeper_look_at(kept) > late);
}

/* ---- The launcher ---- */

/* A place for a database that has none. */
static void
keep_database(Oid database)
{
	static bool told = false;
	Kept	   *kept = kept_find(database);

	if (kept != NULL)
		return;
	kept = kept_find(InvalidOid);
	if (kept == NULL)
	{
		if (!told)
			ereport(WARNING, (errmsg("pgstock keeps no more than %d databases",
									 DATABASES_MAX),
							  errhint("The relays of the others do it.")));
		told = true;
		return;
	}
	kept->purge_at = kept->retry_at = 0;
	kept->worker = NULL;
	kept->looking = false;
	pg_atomic_write_u64(&kept->look_at, (uint64) GetCurrentTimestamp());
	pg_write_barrier();
	kept->database = database;
}

/* The databases that one can connect to; the others lose their place. */
static void
list_databases(void)
{
	bool		  there[DATABASES_MAX] = {false};
	Relation	  rel;
	TableScanDesc scan;
	HeapTuple	  tuple;

	keeper->list = false;
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		Kept			*kept;

		/* A negative limit other than -1: half dropped. */
		if (!form->datallowconn || form->datistemplate ||
			form->datconnlimit < -1)
			continue;
		keep_database(form->oid);
		kept = kept_find(form->oid);
		if (kept != NULL)
			there[kept - keeper->kept] = true;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	for (int i = 0; i < DATABASES_MAX; i++)
	{
		if (!there[i])
			keeper->kept[i].database = InvalidOid;
	}
}

/* Perhaps because the database has been dropped: look at the list. */
static void
worker_failed(Kept *kept)
{
	TimestampTz now = GetCurrentTimestamp();

	kept->looking = false;
	kept->retry_at = TimestampTzPlusMilliseconds(now, AFTER_FAILURE_MS);
	(void) keeper_look_by(kept, now);
	keeper->list = true;
}

/* Forgets workers that have ended. */
static void
reap_workers(void)
{
	for (int i = 0; i < WORKERS_MAX; i++)
	{
		Started *worker = &started[i];
		pid_t	 pid;

		if (worker->handle == NULL ||
			GetBackgroundWorkerPid(worker->handle, &pid) != BGWH_STOPPED)
			continue;
		worker->kept->worker = NULL;
		if (worker->kept->looking)
			worker_failed(worker->kept);
		pfree(worker->handle);
		worker->handle = NULL;
	}
}

static bool
has_worker(const Kept *kept)
{
	for (int i = 0; i < WORKERS_MAX; i++)
	{
		if (started[i].handle != NULL && started[i].kept == kept)
			return true;
	}
	return false;
}

static TimestampTz
start_at(Kept *kept)
{
	return Max(keeper_look_at(kept), kept->retry_at);
}

/* The database without a worker that is to be looked at first, or NULL. */
static Kept *
first_database(void)
{
	Kept *first = NULL;

	for (int i = 0; i < DATABASES_MAX; i++)
	{
		Kept *kept = &keeper->kept[i];

		if (kept->database != InvalidOid && !has_worker(kept) &&
			(first == NULL || start_at(kept) < start_at(first)))
			first = kept;
	}
	return first;
}

static bool
start_worker(Started *worker, Kept *kept)
{
	BackgroundWorker settings = {0};

	strlcpy(settings.bgw_name, "pgstock keeper worker", BGW_MAXLEN);
	strlcpy(settings.bgw_type, "pgstock keeper worker", BGW_MAXLEN);
	strlcpy(settings.bgw_library_name, "pgstock", BGW_MAXLEN);
	strlcpy(settings.bgw_function_name, "pgstock_keeper_worker_main",
			BGW_MAXLEN);
	settings.bgw_flags = BGWORKER_SHMEM_ACCESS |
						 BGWORKER_BACKEND_DATABASE_CONNECTION;
	settings.bgw_start_time = BgWorkerStart_RecoveryFinished;
	settings.bgw_restart_time = BGW_NEVER_RESTART;
	settings.bgw_main_arg = Int32GetDatum((int32) (kept - keeper->kept));
	settings.bgw_notify_pid = MyProcPid;
	worker->kept = kept;
	kept->looking = true;
	return RegisterDynamicBackgroundWorker(&settings, &worker->handle);
}

/* Starts workers where it is time; when to come again. */
static TimestampTz
start_workers(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < WORKERS_MAX; i++)
	{
		Kept *kept;

		if (started[i].handle != NULL)
			continue;
		kept = first_database();
		if (kept == NULL)
			return DT_NOEND;
		if (start_at(kept) > now)
			return start_at(kept);
		if (!start_worker(&started[i], kept))
			return TimestampTzPlusMilliseconds(now, 1000);
	}
	/* The end of one will wake us. */
	return DT_NOEND;
}

/*
 * Takes back what was noted while the clock was ahead, whoever noted it.  It is
 * known by lying further ahead than a clock that runs on can put it.
 */
static void
mend_times(TimestampTz now)
{
	TimestampTz latest = TimestampTzPlusMilliseconds(now, KEEPER_EVERY_MS +
															  AFTER_FAILURE_MS);

	for (int i = 0; i < DATABASES_MAX; i++)
	{
		Kept	   *kept = &keeper->kept[i];
		TimestampTz at = keeper_look_at(kept);

		if (kept->purge_at > latest)
			kept->purge_at = 0;
		if (kept->retry_at > latest)
			kept->retry_at = 0;
		if (at > latest && at != DT_NOEND)
			(void) keeper_look_by(kept, now);
	}
}

static void
launcher_leave(int code, Datum arg)
{
	keeper->launcher = NULL;
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
	for (int i = 0; i < DATABASES_MAX; i++)
	{
		keeper->kept[i].worker = NULL;
		(void) keeper_look_by(&keeper->kept[i], GetCurrentTimestamp());
	}
	keeper->launcher = MyLatch;
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
		reap_workers();
		mend_times(now);
		if (keeper->list || now >= list_at ||
			list_at > TimestampTzPlusMilliseconds(now, KEEPER_EVERY_MS))
		{
			list_databases();
			list_at = TimestampTzPlusMilliseconds(now, KEEPER_EVERY_MS);
		}
		wake_at = Min(start_workers(), list_at);
		(void)
			WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  Min(TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														  wake_at),
						  KEEPER_EVERY_MS),
					  PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	/* With code 0 it would never be started again. */
	proc_exit(1);
}

void
keeper_init(void)
{
	BackgroundWorker settings = {0};

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	next_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	next_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;

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
