/*-------------------------------------------------------------------------
 *
 * orders/settle.c
 *	  Confirms, releases, rolls back, returns and extends reservations.
 *	  (expire.c expires them.)
 *
 * The states are data: rules[] has the action for each verb and state, and no
 * other edge exists.  A verb applies to the lines of the order's latest
 * attempt.  Where their states differ, the verb acts on those that it can act
 * on; only if there is none do the others decide the answer.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/statistics.h"
#include "orders/orders.h"

/* What a verb does with a line. */
typedef enum Rule
{
	RULE_ACT,		/* do it */
	RULE_RETAKE,	/* take the stock again and do it, or shortfall */
	RULE_ALREADY,	/* answer "already", change nothing */
	RULE_SHORTFALL, /* answer the shortfall again */
	RULE_EXPIRED,	/* SK006 */
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

/* The states as data: docs/design.md has the same table. */
static const Rule rules[][COLUMN_COUNT] = {
	[SETTLE_CONFIRM] = {RULE_ACT, RULE_RETAKE, RULE_ALREADY, RULE_REFUSE,
						RULE_REFUSE, RULE_REFUSE, RULE_SHORTFALL},
	[SETTLE_RELEASE] = {RULE_ACT, RULE_ALREADY, RULE_REFUSE, RULE_ALREADY,
						RULE_ALREADY, RULE_ALREADY, RULE_ALREADY},
	[SETTLE_ROLLBACK] = {RULE_ACT, RULE_ALREADY, RULE_ACT, RULE_ALREADY,
						 RULE_ALREADY, RULE_ALREADY, RULE_ALREADY},
	[SETTLE_RETURN] = {RULE_REFUSE, RULE_REFUSE, RULE_ACT, RULE_REFUSE,
					   RULE_REFUSE, RULE_REFUSE, RULE_REFUSE},
	[SETTLE_EXTEND] = {RULE_ACT, RULE_EXPIRED, RULE_REFUSE, RULE_REFUSE,
					   RULE_REFUSE, RULE_REFUSE, RULE_REFUSE},
};

const SettleVerbInfo settle_verbs[] = {
	[SETTLE_CONFIRM] = {"confirm_stock()", "confirm", ANSWER_CONFIRMED,
						"confirmed", LINE_CONFIRMED, "StockConfirmed", true},
	[SETTLE_RELEASE] = {"release_stock()", "release", ANSWER_RELEASED,
						"released", LINE_RELEASED, "StockReleased", false},
	[SETTLE_ROLLBACK] = {"rollback_stock()", "roll back", ANSWER_ROLLED_BACK,
						 "rolled_back", LINE_ROLLED_BACK, "StockRolledBack",
						 false},
	[SETTLE_RETURN] = {"return_stock()", "return", ANSWER_RETURNED, "returned",
					   LINE_RETURNED, "StockReturned", true},
	[SETTLE_EXTEND] = {"extend_reservation()", "extend", ANSWER_GRANTED,
					   "extended", LINE_RESERVED, NULL, true},
};

/* One line to act on, and how much of it. */
typedef struct Share
{
	Reservation *line;
	int64		 quantity;
} Share;

static Column
settle_line_column(const Call *call, const Reservation *line)
{
	if (line_is_due(call, line))
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
settle_line_state_name(const Call *call, const Reservation *line)
{
	LineState	state = settle_line_column(call, line) == COLUMN_EXPIRED
							? LINE_EXPIRED
							: line->state;
	const char *letter = strchr(line_state_letters, state);

	Assert(letter != NULL && *letter != '\0');
	return line_state_texts[letter - line_state_letters];
}

static Rule
settle_line_rule(const Call *call, const Settle *settle,
				 const Reservation *line)
{
	Rule rule;

	Assert((unsigned) settle->verb < lengthof(rules));
	rule = rules[settle->verb][settle_line_column(call, line)];
	/*
	 * A declined payment ends a line for all but the next payment; a
	 * cancellation after its time, for that one too.
	 */
	if (settle->pays && line_is_payable(call, line))
		return RULE_RETAKE;
	if (settle->pays && rule == RULE_RETAKE)
		return RULE_REFUSE;
	return rule;
}

static Level *
settle_level(Work *work, const Reservation *line)
{
	Level *level = work_find_level(work, line->product_id, line->location,
								   line->slot);

	Assert(level != NULL);
	return level;
}

/* Which lines, and how much of each: all of the latest attempt, or items. */
static List *
settle_shares(const Order *order, List *items)
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

		share->line = order_find_line(order, order->attempt, item->product_id,
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

/* The shares of which the rule is this one. */
static List *
settle_shares_by_rule(const Call *call, const Settle *settle, List *shares,
					  Rule rule)
{
	List	 *chosen = NIL;
	ListCell *cell;

	foreach(cell, shares)
	{
		if (settle_line_rule(call, settle, ((Share *) lfirst(cell))->line) ==
			rule)
			chosen = lappend(chosen, lfirst(cell));
	}
	return chosen;
}

static Answer *
settle_share_answer(Work *work, const Share *share, AnswerStatus status)
{
	Reservation *line = share->line;
	Answer		*answer = answer_of_line(work, line, share->quantity);

	answer->status = status;
	answer->granted = line->state == LINE_SHORTFALL ? 0 : share->quantity;
	answer->expires_at = line->expires_at;
	return answer;
}

/* Answers that change nothing. */
static List *
settle_answer_again(Work *work, List *shares, AnswerStatus status)
{
	List	 *answers = NIL;
	ListCell *cell;

	Assert(shares != NIL);
	durability_fence_answer();
	foreach(cell, shares)
	{
		Answer *answer = settle_share_answer(work, lfirst(cell), status);

		answer->replayed = true;
		answers = lappend(answers, answer);
	}
	return answers;
}

/* What acting on a share means for its level. */
static void
settle_share_move(Work *work, const Settle *settle, const Share *share)
{
	Reservation *line = share->line;
	int64		 quantity = share->quantity;
	Level		*level = settle_level(work, line);
	int64		 on_hand = 0;
	int64		 reserved = 0;

	Assert(quantity > 0 && quantity <= line->quantity && level->locked);
	level_uncount_due(&work->call, level, line);
	if (settle->verb == SETTLE_CONFIRM)
		on_hand = -quantity;
	else if (line->state == LINE_CONFIRMED && !settle->scrap)
		on_hand = quantity;
	if (line->state == LINE_RESERVED && settle->verb != SETTLE_EXTEND)
		reserved = -quantity;
	/* a longer time moves nothing; a release brings no goods back */
	Assert(settle->verb != SETTLE_EXTEND || (on_hand == 0 && reserved == 0));
	Assert(settle->verb != SETTLE_RELEASE || on_hand == 0);
	level_change(work, level, on_hand, reserved,
				 settle_verbs[settle->verb].kind, line->order->order_id,
				 settle->reason, NULL);
}

/* What it means for the line. */
static void
settle_share_end(Call *call, const Settle *settle, const Share *share)
{
	Reservation *line = share->line;

	Assert(share->quantity > 0 && share->quantity <= line->quantity);
	if (settle->verb == SETTLE_CONFIRM)
	{
		line_set_retake(line, RETAKE_BY_STATE);
		line_set_event_owed(line, false); /* as if it had not expired */
	}
	if (settle->verb == SETTLE_EXTEND)
		line_extend(line, settle->expires_at);
	else if (share->quantity < line->quantity)
		line_reduce(line, share->quantity);
	else if (settle->verb == SETTLE_CONFIRM)
		line_confirm(call, line, settle->payment_id);
	else
	{
		line_end(call, line, settle_verbs[settle->verb].state, settle->reason);
		line_set_retake(line, settle->declined ? RETAKE_YES : RETAKE_BY_STATE);
	}
}

/*
 * Cancelled, or failed, though it has ended by itself or by a declined payment:
 * its state is what it was, but no payment takes it again.
 */
static void
settle_shares_forbid_retake(Call *call, const Settle *settle, List *shares)
{
	ListCell *cell;

	if (settle->declined ||
		(settle->verb != SETTLE_RELEASE && settle->verb != SETTLE_ROLLBACK))
		return;
	foreach(cell, shares)
	{
		Reservation *line = ((Share *) lfirst(cell))->line;

		if (line_is_payable(call, line))
			line_set_retake(line, RETAKE_NO);
	}
}

/*
 * The answers for what was done to an order, and, unless the type is NULL, one
 * event that reports it.
 */
static List *
settle_report(Work *work, const Settle *settle, List *shares, const char *type,
			  AnswerStatus status, int first_movement)
{
	Share	 *first = linitial(shares);
	Event	  event = {.type = type,
					   .order_id = first->line->order->order_id,
					   .user_id = first->line->user_id,
					   .reason = settle->reason,
					   .payment_id = settle->payment_id};
	ListCell *cell;

	Assert(status != ANSWER_NONE);
	Assert(first_movement <= list_length(work->movements));
	foreach(cell, shares)
		event.items = lappend(event.items,
							  settle_share_answer(work, lfirst(cell), status));
	if (type == NULL)
		return event.items;
	event_emit_movements(work, &event, first_movement);
	return event.items;
}

static List *
settle_act(Work *work, const Settle *settle, List *shares)
{
	int		  first_movement = list_length(work->movements);
	ListCell *cell;

	foreach(cell, shares)
	{
		settle_share_move(work, settle, lfirst(cell));
		settle_share_end(&work->call, settle, lfirst(cell));
	}
	if (settle->verb == SETTLE_CONFIRM)
		statistics_confirm(work->call.now -
						   ((Share *) linitial(shares))->line->created_at);
	return settle_report(work, settle, shares,
						 settle_verbs[settle->verb].event_type,
						 settle_verbs[settle->verb].status, first_movement);
}

/*
 * Whether ended lines can be taken again.  Due lines of other orders do not
 * prevent it: they expire if then all of it fits.  A sale's limit may prevent
 * it: its user may have bought again.
 */
static bool
settle_retake_fits(Work *work, List *shares)
{
	ListCell *cell;

	foreach(cell, shares)
	{
		Share *share = lfirst(cell);

		if (share->line->state != LINE_RESERVED &&
			expire_reachable(work, settle_level(work, share->line),
							 share->quantity) < share->quantity)
			return false;
		if (!line_is_live(&work->call, share->line) &&
			!sale_allows(work, share->line))
			return false;
	}
	foreach(cell, shares)
	{
		Share *share = lfirst(cell);

		if (share->line->state != LINE_RESERVED)
			expire_make_room(work, settle_level(work, share->line),
							 share->quantity);
	}
	return true;
}

/*
 * The payment arrived after the stock was resold: releases what is still
 * reserved and emits StockShortfall.
 */
static List *
settle_shortfall(Work *work, const Settle *confirm, List *shares)
{
	Settle	  settle = *confirm;
	int		  first_movement = list_length(work->movements);
	ListCell *cell;

	Assert(confirm->verb == SETTLE_CONFIRM && shares != NIL);
	settle.reason = "released";
	foreach(cell, shares)
	{
		if (settle_line_column(&work->call, ((Share *) lfirst(cell))->line) ==
			COLUMN_EXPIRED)
			settle.reason = "expired";
	}
	foreach(cell, shares)
	{
		Share *share = lfirst(cell);
		Level *level = settle_level(work, share->line);

		level_uncount_due(&work->call, level, share->line);
		if (share->line->state == LINE_RESERVED)
			level_change(work, level, 0, -share->quantity, "released",
						 share->line->order->order_id, "shortfall", NULL);
		line_end(&work->call, share->line, LINE_SHORTFALL, settle.reason);
		line_set_retake(share->line, RETAKE_BY_STATE);
		line_set_payment(share->line, settle.payment_id);
		line_set_event_owed(share->line, false);
	}
	return settle_report(work, &settle, shares, "StockShortfall",
						 ANSWER_SHORTFALL, first_movement);
}

/* ---- The rules applied ---- */

static void
settle_raise_wrong_state(const Call *call, SettleVerb verb, const Order *order,
						 const Share *share)
{
	const char *hint = "Reserve the order again, or refund the payment.";

	if (verb == SETTLE_RELEASE)
		hint = "Use rollback_stock for an order that is confirmed.";
	else if (verb == SETTLE_RETURN)
		hint = "Only confirmed lines can be returned.";
	durability_fence_error();
	ereport(ERROR,
			(errcode(ERRCODE_SK_WRONG_STATE),
			 errmsg("cannot %s order \"%s\": it is %s", settle_verbs[verb].name,
					order->order_id, settle_line_state_name(call, share->line)),
			 errhint("%s", hint)));
}

static void
settle_raise_expired(const Order *order)
{
	durability_fence_error();
	ereport(ERROR, (errcode(ERRCODE_SK_EXPIRED),
					errmsg("cannot extend order \"%s\": it has expired",
						   order->order_id),
					errhint("Reserve the order again.")));
}

/* Applies a verb to an order that has lines; its levels are locked. */
List *
settle_apply(Work *work, const Settle *settle, Order *order)
{
	SettleVerb verb = settle->verb;
	List	  *shares = settle_shares(order, settle->items);
	List *acting = settle_shares_by_rule(&work->call, settle, shares, RULE_ACT);
	List *retaken = settle_shares_by_rule(&work->call, settle, shares,
										  RULE_RETAKE);
	List *already = settle_shares_by_rule(&work->call, settle, shares,
										  RULE_ALREADY);
	List *shortfall = settle_shares_by_rule(&work->call, settle, shares,
											RULE_SHORTFALL);
	List *refused = settle_shares_by_rule(&work->call, settle, shares,
										  RULE_REFUSE);

	StaticAssertStmt(lengthof(rules) == SETTLE_EXTEND + 1,
					 "each verb has a row of rules");
	StaticAssertStmt(lengthof(settle_verbs) == SETTLE_EXTEND + 1,
					 "each verb has a name");
	Assert(work->levels_locked && shares != NIL);
	acting = list_concat(acting, retaken);
	settle_shares_forbid_retake(&work->call, settle, shares);
	if (acting != NIL)
	{
		if (retaken != NIL && !settle_retake_fits(work, acting))
			return settle_shortfall(work, settle, acting);
		return settle_act(work, settle, acting);
	}
	/* The rest of the order is paid, even if one line was released. */
	if (refused != NIL &&
		(verb != SETTLE_CONFIRM || (already == NIL && shortfall == NIL)))
		settle_raise_wrong_state(&work->call, verb, order, linitial(refused));
	if (already != NIL)
		return settle_answer_again(work, already, ANSWER_ALREADY);
	if (shortfall != NIL)
		return settle_answer_again(work, shortfall, ANSWER_SHORTFALL);
	settle_raise_expired(order);
	return NIL;
}

/*
 * Requests the slots of an order's latest attempt; for lines that a payment
 * takes again also the stock, in any slot.
 */
void
settle_request_levels(Work *work, const Order *order)
{
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		if (line->attempt != order->attempt)
			continue;
		work_request_level(work, line->product_id, line->location, line->slot);
		if (line_is_payable(&work->call, line) ||
			settle_line_column(&work->call, line) == COLUMN_EXPIRED)
			work_request_stock(work, line->product_id, line->location,
							   line->slot, line->quantity);
	}
}
