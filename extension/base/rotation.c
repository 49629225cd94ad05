/*-------------------------------------------------------------------------
 *
 * base/rotation.c
 *	  Chooses the part of the outbox or the ledger to write, and locks it.
 *
 * Both consist of parts, outbox_1, outbox_2 ... and movement_1, movement_2 ...;
 * one of them is written, and a part that is no longer needed is truncated
 * (sql/rotation.sql, sql/ledger.sql).  So a writer must not insert into a part
 * after the switch to another one: it locks the part and then checks that it
 * still is the one to write.  Hence, once the switch has been sent to all
 * sessions, an old part without writers' locks has no row of an open
 * transaction, and never will have.
 *
 * Each backend remembers which part it is until a switch invalidates that, as
 * the server's own caches do: acquiring a lock processes the invalidations sent
 * before it was granted, so the second check costs nothing.  An invalidation
 * may concern anything else (debug_discard_caches = 1 makes one of every lock):
 * then the table is read again under the lock, and its content decides.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/base.h"

#define PART_FIRST 1 /* if the table has no row for it */

/* A reader locks a part for one page at a time, again and again. */
#define PART_TRIES	20
#define PART_TRY_MS 1

enum
{
	PART_NUMBER = 1
};

PG_FUNCTION_INFO_V1(pgstock_outbox_lock_part);
PG_FUNCTION_INFO_V1(pgstock_part_switched);
PG_FUNCTION_INFO_V1(pgstock_try_lock_table);

/*
 * What lies in parts, and the part that is written, as far as this backend
 * knows.
 */
typedef struct Rotation
{
	TableId		id;
	const char *prefix; /* of the parts' names */
	TableId		state;	/* the table that has a row for each part in use */
	const char *index;	/* of state, on the part that is written */
	bool		known;
	int16		number;
	Oid			oid;
	Oid			state_oid;
} Rotation;

static Rotation rotations[] = {
	{.id = TABLE_OUTBOX,
	 .prefix = "outbox_",
	 .state = TABLE_OUTBOX_PART,
	 .index = "outbox_part_written"},
	{.id = TABLE_MOVEMENT,
	 .prefix = "movement_",
	 .state = TABLE_MOVEMENT_PART,
	 .index = "movement_part_written"},
};

static void
rotation_on_change(Datum arg, Oid oid)
{
	for (int i = 0; i < lengthof(rotations); i++)
	{
		if (oid == InvalidOid || oid == rotations[i].state_oid)
			rotations[i].known = false;
	}
}

void
rotation_init(void)
{
	CacheRegisterRelcacheCallback(rotation_on_change, (Datum) 0);
}

/*
 * Reads it, whatever the transaction's own snapshot shows.  "known" is set
 * before: an invalidation during the read resets it.
 */
static void
rotation_find(Call *call, Rotation *written)
{
	Table		   *table = table_use(call, written->state);
	ItemPointerData tid;
	char		   *name;

	written->state_oid = RelationGetRelid(table->rel);
	written->oid = InvalidOid;
	written->known = true;
	PushActiveSnapshot(GetLatestSnapshot());
	written->number = PART_FIRST;
	if (table_find(call, table, written->index, 0, NULL, &tid))
		written->number = DatumGetInt16(row_get(table->slot, PART_NUMBER));
	PopActiveSnapshot();
	Assert(written->number >= PART_FIRST);
	name = psprintf("%s%d", written->prefix, written->number);
	written->oid = relation_look_up(name);
	if (!OidIsValid(written->oid))
		(void) relation_get_oid(name); /* raises the error */
}

/* Locks the part that is written until the transaction ends. */
static void
rotation_lock_part(Call *call, Rotation *written)
{
	Oid locked;

	if (!written->known || !OidIsValid(written->oid))
		rotation_find(call, written);
	for (;;)
	{
		locked = written->oid;
		LockRelationOid(locked, RowExclusiveLock);
		if (written->known)
			break;
		rotation_find(call, written);
		if (written->oid == locked)
			break;
		UnlockRelationOid(locked, RowExclusiveLock);
	}
	/* after the lock no switch was seen, or the table named the same part */
	Assert(OidIsValid(locked) && written->oid == locked &&
		   written->number >= PART_FIRST);
}

/* The part of a table that is written, open until the call ends. */
Table *
rotation_use(Call *call, TableId id)
{
	Table	 *table = &call->tables[id];
	Rotation *written = &rotations[id == TABLE_OUTBOX ? 0 : 1];

	Assert(written->id == id);
	if (table->rel != NULL)
	{
		Assert(table->part >= PART_FIRST);
		return table;
	}
	rotation_lock_part(call, written);
	return table_use_part(call, id, written->oid, written->number);
}

/* outbox_lock_part() RETURNS smallint */
Datum
pgstock_outbox_lock_part(PG_FUNCTION_ARGS)
{
	Call  call;
	int16 number;

	call_begin(&call, "outbox_lock_part()");
	(void) relation_sequence("outbox_seq"); /* that it is as it was made */
	number = rotation_use(&call, TABLE_OUTBOX)->part;
	call_end(&call);
	PG_RETURN_INT16(number);
}

/* part_switched(state text) RETURNS void: the table that names the part */
Datum
pgstock_part_switched(PG_FUNCTION_ARGS)
{
	Oid oid = relation_look_up(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	Assert(OidIsValid(oid));
	CacheInvalidateRelcacheByRelid(oid);
	PG_RETURN_VOID();
}

/* ---- Locks that are taken if they are free ---- */

static bool
rotation_try_lock(Oid oid, LOCKMODE mode)
{
	Assert(OidIsValid(oid));
	for (int i = 0; i < PART_TRIES; i++)
	{
		if (ConditionalLockRelationOid(oid, mode))
			return true;
		call_pause(PART_TRY_MS);
	}
	return false;
}

/* Locks all of them, or none. */
static bool
rotation_try_lock_all(List *oids, LOCKMODE mode)
{
	ListCell *cell;

	foreach(cell, oids)
	{
		if (rotation_try_lock(lfirst_oid(cell), mode))
			continue;
		for (int i = 0; i < foreach_current_index(cell); i++)
			UnlockRelationOid(list_nth_oid(oids, i), mode);
		return false;
	}
	return true;
}

/* TRUNCATE locks them too, and would wait for a session that holds one. */
static List *
rotation_indexes_and_toast(Oid oid)
{
	Relation table = table_open(oid, NoLock);
	List	*oids = RelationGetIndexList(table);

	Assert(CheckRelationLockedByMe(table, AccessExclusiveLock, true));
	if (OidIsValid(table->rd_rel->reltoastrelid))
		oids = lappend_oid(oids, table->rd_rel->reltoastrelid);
	table_close(table, NoLock);
	return oids;
}

/* try_lock_table(name text, readers boolean) RETURNS boolean */
Datum
pgstock_try_lock_table(PG_FUNCTION_ARGS)
{
	Oid		 oid = relation_look_up(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	bool	 readers = PG_GETARG_BOOL(1);
	LOCKMODE mode = readers ? AccessExclusiveLock : ShareLock;

	if (!rotation_try_lock(oid, mode))
		PG_RETURN_BOOL(false);
	if (readers &&
		!rotation_try_lock_all(rotation_indexes_and_toast(oid), mode))
	{
		UnlockRelationOid(oid, mode);
		PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}
