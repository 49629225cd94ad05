/*-------------------------------------------------------------------------
 *
 * settle.c
 *	  What becomes of a reservation: confirm, release, roll back, expire.
 *
 * The states are data: rules[] says for each verb and state what happens, and
 * no other edge exists.  A verb speaks of the lines of the order's latest
 * attempt.  Where their states differ, the verb acts on those that it can act
 * on; only if there is none do the others decide the answer.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "pgstock.h"

PG_FUNCTION_INFO_V1(pgstock_confirm_stock);
PG_FUNCTION_INFO_V1(pgstock_release_stock);
PG_FUNCTION_INFO_V1(pgstock_rollback_stock);

/* What a verb does with a line; the least of an order's lines wins. */
typedef enum Rule
{
	RULE_ACT,		/* do it */
	RULE_RETAKE,	/* take the stock again and do it, or shortfall */
	RULE_ALREADY,	/* answer "already", change nothing */
	RULE_SHORTFALL, /* answer the shortfall again */
	RULE_REFUSE		/* SK005 */
} Rule;

/* The columns of the table; due is reserved past its time. */
typedef enum Column
{
	COLUMN_RESERVED,
	COLUMN_EXPIRED, /* or due */
	COLUMN_CONFIRMED,
	COLUMN_RELEASED,
	COLUMN_ROLLED_BACK,
	COLUMN_RETURNED,
	COLUMN_SHORTFALL,
	COLUMN_COUNT
} Column;

/* The states as data: design section 2, row for row. */
static const Rule rules[][COLUMN_COUNT] = {
	[SETTLE_CONFIRM] = {RULE_ACT, RULE_RETAKE, RULE_ALREADY, RULE_REFUSE,
						RULE_REFUSE, RULE_REFUSE, RULE_SHORTFALL},
	[SETTLE_RELEASE] = {RULE_ACT, RULE_ALREADY, RULE_REFUSE, RULE_ALREADY,
						RULE_ALREADY, RULE_ALREADY, RULE_ALREADY},
	[SETTLE_ROLLBACK] = {RULE_ACT, RULE_ALREADY, RULE_ACT, RULE_ALREADY,
						 RULE_ALREADY, RULE_ALREADY, RULE_ALREADY},
};

/* How a verb calls itself, where it leads, and what it tells. */
static const struct
{
	const char *function;
	const char *done; /* status, and kind of the movement */
	LineState	state;
	const char *event_type;
} verbs[] = {
	[SETTLE_CONFIRM] = {"confirm_stock()", "confirmed", LINE_CONFIRMED,
						"StockConfirmed"},
	[SETTLE_RELEASE] = {"release_stock()", "released", LINE_RELEASED,
						"StockReleased"},
	[SETTLE_ROLLBACK] = {"rollback_stock()", "rolled_back", LINE_ROLLED_BACK,
						 "StockRolledBack"},
};

/* One line to act on, and how much of it. */
typedef struct Share
{
	Reservation *line;
	int64		 quantity;
} Share;

static Column
line_column(const Work *work, const Reservation *line)
{
	if (line_is_due(work, line))
		return COLUMN_EXPIRED;
	switch (line->state)
	{
		case LINE_RESERVED:
			return COLUMN_RESERVED;
		case LINE_CONFIRMED:
			return COLUMN_CONFIRMED;
		case LINE_RELEASED:
			return COLUMN_RELEASED;
		case LINE_ROLLED_BACK:
			return COLUMN_ROLLED_BACK;
		case LINE_RETURNED:
			return COLUMN_RETURNED;
		case LINE_EXPIRED:
			return COLUMN_EXPIRED;
		case LINE_SHORTFALL:
			return COLUMN_SHORTFALL;
	}
	elog(ERROR, "unexpected state \"%c\" of a reservation", line->state);
	return COLUMN_COUNT;
}

