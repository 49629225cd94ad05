/*-------------------------------------------------------------------------
 *
 * orders/expire.c
 *	  Expires due lines.
 *
 * A due line counts as expired in every answer from the moment it is due,
 * though its row is still reserved; so nothing here is urgent.  A call that
 * needs the line's stock expires it, or expire_reservations does, under the
 * lock of its level.  The order is locked for the event.  If another session
 * holds the order, the event is owed: the line has expired, but keeps its
 * due_at, by which a later call finds it.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/timestamp.h"

#include "base/statistics.h"
#include "orders/orders.h"

PGSTOCK_COUNTED_FUNCTION(pgstock_expire_reservations, CALL_EXPIRE_RESERVATIONS);
PG_FUNCTION_INFO_V1(pgstock_expire_free);
PG_FUNCTION_INFO_V1(pgstock_expire_first);

/*
 * What could be taken of a level if its due lines expired; they are read only
 * if there is not enough without them.  They are counted twice at most, before
 * the levels are locked and after: all reads before are of one snapshot, and
 * afterwards no other session changes them.
 */
int64
expire_reachable(Work *work, Level *level, int64 wanted)
{
	int64 available = level_available(level);

	Assert(wanted > 0);
	if (work->levels_locked)
		level_require(level, wanted);
	if (available >= wanted)
		return available;
	return Max(0, level_unreserved(level) + level_sum(level).backorder_limit +
					  work_due_quantity(work, level));
}

/* Expires a locked level's due lines if the wanted quantity needs them. */
void
expire_make_room(Work *work, Level *level, int64 wanted)
{
	Assert(work->levels_locked && wanted > 0);
	if (level_available(level) < wanted && work_due_quantity(work, level) > 0)
		expire_lines(work, work_due_lines(work, level, INT_MAX));
}

static int
expire_compare_orders(const ListCell *a, const ListCell *b)
{
	const Reservation *x = lfirst(a);
	const Reservation *y = lfirst(b);
	int				   difference;

	difference = strcmp(x->order->order_id, y->order->order_id);
	return difference != 0 ? difference
						   : level_key_compare(x->product_id, x->location,
											   y->product_id, y->location);
}

/* Expires a line, unless it has expired and only its event is owed. */
static Answer *
expire_line(Work *work, Reservation *line)
{
	Level  *level = work_find_level(work, line->product_id, line->location,
									line->slot);
	Answer *answer;

	Assert(level != NULL &&
		   (line_is_due(&work->call, line) || line->event_owed));
	Assert(level->locked);
	if (!line->event_owed)
	{
		level_uncount_due(&work->call, level, line);
		level_change(work, level, 0, -line->quantity, "expired",
					 line->order->order_id, NULL, NULL);
		line_end(&work->call, line, LINE_EXPIRED, NULL);
	}
	/* The order is not in this work: keep its line to be written. */
	if (!line->order->loaded)
		work_add_other_line(work, line);
	answer = answer_of_line(work, line, line->quantity);
	answer->status = ANSWER_EXPIRED;
	return answer;
}

/* How many lines of an order this work does not hold could make an event. */
static int
expire_count_lines_elsewhere(Work *work, const Reservation *line)
{
	int		  n = 0;
	ListCell *cell;

	foreach(cell, work_order_lines(work, line->order->order_id))
	{
		const Reservation *other = lfirst(cell);

		n += (other->state == LINE_RESERVED || other->state == LINE_CONFIRMED ||
			  other->event_owed) &&
			 !work_has_locked_line(work, other);
	}
	return n;
}

/*
 * Whether this transaction may emit the event that lines of an order have
 * expired.  The events of one order must commit in the order of their seq, and
 * a level's lock ensures that only for the lines that count in it: a session
 * that expires another line, or adds one, may commit before or after.  So the
 * order is locked too.  The levels are locked already, so this must not wait:
 * if another session holds the order, the event is owed.  The number of these
 * locks is limited, because the lock table is shared; beyond it, only orders
 * qualify whose lines are all locked by this work, for then the next session
 * that locks the order waits for one of them.
 */
static bool
expire_may_report(Work *work, const Reservation *line)
{
	const char *order_id = line->order->order_id;
	bool		alone;

	Assert(work->levels_locked);
	if (work_find_order(work, order_id) != NULL)
		return true;
	if (!work_try_lock_order(order_id))
		return false;
	if (work_keep_order_lock(work))
		return true;
	alone = expire_count_lines_elsewhere(work, line) == 0;
	work_unlock_order(order_id);
	return alone;
}

