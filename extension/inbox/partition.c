/*-------------------------------------------------------------------------
 *
 * inbox/partition.c
 *	  What the database knows of each partition: its next offset, and which
 *	  tries of its messages were begun.
 *
 * A message that ends the process (a crash of the backend, of the relay) leaves
 * no trace of its try.  So a try that could end so is put on record first, in a
 * transaction of its own: one small row a partition.  A relay that finds a row
 * of another process which begins where the partition still stands knows that
 * this try came to nothing; then what it held is applied one message at a time,
 * and a message that was begun alone too often is given up.
 *
 * A lost connection is no death: neither of the relay, nor of the server, which
 * restarts as a whole when one of its processes dies.  So the process on record
 * is the relay's together with the server's start, not the session.  A relay
 * takes a new name for itself when the server has ended its session in a try.
 *
 * Two relays may bring the same messages.  What another one has on record is no
 * death while its session lives.  Each puts its own try there once, and then
 * tries, whosever record it finds: else they would take turns for ever.
 *
 * On record are the tries of handlers of users, and of everything else the
 * first try of each partition in a session: where a process has died, that is
 * the one which holds the message.  All others cost nothing.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "inbox/inbox.h"

/* How old a record is before it bears witness: a relay looks every 10 s. */
#define HEIR_MS 30000

/* A partition's name as a key in memory. */
#define PARTITION_NAME_BYTES (STOCK_ID_BYTES_MAX + 16)

enum
{
	OFFSET_TOPIC = 1,
	OFFSET_PARTITION,
	OFFSET_NEXT,
	OFFSET_FINGERPRINT,
	OFFSET_WITNESS_OFFSET,
	OFFSET_WITNESS,
	OFFSET_HEIR_OFFSET,
	OFFSET_HEIR,
	OFFSET_HEIR_SINCE
};
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

/* The messages of one partition in a batch. */
typedef struct Stretch
{
	Message *first;
	Message *last;
	bool	 is_news; /* once applied: not all of it was seen before */
} Stretch;

static int
partition_compare(const ListCell *a, const ListCell *b)
{
	const Message *x = lfirst(a);
	const Message *y = lfirst(b);
	int			   difference = strcmp(x->topic, y->topic);

	if (difference != 0)
		return difference;
	if (x->partition != y->partition)
		return x->partition < y->partition ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* A List of Stretch, sorted by topic and partition. */
static List *
stretches(List *messages)
{
	List	 *sorted = list_copy(messages);
	List	 *all = NIL;
	Stretch	 *stretch = NULL;
	ListCell *cell;

	list_sort(sorted, partition_compare);
	foreach(cell, sorted)
	{
		Message *message = lfirst(cell);

		if (stretch == NULL || stretch->last->partition != message->partition ||
			strcmp(stretch->last->topic, message->topic) != 0)
		{
			stretch = palloc0(sizeof(Stretch));
			stretch->first = message;
			all = lappend(all, stretch);
		}
		stretch->last = message;
		stretch->is_news |= message->outcome.result != NULL &&
							strcmp(message->outcome.result, "duplicate") != 0;
	}
	return all;
}

/* Finds a partition's row in a table whose key it is. */
static bool
find_partition(Call *call, Table *table, const char *index,
			   const Message *message, ItemPointer tid)
{
	ScanKeyData keys[2];

	table_key_text(&keys[0], 1, message->topic);
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(message->partition));
	return table_find(call, table, index, 2, keys, tid);
}

/* Finds and locks it. */
static bool
lock_partition(Call *call, Table *table, const char *index,
			   const Message *message, ItemPointer tid)
{
	if (!find_partition(call, table, index, message, tid))
	{
		/* Of two batches one makes the row and the other finds it. */
		lock_acquire(call, LOCK_NEW_PARTITION,
					 psprintf("%s\t%d", message->topic, message->partition));
		call_refresh_snapshot();
		if (!find_partition(call, table, index, message, tid))
			return false;
	}
	return table_lock_row(table, tid);
}