static const char *
line_state_name(const Work *work, const Reservation *line)
{
	static const char *const names[COLUMN_COUNT] = {
		"reserved",	   "expired",  "confirmed", "released",
		"rolled_back", "returned", "shortfall",
	};

	return names[line_column(work, line)];
}

static Rule
line_rule(const Work *work, SettleVerb verb, const Reservation *line)
{
	return rules[verb][line_column(work, line)];
}

static Level *
settle_level(Work *work, const Reservation *line)
{
	Level *level = work_level(work, line->product_id, line->location);

	Assert(level != NULL);
	return level;
}

/* Which lines, and how much of each: all of the latest attempt, or items. */
static List *
shares_of(const Order *order, List *items)
{
	List	 *shares = NIL;
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);
		Share		*share = palloc(sizeof(Share));

		if (line->attempt != order->attempt || items != NIL)
			continue;
		share->line = line;
		share->quantity = line->quantity;
		shares = lappend(shares, share);
	}
	foreach(cell, items)
	{
		Line  *item = lfirst(cell);
		Share *share = palloc(sizeof(Share));

		share->line = order_line(order, order->attempt, item->product_id,
								 item->location);
		share->quantity = item->quantity;
		if (share->line == NULL || share->line->quantity < item->quantity)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("order \"%s\" does not hold " INT64_FORMAT
							" of product \"%s\" at location \"%s\"",
							order->order_id, item->quantity, item->product_id,
							item->location),
					 errdetail("It holds " INT64_FORMAT ".",
							   share->line ? share->line->quantity : 0)));
		shares = lappend(shares, share);
	}
	return shares;
}

/* The shares whose rule is one of two. */
static List *
shares_by_rule(const Work *work, SettleVerb verb, List *shares, Rule one,
			   Rule other)
{
	List	 *chosen = NIL;
	ListCell *cell;

	foreach(cell, shares)
	{
		Share *share = lfirst(cell);
		Rule   rule = line_rule(work, verb, share->line);

		if (rule == one || rule == other)
			chosen = lappend(chosen, share);
	}
	return chosen;
}

static Answer *
share_result(Work *work, const Share *share, const char *status)
{
	Reservation *line = share->line;
	Answer		*answer = answer_new(line->order->order_id, line->product_id,
									 line->location, share->quantity);

	answer->status = status;
	answer->granted = line->state == LINE_SHORTFALL ? 0 : share->quantity;
	answer->expires_at = line->expires_at;
	answer_level(answer, settle_level(work, line));
	return answer;
}

/* Answers that change nothing. */
static List *
answer_again(Work *work, List *shares, const char *status)
{
	List	 *answers = NIL;
	ListCell *cell;

	commit_fence_answer();
	foreach(cell, shares)
	{
		Answer *answer = share_result(work, lfirst(cell), status);

		answer->replayed = true;
		answers = lappend(answers, answer);
	}
	return answers;
}

/* What a share's end means for its level. */
static void
share_move(Work *work, SettleVerb verb, const Share *share, const char *reason)
{
	Reservation *line = share->line;
	int64		 quantity = share->quantity;
	int64		 on_hand = 0;
	int64		 reserved = 0;

	if (line->state == LINE_RESERVED)
		reserved = -quantity;
	if (verb == SETTLE_CONFIRM)
		on_hand = -quantity;
	else if (line->state == LINE_CONFIRMED)
		on_hand = quantity;
	level_change(work, settle_level(work, line), on_hand, reserved,
				 verbs[verb].done, line->order->order_id, reason, NULL);
}

static void
share_end(Work *work, SettleVerb verb, const Share *share, const char *reason,
		  const char *payment_id)
{
	Reservation *line = share->line;

	line->dirty = true;
	if (share->quantity < line->quantity)
		line->quantity -= share->quantity; /* the rest stays as it is */
	else if (verb == SETTLE_CONFIRM)
	{
		line->state = LINE_CONFIRMED;
		line->ended_at = DT_NOBEGIN;
		line->reason = NULL;
		line->payment_id = payment_id ? pstrdup(payment_id) : NULL;
	}
	else
		line_end(work, line, verbs[verb].state, reason);
}

