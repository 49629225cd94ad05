/*-------------------------------------------------------------------------
 *
 * stock/work.c
 *	  The unit of work: what one call touches, locked in the one order,
 *	  changed in memory, written at the end.
 *
 * Lock order, for every function and batch (base/lock.h has all of it):
 *
 *		message ids -> idempotency keys -> orders -> levels (level_lock.c)
 *
 * each kind sorted by its bytes.  Ids, keys and orders are advisory locks, so
 * they exist before the row does.  A level's row lock covers the lines that
 * count in it: no session changes a line without holding its level's lock, and
 * expiry changes lines without holding their order's.  So a call that settles
 * an order reads its lines, locks their levels, and reads the lines again
 * (work_lock_levels).  For its event expiry locks the order last, and so
 * without waiting (expire.c).
 *
 * Writes are: lines, movements, levels.  The hot row comes last, and each row
 * is written once however often the call has changed it.
 *
 * Snapshots are those of the call (base/call.c): a new one after the orders and
 * another after the levels are locked.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "stock/stock.h"

/* Columns, as sql/tables.sql has them. */
enum
{
	LINE_ORDER = 1,
	LINE_ATTEMPT,
	LINE_PRODUCT,
	LINE_LOCATION,
	LINE_SLOT,
	LINE_QUANTITY,
	LINE_STATE,
	LINE_USER,
	LINE_CREATED_AT,
	LINE_EXPIRES_AT,
	LINE_DUE_AT,
	LINE_ENDED_AT,
	LINE_REASON,
	LINE_PAYMENT,
	LINE_ACTIVITY,
	LINE_RETAKE
};
enum
{
	MOVEMENT_ID = 1,
	MOVEMENT_AT,
	MOVEMENT_KIND,
	MOVEMENT_PRODUCT,
	MOVEMENT_LOCATION,
	MOVEMENT_ON_HAND,
	MOVEMENT_RESERVED,
	MOVEMENT_ORDER,
	MOVEMENT_ACTOR,
	MOVEMENT_REASON,
	MOVEMENT_REFERENCE,
	MOVEMENT_EVENT
};

/* ---- Begin and end ---- */

void
work_begin(Work *work, const char *function)
{
	memset(work, 0, sizeof(*work));
	call_begin(&work->call, function);
}

/* ---- Orders and their lines ---- */

static int
order_compare(const ListCell *a, const ListCell *b)
{
	return strcmp(((Order *) lfirst(a))->order_id,
				  ((Order *) lfirst(b))->order_id);
}

/* The order in this work, or NULL. */
Order *
work_order(Work *work, const char *order_id)
{
	int low = 0;
	int high = list_length(work->orders);

	Assert(work->orders_locked);
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
 * It does not wait, so it may come after levels.
 */
bool
work_try_lock_order(const char *order_id)
{
	return lock_try_acquire(LOCK_ORDER, order_id);
}

/* Releases that lock. */
void
work_unlock_order(const char *order_id)
{
	lock_release(LOCK_ORDER, order_id);
}

/* Says that the order will be needed; to be locked with the others. */
Order *
work_want_order(Work *work, const char *order_id)
{
	Order *order = palloc0(sizeof(Order));

	Assert(!work->orders_locked);
	order->order_id = pstrdup(order_id);
	work->orders = lappend(work->orders, order);
	return order;
}

static Reservation *
line_read(TupleTableSlot *slot, Order *order)
{
	Reservation *line = palloc0(sizeof(Reservation));

	line->order = order;
	line->attempt = DatumGetInt32(slot->tts_values[LINE_ATTEMPT - 1]);
	line->product_id = row_get_text(slot, LINE_PRODUCT);
	line->location = row_get_text(slot, LINE_LOCATION);
	line->slot = DatumGetInt32(slot->tts_values[LINE_SLOT - 1]);
	line->quantity = row_get_int64(slot, LINE_QUANTITY);
	line->state = DatumGetChar(slot->tts_values[LINE_STATE - 1]);
	line->user_id = row_get_text(slot, LINE_USER);
	line->created_at = row_get_time(slot, LINE_CREATED_AT, 0);
	line->expires_at = row_get_time(slot, LINE_EXPIRES_AT, DT_NOEND);
	line->ended_at = row_get_time(slot, LINE_ENDED_AT, DT_NOBEGIN);
	line->owed = line->state == LINE_EXPIRED &&
				 !slot->tts_isnull[LINE_DUE_AT - 1];
	line->reason = row_get_text(slot, LINE_REASON);
	line->payment_id = row_get_text(slot, LINE_PAYMENT);
	line->activity_id = row_get_text(slot, LINE_ACTIVITY);
	if (!slot->tts_isnull[LINE_RETAKE - 1])
		line->retake = DatumGetBool(slot->tts_values[LINE_RETAKE - 1])
						   ? RETAKE_YES
						   : RETAKE_NO;
	line->tid = slot->tts_tid;
	return line;
}

/*
 * Reads the order's last line, and goes on from there until one is live, if
 * that is asked.  As a rule it is the last; false if there is none.
 */
static bool
order_load_last(Call *call, Order *order)
{
	Table		 *table = table_use(call, TABLE_RESERVATION);
	ScanKeyData	  key;
	IndexScanDesc scan;
	Reservation	 *line = NULL;
	bool		  enough = false;

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

	if (order_line(order, order->attempt, asked->product_id, asked->location) !=
		NULL)
		return;
	table_key_text(&keys[0], 1, order->order_id);
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(order->attempt));
	table_key_text(&keys[2], 3, asked->product_id);
	table_key_text(&keys[3], 4, asked->location);
	if (table_find(call, table, "reservation_pkey", 4, keys, &tid))
		order_add_line(order, line_read(table->slot, order));
}