/* ---- Offsets ---- */

/*
 * Whether the partition stands behind the message: it was applied before.  A
 * relay that was cut off from its group may come with what another one has.
 */
bool
partition_is_behind(Call *call, const Message *message)
{
	Table		   *table = table_use(call, TABLE_INBOX_OFFSET);
	ItemPointerData tid;

	return find_partition(call, table, "inbox_offset_pkey", message, &tid) &&
		   row_get_int64(table->slot, OFFSET_NEXT) > message->offset;
}

/*
 * A message that was begun too often has no name but its place, if reading it
 * may be what ends the process.  Another relay may have got past it meanwhile,
 * under its own name: then it has its row.
 */
bool
partition_is_behind_unnamed(Call *call, const Message *message)
{
	return message->outcome.error_class != NULL &&
		   strcmp(message->outcome.error_class, "crash") == 0 &&
		   partition_is_behind(call, message);
}

static Change
change_int64(AttrNumber column, int64 value)
{
	return (Change){column, Int64GetDatum(value), false};
}

static Change
change_text(AttrNumber column, const char *value)
{
	return (Change){column, value ? CStringGetTextDatum(value) : 0, !value};
}

/* A clock that went back is no reason to wait. */
static bool
heir_is_old(TimestampTz since, TimestampTz now)
{
	return since > now || TimestampDifferenceExceeds(since, now, HEIR_MS);
}

/*
 * A relay takes seconds to notice that a partition has another history.  If it
 * ends before that, the record before the next offset is of the new one, and
 * proves nothing.  So one that was applied well before it stands beside it, the
 * witness; and its heir, which gets old enough meanwhile.
 */
static int
witness_changes(const Call *call, TupleTableSlot *row, Change *changes)
{
	int64		last_offset = row_get_int64(row, OFFSET_NEXT) - 1;
	char	   *last = row_get_text(row, OFFSET_FINGERPRINT);
	char	   *heir = row_get_text(row, OFFSET_HEIR);
	TimestampTz since = row_get_time(row, OFFSET_HEIR_SINCE, 0);
	int			n = 0;

	if (last == NULL || (heir != NULL && !heir_is_old(since, call->now)))
		return 0;
	changes[n++] = change_int64(OFFSET_WITNESS_OFFSET,
								heir ? row_get_int64(row, OFFSET_HEIR_OFFSET)
									 : last_offset);
	changes[n++] = change_text(OFFSET_WITNESS, heir ? heir : last);
	changes[n++] = change_int64(OFFSET_HEIR_OFFSET, last_offset);
	changes[n++] = change_text(OFFSET_HEIR, last);
	changes[n++] = change_int64(OFFSET_HEIR_SINCE, call->now);
	return n;
}

static void
offset_insert(Call *call, Table *table, const Message *last)
{
	TupleTableSlot *slot = table_new_row(table);

	row_put_text(slot, OFFSET_TOPIC, last->topic);
	row_put(slot, OFFSET_PARTITION, Int32GetDatum(last->partition));
	row_put(slot, OFFSET_NEXT, Int64GetDatum(last->offset + 1));
	row_put_text(slot, OFFSET_FINGERPRINT, last->fingerprint);
	table_insert(call, table);
}

static void
offset_store(Call *call, const Stretch *stretch)
{
	Table		   *table = table_use(call, TABLE_INBOX_OFFSET);
	const Message  *last = stretch->last;
	ItemPointerData tid;
	Change			changes[7];
	int				n;

	if (!lock_partition(call, table, "inbox_offset_pkey", last, &tid))
	{
		offset_insert(call, table, last);
		return;
	}
	if (!stretch->is_news &&
		row_get_int64(table->slot, OFFSET_NEXT) > last->offset)
		return;
	n = witness_changes(call, table->slot, changes);
	changes[n++] = change_int64(OFFSET_NEXT, last->offset + 1);
	changes[n++] = change_text(OFFSET_FINGERPRINT, last->fingerprint);
	table_update_columns(call, table, n, changes);
}

