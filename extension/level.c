/*-------------------------------------------------------------------------
 *
 * level.c
 *	  Levels in a unit of work: wished for, read, locked, written.
 *
 * A level is one row, or several: slots, each with a part of the stock, of
 * what is kept back and of what may be sold ahead.  The work's list holds the
 * first row of each level, and the others hang on it.  A line counts in one
 * slot, and that row's lock covers it.
 *
 * A row with a negative slot is a level of its own: a sale's quota.  When the
 * sale closes, that row goes and its lines count in SLOT_MAIN from then on.
 * Whoever wanted the row and does not get it any more takes that slot's
 * instead: it comes later in the order of the locks.
 *
 * Lock order: by product, location, slot; products' names, which strategy
 * advisory locks, come before all rows.  A call that takes looks for a slot in
 * two passes:
 *
 * - The first takes one slot or none, never waits, and takes only one that
 *	 alone suffices.  It locks the very version that it has read, so it cannot
 *	 find itself with a slot that does not.
 * - The second holds no slot when it starts, visits all in slot order and waits
 *	 for each, until those that it holds suffice together.  Only who holds all
 *	 may say that there is not enough.
 *
 * So nobody waits for a slot while holding a later one, and nobody is refused
 * for stock that somebody else has locked.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

#include "pgstock.h"

#define LOCK_CLASS_PRODUCT	0x706e /* of a 16-bit field */
#define OPTIMISTIC_TRIES	3
#define OPTIMISTIC_PAUSE_US 10000

/* ---- Finding them in the work ---- */

/* Slots of one level are the same here; a negative one is its own level. */
static int
level_compare_key(const Level *level, const char *product_id,
				  const char *location, int slot)
{
	int difference = key_compare(level->product_id, level->location, product_id,
								 location);

	if (difference != 0)
		return difference;
	return Min(level->slot, 0) - Min(slot, 0);
}

static int
level_compare(const ListCell *a, const ListCell *b)
{
	const Level *y = lfirst(b);

	return level_compare_key(lfirst(a), y->product_id, y->location, y->slot);
}