/* Emits one event for what was done to an order, and returns its answers. */
static List *
settle_emit(Work *work, Event *event, List *shares, const char *status,
			int first_movement)
{
	Share	 *first = linitial(shares);
	ListCell *cell;
	pg_uuid_t event_id;

	foreach(cell, shares)
		event->items = lappend(event->items,
							   share_result(work, lfirst(cell), status));
	event->order_id = first->line->order->order_id;
	event->user_id = first->line->user_id;
	event->expires_at = DT_NOEND;
	event_id = event_emit(work, event);
	stock_link_event(work, first_movement, &event_id);
	return event->items;
}

static List *
settle_act(Work *work, SettleVerb verb, List *shares, const char *reason,
		   const char *payment_id)
{
	Event	  event = {.type = verbs[verb].event_type,
					   .reason = reason,
					   .payment_id = payment_id};
	int		  first_movement = list_length(work->movements);
	ListCell *cell;

	foreach(cell, shares)
	{
		share_move(work, verb, lfirst(cell), reason);
		share_end(work, verb, lfirst(cell), reason, payment_id);
	}
	return settle_emit(work, &event, shares, verbs[verb].done, first_movement);
}

/* Whether what has expired can be taken once more. */
static bool
retake_fits(Work *work, List *shares)
{
	ListCell *cell;

	foreach(cell, shares)
	{
		Share *share = lfirst(cell);

		if (share->line->state == LINE_EXPIRED &&
			level_available(settle_level(work, share->line)) < share->quantity)
			return false;
	}
	return true;
}

/* Paid, but the stock is gone: what is still held goes back, and one hears. */
static List *
settle_shortfall(Work *work, List *shares, const char *payment_id)
{
	Event	  event = {.type = "StockShortfall",
					   .reason = "expired",
					   .payment_id = payment_id};
	int		  first_movement = list_length(work->movements);
	ListCell *cell;

	foreach(cell, shares)
	{
		Share *share = lfirst(cell);

		if (share->line->state == LINE_RESERVED)
			level_change(work, settle_level(work, share->line), 0,
						 -share->quantity, "released",
						 share->line->order->order_id, "shortfall", NULL);
		line_end(work, share->line, LINE_SHORTFALL, "expired");
		share->line->payment_id = payment_id ? pstrdup(payment_id) : NULL;
	}
	return settle_emit(work, &event, shares, "shortfall", first_movement);
}

static void
wrong_state(const Work *work, SettleVerb verb, const Order *order,
			const Share *share)
{
	ereport(ERROR,
			(errcode(ERRCODE_SK_WRONG_STATE),
			 errmsg("cannot %.*s order \"%s\": it is %s",
					(int) strcspn(verbs[verb].function, "_"),
					verbs[verb].function, order->order_id,
					line_state_name(work, share->line)),
			 verb == SETTLE_RELEASE
				 ? errhint("Use rollback_stock for an order that is confirmed.")
				 : errhint("Reserve the order again, or refund the payment.")));
}

/*
 * Applies a verb to an order that has lines; its levels are locked.
 */
