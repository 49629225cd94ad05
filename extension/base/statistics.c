/*-------------------------------------------------------------------------
 *
 * base/statistics.c
 *	  Counts the calls of the SQL functions: their number, time and refusals.
 *
 * Each database has one block of counters in the server's shared memory.  A
 * counter is an atomic, to which a call adds when it ends; so counting takes no
 * lock, writes no row and needs no process.  The counters begin at 0 when the
 * server starts, and a call counts whether its transaction commits or not.
 * (Counters in a table would make a transaction of each refusal, and counters
 * of a backend that it flushes later are missing while it is idle.)
 *
 * Transactions and the times from reservation to confirmation are counted when
 * the transaction ends.  A confirmation in a savepoint that is rolled back is
 * counted if the transaction commits.
 *
 * Where the module is preloaded, the server reserves the memory.  Elsewhere the
 * first call takes it from the memory that each server keeps free for such
 * cases, about 100 kB; so fewer databases are counted there, and none if other
 * uses, such as very many locks, have taken it before.  The directory of
 * blocks changes under AddinShmemInitLock only, once in a database's life; a
 * backend reads it at its first call.  If no block is left, that of a database
 * that was dropped is used again, and a database without a block is not
 * counted.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "base/base.h"
#include "base/statistics.h"

#define DATABASES_MAX			 64
#define UNRESERVED_DATABASES_MAX 8

/*
 * To be raised when a counter's meaning changes: sessions with an earlier
 * library must not add to it.
 */
#define LAYOUT 1

/* An entry is filled in from the first on, and never emptied. */
typedef struct DirectoryEntry
{
	Oid			database; /* InvalidOid: the entry is free */
	Statistics *statistics;
} DirectoryEntry;

typedef struct Directory
{
	int			   databases_max;
	DirectoryEntry entries[DATABASES_MAX];
} Directory;

const int64 call_bounds_us[CALL_BOUNDS] = {
	500,   1000,   2500,   5000,   10000,	25000,
	50000, 100000, 250000, 500000, 1000000, 5000000,
};

/* From milliseconds in a test to a day; a reservation lives 30 minutes. */
const int64 confirm_bounds_us[CONFIRM_BOUNDS] = {
	INT64CONST(100000),		INT64CONST(500000),		INT64CONST(1000000),
	INT64CONST(2500000),	INT64CONST(5000000),	INT64CONST(10000000),
	INT64CONST(30000000),	INT64CONST(60000000),	INT64CONST(120000000),
	INT64CONST(300000000),	INT64CONST(600000000),	INT64CONST(900000000),
	INT64CONST(1800000000), INT64CONST(3600000000), INT64CONST(86400000000),
};

static const struct
{
	int		   sqlstate;
	CallStatus status;
} error_statuses[] = {
	{ERRCODE_SK_INSUFFICIENT, CALL_INSUFFICIENT},
	{ERRCODE_SK_UNKNOWN_PRODUCT, CALL_UNKNOWN_PRODUCT},
	{ERRCODE_SK_UNKNOWN_ORDER, CALL_UNKNOWN_ORDER},
	{ERRCODE_SK_WRONG_STATE, CALL_WRONG_STATE},
	{ERRCODE_SK_EXPIRED, CALL_EXPIRED},
	{ERRCODE_SK_KEY_REUSED, CALL_KEY_REUSED},
	{ERRCODE_SK_NOT_OPEN, CALL_NOT_OPEN},
	{ERRCODE_SK_STALE_VERSION, CALL_STALE_VERSION},
	{ERRCODE_PROGRAM_LIMIT_EXCEEDED, CALL_INVALID},
	{ERRCODE_INSUFFICIENT_PRIVILEGE, CALL_INVALID},
	{ERRCODE_UNDEFINED_FUNCTION, CALL_INVALID},
	{ERRCODE_INVALID_FUNCTION_DEFINITION, CALL_INVALID},
	{ERRCODE_T_R_SERIALIZATION_FAILURE, CALL_CONFLICT},
	{ERRCODE_T_R_DEADLOCK_DETECTED, CALL_CONFLICT},
	{ERRCODE_LOCK_NOT_AVAILABLE, CALL_CONFLICT},
};

/* What this transaction counts when it ends. */
typedef struct Pending
{
	bool   called;
	bool   refused;
	bool   confirmed; /* the next two are not 0 */
	uint64 confirm_us;
	uint32 confirm_buckets[CONFIRM_BOUNDS + 1];
} Pending;

static Statistics  *statistics_mine = NULL; /* of statistics_use() */
static Pending		pending;
static CallFunction current_function = CALL_NO_FUNCTION;

/* ---- The counters of this database ---- */

