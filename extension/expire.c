/*-------------------------------------------------------------------------
 *
 * expire.c
 *	  Lines past their time.
 *
 * A due line counts as expired everywhere from the moment it is due, though
 * its row still says reserved; so nothing here is urgent.  A line is let go by
 * whoever needs its stock, or by expire_reservations, under the lock of its
 * level and without that of its order.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/timestamp.h"

#include "pgstock.h"

PG_FUNCTION_INFO_V1(pgstock_expire_reservations);
PG_FUNCTION_INFO_V1(pgstock_expire_free);
PG_FUNCTION_INFO_V1(pgstock_expire_first);

static int64
lines_quantity(List *lines)
{
	int64	  quantity = 0;
	ListCell *cell;

	foreach(cell, lines)
		quantity += ((Reservation *) lfirst(cell))->quantity;
	return quantity;
}

/* The pieces of a level's due lines, counted once. */
static int64
level_due(Work *work, Level *level)
{
	Level *first = level->first;

	if (first->due < 0)
		first->due = lines_quantity(work_due_lines(work, level, INT_MAX));
	return first->due;
}

/* A due line of a locked level is about to be no more due. */
void
expire_uncount(const Work *work, Level *level, const Reservation *line)
{
	Level *first = level->first;

	if (first->due < 0 || !line_is_due(work, line))
		return;
	Assert(first->due >= line->quantity);
	first->due -= line->quantity;
}

/*
 * What could be taken of a level if its due lines were let go; they are only
 * looked at if without them there is not enough.  They are counted twice at
 * most, before the levels are locked and after: all looks before are at one
 * snapshot, and afterwards nobody else changes them.
 */
int64
expire_reachable(Work *work, Level *level, int64 wanted)
{
	int64 available = level_available(level);

	if (work->levels_locked)
		level_require(level, wanted);
	if (available >= wanted)
		return available;
	return Max(0, level_free(level) + level_sum(level).backorder_limit +
					  level_due(work, level));
}

/* Lets a locked level's due lines go, if what is wanted needs them. */
void
expire_make_room(Work *work, Level *level, int64 wanted)
{
	if (level_available(level) < wanted && level_due(work, level) > 0)
		expire_lines(work, work_due_lines(work, level, INT_MAX));
}

static int
order_id_compare(const ListCell *a, const ListCell *b)
{
	const Reservation *x = lfirst(a);
	const Reservation *y = lfirst(b);
	int				   difference;

	difference = strcmp(x->order->order_id, y->order->order_id);
	return difference != 0 ? difference
						   : key_compare(x->product_id, x->location,
										 y->product_id, y->location);
}

static Answer *
expire_line(Work *work, Reservation *line)
{
	Level  *level = work_level(work, line->product_id, line->location,
							   line->slot);
	Answer *answer;

	Assert(level != NULL && line_is_due(work, line));
	expire_uncount(work, level, line);
	level_change(work, level, 0, -line->quantity, "expired",
				 line->order->order_id, NULL, NULL);
	line_end(work, line, LINE_EXPIRED, NULL);
	/* An order of somebody else's is not in this work: keep its line. */
	if (!line->order->loaded)
		work_add_stray(work, line);
	answer = answer_of_line(work, line, line->quantity);
	answer->status = "expired";
	return answer;
}

/* Lets due lines go, whose levels are locked: one event for each order. */
void
expire_lines(Work *work, List *lines)
{
	ListCell *cell;
	Event	  event = {.type = "StockExpired"};
	int		  first_movement = list_length(work->movements);
	pg_uuid_t event_id;

	list_sort(lines, order_id_compare);
	foreach(cell, lines)
	{
		Reservation *line = lfirst(cell);
		ListCell	*next = lnext(lines, cell);

		event.items = lappend(event.items, expire_line(work, line));
		if (next != NULL &&
			strcmp(((Reservation *) lfirst(next))->order->order_id,
				   line->order->order_id) == 0)
			continue;
		event.order_id = line->order->order_id;
		event.user_id = line->user_id;
		event_id = event_emit(work, &event);
		stock_link_event(work, first_movement, &event_id);
		first_movement = list_length(work->movements);
		event.items = NIL;
	}
}

/* An order's own due lines, of whatever attempt. */
List *
expire_own(Work *work, const Order *order)
{
	List	 *due = NIL;
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		/* One that fell due while we waited for locks is left to others. */
		if (work->levels_locked && !work_holds_line(work, line))
			continue;
		if (line_is_due(work, line))
			due = lappend(due, line);
	}
	return due;
}

/* Wants their levels. */
void
expire_want_own(Work *work, const Order *order)
{
	ListCell *cell;

	foreach(cell, expire_own(work, order))
	{
		Reservation *line = lfirst(cell);

		work_want_level(work, line->product_id, line->location, line->slot);
	}
}

/*
 * Lets up to max_rows due lines go, of the levels of the first few of them;
 * their number.  If it is not to wait, levels that somebody has are left out.
 */
static int
expire_batch(int first, int max_rows, bool wait)
{
	Work	  work;
	List	 *lines;
	ListCell *cell;

	work_begin(&work, "expire_reservations()");
	work_lock_orders(&work);
	foreach(cell, work_due_lines(&work, NULL, first))
	{
		Reservation *line = lfirst(cell);

		work_want_level(&work, line->product_id, line->location, line->slot);
	}
	work_read_levels(&work);
	if (wait)
		work_lock_levels(&work);
	else
		work_lock_free_levels(&work);
	/* Once more: only what is still due now that its level is ours. */
	lines = work_due_lines(&work, NULL, max_rows);
	expire_lines(&work, lines);
	work_end(&work);
	return list_length(lines);
}

/* expire_reservations(max_rows int) RETURNS int */
Datum
pgstock_expire_reservations(PG_FUNCTION_ARGS)
{
	int max_rows = PG_ARGISNULL(0) ? 1000 : PG_GETARG_INT32(0);

	if (max_rows < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("max_rows must be at least 1")));
	PG_RETURN_INT32(expire_batch(max_rows, max_rows, true));
}

/* expire_free(max_rows int) RETURNS int */
Datum
pgstock_expire_free(PG_FUNCTION_ARGS)
{
	int max_rows = PG_GETARG_INT32(0);

	PG_RETURN_INT32(expire_batch(max_rows, max_rows, false));
}

/* expire_first(max_rows int) RETURNS int */
Datum
pgstock_expire_first(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(expire_batch(1, PG_GETARG_INT32(0), true));
}