List *
settle_apply(Work *work, SettleVerb verb, Order *order, const char *reason,
			 const char *payment_id, List *items)
{
	List *shares = shares_of(order, items);
	List *chosen;
	List *refused;
	List *already;
	List *shortfall;

	Assert(work->levels_locked && shares != NIL);
	chosen = shares_by_rule(work, verb, shares, RULE_ACT, RULE_RETAKE);
	if (chosen != NIL)
	{
		if (verb == SETTLE_CONFIRM && !retake_fits(work, chosen))
			return settle_shortfall(work, chosen, payment_id);
		return settle_act(work, verb, chosen, reason, payment_id);
	}
	refused = shares_by_rule(work, verb, shares, RULE_REFUSE, RULE_REFUSE);
	already = shares_by_rule(work, verb, shares, RULE_ALREADY, RULE_ALREADY);
	shortfall = shares_by_rule(work, verb, shares, RULE_SHORTFALL,
							   RULE_SHORTFALL);
	/* A line given back does not undo that the rest is paid. */
	if (refused != NIL &&
		(verb != SETTLE_CONFIRM || (already == NIL && shortfall == NIL)))
		wrong_state(work, verb, order, linitial(refused));
	if (already != NIL)
		return answer_again(work, already, "already");
	return answer_again(work, shortfall, "shortfall");
}

/* Lets a due line go; its level is locked. */
void
settle_expire_line(Work *work, Reservation *line)
{
	Event event = {.type = "StockExpired"};
	Share share = {.line = line, .quantity = line->quantity};
	int	  first_movement = list_length(work->movements);

	Assert(line_is_due(work, line));
	level_change(work, settle_level(work, line), 0, -line->quantity, "expired",
				 line->order->order_id, NULL, NULL);
	line_end(work, line, LINE_EXPIRED, NULL);
	if (!line->order->loaded)
		work->strays = lappend(work->strays, line);
	settle_emit(work, &event, list_make1(&share), "expired", first_movement);
}

/* Wants the levels of an order's latest attempt. */
void
settle_want_levels(Work *work, const Order *order)
{
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt)
			work_want_level(work, line->product_id, line->location);
	}
}

/* ---- The SQL functions ---- */

static List *
unknown_order(SettleVerb verb, const char *order_id)
{
	Answer *answer;

	if (verb == SETTLE_CONFIRM)
		ereport(
			ERROR,
			(errcode(ERRCODE_SK_UNKNOWN_ORDER),
			 errmsg("there is no order \"%s\"", order_id),
			 errhint(
				 "A payment without a reservation must not pass in silence: check the order id, or refund.")));
	answer = answer_new(order_id, NULL, NULL, 0);
	answer->status = "unknown_order";
	return list_make1(answer);
}

static List *
settle(SettleVerb verb, const char *order_id, const char *reason,
	   const char *payment_id, List *items)
{
	Work   work;
	Order *order;
	List  *answers;

	work_begin(&work, verbs[verb].function);
	work_want_order(&work, order_id);
	work_lock_orders(&work);
	order = work_order(&work, order_id);
	if (order->lines == NIL)
		answers = unknown_order(verb, order_id);
	else
	{
		settle_want_levels(&work, order);
		work_read_levels(&work);
		work_lock_levels(&work);
		answers = settle_apply(&work, verb, order, reason, payment_id, items);
	}
	work_end(&work);
	return answers;
}

static Datum
settle_call(FunctionCallInfo fcinfo, SettleVerb verb)
{
	char *order_id = args_id(fcinfo, 0, "order_id");
	char *note = args_text(fcinfo, 1);
	List *items = NIL;

	if (verb == SETTLE_CONFIRM)
		return answer_return_set(fcinfo,
								 settle(verb, order_id, NULL, note, NIL));
	if (!PG_ARGISNULL(2))
		items = args_items(PG_GETARG_JSONB_P(2));
	return answer_return_set(fcinfo, settle(verb, order_id, note, NULL, items));
}

Datum
pgstock_confirm_stock(PG_FUNCTION_ARGS)
{
	return settle_call(fcinfo, SETTLE_CONFIRM);
}

Datum
pgstock_release_stock(PG_FUNCTION_ARGS)
{
	return settle_call(fcinfo, SETTLE_RELEASE);
}

Datum
pgstock_rollback_stock(PG_FUNCTION_ARGS)
{
	return settle_call(fcinfo, SETTLE_ROLLBACK);
}
