/*-------------------------------------------------------------------------
 *
 * base/table.c
 *	  Rows in and out of pgstock's tables, without SQL.
 *
 * Direct table access rather than SPI: no plan to look up or to invalidate,
 * no search_path, no operator that could be shadowed, and no definer's rights,
 * since the executor's permission checks are not involved: a role that may
 * EXECUTE the function may do what it does.  The executor's own checks are ours
 * to make: NOT NULL and the invariants of ledger.c.  Triggers and CHECK
 * constraints on these tables are not run, and columns that were added to them
 * are refused (column_check.c).
 *
 * A table stays open until the call ends; on error the resource owner closes
 * it.
 *
 * Each row read or written checks for interrupts, so that a cancel ends any
 * loop over rows.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_collation.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/base.h"
#include "base/compat.h"

/* by TableId */
static const char *const table_names[TABLE_COUNT] = {
	"level",		 "reservation",		"movement",		 "idempotency",
	"outbox",		 "outbox_part",		"inbox",		 "inbox_offset",
	"inbox_attempt", "failed_event",	"refused_order", "event_topic",
	"user_handler",	 "admin_action",	"sale",			 "sale_order",
	"alert",		 "surplus_payment", "movement_part", "level_stream",
	"level_mark",
};

static void
table_set_relation(Call *call, TableId id, Relation rel)
{
	Table *table = &call->tables[id];

	Assert(table->rel == NULL && table->slot == NULL);
	table->rel = rel;
	table->slot = table_slot_create(rel, NULL);
	column_check_table(id, table_names[id], rel);
}

/* The table, open until the call ends; for writing unless the call reads. */
Table *
table_use(Call *call, TableId id)
{
	Table *table = &call->tables[id];

	Assert(id < TABLE_COUNT && id != TABLE_OUTBOX && id != TABLE_MOVEMENT);
	Assert(table_names[id] != NULL);
	if (table->rel == NULL)
		table_set_relation(call, id,
						   table_open(relation_get_oid(table_names[id]),
									  call->reads ? AccessShareLock
												  : RowExclusiveLock));
	return table;
}

/* The same of a part of a table; oid is a part that the caller has locked. */
Table *
table_use_part(Call *call, TableId id, Oid oid, int16 part)
{
	Relation rel = table_open(oid, NoLock);

	Assert(part > 0);
	Assert(CheckRelationLockedByMe(rel, RowExclusiveLock, true));
	table_set_relation(call, id, rel);
	call->tables[id].part = part;
	return &call->tables[id];
}

/*
 * Whether the table has no block and so no row.  For SERIALIZABLE that is a
 * read of the whole table, so that a row inserted later is a conflict; the
 * predicate lock precedes the check that counts, or a row could be inserted
 * between the two.
 */
bool
table_is_empty(Table *table)
{
	Assert(table->rel != NULL);
	if (RelationGetNumberOfBlocks(table->rel) > 0)
		return false;
	PredicateLockRelation(table->rel, GetActiveSnapshot());
	return RelationGetNumberOfBlocks(table->rel) == 0;
}

static void
table_scan_close(IndexScanDesc scan)
{
	Relation rel = scan->indexRelation;

	index_endscan(scan);
	index_close(rel, NoLock);
}

/* Closes what the call has used.  Locks stay until the transaction ends. */
void
tables_close(Call *call)
{
	for (int i = 0; i < TABLE_COUNT; i++)
	{
		Table *table = &call->tables[i];

		if (table->rel == NULL)
			continue;
		if (table->idle != NULL)
			table_scan_close(table->idle);
		if (table->target != NULL)
			ExecCloseIndices(table->target);
		ExecDropSingleTupleTableSlot(table->slot);
		table_close(table->rel, NoLock);
		memset(table, 0, sizeof(*table));
	}
	if (call->estate != NULL)
		FreeExecutorState(call->estate);
	call->estate = NULL;
}

/* Opens the indexes for the call's first write. */
static void
table_open_indexes(Call *call, Table *table)
{
	Assert(!call->reads);
	if (call->estate == NULL)
		call->estate = CreateExecutorState();
	if (table->target == NULL)
	{
		table->target = makeNode(ResultRelInfo);
		InitResultRelInfo(table->target, table->rel, 1, NULL, 0);
		ExecOpenIndices(table->target, false);
	}
}