/* The level's row in this work, or NULL; with SLOT_MAIN, the first. */
Level *
work_level(Work *work, const char *product_id, const char *location, int slot)
{
	int low = 0;
	int high = list_length(work->levels);

	while (low < high)
	{
		int	   middle = (low + high) / 2;
		Level *level = list_nth(work->levels, middle);
		int difference = level_compare_key(level, product_id, location, slot);

		if (difference == 0)
		{
			while (level != NULL && level->slot != slot)
				level = level->next;
			return level;
		}
		if (difference > 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/* ---- Wishes ---- */

static Level *
level_new(char *product_id, char *location, int slot)
{
	Level *level = palloc0(sizeof(Level));

	level->product_id = product_id;
	level->location = location;
	level->slot = slot;
	level->first = level;
	level->due = -1;
	return level;
}

/* Says that one slot will be needed: a line counts in it. */
Level *
work_want_level(Work *work, const char *product_id, const char *location,
				int slot)
{
	Level *level = level_new(pstrdup(product_id), pstrdup(location), slot);

	Assert(!work->levels_locked);
	level->named = true;
	work->levels = lappend(work->levels, level);
	return level;
}

/* Says that the level will be needed, with all its slots. */
Level *
work_want_whole_level(Work *work, const char *product_id, const char *location)
{
	Level *level = work_want_level(work, product_id, location, SLOT_MAIN);

	level->whole = true;
	return level;
}

/* Says that so much will be taken, from whichever slot, or from a sale's. */
void
work_want_stock(Work *work, const char *product_id, const char *location,
				int slot, int64 quantity)
{
	Level *level = work_want_level(work, product_id, location,
								   Min(slot, SLOT_MAIN));

	level->named = false;
	level->wanted = quantity;
}

/* ---- Reading ---- */

static void
level_read(Level *level, TupleTableSlot *slot)
{
	level->slot = row_get_int32(slot, LEVEL_SLOT);
	level->on_hand = row_get_int64(slot, LEVEL_ON_HAND);
	level->reserved = row_get_int64(slot, LEVEL_RESERVED);
	level->safety = row_get_int64(slot, LEVEL_SAFETY);
	level->backorder_limit = row_get_int64(slot, LEVEL_BACKORDER_LIMIT);
	level->slots = row_get_int32(slot, LEVEL_SLOTS);
	level->version = row_get_int64(slot, LEVEL_VERSION);
	level->slots_made = row_get_int32(slot, LEVEL_SLOTS_MADE);
	level->pooled = DatumGetBool(slot->tts_values[LEVEL_POOLED - 1]);
	level->tid = slot->tts_tid;
	level->known = true;
}

/* Hangs a row on its level, behind the last one. */
Level *
level_append(Level *last)
{
	Level *row = level_new(last->product_id, last->location, last->slot + 1);

	row->first = last->first;
	last->next = row;
	return row;
}

/* Reads one row as the snapshot has it. */
static void
row_load(Work *work, Level *row)
{
	Table		   *table = table_use(work, TABLE_LEVEL);
	ScanKeyData		keys[3];
	ItemPointerData tid;

	table_key_text(&keys[0], 1, row->product_id);
	table_key_text(&keys[1], 2, row->location);
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(row->slot));
	row->known = newest_find(work, table, row) ||
				 table_find(work, table, "level_pkey", 3, keys, &tid);
	if (row->known)
		level_read(row, table->slot);
}

/*
 * Reads the slots that are not locked as the snapshot has them, those too that
 * were made since the level was read.  What went between slots that we hold
 * and others is in it, so that their sum is what it was at that moment.
 */
static void
level_load_rest(Work *work, Level *first)
{
	Table		 *table = table_use(work, TABLE_LEVEL);
	ScanKeyData	  keys[3];
	IndexScanDesc scan;
	Level		 *last = NULL;

	table_key_text(&keys[0], 1, first->product_id);
	table_key_text(&keys[1], 2, first->location);
	ScanKeyInit(&keys[2], 3, BTGreaterEqualStrategyNumber, F_INT4GE,
				Int32GetDatum(0));
	scan = table_scan_begin(work, table, "level_pkey", 3, keys);
	while (table_scan_next(scan, table))
	{
		Level *row = last == NULL ? first : last->next;

		if (row == NULL)
			row = level_append(last);
		if (!row->locked)
			level_read(row, table->slot);
		last = row;
	}
	table_scan_end(scan);
}

/* Reads a level's rows without locking them. */
static void
level_load(Work *work, Level *first)
{
	first->next = NULL;
	row_load(work, first);
	if (first->known && first->slots_made > 1)
		level_load_rest(work, first);
}

/* Whether there are more slots than were read. */
static bool
level_lacks_rows(const Level *first)
{
	const Level *last = first;

	while (last->next != NULL)
		last = last->next;
	return last->slot + 1 < first->slots_made;
}

/* Reads one row again, as others have left it. */
static void
row_load_again(Work *work, Level *row)
{
	work_refresh_snapshot();
	row_load(work, row);
}

/* Adds a wish to those for the same level. */
static void
level_add_wish(Level *first, const Level *wish)
{
	first->wanted += wish->wanted;
	first->whole = first->whole || wish->whole;
	for (Level *row = first; row != NULL; row = row->next)
	{
		if (row->slot == wish->slot)
			row->named = row->named || wish->named;
	}
}

/*
 * Sorts and merges the wanted levels, and reads them without locking: enough
 * to refuse what cannot be, and the one index descent of each.
 */
void
work_read_levels(Work *work)
{
	List	 *wishes = work->levels;
	ListCell *cell;
	Level	 *first = NULL;

	Assert(!work->levels_locked);
	list_sort(wishes, level_compare);
	work->levels = NIL;
	foreach(cell, wishes)
	{
		Level *wish = lfirst(cell);

		if (first == NULL || level_compare_key(first, wish->product_id,
											   wish->location, wish->slot) != 0)
		{
			first = wish;
			if (wish->slot > 0)
				first = level_new(wish->product_id, wish->location, 0);
			level_load(work, first);
			work->levels = lappend(work->levels, first);
		}
		if (wish != first)
			level_add_wish(first, wish);
	}
}

/*
 * A product's levels at all its locations, read without locking; also those of
 * its sales, or not.
 */
List *
work_product_levels(Work *work, const char *product_id, bool sales)
{
	Table		 *table = table_use(work, TABLE_LEVEL);
	ScanKeyData	  key;
	IndexScanDesc scan;
	List		 *levels = NIL;
	Level		 *row = NULL;

	table_key_text(&key, 1, product_id);
	scan = table_scan_begin(work, table, "level_pkey", 1, &key);
	while (table_scan_next(scan, table))
	{
		int slot = row_get_int32(table->slot, LEVEL_SLOT);

		if (slot < 0 && !sales)
			continue;
		if (slot > 0 && row != NULL)
			row = level_append(row);
		else
		{
			row = level_new(pstrdup(product_id),
							row_get_text(table->slot, LEVEL_LOCATION), 0);
			levels = lappend(levels, row);
		}
		level_read(row, table->slot);
	}
	table_scan_end(scan);
	return levels;
}

/* ---- Locking ---- */

static void
optimistic_conflict(const Level *level)
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
 * Locks the very version of the row that was read, or says why not: somebody
 * has changed it (TM_Updated) or holds it (TM_WouldBlock).
 */
static TM_Result
row_try_lock(Work *work, Level *row)
{
	Table	 *table = table_use(work, TABLE_LEVEL);
	TM_Result result = table_try_lock_row(table, &row->tid);

	row->locked = result == TM_Ok;
	if (row->locked)
		newest_note(work, row);
	return result;
}

/* Locks a row without ever waiting for anybody's lock. */
static void
row_lock_optimistic(Work *work, Level *row)
{
	for (int try = 1; row->known && row_try_lock(work, row) != TM_Ok; try++)
	{
		if (try == OPTIMISTIC_TRIES)
			optimistic_conflict(row);
		pg_usleep(OPTIMISTIC_PAUSE_US);
		CHECK_FOR_INTERRUPTS();
		row_load_again(work, row);
	}
}

/* Locks a row and reads it anew. */
static void
row_lock(Work *work, Level *row)
{
	Table *table = table_use(work, TABLE_LEVEL);

	if (work->strategy == STRATEGY_OPTIMISTIC)
	{
		row_lock_optimistic(work, row);
		return;
	}
	row->known = table_lock_row(table, &row->tid);
	if (row->known)
		level_read(row, table->slot);
	row->locked = row->known;
	if (row->locked)
		newest_note(work, row);
}

/* The slot after this one; after the last in use, the first. */
static Level *
next_in_use(const Level *row)
{
	Level *next = row->next;

	return next != NULL && next->slot < row->first->slots ? next : row->first;
}

/* The first pass: one slot that alone suffices, without waiting, or none. */
static bool
level_lock_one(Work *work, Level *first)
{
	Level *row = first;

	if (first->slots == 1)
		return false;
	for (int i = MyProcPid % first->slots; i > 0; i--)
		row = next_in_use(row);
	for (int i = 0; i < first->slots; i++)
	{
		for (int try = 0; try < OPTIMISTIC_TRIES; try++)
		{
			TM_Result result;

			if (!row->known || row->pooled || slot_free(row) < first->wanted)
				break;
			result = row_try_lock(work, row);
			if (result == TM_Ok)
				return true;
			if (result == TM_WouldBlock)
				break;
			row_load_again(work, row);
		}
		row = next_in_use(row);
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
					   (held < first->wanted || first->pooled);

		if (!first->whole && !row->named && !lacking)
			continue;
		row_lock(work, row);
		if (!row->locked)
			continue;
		held += Max(0, slot_free(row));
		if (row->slot == 0 && level_lacks_rows(first))
		{
			work_refresh_snapshot();
			level_load_rest(work, first);
		}
	}
}

static void
level_lock(Work *work, Level *first)
{
	bool take_only = first->wanted > 0 && !first->whole && !first->pooled;

	if (!first->known || first->is_new)
		return;
	for (Level *row = first; row != NULL; row = row->next)
		take_only = take_only && !row->named;
	if (!take_only || !level_lock_one(work, first))
		level_lock_in_order(work, first);
}

/*
 * The level of a sale that has closed is not there: its lines count in the main
 * slot now, and what is to be taken comes from there.  That level comes later in
 * the order of the locks.
 */
static void
level_want_heir(Work *work, const Level *sale, int place)
{
	Level *heir = NULL;

	for (place++; place < list_length(work->levels) && heir == NULL; place++)
	{
		Level *next = list_nth(work->levels, place);
		int	   difference = level_compare_key(next, sale->product_id,
											  sale->location, SLOT_MAIN);

		if (difference > 0)
			break;
		if (difference == 0)
			heir = next;
	}
	if (heir == NULL)
	{
		heir = level_new(sale->product_id, sale->location, SLOT_MAIN);
		level_load(work, heir);
		work->levels = list_insert_nth(work->levels, place, heir);
	}
	heir->named = true;
	heir->wanted += sale->wanted;
}

/* The products that are taken from, by name; the levels are sorted. */
static void
lock_products(Work *work)
{
	const char *last = NULL;
	ListCell   *cell;

	foreach(cell, work->levels)
	{
		Level *level = lfirst(cell);

		if (level->wanted == 0 ||
			(last != NULL && strcmp(last, level->product_id) == 0))
			continue;
		lock_name(LOCK_CLASS_PRODUCT, level->product_id);
		last = level->product_id;
	}
}

/* What follows once the levels are locked. */
static void
levels_are_locked(Work *work)
{
	ListCell *cell;

	work->levels_locked = true;
	commit_release_early();

	/*
	 * From here on it is the time of the locks: a level's movements and events
	 * are in the order of their times.  What others did under these locks
	 * before we had them counts too: they may have let due lines of our orders
	 * go.
	 */
	work->now = GetCurrentTimestamp();
	work_refresh_snapshot();
	foreach(cell, work->levels)
	{
		Level *level = lfirst(cell);

		Assert(level != NULL);
		if (level->next != NULL)
			level_load_rest(work, level);
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
		lock_products(work);
	foreach(cell, work->levels)
	{
		Level *level = lfirst(cell);

		level_lock(work, level);
		if (level->slot < SLOT_MAIN && !level->known)
			level_want_heir(work, level, foreach_current_index(cell));
	}
	levels_are_locked(work);
}

/* The same without waiting: a slot that somebody has stays unlocked. */
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
				if (!row->known || !row->named ||
					row_try_lock(work, row) != TM_Updated)
					break;
				row_load_again(work, row);
			}
		}
	}
	levels_are_locked(work);
}

