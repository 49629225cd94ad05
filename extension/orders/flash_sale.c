/*-------------------------------------------------------------------------
 *
 * orders/flash_sale.c
 *	  Flash sales: a quota of a product's stock, set apart, with a window of
 *	  time and a limit for each user.
 *
 * The quota is a level of its own beside the product's: the same product and
 * location, a slot below SLOT_MAIN.  So a purchase is a reservation like any
 * other, only that its line counts in that slot: it expires, is confirmed,
 * released, rolled back and returned by the code that does so for all lines.
 * The quota's row is what the buyers of a sale lock, and nothing else.
 *
 * A user's count is not stored: it is the sum of the user's live lines in the
 * sale (sale_order finds them).  So it cannot drift, and stock that is returned
 * in any way no longer counts.  It needs no lock of its own: all those lines
 * are covered by the lock of the quota's row, which a purchase holds when it
 * makes the decisive count.
 *
 * How a sale is closed, or ends by itself, is in sale_close.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/sequence.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/statistics.h"
#include "orders/orders.h"

PGSTOCK_COUNTED_FUNCTION(pgstock_open_flash_sale, CALL_OPEN_FLASH_SALE);
PGSTOCK_COUNTED_FUNCTION(pgstock_purchase_flash_sale, CALL_PURCHASE_FLASH_SALE);

/* Columns, as sql/stock_tables.sql has them. */
enum
{
	SALE_ACTIVITY = 1,
	SALE_PRODUCT,
	SALE_LOCATION,
	SALE_SLOT,
	SALE_QUANTITY,
	SALE_PER_USER_LIMIT,
	SALE_STARTS_AT,
	SALE_ENDS_AT,
	SALE_OPENED_AT,
	SALE_CLOSED_AT,
	SALE_LEFT_AT_END
};

enum
{
	BOUGHT_ACTIVITY = 1,
	BOUGHT_USER,
	BOUGHT_ORDER
};

/* ---- Sales as rows ---- */

/* The sale, with its row in the table's slot; or NULL. */
Sale *
sale_find(Call *call, const char *activity_id)
{
	Table		   *table = table_use(call, TABLE_SALE);
	TupleTableSlot *slot = table->slot;
	ItemPointerData tid;
	Sale		   *sale;

	if (!table_find_text(call, table, "sale_pkey", activity_id, &tid))
		return NULL;
	sale = palloc0(sizeof(Sale));
	sale->activity_id = row_get_text(slot, SALE_ACTIVITY);
	sale->product_id = row_get_text(slot, SALE_PRODUCT);
	sale->location = row_get_text(slot, SALE_LOCATION);
	sale->slot = row_get_int32(slot, SALE_SLOT);
	sale->quantity = row_get_int64(slot, SALE_QUANTITY);
	sale->per_user_limit = row_get_int64(slot, SALE_PER_USER_LIMIT);
	sale->starts_at = row_get_time(slot, SALE_STARTS_AT, DT_NOBEGIN);
	sale->ends_at = row_get_time(slot, SALE_ENDS_AT, DT_NOEND);
	sale->closed = row_get_time(slot, SALE_CLOSED_AT, DT_NOEND) != DT_NOEND;
	sale->left_at_end = row_is_null(slot, SALE_LEFT_AT_END)
							? SALE_NOT_ENDED
							: row_get_int64(slot, SALE_LEFT_AT_END);
	Assert(sale->slot < SLOT_MAIN);
	/* 0: all of it has been moved to other databases (sale_move.c) */
	Assert(sale->quantity >= 0 && sale->per_user_limit > 0);
	return sale;
}

/* The slot of a new sale's quota: no other sale has had it. */
int
sale_new_slot(void)
{
	return -(int) nextval_internal(relation_sequence("sale_number"), false);
}

void
sale_insert(Call *call, const Sale *sale)
{
	Table		   *table = table_use(call, TABLE_SALE);
	TupleTableSlot *slot = table_new_row(table);

	Assert(sale->slot < SLOT_MAIN && sale->ends_at > sale->starts_at);
	row_put_text(slot, SALE_ACTIVITY, sale->activity_id);
	row_put_text(slot, SALE_PRODUCT, sale->product_id);
	row_put_text(slot, SALE_LOCATION, sale->location);
	row_put(slot, SALE_SLOT, Int32GetDatum(sale->slot));
	row_put(slot, SALE_QUANTITY, Int64GetDatum(sale->quantity));
	row_put(slot, SALE_PER_USER_LIMIT, Int64GetDatum(sale->per_user_limit));
	row_put(slot, SALE_STARTS_AT, TimestampTzGetDatum(sale->starts_at));
	if (sale->ends_at != DT_NOEND)
		row_put(slot, SALE_ENDS_AT, TimestampTzGetDatum(sale->ends_at));
	row_put(slot, SALE_OPENED_AT, TimestampTzGetDatum(call->now));
	table_insert(call, table);
}