/*
 * Moves each partition of the batch behind its last message.  Back as well, for
 * a topic may have been made anew; but not for what others have brought already.
 */
void
partitions_move(Call *call, List *messages)
{
	ListCell *cell;

	foreach(cell, stretches(messages))
		offset_store(call, lfirst(cell));
}

/* ---- Tries that were begun ---- */

/* How many tries end with the process before a message is given up. */
int
attempts_max(const InboxOptions *options)
{
	return Max(options->retry_count + 1, 2);
}

static int64
session_id_of(TimestampTz started, int pid)
{
	return started ^ ((int64) pid << 40);
}

/* Tells this session from every other one, of any relay. */
int64
session_id(void)
{
	return session_id_of(MyStartTimestamp, MyProcPid);
}

/* Whether the session is still there, so that its try may yet end well. */
bool
session_is_alive(int64 id)
{
	if (id == session_id())
		return true;
	pgstat_clear_backend_activity_snapshot();
	for (int i = pgstat_fetch_stat_numbackends(); i > 0; i--)
	{
		const PgBackendStatus *other = compat_backend_status(i);

		if (session_id_of(other->st_proc_start_timestamp, other->st_procpid) ==
			id)
			return true;
	}
	return false;
}

/*
 * When the checkpointer started: after a crash of any backend it starts anew,
 * as at each start of the server.
 */
static TimestampTz
server_started_at(void)
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

/* The process whose tries are put on record now; 0: not set. */
static int64 process = 0;

/* Says for whom this session tries; one that has no name is itself. */
void
attempts_begin(const InboxOptions *options)
{
	if (options->relay[0] == '\0')
		process = session_id();
	else
		process = (int64)
			hash_bytes_extended((const unsigned char *) options->relay,
								strlen(options->relay),
								(uint64) server_started_at());
}

int64
attempts_process(void)
{
	Assert(process != 0);
	return process;
}

/* What this session has in memory of a partition. */
typedef struct Own
{
	char  name[PARTITION_NAME_BYTES];
	int64 careful_to;  /* behind that its tries are nobody's business */
	int64 recorded_at; /* the first message of the try it put on record last */
} Own;

static Own *
own(const Message *message)
{
	static HTAB *partitions = NULL;
	HASHCTL		 control = {.keysize = PARTITION_NAME_BYTES,
							.entrysize = sizeof(Own)};
	char		 name[PARTITION_NAME_BYTES];
	Own			*entry;
	bool		 found;

	if (partitions == NULL)
		partitions = hash_create("partitions of this session", 64, &control,
								 HASH_ELEM | HASH_STRINGS);
	snprintf(name, sizeof(name), "%d\t%s", message->partition, message->topic);
	entry = hash_search(partitions, name, HASH_ENTER, &found);
	if (!found)
	{
		entry->careful_to = PG_INT64_MAX;
		entry->recorded_at = -1;
	}
	return entry;
}

/* What is on record of a partition's tries. */
typedef struct Attempt
{
	ItemPointerData tid;
	bool			found;
	bool			mine;		/* this very try, of this process */
	bool			lives;		/* or of another one, whose session lives */
	int				started;	/* tries of others at the same message */
	int64			suspect_to; /* up to here all are tried alone */
} Attempt;

/*
 * Locks and reads it.  Sets on the stretch's first message whether it must be
 * alone, and how often it was begun.
 */
