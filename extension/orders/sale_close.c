/*-------------------------------------------------------------------------
 *
 * orders/sale_close.c
 *	  Closes flash sales: by a call, or by the upkeep once ends_at has passed.
 *
 * Closing a sale moves the quota's row into the product's main slot, with all
 * its lines, in whatever state they are, and deletes it.  A session that waited
 * for its lock finds no row, and knows by that that the sale has closed.
 *
 * The upkeep (sql/sale_end.sql) ends a sale by the same steps, under the same
 * locks, in one transaction: a process that is killed leaves the sale open, and
 * due.  A purchase that has begun before ends_at and holds the quota's lock
 * is completed first; one that begins later is refused by its time, whether the
 * sale has been closed yet or not.
 *
 * A call that closes a sale which has ended by itself meanwhile answers what
 * the end has left, as it would have been answered had it been first.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/statistics.h"
#include "orders/orders.h"

PGSTOCK_COUNTED_FUNCTION(pgstock_close_flash_sale, CALL_CLOSE_FLASH_SALE);
PG_FUNCTION_INFO_V1(pgstock_end_sale);

static void
sale_raise_not_open(const char *activity_id, const char *why)
{
	ereport(ERROR, (errcode(ERRCODE_SK_NOT_OPEN),
					errmsg("flash sale \"%s\" is not open", activity_id),
					errdetail("%s", why),
					errhint("A sale can be closed once, after open_flash_sale "
							"has opened it.")));
}

/* Moves a sale's lines to the main slot; those that are due expire. */
static void
sale_lines_move(Work *work, const Sale *sale)
{
	List		  *lines = sale_lines(work, sale->activity_id, NULL);
	List		  *due = NIL;
	ListCell	  *cell;
	int64 reserved PG_USED_FOR_ASSERTS_ONLY = 0;

	foreach(cell, lines)
	{
		if (line_is_due(&work->call, lfirst(cell)))
			due = lappend(due, lfirst(cell));
	}
	expire_lines(work, due);
	foreach(cell, lines)
	{
		Reservation *line = lfirst(cell);

		/* What was due is on its way to be written already. */
		if (!line->dirty)
			work_add_other_line(work, line);
		line_move(line, SLOT_MAIN);
		reserved += line->state == LINE_RESERVED ? line->quantity : 0;
	}
	Assert(reserved ==
		   work_find_level(work, sale->product_id, sale->location, sale->slot)
			   ->reserved);
}

/* Moves the whole level of the quota into the main slot. */
static void
sale_quota_return(Work *work, const Sale *sale, Level *home, Level *quota)
{
	int64 on_hand = quota->on_hand;
	int64 reserved = quota->reserved;

	Assert(quota->locked && home->locked && quota->first != home->first);
	level_change(work, quota, -on_hand, -reserved, "sale_closed", NULL, NULL,
				 sale->activity_id);
	level_change(work, home, on_hand, reserved, "sale_closed", NULL, NULL,
				 sale->activity_id);
	level_delete(quota);
	event_emit_level(work, home, "sale_closed", sale->activity_id);
}

/*
 * Locks the levels of a sale and closes it; the pieces that were left, or
 * SALE_NOT_ENDED: it was closed while this session waited for its lock.
 */
static int64
sale_close(Work *work, const Sale *sale, bool by_itself)
{
	Level *home = work_request_all_slots(work, sale->product_id,
										 sale->location);
	Level *quota = work_request_level(work, sale->product_id, sale->location,
									  sale->slot);
	int64  left;

	Assert(!sale->closed);
	work_read_levels(work);
	work_lock_levels(work);
	if (!quota->known)
		return SALE_NOT_ENDED;
	sale_lines_move(work, sale);
	left = quota->on_hand - quota->reserved;
	Assert(left >= 0); /* a quota has no back-orders */
	sale_quota_return(work, sale, home, quota);
	sale_mark_closed(&work->call, sale->activity_id,
					 by_itself ? left : SALE_NOT_ENDED);
	return left;
}

/*
 * close_flash_sale(activity_id text) RETURNS bigint
 *
 * The number that was left, and is ordinary stock again.
 */
static Datum
pgstock_close_flash_sale_body(PG_FUNCTION_ARGS)
{
	char *activity_id = args_id(fcinfo, 0, "activity_id");
	Work  work;
	Sale *sale;
	int64 left = SALE_NOT_ENDED;

	work_begin(&work, "close_flash_sale()");
	work_lock_orders(&work);
	sale = sale_find(&work.call, activity_id);
	if (sale == NULL)
		sale_raise_not_open(activity_id, "It was never opened.");
	if (!sale->closed)
		left = sale_close(&work, sale, false);
	if (left == SALE_NOT_ENDED)
	{
		/* closed before, perhaps while we waited */
		left = sale_find(&work.call, activity_id)->left_at_end;
		if (left == SALE_NOT_ENDED)
			sale_raise_not_open(activity_id, "It was closed before.");
		durability_fence_answer();
	}
	work_end(&work);
	PG_RETURN_INT64(left);
}

/*
 * end_sale(activity_id text) RETURNS boolean
 *
 * Ends a sale that is open and past its end; whether it has.
 */
Datum
pgstock_end_sale(PG_FUNCTION_ARGS)
{
	char *activity_id = args_id(fcinfo, 0, "activity_id");
	bool  ended = false;
	Work  work;
	Sale *sale;

	work_begin(&work, "end_sale()");
	work_lock_orders(&work);
	sale = sale_find(&work.call, activity_id);
	if (sale != NULL && !sale->closed && sale->ends_at <= work.call.now)
		ended = sale_close(&work, sale, true) != SALE_NOT_ENDED;
	work_end(&work);
	PG_RETURN_BOOL(ended);
}
