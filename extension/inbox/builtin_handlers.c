/*-------------------------------------------------------------------------
 *
 * inbox/builtin_handlers.c
 *	  The built-in handlers: what a message does to stock.
 *
 * A handler looks before it acts, so that no message raises an error for what
 * it requests: a refusal is an answer, and a state that does not fit is a
 * reason to skip.  It runs in a unit of work whose orders and levels are
 * locked.
 *
 * The table at the end has each handler with all that it implies, and the topic
 * that it has by default; no other code compares topics.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "inbox/inbox.h"

/* ---- order-created ---- */

/*
 * Every order-created is answered: of a known order with its present state.  A
 * message that differs from the order changes nothing; its answer reports that.
 */
static Outcome
builtin_answer_again(Work *work, const Parsed *parsed, const Order *order)
{
	Event		 event = {.replayed = true,
						  .order_id = order->order_id,
						  .differs = order_difference_json(parsed, order)};
	Reservation *line = order_latest_line(order);
	Outcome		 outcome = outcome_applied();

	if (event.differs != NULL)
		outcome_note(&outcome, REASON_DIFFERS);
	durability_fence_answer();
	event.user_id = line->user_id;
	event.items = order_answers(work, order);
	if (order_has_state(&work->call, order, LINE_RESERVED))
	{
		event.type = "StockReserved";
		event.expires_at = line->expires_at;
	}
	else if (order_has_state(&work->call, order, LINE_CONFIRMED))
	{
		event.type = "StockConfirmed";
		event.payment_id = line->payment_id;
	}
	else
	{
		event_emit_refusal(work, order->order_id, line->user_id,
						   order_end_reason(&work->call, order), event.items,
						   true, event.differs);
		return outcome;
	}
	event_emit(work, &event);
	return outcome;
}

/* Why an order was refused, from the answers for its lines. */
static const char *
builtin_refusal_reason(List *answers)
{
	ListCell *cell;

	foreach(cell, answers)
	{
		Answer *answer = lfirst(cell);

		if (answer->status == ANSWER_UNKNOWN_PRODUCT)
			return answer_status_text(answer->status);
	}
	return answer_status_text(ANSWER_INSUFFICIENT);
}

static Outcome
builtin_order_created(Work *work, const Parsed *parsed, Order *order)
{
	Request request = {
		.order_id = order->order_id,
		.user_id = unconstify(char *, parsed->user_id),
		.whole_order = true,
		.lines = parsed->lines,
	};
	const char *refused = refused_find(work, order->order_id);
	List	   *answers;
	bool		granted;

	if (order->lines != NIL)
		return builtin_answer_again(work, parsed, order);
	request.expires_at = args_default_expiry();
	if (refused != NULL)
	{
		/* Stock that was received since does not change the answer. */
		answers = reserve_refuse(work, &request, ANSWER_REFUSED);
		event_emit_refusal(work, order->order_id, request.user_id, refused,
						   answers, true, NULL);
		return outcome_applied();
	}
	answers = reserve_apply(work, &request, &granted);
	if (!granted)
	{
		const char *reason = builtin_refusal_reason(answers);

		refused_store(work, order->order_id, reason);
		event_emit_refusal(work, order->order_id, request.user_id, reason,
						   answers, false, NULL);
	}
	return outcome_applied();
}

/* ---- Messages that give stock back ---- */

/*
 * The lines of a selection that the verb acts on.  *live: whether one of them
 * is live.
 */
static List *
builtin_lines_to_settle(Work *work, const Order *order, SettleVerb verb,
						List *selection, bool *live)
{
	List	 *items = NIL;
	ListCell *cell;

	*live = false;
	foreach(cell, selection)
	{
		const Line		  *item = lfirst(cell);
		const Reservation *line = order_find_line(order, order->attempt,
												  item->product_id,
												  item->location);

		Assert(line != NULL);
		if (verb == SETTLE_RELEASE && line->state == LINE_CONFIRMED)
			continue;
		*live = *live || line_is_live(&work->call, line);
		items = lappend(items, lfirst(cell));
	}
	return items;
}

/* Gives back the lines that a message selects, as far as the order has them. */
static Outcome
builtin_give_back_selection(Work *work, const Parsed *parsed, Order *order,
							Settle *settle)
{
	bool	differs;
	bool	live;
	List   *selection = order_difference_select(order, parsed->stated_lines,
												&differs);
	Outcome outcome = outcome_applied();

	settle->items = builtin_lines_to_settle(work, order, settle->verb,
											selection, &live);
	if (settle->items != NIL)
		(void) settle_apply(work, settle, order);
	if (!live)
	{
		bool confirmed = selection != NIL && settle->items == NIL;

		durability_fence_answer();
		outcome = outcome_skipped(confirmed ? REASON_CONFIRMED
											: REASON_ALREADY);
	}
	if (differs)
		outcome_note(&outcome, REASON_ITEMS_DIFFER);
	return outcome;
}

/* Gives back all of an order, or the lines that the message selects. */
static Outcome
builtin_give_back(Work *work, const Parsed *parsed, Order *order,
				  Settle *settle)
{
	bool live = order_is_live(&work->call, order);

	settle->reason = parsed->reason;
	if (parsed->line_use == LINES_SELECT && parsed->stated_lines != NIL)
		return builtin_give_back_selection(work, parsed, order, settle);
	/* of an order that has ended, it notes that it was given up */
	(void) settle_apply(work, settle, order);
	return live ? outcome_applied() : outcome_skipped(REASON_ALREADY);
}

/*
 * Whether a message that gives stock back finds no attempt to do it to: there
 * is none, or it is newer than the message.  Sets the outcome then.
 */