/*
 * Marks a sale as closed; left: what was left when it ended by itself, or
 * SALE_NOT_ENDED.
 */
void
sale_mark_closed(Call *call, const char *activity_id, int64 left)
{
	Change changes[] = {{.column = SALE_CLOSED_AT,
						 .value = TimestampTzGetDatum(call->now)},
						{.column = SALE_LEFT_AT_END,
						 .value = Int64GetDatum(left)}};

	changes[1].isnull = left == SALE_NOT_ENDED;
	(void) sale_find(call, activity_id); /* its row into the table's slot */
	table_update_columns(call, table_use(call, TABLE_SALE), lengthof(changes),
						 changes);
}

/* Changes the quantity of a sale whose quota is locked. */
void
sale_change_quantity(Call *call, const char *activity_id, int64 delta)
{
	Sale  *sale;
	Change change = {.column = SALE_QUANTITY};

	sale = sale_find(call, activity_id);
	Assert(sale != NULL && sale->quantity + delta >= 0);
	change.value = Int64GetDatum(sale->quantity + delta);
	table_update_columns(call, table_use(call, TABLE_SALE), 1, &change);
}

/* ---- Purchases ---- */

static IndexScanDesc
sale_order_scan(Call *call, Table *table, const char *activity_id,
				const char *user_id)
{
	ScanKeyData keys[2];

	table_key_text(&keys[0], 1, activity_id);
	if (user_id != NULL)
		table_key_text(&keys[1], 2, user_id);
	return table_scan_begin(call, table, "sale_order_pkey", user_id ? 2 : 1,
							keys);
}

