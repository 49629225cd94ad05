/*-------------------------------------------------------------------------
 *
 * orders/reserve.c
 *	  The functions that take: reserve_stock, reserve_order, their try_ forms.
 *
 * All lines of a request are checked before the first is taken, so nothing has
 * to be undone.  A request that cannot fit is refused from an unlocked read:
 * no lock, no xid, no WAL.  The answer is true for the snapshot it was read in.
 *
 * A due reservation must never cause a refusal: if a line lacks stock, due
 * lines of its level expire, but only if the whole request then fits.
 *
 * Without an explicit key, a live line (an order's live lines) is its own
 * idempotency key: the same request again is answered, not taken again.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/statistics.h"
#include "orders/orders.h"

PGSTOCK_COUNTED_FUNCTION(pgstock_reserve_stock, CALL_RESERVE_STOCK);
PGSTOCK_COUNTED_FUNCTION(pgstock_try_reserve_stock, CALL_TRY_RESERVE_STOCK);
PGSTOCK_COUNTED_FUNCTION(pgstock_reserve_order, CALL_RESERVE_ORDER);
PGSTOCK_COUNTED_FUNCTION(pgstock_try_reserve_order, CALL_TRY_RESERVE_ORDER);

static bool
reserve_text_equal(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

static Level *
reserve_line_level(Work *work, const Line *line)
{
	Level *level = work_find_level(work, line->product_id, line->location,
								   line->slot);

	Assert(level != NULL);
	return level;
}

/* ---- Replays ---- */

static void
reserve_raise_key_reused(const Request *request)
{
	durability_fence_error();
	ereport(ERROR,
			(errcode(ERRCODE_SK_KEY_REUSED),
			 errmsg("order \"%s\" is already reserved by another request",
					request->order_id),
			 errdetail("Its live lines, their quantities or its user differ "
					   "from this request."),
			 errhint("Repeat the same request, release the order first, or use "
					 "another order id.")));
}

/* Whether a live line is what is asked for. */
static bool
reserve_line_matches(const Reservation *line, const Line *asked,
					 const Request *request)
{
	return line->quantity == asked->quantity &&
		   reserve_text_equal(line->user_id, request->user_id) &&
		   reserve_text_equal(line->activity_id, request->activity_id);
}

/* Whether the order's live lines are exactly what is asked for. */
static bool
reserve_order_matches(Call *call, const Order *order, const Request *request)
{
	ListCell *cell;
	int		  live = 0;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt && line_is_live(call, line))
			live++;
	}
	if (live != list_length(request->lines))
		return false;
	foreach(cell, request->lines)
	{
		Line		*asked = lfirst(cell);
		Reservation *line = order_find_line(order, order->attempt,
											asked->product_id, asked->location);

		if (line == NULL || !line_is_live(call, line) ||
			!reserve_line_matches(line, asked, request))
			return false;
	}
	return true;
}

/* How a request stands to what the order holds. */
ReserveStanding
reserve_standing(Work *work, const Request *request)
{
	Order		*order = work_find_order(work, request->order_id);
	Line		*asked = linitial(request->lines);
	Reservation *line;

	Assert(request->whole_order || list_length(request->lines) == 1);
	if (!order_is_live(&work->call, order))
		return STANDING_NEW;
	if (request->whole_order)
		return reserve_order_matches(&work->call, order, request)
				   ? STANDING_REPLAY
				   : STANDING_ANOTHER;
	line = order_find_line(order, order->attempt, asked->product_id,
						   asked->location);
	if (line == NULL || !line_is_live(&work->call, line))
		return STANDING_NEW;
	return reserve_line_matches(line, asked, request) ? STANDING_REPLAY
													  : STANDING_ANOTHER;
}

/* Whether this request was granted before and its reservation lives. */
bool
reserve_is_replay(Work *work, const Request *request)
{
	ReserveStanding standing = reserve_standing(work, request);

	if (standing == STANDING_ANOTHER)
		reserve_raise_key_reused(request);
	return standing == STANDING_REPLAY;
}

/* Answers what was granted before. */
static List *
reserve_replay(Work *work, const Order *order, const Request *request)
{
	List	 *answers = NIL;
	ListCell *cell;

	/* This rests on another transaction's commit: it must be durable first. */
	durability_fence_answer();
	foreach(cell, request->lines)
	{
		Line		*asked = lfirst(cell);
		Reservation *line = order_find_line(order, order->attempt,
											asked->product_id, asked->location);
		Answer		*answer = answer_new(order->order_id, asked->product_id,
										 asked->location, asked->quantity);

		Assert(line != NULL && line_is_live(&work->call, line));
		answer->granted = asked->quantity;
		answer->status = ANSWER_GRANTED;
		answer->replayed = true;
		answer->expires_at = line->expires_at;
		answer_level(answer, reserve_line_level(work, asked));
		answers = lappend(answers, answer);
	}
	return answers;
}

/* ---- Does it fit? ---- */