static bool
builtin_has_no_attempt(Work *work, const Parsed *parsed, const Order *order,
					   Outcome *outcome)
{
	if (order->lines == NIL && refused_find(work, order->order_id) != NULL)
		*outcome = outcome_skipped(REASON_REFUSED);
	else if (order->lines == NIL)
		*outcome = outcome_waiting_for_order();
	else if (order_is_newer(work, order, parsed->happened_at))
		*outcome = outcome_skipped(REASON_STALE);
	else
		return false;
	return true;
}

/* Another payment may follow: until then the stock is available. */
static Outcome
builtin_payment_failed(Work *work, const Parsed *parsed, Order *order)
{
	Settle	settle = {.verb = SETTLE_RELEASE, .declined = true};
	Outcome outcome;

	if (builtin_has_no_attempt(work, parsed, order, &outcome))
		return outcome;
	if (!order_has_state(&work->call, order, LINE_RESERVED) &&
		order_has_state(&work->call, order, LINE_CONFIRMED))
	{
		durability_fence_answer();
		return outcome_skipped(REASON_CONFIRMED);
	}
	return builtin_give_back(work, parsed, order, &settle);
}

static Outcome
builtin_order_cancelled(Work *work, const Parsed *parsed, Order *order)
{
	Settle	settle = {.verb = SETTLE_RELEASE};
	Outcome outcome;

	if (builtin_has_no_attempt(work, parsed, order, &outcome))
		return outcome;
	if (order_has_state(&work->call, order, LINE_CONFIRMED))
		settle.verb = SETTLE_ROLLBACK;
	return builtin_give_back(work, parsed, order, &settle);
}

/* Its lines are compared only: the ledger knows what was reserved. */
static Outcome
builtin_order_failed(Work *work, const Parsed *parsed, Order *order)
{
	Settle	settle = {.verb = SETTLE_ROLLBACK};
	Outcome outcome;

	if (builtin_has_no_attempt(work, parsed, order, &outcome))
		return outcome;
	outcome = builtin_give_back(work, parsed, order, &settle);
	if (outcome.kind == OUTCOME_APPLIED &&
		order_difference_in_lines(order, parsed->stated_lines))
		outcome_note(&outcome, REASON_ITEMS_DIFFER);
	return outcome;
}

/* ---- The table ---- */

static const BuiltinHandler handlers[BUILTIN_HANDLERS] = {
	[HANDLER_ORDER_CREATED] = {"order_created", "order-created", LINES_RESERVED,
							   .opens_order = true,
							   .apply = builtin_order_created},
	[HANDLER_PAYMENT_SUCCESS] = {"payment_success", "payment-success",
								 LINES_UNUSED, .is_payment = true,
								 .hides_attributes = true,
								 .apply = payment_success},
	[HANDLER_PAYMENT_FAILED] = {"payment_failed", "payment-failed",
								LINES_SELECT, .hides_attributes = true,
								.apply = builtin_payment_failed},
	[HANDLER_ORDER_CANCELLED] = {"order_cancelled", "order-cancelled",
								 LINES_SELECT,
								 .apply = builtin_order_cancelled},
	[HANDLER_ORDER_FAILED] = {"order_failed", "order_failed", LINES_COMPARED,
							  .apply = builtin_order_failed},
	[HANDLER_IGNORE] = {"ignore", NULL, LINES_UNUSED, .apply = NULL},
};

const BuiltinHandler *
builtin_handler(BuiltinHandlerId id)
{
	Assert(id < BUILTIN_HANDLERS && handlers[id].name != NULL);
	return &handlers[id];
}

/* The handler of a name, or NULL. */
const BuiltinHandler *
builtin_handler_find(const char *name)
{
	for (int i = 0; i < BUILTIN_HANDLERS; i++)
	{
		if (strcmp(handlers[i].name, name) == 0)
			return &handlers[i];
	}
	return NULL;
}

/* The handler that a topic has by default, or NULL. */
const BuiltinHandler *
builtin_handler_of_topic(const char *topic)
{
	for (int i = 0; i < BUILTIN_HANDLERS; i++)
	{
		if (handlers[i].topic != NULL && strcmp(handlers[i].topic, topic) == 0)
			return &handlers[i];
	}
	return NULL;
}

/* Requests the levels that a message's handler will need. */
void
builtin_handler_request_levels(Work *work, const Parsed *parsed)
{
	Order  *order = work_find_order(work, parsed->order_id);
	Request request = {.lines = parsed->lines};

	Assert(order != NULL);
	settle_request_levels(work, order);
	expire_request_own_levels(work, order);
	reserve_request_levels(work, &request);
}

/* Applies a message whose order and levels are locked. */
Outcome
builtin_handler_apply(Work *work, const BuiltinHandler *handler,
					  const Parsed *parsed)
{
	Order  *order = work_find_order(work, parsed->order_id);
	Outcome outcome;

	Assert(handler != NULL && order != NULL && parsed->poison == NULL);
	Assert(parsed->line_use == handler->line_use);
	Assert(work->orders_locked && work->levels_locked);
	call_set_message(&work->call,
					 &(Cause){.event_id = parsed->event_id,
							  .traceparent = parsed->traceparent,
							  .trace_id = parsed->trace_id},
					 parsed->order_id, parsed->attributes);
	outcome = handler->apply(work, parsed, order);
	if (outcome.reason == NULL && outcome.kind == OUTCOME_APPLIED &&
		parsed->remark != REASON_NONE)
		outcome.reason = outcome_reason_text(parsed->remark);
	call_reset_trace(&work->call);
	Assert(outcome.kind == OUTCOME_APPLIED || outcome.kind == OUTCOME_SKIPPED ||
		   outcome.kind == OUTCOME_WAITING);
	return outcome;
}