/*
 * Reads of an order what is asked for: a call about one line of thousands must
 * not read them all, or to add them one by one would be quadratic.  False if
 * all of the latest attempt are needed, for none is live.
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

		order->lines = lappend(order->lines, line);
		order->attempt = Max(order->attempt, line->attempt);
	}
	table_scan_end(table, scan);
}

/*
 * Above READ COMMITTED our snapshot may be older than the lock: then what
 * others did to the order in between is a conflict.
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
		table_conflict();
	foreach(cell, seen)
	{
		Reservation *then = lfirst(cell);
		Reservation *now = list_nth(order->lines, foreach_current_index(cell));

		if (!ItemPointerEquals(&then->tid, &now->tid))
			table_conflict();
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
			continue;
		lock_acquire(&work->call, LOCK_ORDER, order->order_id);
		work->orders = lappend(work->orders, order);
		last = order;
	}
	work->orders_locked = true;

	/* What others did to these orders before we had the locks. */
	call_refresh_snapshot();
	foreach(cell, work->orders)
	{
		order_load(&work->call, lfirst(cell));
		if (IsolationUsesXactSnapshot())
			order_check_snapshot(&work->call, lfirst(cell));
	}
}

/* A line's name among those of all orders. */
static char *
line_name(const char *order_id, const Reservation *line)
{
	return name_of(psprintf("%d %s", line->attempt, order_id), line->product_id,
				   line->location);
}

/* Keeps a changed line of an order that is not in this work, to be written. */
void
work_add_stray(Work *work, Reservation *line)
{
	work->strays = lappend(work->strays, line);
	name_map_put(&work->stray_names, line_name(line->order->order_id, line),
				 line);
}

/*
 * The one place in memory of a row just read, whatever its order: a line of an
 * order of this work, one that this work has changed, or a new one.
 */
static Reservation *
line_in_memory(Work *work, const char *order_id, Reservation *line)
{
	Order		*order = work_order(work, order_id);
	Reservation *stray = NULL;

	if (order != NULL)
	{
		stray = order_line(order, line->attempt, line->product_id,
						   line->location);
		if (stray != NULL || order->asked == NIL)
			return stray;
		line->order = order;
		order_add_line(order, line);
		return line;
	}
	if (work->strays != NIL)
		stray = name_map_find(&work->stray_names, line_name(order_id, line));
	if (stray != NULL)
		return stray;
	order = palloc0(sizeof(Order));
	order->order_id = pstrdup(order_id);
	order->lines = list_make1(line);
	line->order = order;
	return line;
}