/*
 * Emits that an order has expired.  If it is not the one that a message is
 * about, which needed its stock, it has nothing of that message but the trace.
 */
static void
expire_emit(Work *work, Event *event, int first_movement)
{
	CallMessage message;

	call_suspend_message(&work->call, event->order_id, &message);
	event_emit_movements(work, event, first_movement);
	call_resume_message(&work->call, &message);
}

/* Expires the due lines of an order; their number. */
static int
expire_order(Work *work, List *lines, int first, Event *event)
{
	Reservation *line = list_nth(lines, first);
	const char	*order_id = line->order->order_id;
	bool		 report = expire_may_report(work, line);
	int			 movement = list_length(work->movements);
	int			 done = 0;
	ListCell	*cell;

	event->items = NIL;
	event->order_id = order_id;
	event->user_id = line->user_id;
	for_each_from(cell, lines, first)
	{
		line = lfirst(cell);
		if (strcmp(line->order->order_id, order_id) != 0)
			break;
		if (line->event_owed && !report)
			continue;
		event->items = lappend(event->items, expire_line(work, line));
		line_set_event_owed(line, !report);
		done++;
	}
	Assert(list_length(event->items) == done);
	if (report)
	{
		Assert(done > 0);
		expire_emit(work, event, movement);
		return done;
	}
	ledger_link_no_event(work, movement);
	return done;
}

/*
 * Expires due lines whose levels are locked: one event for each order, now or
 * owed.  The number of lines that were changed.
 */
int
expire_lines(Work *work, List *lines)
{
	Event event = {.type = "StockExpired"};
	int	  done = 0;

	Assert(work->levels_locked);
	list_sort(lines, expire_compare_orders);
	for (int i = 0; i < list_length(lines); i++)
	{
		const Reservation *line = list_nth(lines, i);

		if (i == 0 ||
			strcmp(((Reservation *) list_nth(lines, i - 1))->order->order_id,
				   line->order->order_id) != 0)
			done += expire_order(work, lines, i, &event);
	}
	Assert(done <= list_length(lines));
	return done;
}

/* An order's own due lines, of any attempt, and those with an event owed. */
List *
expire_find_own(Work *work, const Order *order)
{
	List	 *due = NIL;
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		/* One that fell due while we waited for locks is left for later. */
		if (work->levels_locked && !work_has_locked_line(work, line))
			continue;
		if (line_is_due(&work->call, line) || line->event_owed)
			due = lappend(due, line);
	}
	return due;
}

/* Requests their levels. */
void
expire_request_own_levels(Work *work, const Order *order)
{
	ListCell *cell;

	foreach(cell, expire_find_own(work, order))
	{
		Reservation *line = lfirst(cell);

		work_request_level(work, line->product_id, line->location, line->slot);
	}
}

/*
 * Expires up to max_rows due lines, of the levels of the first few of them;
 * their number.  Without waiting, levels that other sessions hold are left out,
 * and events of orders that other sessions hold stay owed.
 */
static int
expire_batch(int first, int max_rows, bool wait)
{
	Work	  work;
	List	 *lines;
	ListCell *cell;
	int		  done;

	Assert(first > 0 && first <= max_rows);
	work_begin(&work, "expire_reservations()");
	lines = work_due_lines(&work, NULL, first);
	foreach(cell, lines)
	{
		Reservation *line = lfirst(cell);

		if (wait && line->event_owed)
			work_request_order(&work, line->order->order_id);
	}
	work_lock_orders(&work);
	foreach(cell, lines)
	{
		Reservation *line = lfirst(cell);

		work_request_level(&work, line->product_id, line->location, line->slot);
	}
	work_read_levels(&work);
	if (wait)
		work_lock_levels(&work);
	else
		work_lock_free_levels(&work);
	/* Again: only lines that are still due now that their levels are locked. */
	done = expire_lines(&work, work_due_lines(&work, NULL, max_rows));
	work_end(&work);
	return done;
}

/* expire_reservations(max_rows int) RETURNS int */
static Datum
pgstock_expire_reservations_body(PG_FUNCTION_ARGS)
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