/* Why a line does not fit; ANSWER_NONE: it does. */
static AnswerStatus
reserve_line_verdict(Work *work, const Line *line)
{
	Level *level = reserve_line_level(work, line);

	if (!level->known)
		return ANSWER_UNKNOWN_PRODUCT;
	if (expire_reachable(work, level, line->quantity) < line->quantity)
		return ANSWER_INSUFFICIENT;
	return ANSWER_NONE;
}

/* Whether every line fits.  Without locks, only a "no" is an answer. */
bool
reserve_could_fit(Work *work, const Request *request)
{
	ListCell *cell;

	foreach(cell, request->lines)
	{
		if (reserve_line_verdict(work, lfirst(cell)) != ANSWER_NONE)
			return false;
	}
	return true;
}

/*
 * A row for each line, saying which does not fit; the others are "otherwise".
 */
List *
reserve_refuse(Work *work, const Request *request, AnswerStatus otherwise)
{
	List	 *answers = NIL;
	ListCell *cell;

	foreach(cell, request->lines)
	{
		Line		*line = lfirst(cell);
		AnswerStatus verdict = reserve_line_verdict(work, line);
		Answer		*answer = answer_new(request->order_id, line->product_id,
										 line->location, line->quantity);

		answer->status = verdict != ANSWER_NONE ? verdict : otherwise;
		answer_level(answer, reserve_line_level(work, line));
		if (verdict != ANSWER_NONE)
			answer->available = expire_reachable(work,
												 reserve_line_level(work, line),
												 line->quantity);
		answers = lappend(answers, answer);
	}
	return answers;
}

/* ---- Taking ---- */

/* The row for a line: a new one, or that of the same line that has ended. */
static Reservation *
reserve_line_new(Call *call, Order *order, int attempt, const Line *line)
{
	Reservation *row = order_find_line(order, attempt, line->product_id,
									   line->location);

	if (row == NULL)
		row = order_new_line(order, attempt, line);
	Assert(row->is_new || !line_is_live(call, row));
	return row;
}

static Answer *
reserve_take_line(Work *work, const Request *request, Order *order, int attempt,
				  const Line *line)
{
	Level		*level = reserve_line_level(work, line);
	Answer		*answer = answer_new(order->order_id, line->product_id,
									 line->location, line->quantity);
	Reservation *row;

	expire_make_room(work, level, line->quantity);
	/* it was checked that all lines fit */
	Assert(level_available(level) >= line->quantity);
	level = level_slot_to_take(level);
	row = reserve_line_new(&work->call, order, attempt, line);

	answer->status = level_unreserved(level) >= line->quantity
						 ? ANSWER_GRANTED
						 : ANSWER_BACKORDERED;
	level_change(work, level, 0, line->quantity, "reserved", order->order_id,
				 NULL, NULL);
	line_reserve(&work->call, row, level, line->quantity, request->expires_at);
	line_set_buyer(row, request->user_id, request->activity_id);

	answer->granted = line->quantity;
	answer->expires_at = request->expires_at;
	answer->activity_id = request->activity_id;
	answer_level(answer, level);
	return answer;
}

static List *
reserve_take(Work *work, const Request *request, Order *order)
{
	Event	  event = {.type = request->activity_id ? "FlashSalePurchased"
													: "StockReserved",
					   .order_id = order->order_id,
					   .activity_id = request->activity_id};
	int		  attempt = order_is_live(&work->call, order) ? order->attempt
														  : order->attempt + 1;
	int		  first_movement;
	List	 *answers = NIL;
	ListCell *cell;

	Assert(attempt > 0 && work->orders_locked && work->levels_locked);
	/* The event of the end precedes that of the new beginning. */
	expire_lines(work, expire_find_own(work, order));
	first_movement = list_length(work->movements);
	foreach(cell, request->lines)
		answers = lappend(answers, reserve_take_line(work, request, order,
													 attempt, lfirst(cell)));
	order_set_attempt(order, attempt);

	event.user_id = request->user_id;
	event.expires_at = request->expires_at;
	event.items = answers;
	/* after the events of other orders that this call has expired */
	if (request->attributes != NULL)
		call_set_attributes(&work->call, request->attributes);
	event_emit_movements(work, &event, first_movement);
	return answers;
}

/* Requests the levels that a request takes from. */
void
reserve_request_levels(Work *work, const Request *request)
{
	ListCell *cell;

	foreach(cell, request->lines)
	{
		Line *line = lfirst(cell);

		work_request_stock(work, line->product_id, line->location, line->slot,
						   line->quantity);
	}
}

/*
 * Takes all lines or none.  Orders must be locked and levels locked; or levels
 * only read, where that was enough to know that it is a replay or a refusal.
 */
List *
reserve_apply(Work *work, const Request *request, bool *granted)
{
	Order *order = work_find_order(work, request->order_id);

	*granted = true;
	if (reserve_is_replay(work, request))
		return reserve_replay(work, order, request);
	*granted = reserve_could_fit(work, request);
	if (!*granted)
		return reserve_refuse(work, request, ANSWER_REFUSED);
	Assert(work->levels_locked);
	return reserve_take(work, request, order);
}