/* Another session changed the row first: the transaction must be retried. */
void
table_raise_conflict(void)
{
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("could not serialize access due to concurrent "
						   "update")));
}

/* An empty row to fill in: all columns NULL. */
TupleTableSlot *
table_new_row(Table *table)
{
	TupleTableSlot *slot = table->slot;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true,
		   sizeof(bool) * slot->tts_tupleDescriptor->natts);
	return slot;
}

static void
table_do_insert(Call *call, Table *table)
{
	simple_table_tuple_insert(table->rel, table->slot);
	if (table->target->ri_NumIndices > 0)
		compat_insert_index_tuples(table->target, table->slot, call->estate);
}

/*
 * Above READ COMMITTED a row that is there already is one that our snapshot is
 * too old to show: a conflict to run again, not a mistake of the caller's.
 */
static void
table_insert_serializable(Call *call, Table *table)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		table_do_insert(call, table);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_UNIQUE_VIOLATION)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		table_raise_conflict();
	}
	PG_END_TRY();
}

#ifdef USE_ASSERT_CHECKING
/* The executor does not check it for us: see the banner. */
static bool
table_row_is_complete(const TupleTableSlot *slot)
{
	const TupleDesc desc = slot->tts_tupleDescriptor;

	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attnotnull && slot->tts_isnull[i])
			return false;
	}
	return true;
}
#endif

/* Inserts the row that was filled in. */
void
table_insert(Call *call, Table *table)
{
	Assert(table->rel != NULL && TTS_EMPTY(table->slot));
	Assert(table_row_is_complete(table->slot));
	CHECK_FOR_INTERRUPTS();
	table_open_indexes(call, table);
	ExecStoreVirtualTuple(table->slot);
	if (IsolationUsesXactSnapshot())
		table_insert_serializable(call, table);
	else
		table_do_insert(call, table);
}

static bool
table_index_wants_row(IndexInfo *index, EState *estate)
{
	if (index->ii_Predicate != NIL && index->ii_PredicateState == NULL)
		index->ii_PredicateState = ExecPrepareQual(index->ii_Predicate, estate);
	return index->ii_ReadyForInserts &&
		   ExecQual(index->ii_PredicateState, GetPerTupleExprContext(estate));
}

/*
 * Enters a new version of a row into the indexes.  ExecInsertIndexTuples()
 * would check again that the primary key is unique, and visit each version of
 * the row for that: thousands of a hot row while a snapshot is held, with the
 * row locked.  No update of ours changes a primary key.
 */
static void
table_index_version(Table *table, EState *estate, TU_UpdateIndexes which)
{
	const ResultRelInfo *target = table->target;

	GetPerTupleExprContext(estate)->ecxt_scantuple = table->slot;
	for (int i = 0; i < target->ri_NumIndices; i++)
	{
		Relation   index = target->ri_IndexRelationDescs[i];
		IndexInfo *info = target->ri_IndexRelationInfo[i];
		bool	   is_key = index->rd_index->indisprimary;
		Datum	   values[INDEX_MAX_KEYS];
		bool	   nulls[INDEX_MAX_KEYS];

		if (!compat_index_needs_entry(info, which) ||
			!table_index_wants_row(info, estate))
			continue;
		FormIndexDatum(info, table->slot, estate, values, nulls);
		index_insert(index, values, nulls, &table->slot->tts_tid, table->rel,
					 is_key || !info->ii_Unique ? UNIQUE_CHECK_NO
												: UNIQUE_CHECK_YES,
					 is_key, info);
	}
}

