/*-------------------------------------------------------------------------
 *
 * stock/slot.c
 *	  The slots of a level in memory: what is free, and how they share it.
 *
 * A level of several rows, slots, is their sum; but a call that holds a few of
 * them decides by those alone.  That works because no slot promises more than
 * it can give by itself: each has a part of the safety stock and of the
 * back-order limit.  A call that holds several evens them out.  If all together
 * lack safety stock, no slot may give anything, though a release may make one
 * look as if it could: then the level needs all its slots, and only a call that
 * holds them may take.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "stock/stock.h"

/* What can be taken of one slot, back-orders included; negative: beyond it. */
int64
slot_unreserved(const Level *slot)
{
	return slot->on_hand - slot->reserved - slot->safety +
		   slot->backorder_limit;
}

/*
 * All slots of a level as one row.  Those that are not locked count as they
 * were read.
 */
Level
level_sum(const Level *level)
{
	Level sum = *level->first;

	for (const Level *row = level->first->next; row != NULL; row = row->next)
	{
		sum.on_hand += row->on_hand;
		sum.reserved += row->reserved;
		sum.safety += row->safety;
		sum.backorder_limit += row->backorder_limit;
		sum.version += row->version;
	}
	return sum;
}

/* What can be taken without a back-order; negative when beyond it. */
int64
level_unreserved(const Level *level)
{
	Level sum = level_sum(level);

	return sum.on_hand - sum.reserved - sum.safety;
}

/* What can be taken: the same sum as in the view stock_levels. */
int64
level_available(const Level *level)
{
	int64 free = 0;

	for (const Level *row = level->first; row != NULL; row = row->next)
		free += slot_unreserved(row);
	return Max(0, free);
}

/* The locked slot that has most: what is taken will count in it. */
Level *
level_slot_to_take(Level *level)
{
	Level *most = NULL;

	for (Level *row = level->first; row != NULL; row = row->next)
	{
		if (row->locked &&
			(most == NULL || slot_unreserved(row) > slot_unreserved(most)))
			most = row;
	}
	Assert(most != NULL && most->known && !most->deleted);
	return most;
}

/*
 * A call that decides whether so much fits must hold slots that suffice, or
 * all slots.  It does, except if a line expired while the call waited for its
 * slot: waiting for other slots now could be a deadlock, so the transaction
 * must be retried.
 */
void
level_require(const Level *level, int64 wanted)
{
	int64 held = 0;
	bool  all = true;

	Assert(wanted > 0);
	for (const Level *row = level->first; row != NULL; row = row->next)
	{
		if (row->locked)
			held += slot_unreserved(row);
		else
			all = all && !row->known;
	}
	if (!all && held < wanted)
		table_raise_conflict();
}

/* The part of the i-th of n. */
static int64
slot_part(int64 total, int n, int i)
{
	Assert(total >= 0 && i >= 0 && i < n);
	return total / n + (i < total % n ? 1 : 0);
}

static void
slot_set(Level *slot, int64 on_hand, int64 safety, int64 backorder_limit,
		 bool needs_all_slots)
{
	Assert(slot->locked && safety >= 0 && backorder_limit >= 0);
	if (slot->on_hand == on_hand && slot->safety == safety &&
		slot->backorder_limit == backorder_limit &&
		slot->needs_all_slots == needs_all_slots)
		return;
	slot->on_hand = on_hand;
	slot->safety = safety;
	slot->backorder_limit = backorder_limit;
	slot->needs_all_slots = needs_all_slots;
	slot->dirty = true;
}

/*
 * Gives the locked slots of a level equal parts of what they have together.
 * What is reserved stays where its lines count; slots no longer in use keep
 * just that.
 */
void
level_even_out(Level *level)
{
	Level		 sum = {0};
	int			 held = 0;
	int			 used = 0;
	int			 i = 0;
	bool		 all = true;
	int64		 free;
	Level before PG_USED_FOR_ASSERTS_ONLY = level_sum(level);
	Level after	 PG_USED_FOR_ASSERTS_ONLY;

	for (Level *row = level->first; row != NULL; row = row->next)
	{
		all = all && row->locked;
		if (!row->locked)
			continue;
		held++;
		used += row->slot < level->slots;
		sum.on_hand += row->on_hand - row->reserved;
		sum.safety += row->safety;
		sum.backorder_limit += row->backorder_limit;
	}
	/* Without a slot in use, or with less than nothing, there is no part. */
	if (held < 2 || used == 0 || sum.on_hand < -sum.backorder_limit)
		return;
	free = sum.on_hand - sum.safety + sum.backorder_limit;
	for (Level *row = level->first; row != NULL; row = row->next)
	{
		int64 safety = 0;
		int64 ahead = 0;
		int64 here = 0; /* not reserved, back-order limit included */

		if (!row->locked)
			continue;
		if (row->slot < level->slots)
		{
			safety = slot_part(sum.safety, used, i);
			ahead = slot_part(sum.backorder_limit, used, i);
			here = free >= 0
					   ? safety + slot_part(free, used, i)
					   : slot_part(sum.on_hand + sum.backorder_limit, used, i);
			i++;
		}
		slot_set(row, row->reserved + here - ahead, safety, ahead,
				 all ? free < 0 : row->needs_all_slots);
	}
	Assert(i == used);
	after = level_sum(level);
	Assert(after.on_hand == before.on_hand &&
		   after.reserved == before.reserved);
	Assert(after.safety == before.safety &&
		   after.backorder_limit == before.backorder_limit);
}
