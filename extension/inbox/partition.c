/*-------------------------------------------------------------------------
 *
 * inbox/partition.c
 *	  Partitions: the messages that a batch has of each, and their rows.
 *
 * offset.c and attempt.c keep one row a partition each.  Partitions are locked
 * in the order of their topic and number.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "utils/fmgroids.h"

#include "inbox/inbox.h"

static bool
partition_is_same(const Record *a, const Record *b)
{
	return a->partition == b->partition && strcmp(a->topic, b->topic) == 0;
}

static int
partition_compare(const ListCell *a, const ListCell *b)
{
	const Record *x = ((const Message *) lfirst(a))->record;
	const Record *y = ((const Message *) lfirst(b))->record;
	int			  difference = strcmp(x->topic, y->topic);

	if (difference != 0)
		return difference;
	if (x->partition != y->partition)
		return x->partition < y->partition ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* A List of PartitionBatch, in the order of the locks. */
List *
partition_batches(List *messages)
{
	List		   *sorted = list_copy(messages);
	List		   *all = NIL;
	PartitionBatch *batch = NULL;
	ListCell	   *cell;

	list_sort(sorted, partition_compare);
	foreach(cell, sorted)
	{
		Message *message = lfirst(cell);

		if (batch == NULL ||
			!partition_is_same(batch->last->record, message->record))
		{
			batch = palloc0(sizeof(PartitionBatch));
			batch->first = message;
			all = lappend(all, batch);
		}
		batch->last = message;
		batch->has_news |= message->outcome.kind != OUTCOME_NONE &&
						   message->outcome.kind != OUTCOME_DUPLICATE;
		Assert(batch->first->record->offset <= batch->last->record->offset);
	}
	Assert(list_length(all) <= list_length(messages));
	return all;
}

/* Finds the row of a record's partition, in a table whose key it is. */
bool
partition_find_row(Call *call, Table *table, const char *index,
				   const Record *record, ItemPointer tid)
{
	ScanKeyData keys[2];

	Assert(record->partition >= 0);
	table_key_text(&keys[0], 1, record->topic);
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(record->partition));
	return table_find(call, table, index, 2, keys, tid);
}

/*
 * Finds and locks that row.  False: there is none, and no other session can
 * insert one before this transaction ends.
 */
bool
partition_lock_row(Call *call, Table *table, const char *index,
				   const Record *record, ItemPointer tid)
{
	if (!partition_find_row(call, table, index, record, tid))
	{
		/* Of two batches one makes the row and the other one finds it. */
		lock_acquire(call, LOCK_NEW_PARTITION,
					 psprintf("%s\t%d", record->topic, record->partition));
		call_refresh_snapshot();
		if (!partition_find_row(call, table, index, record, tid))
			return false;
	}
	return table_lock_row(table, tid);
}