/* Writes what the table's slot holds over the row at tid. */
static void
table_overwrite(Call *call, Table *table, ItemPointer tid)
{
	TU_UpdateIndexes which;
	TM_Result		 result;

	Assert(ItemPointerIsValid(tid) && ActiveSnapshotSet());
	CHECK_FOR_INTERRUPTS();
	table_open_indexes(call, table);
	result = compat_update_tuple(table->rel, tid, table->slot,
								 GetActiveSnapshot(), &which);
	/* The upkeep, which takes no lock that protects it, has deleted it. */
	if (result == TM_Deleted || result == TM_Updated)
		table_raise_conflict();
	if (result != TM_Ok)
		elog(ERROR, "unexpected result %d of updating a row of \"%s\"", result,
			 RelationGetRelationName(table->rel));
	if (which != TU_None)
		table_index_version(table, call->estate, which);
}

/* Writes the row that was filled in over the one at tid, which we hold. */
void
table_update(Call *call, Table *table, ItemPointer tid)
{
	Assert(TTS_EMPTY(table->slot) && table_row_is_complete(table->slot));
	ExecStoreVirtualTuple(table->slot);
	table_overwrite(call, table, tid);
}

/* Deletes the row at tid, which we hold. */
void
table_delete(Table *table, ItemPointer tid)
{
	Assert(ItemPointerIsValid(tid));
	Assert(table->rel != NULL && ActiveSnapshotSet());
	simple_table_tuple_delete(table->rel, tid, GetActiveSnapshot());
}

/* Changes columns of the row in the table's slot, which we hold. */
void
table_update_columns(Call *call, Table *table, int n, const Change *changes)
{
	TupleDesc		desc = RelationGetDescr(table->rel);
	ItemPointerData tid = table->slot->tts_tid;
	Datum		   *values = palloc0(sizeof(Datum) * desc->natts);
	bool		   *nulls = palloc0(sizeof(bool) * desc->natts);
	bool		   *replaced = palloc0(sizeof(bool) * desc->natts);
	HeapTuple		tuple = ExecCopySlotHeapTuple(table->slot);

	Assert(n > 0 && ItemPointerIsValid(&tid));
	for (int i = 0; i < n; i++)
	{
		Assert(changes[i].column >= 1 && changes[i].column <= desc->natts &&
			   !replaced[changes[i].column - 1]);
		values[changes[i].column - 1] = changes[i].value;
		nulls[changes[i].column - 1] = changes[i].isnull;
		replaced[changes[i].column - 1] = true;
	}
	tuple = heap_modify_tuple(tuple, desc, values, nulls, replaced);
	ExecForceStoreHeapTuple(tuple, table->slot, false);
	table_overwrite(call, table, &tid);
}

/* Fills in a key on a text column; all of ours have the C collation. */
void
table_key_text(ScanKey key, AttrNumber column, const char *value)
{
	Assert(column >= 1 && value != NULL);
	ScanKeyEntryInitialize(key, 0, column, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(value));
}

/*
 * Begins a scan of a named index under the active snapshot.  Keys number the
 * index's columns.  A batch looks hundreds of times into the same index: the
 * scan that ended last is kept for the next one.
 */
IndexScanDesc
table_scan_begin(Call *call, Table *table, const char *index, int nkeys,
				 ScanKey keys)
{
	Oid			  oid = relation_get_oid(index);
	IndexScanDesc scan = table->idle;

	CHECK_FOR_INTERRUPTS();
	Assert(table->rel != NULL && ActiveSnapshotSet());
	Assert(nkeys >= 0 && nkeys <= INDEX_MAX_KEYS);
	if (scan != NULL && scan->indexRelation->rd_id == oid &&
		scan->numberOfKeys == nkeys)
	{
		table->idle = NULL;
		scan->xs_snapshot = GetActiveSnapshot();
	}
	else
		scan = compat_index_beginscan(table->rel,
									  index_open(oid, AccessShareLock),
									  GetActiveSnapshot(), nkeys);
	Assert(scan->heapRelation == table->rel);
	index_rescan(scan, keys, nkeys, NULL, 0);
	return scan;
}

static bool
table_scan_step(IndexScanDesc scan, Table *table, ScanDirection direction)
{
	CHECK_FOR_INTERRUPTS();
	if (!index_getnext_slot(scan, direction, table->slot))
		return false;
	slot_getallattrs(table->slot);
	return true;
}

/* Brings the next row into the table's slot. */
bool
table_scan_next(IndexScanDesc scan, Table *table)
{
	return table_scan_step(scan, table, ForwardScanDirection);
}

