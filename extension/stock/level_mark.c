/*-------------------------------------------------------------------------
 *
 * stock/level_mark.c
 *	  Notes which levels a transaction has changed, for the level stream.
 *
 * While the stream is on, which a row of level_stream says, each transaction
 * inserts a row for each level that it changes.  The relay takes these marks
 * and writes the levels as records (sql/level_stream.sql).  Without the row
 * nothing is written, and nothing is read either: each backend remembers
 * whether it is there until a change of the table invalidates that.
 *
 * The transaction has its id before it looks.  A change of the table is sent to
 * all sessions before another one can read the next id to be assigned; so a
 * transaction with a later id than that has seen the change.  The first fill of
 * the stream rests on it.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#include "stock/stock.h"

/* Columns, as sql/level_stream.sql has them. */
enum
{
	MARK_XID = 1,
	MARK_PRODUCT,
	MARK_LOCATION
};

/* Whether the stream is on, as far as this backend knows. */
static struct
{
	bool known;
	bool on;
	Oid	 oid; /* of level_stream */
} level_mark_state;

static void
level_mark_on_change(Datum arg, Oid oid)
{
	if (oid == InvalidOid || oid == level_mark_state.oid)
		level_mark_state.known = false;
}

void
level_mark_init(void)
{
	CacheRegisterRelcacheCallback(level_mark_on_change, (Datum) 0);
}

/* "known" is set before the read, which an invalidation may overtake. */
static void
level_mark_find_out(Call *call)
{
	Table		   *table = table_use(call, TABLE_LEVEL_STREAM);
	ItemPointerData tid;

	level_mark_state.oid = RelationGetRelid(table->rel);
	level_mark_state.known = true;
	PushActiveSnapshot(GetLatestSnapshot());
	level_mark_state.on = table_find(call, table, "level_stream_pkey", 0, NULL,
									 &tid);
	PopActiveSnapshot();
}

static bool
level_mark_is_wanted(Call *call)
{
	Assert(TransactionIdIsValid(GetTopTransactionIdIfAny()));
	AcceptInvalidationMessages();
	if (!level_mark_state.known)
		level_mark_find_out(call);
	return level_mark_state.on;
}

static void
level_mark_insert(Call *call, const Level *level)
{
	Table		   *table = table_use(call, TABLE_LEVEL_MARK);
	TupleTableSlot *slot = table_new_row(table);

	row_put(slot, MARK_XID,
			FullTransactionIdGetDatum(GetTopFullTransactionId()));
	row_put_text(slot, MARK_PRODUCT, level->product_id);
	row_put_text(slot, MARK_LOCATION, level->location);
	table_insert(call, table);
}

static bool
level_is_dirty(const Level *first)
{
	for (const Level *row = first; row != NULL; row = row->next)
	{
		if (row->dirty)
			return true;
	}
	return false;
}

/*
 * Marks the levels that the work has changed.  Those of a level's sales precede
 * it in the list, and are the same level here.
 */
void
level_mark_write(Work *work)
{
	const Level *marked = NULL;
	ListCell	*cell;

	foreach(cell, work->levels)
	{
		const Level *level = lfirst(cell);

		if (!level_is_dirty(level))
			continue;
		if (marked == NULL)
		{
			(void) GetTopFullTransactionId();
			if (!level_mark_is_wanted(&work->call))
				return;
		}
		else if (level_key_compare(marked->product_id, marked->location,
								   level->product_id, level->location) == 0)
			continue;
		marked = level;
		level_mark_insert(&work->call, level);
	}
}
