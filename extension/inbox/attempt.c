/*-------------------------------------------------------------------------
 *
 * inbox/attempt.c
 *	  Tries that were begun: finds the message that ends its process.
 *
 * A message that ends the process (a crash of the backend, of the relay) leaves
 * no trace of its try.  So a try that could end so is recorded first, in a
 * transaction of its own: one small row a partition.  A relay that finds a row
 * of another process which begins where the partition still stands knows that
 * this try came to nothing; then the messages in it are applied one at a time,
 * and a message that was begun by itself too often is given up.
 *
 * A lost connection does not mean that a process has died: neither the relay
 * nor the server, which restarts as a whole when one of its processes dies.  So
 * the process on record is the relay's together with the server's start, not
 * the session.  A relay takes a new name when the server has ended its session
 * in a try.
 *
 * Two relays may bring the same messages.  A try on record whose session is
 * alive has not ended with its process.  Each relay records its own try once,
 * and then tries, whichever record it finds: otherwise they would take turns
 * for ever.
 *
 * On record are the tries of registered handlers, and of everything else the
 * first try of each partition in a session: where a process has died, that try
 * has the message which ended it.  All others cost nothing.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "inbox/inbox.h"

/* A message is given up after so many tries at least. */
#define ATTEMPTS_MIN 2

/* A partition's name as a key in memory. */
#define PARTITION_NAME_BYTES (STOCK_ID_BYTES_MAX + 16)

enum
{
	ATTEMPT_TOPIC = 1,
	ATTEMPT_PARTITION,
	ATTEMPT_FIRST,
	ATTEMPT_LAST,
	ATTEMPT_STARTED,
	ATTEMPT_PROCESS,
	ATTEMPT_SUSPECT_TO,
	ATTEMPT_STARTED_AT,
	ATTEMPT_SESSION
};

/* ---- Sessions and processes ---- */

static int64
attempt_session_of(TimestampTz started, int pid)
{
	return started ^ ((int64) pid << 40);
}

/* Identifies this session among those of all relays. */
int64
attempt_session(void)
{
	return attempt_session_of(MyStartTimestamp, MyProcPid);
}

/* Whether a session still exists, so that its try may yet end well. */
bool
attempt_session_is_alive(int64 id)
{
	if (id == attempt_session())
		return true;
	pgstat_clear_backend_activity_snapshot();
	for (int i = pgstat_fetch_stat_numbackends(); i > 0; i--)
	{
		const PgBackendStatus *other = compat_backend_status(i);

		if (attempt_session_of(other->st_proc_start_timestamp,
							   other->st_procpid) == id)
			return true;
	}
	return false;
}

/*
 * When the checkpointer started: it starts anew with the server, and after a
 * crash of any backend.
 */
static TimestampTz
attempt_server_started_at(void)
{
	static TimestampTz started_at = 0;

	if (started_at != 0)
		return started_at;
	pgstat_clear_backend_activity_snapshot();
	for (int i = pgstat_fetch_stat_numbackends(); i > 0; i--)
	{
		const PgBackendStatus *other = compat_backend_status(i);

		if (other->st_backendType == B_CHECKPOINTER)
			started_at = other->st_proc_start_timestamp;
	}
	return started_at;
}

/* The process whose tries this session records; 0: not set. */
static int64 own_process = 0;

/* Sets the process; a relay that gives no name is its session. */
void
attempt_set_process(const InboxOptions *options)
{
	if (options->relay[0] == '\0')
		own_process = attempt_session();
	else
		own_process = (int64)
			hash_bytes_extended((const unsigned char *) options->relay,
								strlen(options->relay),
								(uint64) attempt_server_started_at());
}

int64
attempt_process(void)
{
	Assert(own_process != 0);
	return own_process;
}

/* ---- What this session knows of a partition ---- */

typedef struct KnownPartition
{
	char  name[PARTITION_NAME_BYTES];
	int64 record_to;   /* up to this offset tries are recorded */
	int64 recorded_at; /* the first offset of the try recorded last; or -1 */
} KnownPartition;

static KnownPartition *
attempt_known_partition(const Record *record)
{
	static HTAB	   *partitions = NULL;
	HASHCTL			control = {.keysize = PARTITION_NAME_BYTES,
							   .entrysize = sizeof(KnownPartition)};
	char			name[PARTITION_NAME_BYTES];
	KnownPartition *known;
	bool			found;
	int length		PG_USED_FOR_ASSERTS_ONLY;

	if (partitions == NULL)
		partitions = hash_create("partitions of this session", 64, &control,
								 HASH_ELEM | HASH_STRINGS);
	length = snprintf(name, sizeof(name), "%d\t%s", record->partition,
					  record->topic);
	Assert(length < sizeof(name));
	known = hash_search(partitions, name, HASH_ENTER, &found);
	if (!found)
	{
		known->record_to = PG_INT64_MAX;
		known->recorded_at = -1;
	}
	return known;
}

/* ---- Recording tries ---- */

/* What is on record of a partition's tries. */
typedef struct Attempt
{
	ItemPointerData tid;
	bool			found;
	bool			is_own;		/* this very try, of this process */
	bool			is_alive;	/* of another one, whose session is alive */
	int				unfinished; /* tries of others at the same message */
	int64			suspect_to; /* messages up to here are isolated; or -1 */
} Attempt;

