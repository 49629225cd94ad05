/*-------------------------------------------------------------------------
 *
 * stock/stock.c
 *	  Levels and lines in memory: what is free, and every way to change it.
 *
 * A level of several rows, slots, is their sum; but a call that holds a few of
 * them decides by those alone.  That works because no slot is promised more
 * than it can give by itself: each has a part of what is kept back and of what
 * may be sold ahead.  Whoever holds several evens them out.  If all together
 * lack what is to be kept back, no slot may give anything, though a release may
 * make one look as if it could: then the level is pooled, and only who holds
 * all slots may take.
 *
 * Every change of a level goes through level_change, which keeps the promise
 * (never negative, never oversold), counts the version and notes the movement;
 * so a level and its ledger cannot part.  A line changes state only while its
 * level is locked: a level's lock covers the lines that count in it.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

#include "stock/stock.h"

/* What can be taken of one slot, back-orders included; negative: beyond it. */
int64
slot_free(const Level *slot)
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
level_free(const Level *level)
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
		free += slot_free(row);
	return Max(0, free);
}

/* The locked slot that has most: what is taken will count in it. */
Level *
level_slot_to_take(Level *level)
{
	Level *most = NULL;

	for (Level *row = level->first; row != NULL; row = row->next)
	{
		if (row->locked && (most == NULL || slot_free(row) > slot_free(most)))
			most = row;
	}
	Assert(most != NULL);
	return most;
}

/*
 * Who is to say whether so much fits must hold slots that suffice, or all.  As
 * a rule that is so.  It is not if a line expired while its slot was waited
 * for: waiting for other slots now could be a deadlock, so run it again.
 */
void
level_require(const Level *level, int64 wanted)
{
	int64 held = 0;
	bool  all = true;

	for (const Level *row = level->first; row != NULL; row = row->next)
	{
		if (row->locked)
			held += slot_free(row);
		else
			all = all && !row->known;
	}
	if (!all && held < wanted)
		table_conflict();
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
				  work_level_place(work, level->product_id, level->location))
	{
		const Level *own = lfirst(cell);

		if (key_compare(own->product_id, own->location, level->product_id,
						level->location) != 0)
			break;
		on_hand += level_sum(own).on_hand;
	}
	foreach(cell, work_product_levels(&work->call, level->product_id,
									  level->location, true))
	{
		const Level *other = lfirst(cell);

		if (work_level(work, other->product_id, other->location, other->slot) ==
			NULL)
			on_hand += level_sum(other).on_hand;
	}
	return on_hand;
}

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
level_insufficient(const char *product_id, const char *location, int64 wanted,
				   int64 available, const char *hint)
{
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
 * The callers have looked before they change: a level that would break its
 * promise has been written to behind our back.
 */
static void
level_drift(const Level *level)
{
	ereport(ERROR,
			(errcode(ERRCODE_SK_LEDGER_DRIFT),
			 errmsg("level of product \"%s\" at location \"%s\" contradicts "
					"its ledger",
					level->product_id, level->location),
			 errdetail("It would have " INT64_FORMAT
					   " on hand and " INT64_FORMAT " reserved.",
					   level->on_hand, level->reserved),
			 errhint("Look with verify_stock, and mend with repair_stock.")));
}

/* The part of the i-th of n. */
static int64
part(int64 total, int n, int i)
{
	return total / n + (i < total % n ? 1 : 0);
}

static void
slot_set(Level *slot, int64 on_hand, int64 safety, int64 backorder_limit,
		 bool pooled)
{
	if (slot->on_hand == on_hand && slot->safety == safety &&
		slot->backorder_limit == backorder_limit && slot->pooled == pooled)
		return;
	slot->on_hand = on_hand;
	slot->safety = safety;
	slot->backorder_limit = backorder_limit;
	slot->pooled = pooled;
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
	Level sum = {0};
	int	  held = 0;
	int	  used = 0;
	int	  i = 0;
	bool  all = true;
	int64 free;

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
		int64 here = 0; /* not reserved, and what may be sold ahead */

		if (!row->locked)
			continue;
		if (row->slot < level->slots)
		{
			safety = part(sum.safety, used, i);
			ahead = part(sum.backorder_limit, used, i);
			here = free >= 0 ? safety + part(free, used, i)
							 : part(sum.on_hand + sum.backorder_limit, used, i);
			i++;
		}
		slot_set(row, row->reserved + here - ahead, safety, ahead,
				 all ? free < 0 : row->pooled);
	}
}

