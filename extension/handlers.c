/*-------------------------------------------------------------------------
 *
 * handlers.c
 *	  What an incoming message does to stock: the built-in handlers.
 *
 * A handler looks before it acts, so that no message can raise an error for
 * what it asks: a refusal is an answer, and a wrong state is a reason to skip.
 * It runs in a unit of work whose orders and levels are locked.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "pgstock.h"

PG_FUNCTION_INFO_V1(pgstock_handle_order_created);
PG_FUNCTION_INFO_V1(pgstock_handle_payment_success);
PG_FUNCTION_INFO_V1(pgstock_handle_payment_failed);
PG_FUNCTION_INFO_V1(pgstock_handle_order_cancelled);
PG_FUNCTION_INFO_V1(pgstock_handle_order_failed);

/* ---- Outcomes ---- */

static Outcome
applied(void)
{
	return (Outcome){.result = "applied"};
}

static Outcome
skipped(const char *reason)
{
	return (Outcome){.result = "skipped", .reason = reason};
}

/* It came before its order: waits apart from the tries. */
static Outcome
wait_for_order(void)
{
	return (Outcome){.result = "waiting",
					 .reason = "unknown_order",
					 .error_class = "order"};
}

/* ---- What is known of an order ---- */

/* Whether a line of the latest attempt is in that state; due is expired. */
static bool
order_has(Work *work, const Order *order, LineState state)
{
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt &&
			(line_is_due(work, line) ? LINE_EXPIRED : line->state) == state)
			return true;
	}
	return false;
}

static Reservation *
order_any_line(const Order *order)
{
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt)
			return line;
	}
	return NULL;
}

/* The lines of the latest attempt as they would be answered. */
static List *
order_answers(Work *work, const Order *order)
{
	List	 *answers = NIL;
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);
		Answer		*answer;

		if (line->attempt != order->attempt)
			continue;
		answer = answer_of_line(work, line, line->quantity);
		answer->status = "refused";
		answers = lappend(answers, answer);
	}
	return answers;
}

/* How an order ended that has no live line. */
static const char *
end_reason(Work *work, const Order *order)
{
	static const struct
	{
		LineState	state;
		const char *reason;
	} ends[] = {
		{LINE_SHORTFALL, "shortfall"},	   {LINE_EXPIRED, "expired"},
		{LINE_ROLLED_BACK, "rolled_back"}, {LINE_RETURNED, "returned"},
		{LINE_RELEASED, "released"},
	};

	for (int i = 0; i < lengthof(ends); i++)
	{
		if (order_has(work, order, ends[i].state))
			return ends[i].reason;
	}
	elog(ERROR, "a live order has no reason for its end");
	return NULL;
}

/* ---- order-created ---- */

/* Every order-created gets an answer: the last one, for an order we know. */
static Outcome
answer_again(Work *work, const Order *order)
{
	Event		 event = {.replayed = true, .order_id = order->order_id};
	Reservation *line = order_any_line(order);

	commit_fence_answer();
	event.user_id = line->user_id;
	event.items = order_answers(work, order);
	if (order_has(work, order, LINE_RESERVED))
	{
		event.type = "StockReserved";
		event.expires_at = line->expires_at;
	}
	else if (order_has(work, order, LINE_CONFIRMED))
	{
		event.type = "StockConfirmed";
		event.payment_id = line->payment_id;
	}
	else
	{
		event_emit_refusal(work, order->order_id, line->user_id,
						   end_reason(work, order), event.items, true);
		return applied();
	}
	event_emit(work, &event);
	return applied();
}

/* Why a refused order was refused, from its rows. */
static const char *
refusal_reason(List *answers)
{
	ListCell *cell;

	foreach(cell, answers)
	{
		Answer *answer = lfirst(cell);

		if (strcmp(answer->status, "unknown_product") == 0)
			return answer->status;
	}
	return "insufficient";
}

static Outcome
order_created(Work *work, Message *message, Order *order)
{
	Request request = {
		.order_id = order->order_id,
		.user_id = (char *) message->user_id,
		.whole_order = true,
		.lines = message->lines,
	};
	const char *known = refused_find(work, order->order_id);
	List	   *answers;
	bool		granted;

	if (order->lines != NIL)
		return answer_again(work, order);
	request.expires_at = default_expiry();
	if (known != NULL)
	{
		/* Refused before: what came in since does not change the answer. */
		answers = reserve_refuse(work, &request, "refused");
		event_emit_refusal(work, order->order_id, request.user_id, known,
						   answers, true);
		return applied();
	}
	answers = reserve_apply(work, &request, &granted);
	if (!granted)
	{
		refused_store(work, order->order_id, refusal_reason(answers));
		event_emit_refusal(work, order->order_id, request.user_id,
						   refusal_reason(answers), answers, false);
	}
	return applied();
}

/* ---- payment-success ---- */