static void
statistics_add(pg_atomic_uint64 *counter, uint64 n)
{
	(void) pg_atomic_fetch_add_u64(counter, n);
}

/*
 * Sets all counters to 0; those that calls add to meanwhile may keep that.  The
 * result of verify_stock() is no counter, and stays.
 */
void
statistics_clear(Statistics *statistics)
{
	pg_atomic_uint64 *counters = (pg_atomic_uint64 *) statistics;
	Size			  n = offsetof(Statistics, verified_at) / sizeof(*counters);

	StaticAssertStmt(offsetof(Statistics, verified_at) %
							 sizeof(pg_atomic_uint64) ==
						 0,
					 "a block consists of atomics");
	for (Size i = 0; i < n; i++)
		pg_atomic_write_u64(&counters[i], 0);
	pg_atomic_write_u64(&statistics->since, (uint64) GetCurrentTimestamp());
}

/* Makes a block that of a database without calls. */
static void
statistics_begin(Statistics *statistics)
{
	pg_atomic_uint64 *counters = (pg_atomic_uint64 *) statistics;

	for (Size i = 0; i < sizeof(Statistics) / sizeof(*counters); i++)
		pg_atomic_init_u64(&counters[i], 0);
	statistics_clear(statistics);
}

static Statistics *
statistics_new(void)
{
	Statistics *statistics = ShmemAllocNoError(sizeof(Statistics));

	if (statistics != NULL)
		statistics_begin(statistics);
	return statistics;
}

/* The directory, made where there is none; AddinShmemInitLock is held. */
static Directory *
statistics_directory(int databases_max)
{
	char	   name[64];
	bool	   found;
	Directory *directory;

	Assert(LWLockHeldByMeInMode(AddinShmemInitLock, LW_EXCLUSIVE));
	Assert(databases_max <= DATABASES_MAX);
	snprintf(name, sizeof(name), "pgstock statistics %d.%zu", LAYOUT,
			 sizeof(Statistics));
	directory = ShmemInitStruct(name, sizeof(Directory), &found);
	if (!found)
	{
		MemSet(directory, 0, sizeof(Directory));
		directory->databases_max = databases_max;
	}
	return directory;
}

/*
 * The directory, or NULL: the shared memory that the server keeps free is used
 * up.  A call must not fail for its counters.  ShmemInitStruct() has released
 * its own lock and entry when it raises that error.
 */
static Directory *
statistics_try_directory(void)
{
	MemoryContext context = CurrentMemoryContext;
	uint32		  holdoffs = InterruptHoldoffCount;
	Directory *volatile directory = NULL;

	PG_TRY();
	{
		directory = statistics_directory(UNRESERVED_DATABASES_MAX);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_OUT_OF_MEMORY)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		/* an error sets it to 0, and the lock is held further */
		InterruptHoldoffCount = holdoffs;
	}
	PG_END_TRY();
	return directory;
}

/* This database's block, found or made; NULL: all are in use. */
static Statistics *
statistics_find(Directory *directory)
{
	DirectoryEntry *entry = directory->entries;

	for (int i = 0; i < directory->databases_max; i++, entry++)
	{
		if (entry->database == MyDatabaseId)
			return entry->statistics;
		if (entry->database != InvalidOid)
			continue;
		entry->statistics = statistics_new();
		if (entry->statistics != NULL)
			entry->database = MyDatabaseId;
		return entry->statistics;
	}
	return NULL;
}

/*
 * The entry of a database that was dropped, or -1.  Reads the catalog, so the
 * lock must not be held, and another backend may use the entry meanwhile.
 */
static int
statistics_find_dropped(const Directory *directory, Oid *database)
{
	for (int i = 0; i < directory->databases_max; i++)
	{
		*database = directory->entries[i].database;
		if (OidIsValid(*database) && get_database_name(*database) == NULL)
			return i;
	}
	return -1;
}

/* Uses the block of a dropped database for this one; or NULL. */
static Statistics *
statistics_inherit(Directory *directory)
{
	Statistics *statistics = NULL;
	Oid			dropped;
	int			i = statistics_find_dropped(directory, &dropped);

	if (i < 0)
		return NULL;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	statistics = statistics_find(directory);
	if (statistics == NULL && directory->entries[i].database == dropped)
	{
		statistics = directory->entries[i].statistics;
		statistics_begin(statistics);
		directory->entries[i].database = MyDatabaseId;
	}
	LWLockRelease(AddinShmemInitLock);
	return statistics;
}

/* This database's block, or NULL: its calls are not counted. */
Statistics *
statistics_use(void)
{
	static bool searched = false;
	Directory  *directory;

	if (searched)
		return statistics_mine;
	Assert(IsTransactionState() && OidIsValid(MyDatabaseId));
	searched = true;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	directory = statistics_try_directory();
	if (directory != NULL)
		statistics_mine = statistics_find(directory);
	LWLockRelease(AddinShmemInitLock);
	if (statistics_mine == NULL && directory != NULL)
		statistics_mine = statistics_inherit(directory);
	return statistics_mine;
}