/* Whatever brings goods in: sums stay exact in any JSON. */
static void
level_too_full(const Level *level)
{
	ereport(ERROR,
			(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
			 errmsg("on_hand of product \"%s\" at location \"%s\" would "
					"exceed " INT64_FORMAT,
					level->product_id, level->location, STOCK_QUANTITY_MAX)));
}

/* Changes a locked level and notes the movement. */
void
level_change(Work *work, Level *level, int64 on_hand_delta,
			 int64 reserved_delta, const char *kind, const char *order_id,
			 const char *reason, const char *reference)
{
	Movement *movement = palloc0(sizeof(Movement));

	Assert(level->locked && level->known);
	CHECK_FOR_INTERRUPTS();
	level->on_hand += on_hand_delta;
	level->reserved += reserved_delta;
	level->version++;
	level->dirty = true;
	if (on_hand_delta > 0 && level_on_hand(work, level) > STOCK_QUANTITY_MAX)
		level_too_full(level);
	level_even_out(level);
	if (level->reserved < 0 || level->on_hand < -level->backorder_limit)
		level_drift(level);
	/* What takes must leave the promise standing. */
	if ((on_hand_delta < reserved_delta) &&
		level->on_hand - level->reserved < -level->backorder_limit)
		level_drift(level);

	movement->kind = kind;
	movement->level = level;
	movement->on_hand_delta = on_hand_delta;
	movement->reserved_delta = reserved_delta;
	movement->order_id = order_id;
	movement->reason = reason;
	movement->reference = reference;
	work->movements = lappend(work->movements, movement);
}

/* Tells the movements from the given one on which event speaks of them. */
void
stock_link_event(Work *work, int first_movement, const pg_uuid_t *event_id)
{
	ListCell *cell;

	for_each_from(cell, work->movements, first_movement)
	{
		Movement *movement = lfirst(cell);

		if (movement->has_event || movement->untold)
			continue;
		movement->event_id = *event_id;
		movement->has_event = true;
	}
}

/* Reserved, but past its time: counts as expired everywhere. */
bool
line_is_due(const Call *call, const Reservation *line)
{
	return line->state == LINE_RESERVED && line->expires_at <= call->now;
}

/* Reserved and not due, or confirmed. */
bool
line_is_live(const Call *call, const Reservation *line)
{
	return line->state == LINE_CONFIRMED ||
		   (line->state == LINE_RESERVED && !line_is_due(call, line));
}

/* Whether a payment takes the line's stock again, if it is there. */
bool
line_is_payable(const Call *call, const Reservation *line)
{
	if (line_is_due(call, line) || line->state == LINE_EXPIRED)
		return line->retake != RETAKE_NO;
	return line->state == LINE_RELEASED && line->retake == RETAKE_YES;
}

/* Ends a line.  What it means for the level is the caller's to say. */
void
line_end(Call *call, Reservation *line, LineState state, const char *reason)
{
	Assert(state != LINE_RESERVED && state != LINE_CONFIRMED);
	line->state = state;
	line->ended_at = call->now;
	line->reason = reason ? pstrdup(reason) : NULL;
	line->dirty = true;
}

static int
line_compare_key(const Reservation *line, int attempt, const char *product_id,
				 const char *location)
{
	if (line->attempt != attempt)
		return line->attempt < attempt ? -1 : 1;
	return key_compare(line->product_id, line->location, product_id, location);
}

/* Where the line is in the order's list, or would be. */
static int
order_line_place(const Order *order, int attempt, const char *product_id,
				 const char *location)
{
	int low = 0;
	int high = list_length(order->lines);

	CHECK_FOR_INTERRUPTS();
	while (low < high)
	{
		int middle = (low + high) / 2;

		if (line_compare_key(list_nth(order->lines, middle), attempt,
							 product_id, location) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* A line of an order, or NULL. */
Reservation *
order_line(const Order *order, int attempt, const char *product_id,
		   const char *location)
{
	int			 place = order_line_place(order, attempt, product_id, location);
	Reservation *line;

	if (place == list_length(order->lines))
		return NULL;
	line = list_nth(order->lines, place);
	return line_compare_key(line, attempt, product_id, location) == 0 ? line
																	  : NULL;
}

/* Adds a line at its place; those of a new attempt come at the end. */
void
order_add_line(Order *order, Reservation *line)
{
	order->lines = list_insert_nth(order->lines,
								   order_line_place(order, line->attempt,
													line->product_id,
													line->location),
								   line);
}

/* Whether a line of the order's latest attempt is live. */
bool
order_is_live(const Call *call, const Order *order)
{
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt && line_is_live(call, line))
			return true;
	}
	return false;
}