static void
attempt_look(Call *call, const Stretch *stretch, Attempt *attempt)
{
	Table	*table = table_use(call, TABLE_INBOX_ATTEMPT);
	Message *first = stretch->first;

	*attempt = (Attempt){.suspect_to = -1};
	attempt->found = lock_partition(call, table, "inbox_attempt_pkey", first,
									&attempt->tid);
	if (attempt->found)
	{
		attempt->suspect_to = row_get_int64(table->slot, ATTEMPT_SUSPECT_TO);
		if (row_get_int64(table->slot, ATTEMPT_FIRST) == first->offset)
		{
			attempt->mine = row_get_int64(table->slot, ATTEMPT_PROCESS) ==
							attempts_process();
			attempt->lives = !attempt->mine &&
							 session_is_alive(
								 row_get_int64(table->slot, ATTEMPT_SESSION));
			attempt->started = row_get_int32(table->slot, ATTEMPT_STARTED) -
							   (attempt->mine || attempt->lives);
			if (!attempt->mine && !attempt->lives)
				attempt->suspect_to = Max(attempt->suspect_to,
										  row_get_int64(table->slot,
														ATTEMPT_LAST));
		}
	}
	first->alone = first->offset <= attempt->suspect_to;
	first->started = attempt->started;
}

/* Sees to it that the try of a stretch is on record; false if it was not. */
static bool
attempt_record(Call *call, const Stretch *stretch)
{
	Table		   *table = table_use(call, TABLE_INBOX_ATTEMPT);
	const Message  *first = stretch->first;
	Attempt			attempt;
	TupleTableSlot *slot;

	attempt_look(call, stretch, &attempt);
	if (attempt.mine ||
		(attempt.lives && own(first)->recorded_at == first->offset))
	{
		own(first)->careful_to = attempt.suspect_to;
		return true;
	}

	slot = table_new_row(table);
	row_put_text(slot, ATTEMPT_TOPIC, first->topic);
	row_put(slot, ATTEMPT_PARTITION, Int32GetDatum(first->partition));
	row_put(slot, ATTEMPT_FIRST, Int64GetDatum(first->offset));
	row_put(slot, ATTEMPT_LAST, Int64GetDatum(stretch->last->offset));
	row_put(slot, ATTEMPT_STARTED, Int32GetDatum(attempt.started + 1));
	row_put(slot, ATTEMPT_PROCESS, Int64GetDatum(attempts_process()));
	row_put(slot, ATTEMPT_SUSPECT_TO, Int64GetDatum(attempt.suspect_to));
	row_put(slot, ATTEMPT_STARTED_AT, TimestampTzGetDatum(call->now));
	row_put(slot, ATTEMPT_SESSION, Int64GetDatum(session_id()));
	own(first)->recorded_at = first->offset;
	if (attempt.found)
		table_update(call, table, &attempt.tid);
	else
		table_insert(call, table);
	return false;
}

/* Whether the tries of a stretch are to be on record at all. */
static bool
attempt_is_noted(const Stretch *stretch)
{
	return stretch->first->user_handlers != NIL ||
		   stretch->first->offset <= own(stretch->first)->careful_to;
}

/*
 * Cuts a batch to what is tried at once, and sees to it that these tries are
 * on record; false if some were not, and the caller is to commit and come
 * again.  Of what is cut off no try begins, so none is counted.
 */
bool
attempts_record(Call *call, List **messages)
{
	bool	  recorded = true;
	Attempt	  attempt;
	ListCell *cell;

	foreach(cell, stretches(*messages))
	{
		if (attempt_is_noted(lfirst(cell)))
			attempt_look(call, lfirst(cell), &attempt);
	}
	*messages = inbox_cut_alone(*messages);
	foreach(cell, stretches(*messages))
	{
		if (attempt_is_noted(lfirst(cell)))
			recorded &= attempt_record(call, lfirst(cell));
	}
	return recorded;
}

/* What became of a message whose tries ended with the process. */
Outcome
attempts_exhausted(int started)
{
	return (Outcome){
		.result = "dead",
		.reason = psprintf("%d tries ended with the process that made them",
						   started),
		.error_class = "crash",
	};
}
