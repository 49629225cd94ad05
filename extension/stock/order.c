/*-------------------------------------------------------------------------
 *
 * stock/order.c
 *	  Orders of a unit of work: requested, locked, their lines read.
 *
 * An order has no row: it is its lines.  Its lock is on its id, so that it
 * exists before the first line does.  A call about one line of an order reads
 * no more lines than it needs.
 *
 * The lines of an order that was confirmed long ago are in the history
 * (sql/history.sql).  A call that settles the order moves them back first.  A
 * call that reserves does not look there: nearly all orders are new, and it
 * would look into each month.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "stock/stock.h"

/* Orders outside the work that it keeps locked, for their events. */
#define EVENT_LOCKS_MAX 1000

/* ---- Lines of an order, sorted by attempt and key ---- */

static int
order_line_compare_key(const Reservation *line, int attempt,
					   const char *product_id, const char *location)
{
	if (line->attempt != attempt)
		return line->attempt < attempt ? -1 : 1;
	return level_key_compare(line->product_id, line->location, product_id,
							 location);
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

		if (order_line_compare_key(list_nth(order->lines, middle), attempt,
								   product_id, location) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* A line of an order, or NULL. */
Reservation *
order_find_line(const Order *order, int attempt, const char *product_id,
				const char *location)
{
	int			 place = order_line_place(order, attempt, product_id, location);
	Reservation *line;

	if (place == list_length(order->lines))
		return NULL;
	line = list_nth(order->lines, place);
	return order_line_compare_key(line, attempt, product_id, location) == 0
			   ? line
			   : NULL;
}

/* Adds a line at its place; those of a new attempt are the last ones. */
void
order_add_line(Order *order, Reservation *line)
{
	Assert(line->order == order);
	Assert(order_find_line(order, line->attempt, line->product_id,
						   line->location) == NULL);
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

/* ---- Orders of the work ---- */

static int
order_compare(const ListCell *a, const ListCell *b)
{
	return strcmp(((Order *) lfirst(a))->order_id,
				  ((Order *) lfirst(b))->order_id);
}

/* Adds the row of a line that the order does not have yet. */
Reservation *
order_new_line(Order *order, int attempt, const Line *line)
{
	Reservation *row = palloc0(sizeof(Reservation));

	Assert(attempt > 0);
	row->order = order;
	row->attempt = attempt;
	row->product_id = line->product_id;
	row->location = line->location;
	row->is_new = true;
	order_add_line(order, row);
	return row;
}

/* The order's lines are those of this attempt from now on. */
void
order_set_attempt(Order *order, int attempt)
{
	Assert(attempt >= order->attempt && attempt <= order->attempt + 1);
	order->attempt = attempt;
}

/* The order in this work, or NULL. */
Order *
work_find_order(Work *work, const char *order_id)
{
	int low = 0;
	int high = list_length(work->orders);

	Assert(work->orders_locked || work->orders == NIL);
	while (low < high)
	{
		int	   middle = (low + high) / 2;
		Order *order = list_nth(work->orders, middle);
		int	   difference = strcmp(order_id, order->order_id);

		if (difference == 0)
			return order;
		if (difference < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/*
 * Locks an order beside those of this work, unless another session holds it.
 * It does not wait, so levels may be locked already.
 */
bool
work_try_lock_order(const char *order_id)
{
	return lock_try_acquire(LOCK_ORDER, order_id);
}

/*
 * Keeps that lock until the end of the transaction; false: too many are kept,
 * and the lock table is shared.
 */
bool
work_keep_order_lock(Work *work)
{
	if (work->event_locks == EVENT_LOCKS_MAX)
		return false;
	work->event_locks++;
	return true;
}

/* Releases that lock. */
void
work_unlock_order(const char *order_id)
{
	lock_release(LOCK_ORDER, order_id);
}

/* Requests an order, to be locked with the others. */
Order *
work_request_order(Work *work, const char *order_id)
{
	Order *order = palloc0(sizeof(Order));

	Assert(!work->orders_locked);
	order->order_id = pstrdup(order_id);
	work->orders = lappend(work->orders, order);
	return order;
}

/* Requests only these lines of it, or (NIL) all; with live, a live one too. */
void
order_request_lines(Order *order, List *lines, bool live)
{
	Assert(!order->loaded);
	order->asked = lines;
	order->if_live = live;
}

/* Requests the order's lines from the history if there are none here. */
void
order_request_history(Order *order)
{
	Assert(!order->loaded);
	order->with_history = true;
}

/*
 * Reads the order's last line, and continues from there until one is live, if
 * that is requested.  As a rule it is the last; false if there is none.
 */
static bool
order_load_last(Call *call, Order *order)
{
	Table		 *table = table_use(call, TABLE_RESERVATION);
	ScanKeyData	  key;
	IndexScanDesc scan;
	Reservation	 *line = NULL;
	bool		  enough = false;

	Assert(order->asked != NIL && order->lines == NIL);
	table_key_text(&key, 1, order->order_id);
	scan = table_scan_begin(call, table, "reservation_pkey", 1, &key);
	while (!enough && table_scan_back(scan, table))
	{
		line = line_read(table->slot, order);
		if (order->attempt == 0)
			order->attempt = line->attempt;
		if (line->attempt != order->attempt)
			break;
		enough = !order->if_live || line_is_live(call, line);
	}
	table_scan_end(table, scan);
	if (enough)
		order->lines = list_make1(line);
	return enough;
}

/* Reads a line of the order's latest attempt, if it has it. */
static void
order_load_line(Call *call, Order *order, const Line *asked)
{
	Table		   *table = table_use(call, TABLE_RESERVATION);
	ScanKeyData		keys[4];
	ItemPointerData tid;

	if (order_find_line(order, order->attempt, asked->product_id,
						asked->location) != NULL)
		return;
	Assert(order->attempt > 0);
	table_key_text(&keys[0], 1, order->order_id);
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(order->attempt));
	table_key_text(&keys[2], 3, asked->product_id);
	table_key_text(&keys[3], 4, asked->location);
	if (table_find(call, table, "reservation_pkey", 4, keys, &tid))
		order_add_line(order, line_read(table->slot, order));
}

/*
 * Reads the requested lines of an order: a call about one line of thousands
 * must not read them all, or to add them one by one would be quadratic.  False
 * if all of the latest attempt are needed, for none is live.
 */
static bool
order_load_asked(Call *call, Order *order)
{
	ListCell *cell;

	if (order->asked == NIL || !order_load_last(call, order))
		return false;
	foreach(cell, order->asked)
		order_load_line(call, order, lfirst(cell));
	return true;
}

/* Reads an order's lines as they are now. */
static void
order_load(Call *call, Order *order)
{
	Table		 *table = table_use(call, TABLE_RESERVATION);
	ScanKeyData	  keys[2];
	int			  n = 1;
	IndexScanDesc scan;

	order->lines = NIL;
	order->attempt = 0;
	order->loaded = true;
	if (order_load_asked(call, order))
		return;
	table_key_text(&keys[0], 1, order->order_id);
	if (order->asked != NIL)
		ScanKeyInit(&keys[n++], 2, BTEqualStrategyNumber, F_INT4EQ,
					Int32GetDatum(order->attempt));
	scan = table_scan_begin(call, table, "reservation_pkey", n, keys);
	while (table_scan_next(scan, table))
	{
		Reservation *line = line_read(table->slot, order);

		Assert(order->lines == NIL ||
			   order_line_compare_key(llast(order->lines), line->attempt,
									  line->product_id, line->location) < 0);
		order->lines = lappend(order->lines, line);
		order->attempt = Max(order->attempt, line->attempt);
	}
	table_scan_end(table, scan);
	Assert((order->lines == NIL) == (order->attempt == 0));
}

/* Whether a month was ever added to the history; a hint. */
static bool
order_history_has_months(void)
{
	Oid		  oid = relation_get_oid("reservation_history");
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(oid));
	bool	  has;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", oid);
	has = ((Form_pg_class) GETSTRUCT(tuple))->relhassubclass;
	ReleaseSysCache(tuple);
	return has;
}

/*
 * Moves the lines of an order back from the history, and reads them.  By SQL,
 * since the history has a table for each month; the call is rare.
 *
 * The upkeep may have added the order's month since this transaction opened
 * these tables: an advisory lock and a table that is open already bring no
 * invalidations, so they are accepted here.
 */
static void
order_recall(Call *call, Order *order)
{
	Oid	  argument = TEXTOID;
	List *name = list_make2(makeString("pgstock_internal"),
							makeString("recall_order"));
	Oid	  function;

	Assert(order->loaded && order->lines == NIL);
	AcceptInvalidationMessages();
	if (!order_history_has_months())
		return;
	function = LookupFuncName(name, 1, &argument, false);
	if (!DatumGetBool(
			OidFunctionCall1(function, CStringGetTextDatum(order->order_id))))
		return;
	call_refresh_snapshot();
	order_load(call, order);
}

/*
 * Above READ COMMITTED our snapshot may be older than the lock: then a change
 * of the order in between is a conflict.
 */
static void
order_check_snapshot(Call *call, Order *order)
{
	List	 *seen = order->lines;
	ListCell *cell;

	PushActiveSnapshot(GetLatestSnapshot());
	order_load(call, order);
	PopActiveSnapshot();
	if (list_length(seen) != list_length(order->lines))
		table_raise_conflict();
	foreach(cell, seen)
	{
		Reservation *then = lfirst(cell);
		Reservation *now = list_nth(order->lines, foreach_current_index(cell));

		if (!ItemPointerEquals(&then->tid, &now->tid))
			table_raise_conflict();
	}
}

/* Locks all wanted orders in their order, and reads their lines. */
void
work_lock_orders(Work *work)
{
	List	 *wanted = work->orders;
	ListCell *cell;
	Order	 *last = NULL;

	Assert(!work->orders_locked && !work->levels_locked);
	list_sort(wanted, order_compare);
	work->orders = NIL;
	foreach(cell, wanted)
	{
		Order *order = lfirst(cell);

		if (last != NULL && strcmp(last->order_id, order->order_id) == 0)
		{
			last->with_history |= order->with_history;
			last->asked = NIL; /* requested twice: all lines */
			continue;
		}
		Assert(last == NULL || strcmp(last->order_id, order->order_id) < 0);
		lock_acquire(&work->call, LOCK_ORDER, order->order_id);
		work->orders = lappend(work->orders, order);
		last = order;
	}
	Assert(list_length(work->orders) <= list_length(wanted));
	work->orders_locked = true;

	/* Shows what was committed to these orders before they were locked. */
	call_refresh_snapshot();
	foreach(cell, work->orders)
	{
		Order *order = lfirst(cell);

		order_load(&work->call, order);
		if (order->lines == NIL && order->with_history)
			order_recall(&work->call, order);
		if (IsolationUsesXactSnapshot())
			order_check_snapshot(&work->call, order);
	}
}

/* The lines of the orders that have any, as they are now. */
void
work_load_orders_again(Work *work)
{
	ListCell *cell;

	foreach(cell, work->orders)
	{
		Order *order = lfirst(cell);

		if (order->lines != NIL)
			order_load(&work->call, order);
	}
}