/*
 * The same from the other end.  For a key of one row it is the fast one: equal
 * keys lie in the order of their places in the table, so the version that is
 * to be seen comes, as a rule, before thousands of older ones that a held
 * snapshot keeps.
 */
bool
table_scan_back(IndexScanDesc scan, Table *table)
{
	return table_scan_step(scan, table, BackwardScanDirection);
}

void
table_scan_end(Table *table, IndexScanDesc scan)
{
	Assert(scan != table->idle && scan->heapRelation == table->rel);
	if (table->idle != NULL)
		table_scan_close(table->idle);
	table->idle = scan;
	/* its pin must not delay pruning of the page */
	table_index_fetch_reset(scan->xs_heapfetch);
}

/*
 * Brings the row that an index finds (the last one, if there are more) into
 * the table's slot, and its place into tid; it stays readable until the slot
 * is used again.
 */
bool
table_find(Call *call, Table *table, const char *index, int nkeys, ScanKey keys,
		   ItemPointer tid)
{
	IndexScanDesc scan = table_scan_begin(call, table, index, nkeys, keys);
	bool		  found = table_scan_back(scan, table);

	if (found)
	{
		*tid = table->slot->tts_tid;
		ExecMaterializeSlot(table->slot);
		slot_getallattrs(table->slot);
	}
	table_scan_end(table, scan);
	return found;
}

/* table_find by a key of one text column. */
bool
table_find_text(Call *call, Table *table, const char *index, const char *value,
				ItemPointer tid)
{
	ScanKeyData key;

	table_key_text(&key, 1, value);
	return table_find(call, table, index, 1, &key, tid);
}

/*
 * Locks a row that this call has read, waiting for the session that holds it,
 * and brings its newest version into the table's slot and its place into tid.
 * False if it has been deleted.  In REPEATABLE READ and above a row that was
 * changed since is a serialization failure, as it is for UPDATE.
 */
bool
table_lock_row(Table *table, ItemPointer tid)
{
	TM_FailureData failure;
	uint8		   flags = TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;
	TM_Result	   result;

	Assert(ItemPointerIsValid(tid) && ActiveSnapshotSet());
	CHECK_FOR_INTERRUPTS();
	if (!IsolationUsesXactSnapshot())
		flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	result = table_tuple_lock(table->rel, tid, GetActiveSnapshot(), table->slot,
							  GetCurrentCommandId(false),
							  LockTupleNoKeyExclusive, LockWaitBlock, flags,
							  &failure);
	switch (result)
	{
		case TM_Ok:
			*tid = table->slot->tts_tid;
			slot_getallattrs(table->slot);
			return true;
		case TM_Deleted:
			if (!IsolationUsesXactSnapshot())
				return false;
			/* FALLTHROUGH */
		case TM_Updated:
			table_raise_conflict();
			break;
		default:
			elog(ERROR, "unexpected result %d of locking a row of \"%s\"",
				 result, RelationGetRelationName(table->rel));
	}
	return false;
}

/*
 * Locks the very version of a row that this call has read, without waiting:
 * TM_Ok, and its place is brought into tid, or TM_WouldBlock if another session
 * holds it, or TM_Updated if it has been changed.
 */
TM_Result
table_try_lock_row(Table *table, ItemPointer tid)
{
	TM_FailureData failure;
	TM_Result	   result;

	Assert(ItemPointerIsValid(tid) && ActiveSnapshotSet());
	CHECK_FOR_INTERRUPTS();
	result = table_tuple_lock(table->rel, tid, GetActiveSnapshot(), table->slot,
							  GetCurrentCommandId(false),
							  LockTupleNoKeyExclusive, LockWaitSkip, 0,
							  &failure);
	switch (result)
	{
		case TM_Ok:
			*tid = table->slot->tts_tid;
			return TM_Ok;
		case TM_WouldBlock:
			return TM_WouldBlock;
		case TM_Updated:
		case TM_Deleted:
			return TM_Updated;
		default:
			elog(ERROR, "unexpected result %d of locking a row of \"%s\"",
				 result, RelationGetRelationName(table->rel));
	}
	return result;
}