/* ---- In a call ---- */

static int
statistics_bucket(const int64 *bounds_us, int n, int64 us)
{
	int bucket = 0;

	while (bucket < n && us > bounds_us[bucket])
		bucket++;
	return bucket;
}

static void
statistics_end(CallCounters *counters, instr_time begun)
{
	instr_time now;
	int64	   us;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, begun);
	us = Max(0, (int64) INSTR_TIME_GET_MICROSEC(now));
	statistics_add(&counters->time_us, us);
	statistics_add(&counters->buckets[statistics_bucket(call_bounds_us,
														CALL_BOUNDS, us)],
				   1);
}

static CallStatus
statistics_error_status(int sqlstate)
{
	for (int i = 0; i < lengthof(error_statuses); i++)
	{
		if (error_statuses[i].sqlstate == sqlstate)
			return error_statuses[i].status;
	}
	if (ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_DATA_EXCEPTION)
		return CALL_INVALID;
	return CALL_ERROR;
}

/* The current call was refused, or failed; of a batch: one order. */
void
statistics_refuse(CallStatus status)
{
	Assert(status < CALL_STATUSES);
	if (current_function == CALL_NO_FUNCTION)
		return;
	Assert(statistics_mine != NULL);
	statistics_add(&statistics_mine->calls[current_function].refusals[status],
				   1);
	if (status != CALL_CONFLICT && status != CALL_ERROR)
		pending.refused = true;
}

/* Calls the body of an SQL function, and counts the call. */
Datum
statistics_call(CallFunction function, PGFunction body, FunctionCallInfo fcinfo)
{
	Statistics	*statistics = pgstock_track_calls ? statistics_use() : NULL;
	CallFunction outer = current_function;
	instr_time	 begun;
	Datum		 result;

	Assert(function < CALL_FUNCTIONS);
	if (statistics == NULL)
		return body(fcinfo);
	pending.called = true;
	current_function = function;
	INSTR_TIME_SET_CURRENT(begun);
	PG_TRY();
	{
		result = body(fcinfo);
	}
	PG_CATCH();
	{
		current_function = function;
		statistics_refuse(statistics_error_status(geterrcode()));
		statistics_end(&statistics->calls[function], begun);
		current_function = outer;
		PG_RE_THROW();
	}
	PG_END_TRY();
	statistics_end(&statistics->calls[function], begun);
	current_function = outer;
	return result;
}

/* An order is confirmed so many microseconds after it was reserved. */
void
statistics_confirm(int64 us)
{
	us = Max(0, us);
	if (!pgstock_track_calls || statistics_use() == NULL)
		return;
	pending.confirmed = true;
	pending.confirm_us += us;
	pending.confirm_buckets[statistics_bucket(confirm_bounds_us, CONFIRM_BOUNDS,
											  us)]++;
}

/* ---- When the transaction ends ---- */

static void
statistics_count_transaction(CallTransaction end)
{
	Statistics *statistics = statistics_mine;

	Assert(statistics != NULL || (!pending.called && !pending.confirmed));
	if (pending.called)
		statistics_add(&statistics->transactions[end], 1);
	if (end != CALL_COMMITTED || !pending.confirmed)
		return;
	statistics_add(&statistics->confirm_us, pending.confirm_us);
	for (int i = 0; i <= CONFIRM_BOUNDS; i++)
	{
		if (pending.confirm_buckets[i] > 0)
			statistics_add(&statistics->confirm_buckets[i],
						   pending.confirm_buckets[i]);
	}
}

static void
statistics_on_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			statistics_count_transaction(CALL_COMMITTED);
			break;
		case XACT_EVENT_ABORT:
			statistics_count_transaction(pending.refused ? CALL_REFUSED
														 : CALL_ROLLED_BACK);
			break;
		case XACT_EVENT_PREPARE: /* how it ends is not known here */
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			return;
	}
	current_function = CALL_NO_FUNCTION;
	if (pending.called || pending.confirmed)
		MemSet(&pending, 0, sizeof(pending));
}

/* ---- Start ---- */

static void
statistics_attach(void)
{
	(void) statistics_directory(DATABASES_MAX);
}

void
statistics_init(void)
{
	Assert(!pending.called && current_function == CALL_NO_FUNCTION);
	RegisterXactCallback(statistics_on_transaction, NULL);
	shared_memory_use(add_size(sizeof(Directory),
							   mul_size(DATABASES_MAX,
										CACHELINEALIGN(sizeof(Statistics)))),
					  statistics_attach);
}
