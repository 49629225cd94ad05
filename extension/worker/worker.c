/*-------------------------------------------------------------------------
 *
 * worker/worker.c
 *	  The worker that launcher.c starts in a database: looks, and ends.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/due_time.h"
#include "worker/worker.h"

#define LIFE_MS		1000
#define GIVE_WAY_MS 1000 /* to DROP EXTENSION */

extern PGDLLEXPORT void pgstock_keeper_worker_main(Datum arg);

/*
 * Runs a function of the extension, which answers a number, and commits.  The
 * extension's functions are its owner's, a superuser's: without it a schema of
 * that name is another owner's, whose code we would run.
 */
static ExtensionHold
worker_query(const char *query, int64 *answer)
{
	ExtensionHold hold;
	bool		  isnull;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	hold = session_hold_extension();
	if (hold != EXTENSION_HELD)
	{
		CommitTransactionCommand();
		return hold;
	}
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, query);
	if (SPI_execute(query, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "background worker received no result from: %s", query);
	*answer = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
										  SPI_tuptable->tupdesc, 1, &isnull));
	Assert(!isnull);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	return hold;
}

/* Expires due lines; returns when to do so again. */
static TimestampTz
worker_expire(void)
{
	int64		  wait_us = 0;
	ExtensionHold hold;

	hold = worker_query("SELECT pgstock_internal.keeper_expire(1000)",
						&wait_us);
	switch (hold)
	{
		case EXTENSION_HELD:
			return GetCurrentTimestamp() + wait_us;
		case EXTENSION_BUSY:
			return TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
											   GIVE_WAY_MS);
		case EXTENSION_ABSENT:
			break;
	}
	return DT_NOEND;
}

/* Purges a batch, where it is time; when to do so again. */
static TimestampTz
worker_purge(DueDatabase *entry)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		rows = 0;

	if (entry->purge_at > now)
		return entry->purge_at;
	(void) worker_query("SELECT pgstock_internal.keeper_purge(1000)", &rows);
	entry->purge_at = GetCurrentTimestamp();
	if (rows == 0)
		entry->purge_at += LOOK_EVERY_MS * INT64CONST(1000);
	return entry->purge_at;
}

/* The banner's three steps. */
static void
worker_look(DueDatabase *entry)
{
	TimestampTz next;

	Assert(entry->worker == MyLatch);
	entry->looking = true;
	(void) pg_atomic_exchange_u64(&entry->due_at, (uint64) DT_NOEND);
	next = worker_expire();
	if (next != DT_NOEND && next > GetCurrentTimestamp())
		next = Min(next, worker_purge(entry));
	(void) due_time_lower(entry, next);
	entry->looking = false;
}

/* Overrides the settings of the role and of the database. */
static void
worker_settings(void)
{
	session_pin_settings();
	SetConfigOption("role", "none", PGC_SUSET, PGC_S_SESSION);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET,
					PGC_S_SESSION);
	SetConfigOption("pgstock.actor", "keeper", PGC_SUSET, PGC_S_SESSION);
	/* less than deadlock_timeout: the worker gives way */
	SetConfigOption("lock_timeout", "100ms", PGC_SUSET, PGC_S_SESSION);
}

static void
worker_leave(int code, Datum arg)
{
	((DueDatabase *) DatumGetPointer(arg))->worker = NULL;
}

void
pgstock_keeper_worker_main(Datum arg)
{
	DueDatabase *entry = &due_times->databases[DatumGetInt32(arg)];
	Oid			 database = entry->database;
	TimestampTz	 end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												   LIFE_MS);

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(worker_leave, PointerGetDatum(entry));
	entry->worker = MyLatch;
	if (!OidIsValid(database))
		return; /* dropped meanwhile */
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	worker_settings();

	for (;;)
	{
		TimestampTz now;

		ResetLatch(MyLatch);
		now = GetCurrentTimestamp();
		if (due_time_read(entry) <= now)
		{
			worker_look(entry);
			now = GetCurrentTimestamp();
		}
		if (now >= end || due_time_read(entry) >= end ||
			end > TimestampTzPlusMilliseconds(now, LIFE_MS))
			break; /* the last: the clock was set back */
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TimestampDifferenceMilliseconds(now,
														 due_time_read(entry)),
						 PG_WAIT_EXTENSION);
		CHECK_FOR_INTERRUPTS();
	}
}