/* ---- Writing ---- */

static void
row_write(Work *work, Level *level)
{
	Table		   *table = table_use(work, TABLE_LEVEL);
	TupleTableSlot *slot = table_new_row(table);

	if (level->gone)
	{
		table_delete(table, &level->tid);
		return;
	}
	row_put_text(slot, LEVEL_PRODUCT, level->product_id);
	row_put_text(slot, LEVEL_LOCATION, level->location);
	row_put(slot, LEVEL_SLOT, Int32GetDatum(level->slot));
	row_put(slot, LEVEL_ON_HAND, Int64GetDatum(level->on_hand));
	row_put(slot, LEVEL_RESERVED, Int64GetDatum(level->reserved));
	row_put(slot, LEVEL_SAFETY, Int64GetDatum(level->safety));
	row_put(slot, LEVEL_BACKORDER_LIMIT, Int64GetDatum(level->backorder_limit));
	row_put(slot, LEVEL_SLOTS, Int32GetDatum(level->slots));
	row_put(slot, LEVEL_VERSION, Int64GetDatum(level->version));
	row_put(slot, LEVEL_SLOTS_MADE, Int32GetDatum(level->slots_made));
	row_put(slot, LEVEL_POOLED, BoolGetDatum(level->pooled));
	if (level->is_new)
		table_insert(work, table);
	else
		table_update(work, table, &level->tid);
}

/* Writes the rows of all levels that have changed. */
void
work_write_levels(Work *work)
{
	ListCell *cell;

	foreach(cell, work->levels)
	{
		for (Level *row = lfirst(cell); row != NULL; row = row->next)
		{
			Assert(row->locked || !row->dirty);
			if (row->dirty)
				row_write(work, row);
		}
	}
}
