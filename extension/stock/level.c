/*-------------------------------------------------------------------------
 *
 * stock/level.c
 *	  Levels in a unit of work: requested, read, written.
 *
 * A level is one row, or several: slots, each with a part of the stock, of
 * the safety stock and of the back-order limit.  The work's list holds the
 * first row of each level, and the others hang on it.  A line counts in one
 * slot, and that row's lock covers it.
 *
 * A row with a negative slot is a level of its own: a sale's quota.  When the
 * sale closes, that row is deleted and its lines count in SLOT_MAIN after that.
 * A call that requested the row and no longer finds it locks that slot
 * instead, which is later in the lock order.
 *
 * Locking them is level_lock.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"

#include "stock/stock.h"

/* More than any level has: its stock and its back-order limit. */
#define WANTED_MAX (4 * STOCK_QUANTITY_MAX)

/* ---- Finding them in the work ---- */

/* Slots of one level are the same here; a negative one is its own level. */
static int
level_compare_key(const Level *level, const char *product_id,
				  const char *location, int slot)
{
	int difference = level_key_compare(level->product_id, level->location,
									   product_id, location);

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

/*
 * Where the levels of a product and location begin in the work's list, or
 * would; those of its sales precede it.
 */
static int
level_find_place(const Work *work, const char *product_id, const char *location)
{
	int low = 0;
	int high = list_length(work->levels);

	while (low < high)
	{
		int			 middle = (low + high) / 2;
		const Level *level = list_nth(work->levels, middle);

		if (level_key_compare(level->product_id, level->location, product_id,
							  location) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The level's row in this work, or NULL; with SLOT_MAIN, the first. */
Level *
work_find_level(Work *work, const char *product_id, const char *location,
				int slot)
{
	int low = 0;
	int high = list_length(work->levels);

	CHECK_FOR_INTERRUPTS();
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

/* ---- Requests ---- */

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

/* Requests one slot: a line counts in it. */
Level *
work_request_level(Work *work, const char *product_id, const char *location,
				   int slot)
{
	Level *level = level_new(pstrdup(product_id), pstrdup(location), slot);

	Assert(!work->levels_locked);
	level->this_slot = true;
	work->levels = lappend(work->levels, level);
	return level;
}

/* Requests the level with all its slots. */
Level *
work_request_all_slots(Work *work, const char *product_id, const char *location)
{
	Level *level = work_request_level(work, product_id, location, SLOT_MAIN);

	level->all_slots = true;
	return level;
}

/* Requests stock to take, from any slot, or from a sale's. */
void
work_request_stock(Work *work, const char *product_id, const char *location,
				   int slot, int64 quantity)
{
	Level *level = work_request_level(work, product_id, location,
									  Min(slot, SLOT_MAIN));

	Assert(quantity > 0 && quantity <= STOCK_QUANTITY_MAX);
	level->this_slot = false;
	level->wanted = quantity;
}

/* ---- Reading ---- */

void
level_read(Level *level, TupleTableSlot *slot)
{
	Assert(!level->dirty && !level->is_new);
	level->slot = row_get_int32(slot, LEVEL_SLOT);
	level->on_hand = row_get_int64(slot, LEVEL_ON_HAND);
	level->reserved = row_get_int64(slot, LEVEL_RESERVED);
	level->safety = row_get_int64(slot, LEVEL_SAFETY);
	level->backorder_limit = row_get_int64(slot, LEVEL_BACKORDER_LIMIT);
	level->slots = row_get_int32(slot, LEVEL_SLOTS);
	level->version = row_get_int64(slot, LEVEL_VERSION);
	level->slots_made = row_get_int32(slot, LEVEL_SLOTS_MADE);
	level->needs_all_slots = DatumGetBool(row_get(slot, LEVEL_NEEDS_ALL_SLOTS));
	Assert(level->slots >= 1 && level->slots <= level->slots_made);
	Assert(level->slots_made <= STOCK_SLOTS_MAX);
	level->tid = slot->tts_tid;
	level->known = true;
}

/* Appends a row to its level, behind the last one. */
static Level *
level_append(Level *last)
{
	Level *row = level_new(last->product_id, last->location, last->slot + 1);

	Assert(last->next == NULL && last->slot >= SLOT_MAIN);
	row->first = last->first;
	last->next = row;
	return row;
}

/* A row that this call inserts: no other session can lock it before. */
static void
level_make_row(Level *row)
{
	Assert(!row->known && !row->locked);
	row->known = row->is_new = row->locked = true;
}

/* Makes a level that no other session can make: its name is locked. */
void
level_make(Level *level)
{
	Assert(level == level->first && level->next == NULL);
	level_make_row(level);
	level->slots = level->slots_made = 1;
}

/* Makes the slots that a level lacks, empty; it is locked with all it has. */
void
level_make_slots(Level *first, int slots)
{
	Level *row = first;
	int	   made = Max(slots, first->slots_made);

	Assert(first->first == first && slots >= 1 && slots <= STOCK_SLOTS_MAX);
	for (;; row = row->next)
	{
		Assert(row->locked); /* as all its slots are */
		row->slots = slots;
		row->slots_made = made;
		row->dirty = true;
		if (row->slot + 1 == made)
			break;
		if (row->next == NULL)
			level_make_row(level_append(row));
	}
}

/* Sets what all slots of a level share: it stands in the first row. */
void
level_configure(Level *first, int64 safety, int64 backorder_limit)
{
	Assert(first->first == first && safety >= 0 && backorder_limit >= 0);
	for (Level *row = first; row != NULL; row = row->next)
		row->safety = row->backorder_limit = 0;
	first->safety = safety;
	first->backorder_limit = backorder_limit;
}

/* The level has changed otherwise than by level_change(). */
void
level_raise_version(Level *first)
{
	Assert(first->first == first && first->locked);
	first->version++;
	first->dirty = true;
}

/* Deletes a sale's level, once its quota has been returned. */
void
level_delete(Level *quota)
{
	Assert(quota->slot < SLOT_MAIN && quota->locked && !quota->is_new);
	Assert(quota->on_hand == 0 && quota->reserved == 0);
	quota->deleted = quota->dirty = true;
}

/* Reads one row as the snapshot has it. */
static void
level_row_load(Call *call, Level *row)
{
	Table		   *table = table_use(call, TABLE_LEVEL);
	ScanKeyData		keys[3];
	ItemPointerData tid;

	table_key_text(&keys[0], 1, row->product_id);
	table_key_text(&keys[1], 2, row->location);
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(row->slot));
	row->known = row_version_hint_find(call, table, row) ||
				 table_find(call, table, "level_pkey", 3, keys, &tid);
	if (row->known)
		level_read(row, table->slot);
}

/*
 * Reads the slots that are not locked as the snapshot has them, those too that
 * were made since the level was read.  What went between slots that we hold
 * and others is in it, so that their sum is what it was at that moment.
 */
void
level_load_rest(Call *call, Level *first)
{
	Table		 *table = table_use(call, TABLE_LEVEL);
	ScanKeyData	  keys[3];
	IndexScanDesc scan;
	Level		 *last = NULL;

	Assert(first->first == first && first->slot == SLOT_MAIN);
	table_key_text(&keys[0], 1, first->product_id);
	table_key_text(&keys[1], 2, first->location);
	ScanKeyInit(&keys[2], 3, BTGreaterEqualStrategyNumber, F_INT4GE,
				Int32GetDatum(0));
	scan = table_scan_begin(call, table, "level_pkey", 3, keys);
	while (table_scan_next(scan, table))
	{
		Level *row = last == NULL ? first : last->next;

		if (row == NULL)
			row = level_append(last);
		if (!row->locked)
			level_read(row, table->slot);
		Assert(last == NULL || row->slot == last->slot + 1);
		last = row;
	}
	table_scan_end(table, scan);
}

/* Reads a level's rows without locking them. */
static void
level_load(Call *call, Level *first)
{
	first->next = NULL;
	level_row_load(call, first);
	if (first->known && first->slots_made > 1)
		level_load_rest(call, first);
}

/* A level as the snapshot has it, of no unit of work; known if there is one. */
Level *
level_peek(Call *call, char *product_id, char *location)
{
	Level *first = level_new(product_id, location, SLOT_MAIN);

	level_load(call, first);
	return first;
}

/* Whether there are more slots than were read. */
bool
level_lacks_rows(const Level *first)
{
	const Level *last = first;

	while (last->next != NULL)
		last = last->next;
	return last->slot + 1 < first->slots_made;
}

/* Reads one row again, as others have left it. */
void
level_load_row_again(Call *call, Level *row)
{
	call_refresh_snapshot();
	level_row_load(call, row);
}

/* Adds a request to those for the same level. */
static void
level_add_request(Level *first, const Level *request)
{
	Assert(first->wanted >= 0 && request->wanted >= 0);
	first->wanted = Min(first->wanted + request->wanted, WANTED_MAX);
	first->all_slots = first->all_slots || request->all_slots;
	for (Level *row = first; row != NULL; row = row->next)
	{
		if (row->slot == request->slot)
			row->this_slot = row->this_slot || request->this_slot;
	}
}

/*
 * Sorts and merges the wanted levels, and reads them without locking: enough
 * to refuse what cannot be, and the one index descent of each.
 */
void
work_read_levels(Work *work)
{
	List	 *requests = work->levels;
	ListCell *cell;
	Level	 *first = NULL;

	Assert(!work->levels_locked);
	list_sort(requests, level_compare);
	work->levels = NIL;
	foreach(cell, requests)
	{
		Level *request = lfirst(cell);

		if (first == NULL ||
			level_compare_key(first, request->product_id, request->location,
							  request->slot) != 0)
		{
			/* the list is sorted: work_find_level() rests on it */
			Assert(first == NULL ||
				   level_compare_key(first, request->product_id,
									 request->location, request->slot) < 0);
			first = request;
			if (request->slot > 0)
				first = level_new(request->product_id, request->location, 0);
			level_load(&work->call, first);
			work->levels = lappend(work->levels, first);
		}
		if (request != first)
			level_add_request(first, request);
	}
}

/*
 * The level of a sale that has closed no longer exists: its lines count in the
 * main slot, which is requested instead.  The main slot is later in the lock
 * order.
 */
void
level_request_heir(Work *work, const Level *sale, int place)
{
	Level *heir = NULL;

	Assert(sale->slot < SLOT_MAIN && !sale->known);
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
		level_load(&work->call, heir);
		work->levels = list_insert_nth(work->levels, place, heir);
	}
	heir->this_slot = true;
	heir->wanted = Min(heir->wanted + sale->wanted, WANTED_MAX);
}

/*
 * A product's levels at a location, or (NULL) at all of them, read without
 * locking; also those of its sales, or not.
 */
List *
work_product_levels(Call *call, const char *product_id, const char *location,
					bool sales)
{
	Table		 *table = table_use(call, TABLE_LEVEL);
	ScanKeyData	  keys[2];
	IndexScanDesc scan;
	List		 *levels = NIL;
	Level		 *row = NULL;

	table_key_text(&keys[0], 1, product_id);
	if (location != NULL)
		table_key_text(&keys[1], 2, location);
	scan = table_scan_begin(call, table, "level_pkey", location ? 2 : 1, keys);
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
	table_scan_end(table, scan);
	return levels;
}

/* ---- What a level has, and what it lacks ---- */

/* Raises SK002 for a level that is not there. */
void
level_must_exist(const Level *level)
{
	if (!level->known)
		ereport(ERROR, (errcode(ERRCODE_SK_UNKNOWN_PRODUCT),
						errmsg("there is no product \"%s\" at location \"%s\"",
							   level->product_id, level->location),
						errhint("Add it with receive_stock, or check the "
								"spelling.")));
}

/* Raises SK001. */
void
level_raise_insufficient(const char *product_id, const char *location,
						 int64 wanted, int64 available, const char *hint)
{
	Assert(available < wanted);
	ereport(ERROR,
			(errcode(ERRCODE_SK_INSUFFICIENT),
			 errmsg("not enough stock of product \"%s\" at location \"%s\"",
					product_id, location),
			 errdetail("Product \"%s\": wanted " INT64_FORMAT
					   ", available " INT64_FORMAT ".",
					   product_id, wanted, available),
			 errhint("%s", hint)));
}

/*
 * What is there of a level and of the sales that it feeds: as in the view.  A
 * level of this work is as it is in memory, another as it is read.
 */
int64
level_on_hand(Work *work, const Level *level)
{
	int64	  on_hand = 0;
	ListCell *cell;

	for_each_from(cell, work->levels,
				  level_find_place(work, level->product_id, level->location))
	{
		const Level *own = lfirst(cell);

		if (level_key_compare(own->product_id, own->location, level->product_id,
							  level->location) != 0)
			break;
		on_hand += level_sum(own).on_hand;
	}
	foreach(cell, work_product_levels(&work->call, level->product_id,
									  level->location, true))
	{
		const Level *other = lfirst(cell);

		if (work_find_level(work, other->product_id, other->location,
							other->slot) == NULL)
			on_hand += level_sum(other).on_hand;
	}
	return on_hand;
}

/* ---- Writing ---- */

static void
level_row_write(Call *call, Level *level)
{
	Table		   *table = table_use(call, TABLE_LEVEL);
	TupleTableSlot *slot = table_new_row(table);

	Assert(level->known && level->slot < level->slots_made);
	Assert(level->locked && level->dirty);
	if (level->deleted)
	{
		/* only a sale's, once its quota has been returned */
		Assert(level->slot < SLOT_MAIN && !level->is_new);
		Assert(level->on_hand == 0 && level->reserved == 0);
		table_delete(table, &level->tid);
		return;
	}
	Assert(level->reserved >= 0);
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
	row_put(slot, LEVEL_NEEDS_ALL_SLOTS, BoolGetDatum(level->needs_all_slots));
	if (level->is_new)
		table_insert(call, table);
	else
		table_update(call, table, &level->tid);
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
				level_row_write(&work->call, row);
		}
	}
}