static bool
is_paid(const char *status)
{
	static const char *const paid[] = {
		"success",
		"succeeded",
		"paid",
		"completed",
	};

	if (status == NULL)
		return true;
	for (int i = 0; i < lengthof(paid); i++)
	{
		if (pg_strcasecmp(status, paid[i]) == 0)
			return true;
	}
	return false;
}

/*
 * Paid after the order was given back: no state changes, but somebody must
 * hear, once for each payment.  That it was said is the payment id on the
 * lines, where a payment that was confirmed before stands too.
 */
static Outcome
paid_too_late(Work *work, Message *message, Order *order)
{
	Event event = {.type = "StockShortfall", .order_id = order->order_id};
	Reservation *line = order_any_line(order);
	const char	*payment_id = message->payment_id;
	ListCell	*cell;

	if (line->payment_id != NULL &&
		(payment_id == NULL || strcmp(line->payment_id, payment_id) == 0))
		return skipped("already");
	event.user_id = line->user_id;
	event.reason = end_reason(work, order);
	event.payment_id = payment_id;
	event.items = order_answers(work, order);
	event_emit(work, &event);
	foreach(cell, order->lines)
	{
		line = lfirst(cell);
		if (line->attempt != order->attempt)
			continue;
		line->payment_id = pstrdup(payment_id ? payment_id : "unknown");
		line->dirty = true;
	}
	return applied();
}

/* Paid though it was refused; the same, for an order that has no line. */
static Outcome
paid_though_refused(Work *work, Message *message, Order *order,
					const char *reason)
{
	Event event = {.type = "StockShortfall",
				   .order_id = order->order_id,
				   .reason = reason,
				   .payment_id = message->payment_id,
				   .user_id = message->user_id};

	if (strcmp(reason, "shortfall") == 0)
		return skipped("shortfall");
	event_emit(work, &event);
	refused_store(work, order->order_id, "shortfall");
	return applied();
}

static Outcome
payment_success(Work *work, Message *message, Order *order)
{
	Settle		confirm = {.verb = SETTLE_CONFIRM};
	const char *refused;

	if (!is_paid(message->status))
		return skipped("not_paid");
	if (order->lines == NIL)
	{
		refused = refused_find(work, order->order_id);
		return refused ? paid_though_refused(work, message, order, refused)
					   : wait_for_order();
	}
	if (order_has(work, order, LINE_RESERVED) ||
		order_has(work, order, LINE_EXPIRED))
	{
		confirm.payment_id = message->payment_id;
		(void) settle_apply(work, &confirm, order);
		return applied();
	}
	if (order_has(work, order, LINE_CONFIRMED) ||
		order_has(work, order, LINE_SHORTFALL))
	{
		commit_fence_answer();
		return skipped(order_has(work, order, LINE_CONFIRMED) ? "already"
															  : "shortfall");
	}
	return paid_too_late(work, message, order);
}

/* ---- What gives back ---- */

static Outcome
give_back(Work *work, Message *message, Order *order, SettleVerb verb)
{
	Settle settle = {.verb = verb, .reason = message->reason};

	if (!order_is_live(work, order))
	{
		commit_fence_answer();
		return skipped("already");
	}
	(void) settle_apply(work, &settle, order);
	return applied();
}

/* For an order without lines: why there is nothing to give back. */
static Outcome
nothing_to_give_back(Work *work, Order *order)
{
	if (refused_find(work, order->order_id) != NULL)
		return skipped("refused");
	return wait_for_order();
}

static Outcome
payment_failed(Work *work, Message *message, Order *order)
{
	if (order->lines == NIL)
		return nothing_to_give_back(work, order);
	if (!order_has(work, order, LINE_RESERVED) &&
		order_has(work, order, LINE_CONFIRMED))
	{
		commit_fence_answer();
		return skipped("confirmed");
	}
	return give_back(work, message, order, SETTLE_RELEASE);
}

static Outcome
order_cancelled(Work *work, Message *message, Order *order)
{
	if (order->lines == NIL)
		return nothing_to_give_back(work, order);
	return give_back(work, message, order,
					 order_has(work, order, LINE_CONFIRMED) ? SETTLE_ROLLBACK
															: SETTLE_RELEASE);
}

/* Whether a message tells other lines than the ledger has of the order. */
static bool
tells_other_lines(const Order *order, List *told)
{
	int		  n = 0;
	ListCell *cell;

	if (told == NIL)
		return false;
	foreach(cell, order->lines)
		n += ((Reservation *) lfirst(cell))->attempt == order->attempt;
	foreach(cell, told)
	{
		const Line		  *line = lfirst(cell);
		const Reservation *ours = order_line(order, order->attempt,
											 line->product_id, line->location);

		if (ours == NULL || ours->quantity != line->quantity)
			return true;
	}
	return n != list_length(told);
}

