/*-------------------------------------------------------------------------
 *
 * stock/level_lock.c
 *	  Locks the levels of a unit of work: strategies, slots, one order.
 *
 * Lock order: by product, location, slot; products' names, which strategy
 * advisory locks, precede all rows.  A call that takes looks for a slot in
 * two passes:
 *
 * - The first takes one slot or none, never waits, and takes only one that
 *	 alone suffices.  It locks the very version that it has read, so it cannot
 *	 find itself with a slot that does not.
 * - The second holds no slot when it starts, visits all in slot order and waits
 *	 for each, until those that it holds suffice together.  Only a call that
 *	 holds every slot may report insufficient stock.
 *
 * So no session waits for a slot while it holds a later one, and no call is
 * refused because of stock that another session has locked.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "stock/stock.h"

#define OPTIMISTIC_TRIES	3
#define OPTIMISTIC_PAUSE_MS 10

static void
level_raise_conflict(const Level *level)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("product \"%s\" at location \"%s\" was changed by others "
					"at each of %d tries",
					level->product_id, level->location, OPTIMISTIC_TRIES),
			 errdetail("Product \"%s\": wanted " INT64_FORMAT
					   ", available " INT64_FORMAT " when last read.",
					   level->product_id, level->first->wanted,
					   level_available(level)),
			 errhint("Run the transaction again, or use strategy auto, which "
					 "waits.")));
}

/*
 * Locks the very version of the row that was read, or returns why not: it was
 * changed (TM_Updated), or another session holds it (TM_WouldBlock).
 */
static TM_Result
level_row_try_lock(Call *call, Level *row)
{
	Table	 *table = table_use(call, TABLE_LEVEL);
	TM_Result result;

	Assert(row->known && !row->is_new && !row->locked);
	result = table_try_lock_row(table, &row->tid);
	row->locked = result == TM_Ok;
	if (row->locked)
		row_version_hint_note(call, row);
	return result;
}

/* Locks a row without waiting for another session's lock. */
static void
level_row_lock_optimistic(Call *call, Level *row)
{
	for (int try = 1; row->known && level_row_try_lock(call, row) != TM_Ok;
		 try++)
	{
		if (try == OPTIMISTIC_TRIES)
			level_raise_conflict(row);
		call_pause(OPTIMISTIC_PAUSE_MS);
		level_load_row_again(call, row);
	}
}

/* Locks a row and reads it anew. */
static void
level_row_lock(Work *work, Level *row)
{
	Table *table = table_use(&work->call, TABLE_LEVEL);

	Assert(!row->locked && !row->is_new && !row->dirty);
	if (work->strategy == STRATEGY_OPTIMISTIC)
	{
		level_row_lock_optimistic(&work->call, row);
		return;
	}
	row->known = table_lock_row(table, &row->tid);
	if (row->known)
		level_read(row, table->slot);
	row->locked = row->known;
	if (row->locked)
		row_version_hint_note(&work->call, row);
}

/* The slot after this one; after the last in use, the first. */
static Level *
level_next_slot_in_use(const Level *row)
{
	Level *next = row->next;

	Assert(row->first->slots >= 1);
	return next != NULL && next->slot < row->first->slots ? next : row->first;
}

/* The first pass: one slot that alone suffices, without waiting, or none. */
static bool
level_lock_one(Call *call, Level *first)
{
	Level *row = first;

	Assert(first->first == first && first->wanted > 0);
	if (first->slots == 1)
		return false;
	for (int i = MyProcPid % first->slots; i > 0; i--)
		row = level_next_slot_in_use(row);
	for (int i = 0; i < first->slots; i++)
	{
		for (int try = 0; try < OPTIMISTIC_TRIES; try++)
		{
			TM_Result result;

			if (!row->known || row->needs_all_slots ||
				slot_unreserved(row) < first->wanted)
				break;
			result = level_row_try_lock(call, row);
			if (result == TM_Ok)
				return true;
			if (result == TM_WouldBlock)
				break;
			level_load_row_again(call, row);
		}
		row = level_next_slot_in_use(row);
	}
	return false;
}

