/*-------------------------------------------------------------------------
 *
 * stock.c
 *	  Levels and lines in memory: what is free, and every way to change it.
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
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

#include "pgstock.h"

/* What can be taken without a back-order; negative when beyond it. */
int64
level_free(const Level *level)
{
	return level->on_hand - level->reserved - level->safety;
}

/* What can be taken: the same sum as in the view stock_levels. */
int64
level_available(const Level *level)
{
	return Max(0, level_free(level) + level->backorder_limit);
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
	level->on_hand += on_hand_delta;
	level->reserved += reserved_delta;
	level->version++;
	level->dirty = true;
	if (on_hand_delta > 0 && level->on_hand > STOCK_QUANTITY_MAX)
		level_too_full(level);
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

		if (movement->has_event)
			continue;
		movement->event_id = *event_id;
		movement->has_event = true;
	}
}

/* Reserved, but past its time: counts as expired everywhere. */
bool
line_is_due(const Work *work, const Reservation *line)
{
	return line->state == LINE_RESERVED && line->expires_at <= work->now;
}

/* Reserved and not due, or confirmed. */
bool
line_is_live(const Work *work, const Reservation *line)
{
	return line->state == LINE_CONFIRMED ||
		   (line->state == LINE_RESERVED && !line_is_due(work, line));
}

/* Ends a line.  What it means for the level is the caller's to say. */
void
line_end(Work *work, Reservation *line, LineState state, const char *reason)
{
	Assert(state != LINE_RESERVED && state != LINE_CONFIRMED);
	line->state = state;
	line->ended_at = work->now;
	line->reason = reason ? pstrdup(reason) : NULL;
	line->dirty = true;
}

/* A line of an order, or NULL. */
Reservation *
order_line(const Order *order, int attempt, const char *product_id,
		   const char *location)
{
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		if (line->attempt == attempt &&
			key_compare(line->product_id, line->location, product_id,
						location) == 0)
			return line;
	}
	return NULL;
}

/* Whether a line of the order's latest attempt is live. */
bool
order_is_live(const Work *work, const Order *order)
{
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt && line_is_live(work, line))
			return true;
	}
	return false;
}