/* A scan of the due lines of a level, or of all. */
static IndexScanDesc
due_scan(Call *call, Table *table, const Level *level)
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
work_holds_line(Work *work, const Reservation *line)
{
	Level *level = work_level(work, line->product_id, line->location,
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
	IndexScanDesc scan = due_scan(&work->call, table, level);
	List		 *due = NIL;

	while (list_length(due) < max_rows && table_scan_next(scan, table))
	{
		Reservation *line = line_read(table->slot, NULL);

		if (work->levels_locked && !work_holds_line(work, line))
			continue;
		if (level != NULL && Min(line->slot, 0) != Min(level->slot, 0))
			continue;
		line = line_in_memory(work, row_get_text(table->slot, LINE_ORDER),
							  line);
		if (line != NULL &&
			(line_is_due(&work->call, line) || (level == NULL && line->owed)))
			due = lappend(due, line);
	}
	table_scan_end(table, scan);
	return due;
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
		Reservation *line = line_in_memory(work, order_id,
										   line_read(table->slot, NULL));

		if (line != NULL)
			lines = lappend(lines, line);
	}
	table_scan_end(table, scan);
	return lines;
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

static void
line_write(Call *call, Reservation *line)
{
	Table		   *table = table_use(call, TABLE_RESERVATION);
	TupleTableSlot *slot;

	if (!line->is_new && IsolationUsesXactSnapshot() &&
		!table_lock_row(table, &line->tid))
		elog(ERROR, "a line of order \"%s\" vanished", line->order->order_id);

	slot = table_new_row(table);
	row_put_text(slot, LINE_ORDER, line->order->order_id);
	row_put(slot, LINE_ATTEMPT, Int32GetDatum(line->attempt));
	row_put_text(slot, LINE_PRODUCT, line->product_id);
	row_put_text(slot, LINE_LOCATION, line->location);
	row_put(slot, LINE_SLOT, Int32GetDatum(line->slot));
	row_put(slot, LINE_QUANTITY, Int64GetDatum(line->quantity));
	row_put(slot, LINE_STATE, CharGetDatum((char) line->state));
	row_put_text(slot, LINE_USER, line->user_id);
	row_put(slot, LINE_CREATED_AT, TimestampTzGetDatum(line->created_at));
	if (line->expires_at != DT_NOEND)
	{
		row_put(slot, LINE_EXPIRES_AT, TimestampTzGetDatum(line->expires_at));
		if (line->state == LINE_RESERVED || line->owed)
		{
			row_put(slot, LINE_DUE_AT, TimestampTzGetDatum(line->expires_at));
			due_time_note(line->expires_at);
		}
	}
	if (line->ended_at != DT_NOBEGIN)
		row_put(slot, LINE_ENDED_AT, TimestampTzGetDatum(line->ended_at));
	row_put_text(slot, LINE_REASON, line->reason);
	row_put_text(slot, LINE_PAYMENT, line->payment_id);
	row_put_text(slot, LINE_ACTIVITY, line->activity_id);
	if (line->retake != RETAKE_BY_STATE)
		row_put(slot, LINE_RETAKE, BoolGetDatum(line->retake == RETAKE_YES));

	if (line->is_new)
		table_insert(call, table);
	else
		table_update(call, table, &line->tid);
}

/* ---- The ledger ---- */

static void
movement_write(Call *call, const Movement *movement, Oid sequence)
{
	Table		   *table = table_use(call, TABLE_MOVEMENT);
	TupleTableSlot *slot = table_new_row(table);

	row_put(slot, MOVEMENT_ID,
			Int64GetDatum(nextval_internal(sequence, false)));
	row_put(slot, MOVEMENT_AT, TimestampTzGetDatum(call->now));
	row_put_text(slot, MOVEMENT_KIND, movement->kind);
	row_put_text(slot, MOVEMENT_PRODUCT, movement->level->product_id);
	row_put_text(slot, MOVEMENT_LOCATION, movement->level->location);
	row_put(slot, MOVEMENT_ON_HAND, Int64GetDatum(movement->on_hand_delta));
	row_put(slot, MOVEMENT_RESERVED, Int64GetDatum(movement->reserved_delta));
	row_put_text(slot, MOVEMENT_ORDER, movement->order_id);
	row_put_text(slot, MOVEMENT_ACTOR, call->actor);
	row_put_text(slot, MOVEMENT_REASON, movement->reason);
	row_put_text(slot, MOVEMENT_REFERENCE, movement->reference);
	if (movement->has_event)
		row_put(slot, MOVEMENT_EVENT, UUIDPGetDatum(&movement->event_id));
	table_insert(call, table);
}

static void
work_write_movements(Work *work)
{
	ListCell *cell;
	Oid		  sequence;

	if (work->movements == NIL)
		return;
	sequence = table_sequence(&work->call, "movement_id");
	foreach(cell, work->movements)
		movement_write(&work->call, lfirst(cell), sequence);
}

/* Writes what has changed, and ends the call. */
void
work_end(Work *work)
{
	ListCell *cell;
	ListCell *each;

	foreach(cell, work->orders)
	{
		foreach(each, ((Order *) lfirst(cell))->lines)
		{
			if (((Reservation *) lfirst(each))->dirty)
				line_write(&work->call, lfirst(each));
		}
	}
	foreach(cell, work->strays)
		line_write(&work->call, lfirst(cell));
	work_write_movements(work);
	if (work->refused != NIL)
		refused_write(work);
	work_write_levels(work);
	call_end(&work->call);
}