/*
 * The second pass, and all there is to it for a level of one row.  What is
 * wanted as such is locked in any case.
 */
static void
level_lock_in_order(Work *work, Level *first)
{
	int64 held = 0;

	for (Level *row = first; row != NULL; row = row->next)
	{
		bool lacking = first->wanted > 0 &&
					   (held < first->wanted || first->needs_all_slots);

		if (!first->all_slots && !row->this_slot && !lacking)
			continue;
		level_row_lock(work, row);
		if (!row->locked)
			continue;
		Assert(row->known && row->first == first);
		held += Max(0, slot_unreserved(row));
		if (row->slot == 0 && level_lacks_rows(first))
		{
			call_refresh_snapshot();
			level_load_rest(&work->call, first);
		}
	}
}

static void
level_lock(Work *work, Level *first)
{
	bool take_only = first->wanted > 0 && !first->all_slots &&
					 !first->needs_all_slots;

	if (!first->known || first->is_new)
		return;
	for (Level *row = first; row != NULL; row = row->next)
		take_only = take_only && !row->this_slot;
	if (!take_only || !level_lock_one(&work->call, first))
		level_lock_in_order(work, first);
}

/* The products that are taken from, by name; the levels are sorted. */
static void
level_lock_products(Work *work)
{
	const char *last = NULL;
	ListCell   *cell;

	foreach(cell, work->levels)
	{
		Level *level = lfirst(cell);

		if (level->wanted == 0 ||
			(last != NULL && strcmp(last, level->product_id) == 0))
			continue;
		lock_acquire(&work->call, LOCK_PRODUCT, level->product_id);
		last = level->product_id;
	}
}

/* The levels are locked: reads again what other sessions may have changed. */
static void
level_lock_finish(Work *work)
{
	ListCell *cell;

	Assert(work->orders_locked || work->orders == NIL);
	work->levels_locked = true;
	durability_release_locks_early();

	/*
	 * From here on the call's time is that of its locks, so a level's movements
	 * and events are in the order of their times.  Changes that were committed
	 * under these locks before count too: other sessions may have expired due
	 * lines of our orders.
	 */
	work->call.now = GetCurrentTimestamp();
	call_refresh_snapshot();
	foreach(cell, work->levels)
	{
		Level *level = lfirst(cell);

		Assert(level->first == level);
		level->due = -1; /* now those that we hold */
		if (level->next != NULL)
			level_load_rest(&work->call, level);
	}
	work_load_orders_again(work);
}

/* Locks the levels that were read, in their order, and reads them anew. */
void
work_lock_levels(Work *work)
{
	ListCell *cell;

	Assert(!work->levels_locked);
	if (work->strategy == STRATEGY_ADVISORY)
		level_lock_products(work);
	lock_reach(&work->call, LOCK_LEVEL_ROWS);
	foreach(cell, work->levels)
	{
		Level *level = lfirst(cell);

		level_lock(work, level);
		if (level->slot < SLOT_MAIN && !level->known)
			level_request_heir(work, level, foreach_current_index(cell));
	}
	level_lock_finish(work);
}

/* The same without waiting: slots that others hold stay unlocked. */
void
work_lock_free_levels(Work *work)
{
	ListCell *cell;

	Assert(!work->levels_locked);
	foreach(cell, work->levels)
	{
		for (Level *row = lfirst(cell); row != NULL; row = row->next)
		{
			for (int try = 0; try < OPTIMISTIC_TRIES; try++)
			{
				if (!row->known || !row->this_slot ||
					level_row_try_lock(&work->call, row) != TM_Updated)
					break;
				level_load_row_again(&work->call, row);
			}
		}
	}
	level_lock_finish(work);
}