static int
sale_compare_text(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* The orders of a sale, of one user or of all, each once. */
static List *
sale_order_ids(Call *call, const char *activity_id, const char *user_id)
{
	Table		 *table = table_use(call, TABLE_SALE_ORDER);
	IndexScanDesc scan = sale_order_scan(call, table, activity_id, user_id);
	List		 *found = NIL;
	List		 *orders = NIL;
	ListCell	 *cell;

	while (table_scan_next(scan, table))
		found = lappend(found, row_get_text(table->slot, BOUGHT_ORDER));
	table_scan_end(table, scan);
	list_sort(found, sale_compare_text);
	foreach(cell, found)
	{
		if (orders == NIL || strcmp(llast(orders), lfirst(cell)) != 0)
			orders = lappend(orders, lfirst(cell));
	}
	return orders;
}

/* The lines bought in a sale, by one user or by all, live and ended. */
List *
sale_lines(Work *work, const char *activity_id, const char *user_id)
{
	List	 *lines = NIL;
	ListCell *cell;
	ListCell *each;

	foreach(cell, sale_order_ids(&work->call, activity_id, user_id))
	{
		foreach(each, work_order_lines(work, lfirst(cell)))
		{
			Reservation *line = lfirst(each);

			if (line->activity_id != NULL &&
				strcmp(line->activity_id, activity_id) == 0 &&
				(user_id == NULL || (line->user_id != NULL &&
									 strcmp(line->user_id, user_id) == 0)))
				lines = lappend(lines, line);
		}
	}
	return lines;
}

/* Notes that an order has a line in the sale; it may have had one before. */
static void
sale_order_insert(Call *call, const Request *request)
{
	Table		   *table = table_use(call, TABLE_SALE_ORDER);
	TupleTableSlot *slot;
	ScanKeyData		keys[3];
	ItemPointerData tid;

	Assert(request->activity_id != NULL && request->user_id != NULL);
	table_key_text(&keys[0], 1, request->activity_id);
	table_key_text(&keys[1], 2, request->user_id);
	table_key_text(&keys[2], 3, request->order_id);
	if (table_find(call, table, "sale_order_pkey", 3, keys, &tid))
		return;
	slot = table_new_row(table);
	row_put_text(slot, BOUGHT_ACTIVITY, request->activity_id);
	row_put_text(slot, BOUGHT_USER, request->user_id);
	row_put_text(slot, BOUGHT_ORDER, request->order_id);
	table_insert(call, table);
}

/* ---- The limit ---- */

/* How many pieces of the sale a user has: reserved and not due, or paid. */
static int64
sale_user_pieces(Work *work, const Sale *sale, const char *user_id)
{
	int64	  pieces = 0;
	ListCell *cell;

	Assert(user_id != NULL);
	foreach(cell, sale_lines(work, sale->activity_id, user_id))
	{
		Reservation *line = lfirst(cell);

		if (line_is_live(&work->call, line))
			pieces += line->quantity;
	}
	return pieces;
}

/*
 * Whether the limit lets a line that has ended live again.  What has left its
 * sale is ordinary stock, and a line whose user was forgotten has no limit.
 */
bool
sale_allows(Work *work, const Reservation *line)
{
	Sale *sale;

	Assert(!line_is_live(&work->call, line));
	if (line->slot >= SLOT_MAIN || line->user_id == NULL)
		return true;
	sale = sale_find(&work->call, line->activity_id);
	Assert(sale != NULL);
	return sale_user_pieces(work, sale, line->user_id) + line->quantity <=
		   sale->per_user_limit;
}

/* ---- Opening ---- */

static TimestampTz
sale_time_arg(FunctionCallInfo fcinfo, int n, TimestampTz if_null)
{
	return PG_ARGISNULL(n) ? if_null : PG_GETARG_TIMESTAMPTZ(n);
}

static Sale
sale_args(FunctionCallInfo fcinfo)
{
	Sale sale = {
		.activity_id = args_id(fcinfo, 0, "activity_id"),
		.product_id = args_id(fcinfo, 1, "product_id"),
		.quantity = args_quantity(fcinfo, 2, "quantity"),
		.per_user_limit = PG_ARGISNULL(3)
							  ? 1
							  : args_quantity(fcinfo, 3, "per_user_limit"),
		.starts_at = sale_time_arg(fcinfo, 4,
								   GetCurrentTransactionStartTimestamp()),
		.ends_at = sale_time_arg(fcinfo, 5, DT_NOEND),
		.location = PG_ARGISNULL(6) ? STOCK_MAIN
									: args_id(fcinfo, 6, "location"),
	};

	if (sale.ends_at <= sale.starts_at)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("ends_at must be after starts_at"),
						errhint("Leave ends_at out for a sale that lasts until "
								"it is closed.")));
	return sale;
}

/* Takes the quota out of the level; due reservations do not stand in it. */
static void
sale_quota_take(Work *work, const Sale *sale, Level *home, Level *quota)
{
	/* A sale sells what is there: nothing of it is a back-order. */
	int64 ahead = level_sum(home).backorder_limit;
	int64 wanted = sale->quantity + ahead;
	int64 reachable = expire_reachable(work, home, wanted);

	Assert(quota->slot < SLOT_MAIN && !quota->known);
	if (reachable < wanted)
		level_raise_insufficient(sale->product_id, sale->location,
								 sale->quantity, Max(0, reachable - ahead),
								 "Set less apart, or receive stock first.");
	expire_make_room(work, home, wanted);
	level_make(quota);
	level_change(work, home, -sale->quantity, 0, "sale_opened", NULL, NULL,
				 sale->activity_id);
	level_change(work, quota, sale->quantity, 0, "sale_opened", NULL, NULL,
				 sale->activity_id);
	Assert(quota->on_hand == sale->quantity && quota->reserved == 0);
	event_emit_level(work, home, "sale_opened", sale->activity_id);
}

/*
 * open_flash_sale(activity_id text, product_id text, quantity bigint,
 *				   per_user_limit bigint, starts_at timestamptz,
 *				   ends_at timestamptz, location text) RETURNS void
 */
static Datum
pgstock_open_flash_sale_body(PG_FUNCTION_ARGS)
{
	Sale   sale = sale_args(fcinfo);
	Work   work;
	Level *home;
	Level *quota;

	work_begin(&work, "open_flash_sale()");
	/* Of two sessions one opens it, and the other finds it. */
	lock_acquire(&work.call, LOCK_NEW_SALE, sale.activity_id);
	work_lock_orders(&work);
	if (sale_find(&work.call, sale.activity_id) != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("flash sale \"%s\" was opened before",
							   sale.activity_id),
						errhint("Give each sale an activity_id of its own.")));
	sale.slot = sale_new_slot();
	home = work_request_all_slots(&work, sale.product_id, sale.location);
	quota = work_request_level(&work, sale.product_id, sale.location,
							   sale.slot);
	work_read_levels(&work);
	level_must_exist(home);
	work_lock_levels(&work);
	sale_quota_take(&work, &sale, home, quota);
	sale_insert(&work.call, &sale);
	if (sale.ends_at != DT_NOEND)
		due_time_note(sale.ends_at);
	work_end(&work);
	PG_RETURN_VOID();
}