/* What it tells of the items is not used: the ledger knows. */
static Outcome
order_failed(Work *work, Message *message, Order *order)
{
	Outcome outcome;

	if (order->lines == NIL)
		return nothing_to_give_back(work, order);
	/* It speaks of an earlier attempt. */
	if (order->attempt > 1 &&
		order_any_line(order)->created_at > message->happened_at)
		return skipped("stale");
	outcome = give_back(work, message, order, SETTLE_ROLLBACK);
	if (strcmp(outcome.result, "applied") == 0 &&
		tells_other_lines(order, message->told_lines))
	{
		outcome.reason = "items_differ";
		outcome.notable = true;
	}
	return outcome;
}

/* ---- By topic ---- */

static const Handler handlers[] = {
	{"order-created", .wants_lines = true, .apply = order_created},
	{"payment-success", .apply = payment_success},
	{"payment-failed", .apply = payment_failed},
	{"order-cancelled", .apply = order_cancelled},
	{"order_failed", .compares_lines = true, .apply = order_failed},
};

/* The handler of a topic, or NULL. */
const Handler *
handler_find(const char *topic)
{
	for (int i = 0; i < lengthof(handlers); i++)
	{
		if (strcmp(handlers[i].topic, topic) == 0)
			return &handlers[i];
	}
	return NULL;
}

/* Wants what the message's handler will need. */
void
handler_want_levels(Work *work, const Message *message)
{
	Order  *order = work_order(work, message->order_id);
	Request request = {.lines = message->lines};

	settle_want_levels(work, order);
	expire_want_own(work, order);
	reserve_want_levels(work, &request);
}

/* Applies a message whose order and levels are locked. */
Outcome
handler_apply(Work *work, Message *message)
{
	const Handler *handler = handler_find(message->topic);
	Order		  *order = work_order(work, message->order_id);
	Outcome		   outcome;

	Assert(handler != NULL && order != NULL && message->poison == NULL);
	work->causation_id = message->event_id;
	work->attributes = message->attributes;
	if (message->trace_id != NULL)
	{
		work->trace_id = message->trace_id;
		work->traceparent = message->traceparent;
	}
	outcome = handler->apply(work, message, order);
	if (outcome.reason == NULL && strcmp(outcome.result, "applied") == 0)
		outcome.reason = message->remark;
	work_reset_trace(work);
	return outcome;
}

/* ---- The SQL functions: by hand, or from a function of the user's ---- */

/* A member of "message" that is a string, or NULL. */
static const char *
message_member(Jsonb *object, const char *name)
{
	JsonbValue *value;

	if (!JB_ROOT_IS_OBJECT(object))
		return NULL;
	value = getKeyJsonValueFromContainer(&object->root, name, strlen(name),
										 NULL);
	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static Message *
message_from_args(FunctionCallInfo fcinfo, const Handler *handler)
{
	Message *message = palloc0(sizeof(Message));
	Jsonb	*payload;
	char	*json;
	int		 length;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("payload must not be null")));
	payload = PG_GETARG_JSONB_P(0);
	json = JsonbToCString(NULL, &payload->root, VARSIZE(payload));
	message->topic = handler->topic;
	message->wants_lines = handler->wants_lines;
	message->partition = -1;
	message->sent_at_ms = -1;
	/* as it would come from Kafka */
	json = text_to_utf8(json, strlen(json), &length);
	message->value = (bytea *) cstring_to_text_with_len(json, length);
	if (!PG_ARGISNULL(1))
	{
		message->event_id = message_member(PG_GETARG_JSONB_P(1), "event_id");
		message->trace_id = message_member(PG_GETARG_JSONB_P(1), "trace_id");
	}
	message_parse(message);
	if (message->poison != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("payload is not valid for \"%s\"", handler->topic),
				 errdetail("%s.", message->poison)));
	return message;
}

static Datum
handle(FunctionCallInfo fcinfo, const char *topic)
{
	Message *message = message_from_args(fcinfo, handler_find(topic));
	Work	 work;
	Outcome	 outcome;

	work_begin(&work, topic);
	work_want_order(&work, message->order_id);
	work_lock_orders(&work);
	handler_want_levels(&work, message);
	work_read_levels(&work);
	work_lock_levels(&work);
	outcome = handler_apply(&work, message);
	if (strcmp(outcome.result, "waiting") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_SK_UNKNOWN_ORDER),
				 errmsg("there is no order \"%s\"", message->order_id),
				 errhint("Its order-created may not have arrived yet.")));
	work_end(&work);
	PG_RETURN_VOID();
}

Datum
pgstock_handle_order_created(PG_FUNCTION_ARGS)
{
	return handle(fcinfo, "order-created");
}

Datum
pgstock_handle_payment_success(PG_FUNCTION_ARGS)
{
	return handle(fcinfo, "payment-success");
}

Datum
pgstock_handle_payment_failed(PG_FUNCTION_ARGS)
{
	return handle(fcinfo, "payment-failed");
}

Datum
pgstock_handle_order_cancelled(PG_FUNCTION_ARGS)
{
	return handle(fcinfo, "order-cancelled");
}

Datum
pgstock_handle_order_failed(PG_FUNCTION_ARGS)
{
	return handle(fcinfo, "order_failed");
}