/*
 * Locks and reads the row of a partition, and sets on the batch's first message
 * whether it is isolated and how many of its tries have no end on record.
 */
static Attempt
attempt_lock_and_read(Call *call, const PartitionBatch *batch)
{
	Table		 *table = table_use(call, TABLE_INBOX_ATTEMPT);
	const Record *first = batch->first->record;
	Attempt		  attempt = {.suspect_to = -1};

	attempt.found = partition_lock_row(call, table, "inbox_attempt_pkey", first,
									   &attempt.tid);
	if (attempt.found)
		attempt.suspect_to = row_get_int64(table->slot, ATTEMPT_SUSPECT_TO);
	if (attempt.found &&
		row_get_int64(table->slot, ATTEMPT_FIRST) == first->offset)
	{
		int64 session = row_get_int64(table->slot, ATTEMPT_SESSION);
		int64 last = row_get_int64(table->slot, ATTEMPT_LAST);

		attempt.is_own = row_get_int64(table->slot, ATTEMPT_PROCESS) ==
						 attempt_process();
		attempt.is_alive = !attempt.is_own && attempt_session_is_alive(session);
		attempt.unfinished = row_get_int32(table->slot, ATTEMPT_STARTED);
		if (attempt.is_own || attempt.is_alive)
			attempt.unfinished--;
		else
			attempt.suspect_to = Max(attempt.suspect_to, last);
	}
	Assert(attempt.unfinished >= 0);
	Assert(!(attempt.is_own && attempt.is_alive));
	batch->first->try.isolated = first->offset <= attempt.suspect_to;
	batch->first->try.unfinished = attempt.unfinished;
	return attempt;
}

static void
attempt_store(Call *call, const PartitionBatch *batch, Attempt *attempt)
{
	Table		   *table = table_use(call, TABLE_INBOX_ATTEMPT);
	TupleTableSlot *slot = table_new_row(table);
	const Record   *first = batch->first->record;
	const Record   *last = batch->last->record;

	Assert(!attempt->is_own && first->offset <= last->offset);
	row_put_text(slot, ATTEMPT_TOPIC, first->topic);
	row_put(slot, ATTEMPT_PARTITION, Int32GetDatum(first->partition));
	row_put(slot, ATTEMPT_FIRST, Int64GetDatum(first->offset));
	row_put(slot, ATTEMPT_LAST, Int64GetDatum(last->offset));
	row_put(slot, ATTEMPT_STARTED, Int32GetDatum(attempt->unfinished + 1));
	row_put(slot, ATTEMPT_PROCESS, Int64GetDatum(attempt_process()));
	row_put(slot, ATTEMPT_SUSPECT_TO, Int64GetDatum(attempt->suspect_to));
	row_put(slot, ATTEMPT_STARTED_AT, TimestampTzGetDatum(call->now));
	row_put(slot, ATTEMPT_SESSION, Int64GetDatum(attempt_session()));
	if (attempt->found)
		table_update(call, table, &attempt->tid);
	else
		table_insert(call, table);
}

/* Records the try of a partition's messages; false if it was not on record. */
static bool
attempt_record(Call *call, const PartitionBatch *batch)
{
	Attempt			attempt = attempt_lock_and_read(call, batch);
	KnownPartition *known = attempt_known_partition(batch->first->record);

	if (attempt.is_own || (attempt.is_alive &&
						   known->recorded_at == batch->first->record->offset))
	{
		known->record_to = attempt.suspect_to;
		return true;
	}
	known->recorded_at = batch->first->record->offset;
	attempt_store(call, batch, &attempt);
	return false;
}

/* Whether the tries of a partition's messages are recorded at all. */
static bool
attempt_is_recorded(const PartitionBatch *batch)
{
	const Record *first = batch->first->record;

	return batch->first->try.topic->has_registered ||
		   first->offset <= attempt_known_partition(first)->record_to;
}

/*
 * Cuts a batch to the messages that are tried together, and records their
 * tries.  False: some were not on record, and the caller has to commit and to
 * return; the same call again begins the tries.  A message that is cut off is
 * not tried, so no try of it is recorded.
 */
bool
attempt_record_batch(Call *call, List **messages)
{
	bool	  recorded = true;
	ListCell *cell;

	foreach(cell, partition_batches(*messages))
	{
		if (attempt_is_recorded(lfirst(cell)))
			(void) attempt_lock_and_read(call, lfirst(cell));
	}
	*messages = batch_cut_isolated(*messages);
	foreach(cell, partition_batches(*messages))
	{
		if (attempt_is_recorded(lfirst(cell)))
			recorded &= attempt_record(call, lfirst(cell));
	}
	return recorded;
}

/* ---- Giving up ---- */

/* How many tries end with their process before a message is given up. */
int
attempt_max(const InboxOptions *options)
{
	return Max(options->retry_count + 1, ATTEMPTS_MIN);
}

/* What becomes of a message whose tries have ended with their process. */
Outcome
attempt_exhausted(int unfinished)
{
	Assert(unfinished > 0);
	return outcome_dead(ERROR_CLASS_CRASH,
						psprintf("%d tries ended with the process that made "
								 "them",
								 unfinished));
}