/* ---- Purchase ---- */

/* Why a purchase is refused whatever is left, or ANSWER_NONE. */
static AnswerStatus
sale_purchase_fault(Work *work, const Sale *sale, const Request *request)
{
	Line *line = linitial(request->lines);

	Assert(list_length(request->lines) == 1);
	if (sale->closed || work->call.now < sale->starts_at ||
		work->call.now >= sale->ends_at)
		return ANSWER_NOT_OPEN;
	/* Closed while we waited for its lock. */
	if (!work_find_level(work, sale->product_id, sale->location, sale->slot)
			 ->known)
		return ANSWER_NOT_OPEN;
	if (sale_user_pieces(work, sale, request->user_id) + line->quantity >
		sale->per_user_limit)
		return ANSWER_OVER_LIMIT;
	return ANSWER_NONE;
}

static List *
sale_purchase_refuse(Work *work, const Request *request, AnswerStatus status)
{
	Line   *line = linitial(request->lines);
	Answer *answer = answer_new(request->order_id, line->product_id,
								line->location, line->quantity);

	answer->status = status;
	answer_level(answer, work_find_level(work, line->product_id, line->location,
										 line->slot));
	return list_make1(answer);
}

/*
 * Time window, limit and quota in one step.  As in reserve.c, a refusal is
 * answered from an unlocked read; a request that passes is checked again under
 * the lock.
 */
static List *
sale_purchase(Work *work, const Sale *sale, const Request *request)
{
	AnswerStatus fault;
	List		*answers;
	bool		 granted;

	reserve_request_levels(work, request);
	expire_request_own_levels(work, work_find_order(work, request->order_id));
	work_read_levels(work);
	if (reserve_is_replay(work, request))
		return reserve_apply(work, request, &granted);
	fault = sale_purchase_fault(work, sale, request);
	if (fault == ANSWER_NONE && reserve_could_fit(work, request))
	{
		work_lock_levels(work);
		fault = sale_purchase_fault(work, sale, request);
	}
	if (fault != ANSWER_NONE)
		return sale_purchase_refuse(work, request, fault);
	answers = reserve_apply(work, request, &granted);
	if (granted)
		sale_order_insert(&work->call, request);
	return answers;
}

static List *
sale_answer_unknown(const Request *request, int64 quantity)
{
	Answer *answer = answer_new(request->order_id, NULL, NULL, quantity);

	answer->status = ANSWER_NOT_OPEN;
	return list_make1(answer);
}

/*
 * purchase_flash_sale(activity_id text, user_id text, order_id text,
 *					   quantity bigint, attributes jsonb)
 *					   RETURNS stock_result
 */
static Datum
pgstock_purchase_flash_sale_body(PG_FUNCTION_ARGS)
{
	Request request = {
		.activity_id = args_id(fcinfo, 0, "activity_id"),
		.user_id = args_id(fcinfo, 1, "user_id"),
		.order_id = args_id(fcinfo, 2, "order_id"),
		.expires_at = args_default_expiry(),
		.attributes = args_attributes(fcinfo, 4),
	};
	int64 quantity = PG_ARGISNULL(3) ? 1 : args_quantity(fcinfo, 3, "quantity");
	Work  work;
	Sale *sale;
	List *answers;

	work_begin(&work, "purchase_flash_sale()");
	work_request_order(&work, request.order_id);
	work_lock_orders(&work);
	sale = sale_find(&work.call, request.activity_id);
	if (sale == NULL)
		answers = sale_answer_unknown(&request, quantity);
	else
	{
		request.lines = list_make1(
			line_new_in_slot(sale->product_id, sale->location,
							 sale->closed ? SLOT_MAIN : sale->slot, quantity));
		answers = sale_purchase(&work, sale, &request);
	}
	work_end(&work);
	return answer_return_row(fcinfo, linitial(answers));
}
