/*-------------------------------------------------------------------------
 *
 * stock/due_line.c
 *	  Due lines of a level, and other lines of orders outside the work.
 *
 * A level's lock covers the lines that count in it, so a call may end lines of
 * orders that it has not locked.  Each row has one place in memory: a line of
 * an order of this work, or one of the work's other lines.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/stratnum.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

#include "stock/stock.h"

/* A line's name among those of all orders. */
static char *
due_line_name(const char *order_id, const Reservation *line)
{
	return name_map_key(psprintf("%d %s", line->attempt, order_id),
						line->product_id, line->location);
}

/* Keeps a changed line of an order that is not in this work, to be written. */
void
work_add_other_line(Work *work, Reservation *line)
{
	const char *name = due_line_name(line->order->order_id, line);

	/* each row has one place in memory */
	Assert(name_map_find(&work->other_line_names, name) == NULL);
	Assert(!line->is_new);
	work->other_lines = lappend(work->other_lines, line);
	name_map_put(&work->other_line_names, name, line);
}

/*
 * The one place in memory of a row just read, whatever its order: a line of an
 * order of this work, one that this work has changed, or a new one.
 */
static Reservation *
due_line_in_memory(Work *work, const char *order_id, Reservation *line)
{
	Order		*order = work_find_order(work, order_id);
	Reservation *other = NULL;

	if (order != NULL)
	{
		other = order_find_line(order, line->attempt, line->product_id,
								line->location);
		if (other != NULL || order->asked == NIL)
			return other;
		line->order = order;
		order_add_line(order, line);
		return line;
	}
	if (work->other_lines != NIL)
		other = name_map_find(&work->other_line_names,
							  due_line_name(order_id, line));
	if (other != NULL)
		return other;
	order = palloc0(sizeof(Order));
	order->order_id = pstrdup(order_id);
	order->lines = list_make1(line);
	line->order = order;
	return line;
}

/* A scan of the due lines of a level, or of all. */
static IndexScanDesc
due_line_scan(Call *call, Table *table, const Level *level)
{
	ScanKeyData keys[3];
	int			n = 0;

	if (level != NULL)
	{
		table_key_text(&keys[n++], 1, level->product_id);
		table_key_text(&keys[n++], 2, level->location);
	}
	ScanKeyInit(&keys[n], n + 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(call->now));
	return table_scan_begin(call, table,
							level ? "reservation_level_due" : "reservation_due",
							n + 1, keys);
}

/* Whether the slot in which the line counts is locked. */
bool
work_has_locked_line(Work *work, const Reservation *line)
{
	Level *level = work_find_level(work, line->product_id, line->location,
								   line->slot);

	return level != NULL && level->locked;
}

/*
 * The due lines that count in a level, or in any (those too whose event is
 * still owed); once levels are locked, in any of those.  Their orders are not
 * locked and need not be; their levels must be before they change.
 */
List *
work_due_lines(Work *work, const Level *level, int max_rows)
{
	Table		 *table = table_use(&work->call, TABLE_RESERVATION);
	IndexScanDesc scan = due_line_scan(&work->call, table, level);
	List		 *due = NIL;

	Assert(max_rows > 0 && (work->orders_locked || work->orders == NIL));
	while (list_length(due) < max_rows && table_scan_next(scan, table))
	{
		Reservation *line = line_read(table->slot, NULL);

		if (work->levels_locked && !work_has_locked_line(work, line))
			continue;
		if (level != NULL && Min(line->slot, 0) != Min(level->slot, 0))
			continue;
		line = due_line_in_memory(work, line_order_id(table->slot), line);
		if (line != NULL && (line_is_due(&work->call, line) ||
							 (level == NULL && line->event_owed)))
			due = lappend(due, line);
	}
	table_scan_end(table, scan);
	return due;
}

/* The pieces of a level's due lines, counted once. */
int64
work_due_quantity(Work *work, Level *level)
{
	Level	 *first = level->first;
	ListCell *cell;

	if (first->due >= 0)
		return first->due;
	first->due = 0;
	foreach(cell, work_due_lines(work, level, INT_MAX))
		first->due += ((Reservation *) lfirst(cell))->quantity;
	return first->due;
}

/* A due line of a locked level is about to be no more due. */
void
level_uncount_due(const Call *call, Level *level, const Reservation *line)
{
	Level *first = level->first;

	if (first->due < 0 || !line_is_due(call, line))
		return;
	Assert(first->due >= line->quantity);
	first->due -= line->quantity;
}

/* An order's lines as they are now, also of one that is not in this work. */
List *
work_order_lines(Work *work, const char *order_id)
{
	Table		 *table = table_use(&work->call, TABLE_RESERVATION);
	ScanKeyData	  key;
	IndexScanDesc scan;
	List		 *lines = NIL;

	table_key_text(&key, 1, order_id);
	scan = table_scan_begin(&work->call, table, "reservation_pkey", 1, &key);
	while (table_scan_next(scan, table))
	{
		Reservation *line = due_line_in_memory(work, order_id,
											   line_read(table->slot, NULL));

		if (line != NULL)
			lines = lappend(lines, line);
	}
	table_scan_end(table, scan);
	return lines;
}