/* ---- The SQL functions ---- */

/* Raises the error of the refused rows. */
static void
reserve_raise_refusal(List *answers)
{
	ListCell *cell;

	Assert(answers != NIL);
	foreach(cell, answers)
	{
		Answer *answer = lfirst(cell);

		if (answer->status == ANSWER_UNKNOWN_PRODUCT)
			ereport(ERROR,
					(errcode(ERRCODE_SK_UNKNOWN_PRODUCT),
					 errmsg("there is no product \"%s\" at location \"%s\"",
							answer->product_id, answer->location),
					 errhint(
						 "Add it with receive_stock, or check the spelling.")));
		if (answer->status == ANSWER_INSUFFICIENT)
			level_raise_insufficient(
				answer->product_id, answer->location, answer->requested,
				answer->available,
				"Request fewer pieces, or try again after more stock has "
				"been received.");
	}
	elog(ERROR, "refused without a reason");
}

/* Everything around reserve_apply for one request. */
static List *
reserve(Request *request, Keyed *keyed, const char *function)
{
	Work   work;
	Order *order;
	List  *answers;
	bool   granted = true;

	keyed->detail = request->user_id;
	work_begin(&work, function);
	work_set_strategy(&work, request->strategy);
	if (keyed->key != NULL)
	{
		answers = idempotency_find(&work, keyed, request->order_id,
								   request->lines);
		if (answers != NIL)
		{
			if (keyed->raise && ((Answer *) linitial(answers))->granted == 0)
				reserve_raise_refusal(answers);
			work_end(&work);
			return answers;
		}
	}
	order = work_request_order(&work, request->order_id);
	order_request_lines(order, request->whole_order ? NIL : request->lines,
						true);
	work_lock_orders(&work);
	reserve_request_levels(&work, request);
	expire_request_own_levels(&work, work_find_order(&work, request->order_id));
	work_read_levels(&work);
	if (!reserve_is_replay(&work, request) && reserve_could_fit(&work, request))
		work_lock_levels(&work);
	answers = reserve_apply(&work, request, &granted);
	if (!granted && keyed->raise)
		reserve_raise_refusal(answers);
	if (keyed->key != NULL)
		idempotency_store(&work.call, keyed, request->order_id, request->lines,
						  answers);
	work_end(&work);
	return answers;
}

static List *
reserve_one(FunctionCallInfo fcinfo, const char *function, bool raise)
{
	Request request = {0};
	Keyed	keyed = idempotency_arg(fcinfo, 7);
	char   *product_id = args_id(fcinfo, 0, "product_id");
	int64	quantity = args_quantity(fcinfo, 1, "quantity");
	char   *location;

	request.order_id = args_id(fcinfo, 2, "order_id");
	request.user_id = PG_ARGISNULL(3) ? NULL : args_id(fcinfo, 3, "user_id");
	location = PG_ARGISNULL(4) ? STOCK_MAIN : args_id(fcinfo, 4, "location");
	request.expires_at = args_expiry(fcinfo, 5);
	request.strategy = args_strategy(fcinfo, 6);
	keyed.raise = raise;
	request.lines = list_make1(line_new(product_id, location, quantity));
	return reserve(&request, &keyed, function);
}

static List *
reserve_many(FunctionCallInfo fcinfo, const char *function, bool raise)
{
	Request request = {0};
	Keyed	keyed = idempotency_arg(fcinfo, 5);

	request.order_id = args_id(fcinfo, 0, "order_id");
	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("items must not be null")));
	request.lines = args_items(PG_GETARG_JSONB_P(1));
	request.whole_order = true;
	request.user_id = PG_ARGISNULL(2) ? NULL : args_id(fcinfo, 2, "user_id");
	request.expires_at = args_expiry(fcinfo, 3);
	request.strategy = args_strategy(fcinfo, 4);
	keyed.raise = raise;
	return reserve(&request, &keyed, function);
}

static Datum
pgstock_reserve_stock_body(PG_FUNCTION_ARGS)
{
	return answer_return_row(fcinfo,
							 linitial(
								 reserve_one(fcinfo, "reserve_stock()", true)));
}

static Datum
pgstock_try_reserve_stock_body(PG_FUNCTION_ARGS)
{
	return answer_return_row(fcinfo,
							 linitial(reserve_one(fcinfo, "try_reserve_stock()",
												  false)));
}

static Datum
pgstock_reserve_order_body(PG_FUNCTION_ARGS)
{
	return answer_return_set(fcinfo,
							 reserve_many(fcinfo, "reserve_order()", true));
}

static Datum
pgstock_try_reserve_order_body(PG_FUNCTION_ARGS)
{
	return answer_return_set(fcinfo, reserve_many(fcinfo, "try_reserve_order()",
												  false));
}
