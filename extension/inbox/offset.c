/*-------------------------------------------------------------------------
 *
 * inbox/offset.c
 *	  The next offset of each partition, and the fingerprints beside it.
 *
 * The offset is stored in the transaction that applies the messages before it.
 * The relay reads from there on, and sees whether a record was applied before.
 *
 * Beside it is the fingerprint of the record before it, by which the relay
 * recognizes another history of the partition.  A relay takes seconds to notice
 * one; if it ends before that, the record before the next offset is of the new
 * history and proves nothing.  So the row also has a witness: an older record,
 * applied at least WITNESS_AGE_MS before others.  Its successor is stored with
 * it, and takes its place once it is old enough itself.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "inbox/inbox.h"

/* The age at which a record is a witness: the relay looks every 10 s. */
#define WITNESS_AGE_MS 30000

#define OFFSET_CHANGES_MAX 7

StaticAssertDecl(sizeof(TimestampTz) == sizeof(int64),
				 "offset_change_int64 takes a time");

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

/*
 * Whether its partition's offset is past the record: it was applied before.  A
 * relay that has lost its partitions to another one may bring what that one
 * has applied.
 */
bool
offset_is_past(Call *call, const Record *record)
{
	Table		   *table = table_use(call, TABLE_INBOX_OFFSET);
	ItemPointerData tid;

	return partition_find_row(call, table, "inbox_offset_pkey", record, &tid) &&
		   row_get_int64(table->slot, OFFSET_NEXT) > record->offset;
}

static Change
offset_change_int64(AttrNumber column, int64 value)
{
	return (Change){column, Int64GetDatum(value), false};
}

static Change
offset_change_text(AttrNumber column, const char *value)
{
	return (Change){column, value ? CStringGetTextDatum(value) : 0, !value};
}

/* A clock that was set back makes the successor old, not young for hours. */
static bool
offset_successor_is_old(TimestampTz since, TimestampTz now)
{
	return since > now ||
		   TimestampDifferenceExceeds(since, now, WITNESS_AGE_MS);
}

/* Makes the successor the witness, if it is old enough or the first one. */
static int
offset_change_witness(const Call *call, TupleTableSlot *row, Change *changes)
{
	int64		last_offset = row_get_int64(row, OFFSET_NEXT) - 1;
	char	   *last = row_get_text(row, OFFSET_FINGERPRINT);
	char	   *heir = row_get_text(row, OFFSET_HEIR);
	TimestampTz since = row_get_time(row, OFFSET_HEIR_SINCE, 0);
	int			n = 0;

	if (last == NULL ||
		(heir != NULL && !offset_successor_is_old(since, call->now)))
		return 0;
	Assert(last_offset >= 0);
	changes[n++] = offset_change_int64(OFFSET_WITNESS_OFFSET,
									   heir ? row_get_int64(row,
															OFFSET_HEIR_OFFSET)
											: last_offset);
	changes[n++] = offset_change_text(OFFSET_WITNESS, heir ? heir : last);
	changes[n++] = offset_change_int64(OFFSET_HEIR_OFFSET, last_offset);
	changes[n++] = offset_change_text(OFFSET_HEIR, last);
	changes[n++] = offset_change_int64(OFFSET_HEIR_SINCE, call->now);
	Assert(n <= OFFSET_CHANGES_MAX - 2);
	return n;
}

static void
offset_insert(Call *call, Table *table, const Record *last)
{
	TupleTableSlot *slot = table_new_row(table);

	Assert(last->partition >= 0 && last->offset >= 0);
	row_put_text(slot, OFFSET_TOPIC, last->topic);
	row_put(slot, OFFSET_PARTITION, Int32GetDatum(last->partition));
	row_put(slot, OFFSET_NEXT, Int64GetDatum(last->offset + 1));
	row_put_text(slot, OFFSET_FINGERPRINT, last->fingerprint);
	table_insert(call, table);
}

static void
offset_store(Call *call, const PartitionBatch *batch)
{
	Table		   *table = table_use(call, TABLE_INBOX_OFFSET);
	const Record   *last = batch->last->record;
	ItemPointerData tid;
	Change			changes[OFFSET_CHANGES_MAX];
	int				n;

	Assert(last->fingerprint != NULL);
	Assert(batch->first->record->partition == last->partition);
	if (!partition_lock_row(call, table, "inbox_offset_pkey", last, &tid))
	{
		offset_insert(call, table, last);
		return;
	}
	if (!batch->has_news &&
		row_get_int64(table->slot, OFFSET_NEXT) > last->offset)
		return;
	n = offset_change_witness(call, table->slot, changes);
	changes[n++] = offset_change_int64(OFFSET_NEXT, last->offset + 1);
	changes[n++] = offset_change_text(OFFSET_FINGERPRINT, last->fingerprint);
	Assert(n <= lengthof(changes));
	table_update_columns(call, table, n, changes);
}

/*
 * Sets the offset of each partition of an applied batch past its last message.
 * An offset may also be set back, for a topic may have been created again; but
 * not by a batch that another relay has brought already.
 */
void
offset_advance(Call *call, List *messages)
{
	ListCell *cell;

	foreach(cell, partition_batches(messages))
		offset_store(call, lfirst(cell));
}
