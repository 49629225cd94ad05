/*-------------------------------------------------------------------------
 *
 * inbox/builtin_handlers.c
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

#include "inbox/inbox.h"

PG_FUNCTION_INFO_V1(pgstock_handle_order_created);
PG_FUNCTION_INFO_V1(pgstock_handle_payment_success);
PG_FUNCTION_INFO_V1(pgstock_handle_payment_failed);
PG_FUNCTION_INFO_V1(pgstock_handle_order_cancelled);
PG_FUNCTION_INFO_V1(pgstock_handle_order_failed);

/* ---- Outcomes ---- */

Outcome
outcome_applied(void)
{
	return (Outcome){.result = "applied"};
}

Outcome
outcome_skipped(const char *reason)
{
	return (Outcome){.result = "skipped", .reason = reason};
}

/* It came before its order: waits apart from the tries. */
Outcome
outcome_wait_for_order(void)
{
	return (Outcome){.result = "waiting",
					 .reason = "unknown_order",
					 .error_class = "order"};
}

/* ---- What is known of an order ---- */

/* Whether a line of the latest attempt is in that state; due is expired. */
bool
order_has(Call *call, const Order *order, LineState state)
{
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt &&
			(line_is_due(call, line) ? LINE_EXPIRED : line->state) == state)
			return true;
	}
	return false;
}

Reservation *
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
List *
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

/* When the order's latest attempt began. */
static TimestampTz
attempt_began_at(const Order *order)
{
	TimestampTz began_at = DT_NOEND;
	ListCell   *cell;

	foreach(cell, order->lines)
	{
		const Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt)
			began_at = Min(began_at, line->created_at);
	}
	return began_at;
}

/* How an order ended that has no live line. */
const char *
order_end_reason(Call *call, const Order *order)
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
		if (order_has(call, order, ends[i].state))
			return ends[i].reason;
	}
	elog(ERROR, "a live order has no reason for its end");
	return NULL;
}

/* ---- order-created ---- */

/*
 * Every order-created gets an answer: the last one, for an order we know.  One
 * that says otherwise than what we know changes nothing, and hears so.
 */
static Outcome
answer_again(Work *work, const Message *message, const Order *order)
{
	Event		 event = {.replayed = true,
						  .order_id = order->order_id,
						  .differs = differs_json(message, order)};
	Reservation *line = order_any_line(order);
	Outcome		 outcome = outcome_applied();

	if (event.differs != NULL)
	{
		outcome.reason = "differs";
		outcome.notable = true;
	}
	commit_fence_answer();
	event.user_id = line->user_id;
	event.items = order_answers(work, order);
	if (order_has(&work->call, order, LINE_RESERVED))
	{
		event.type = "StockReserved";
		event.expires_at = line->expires_at;
	}
	else if (order_has(&work->call, order, LINE_CONFIRMED))
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
		return answer_again(work, message, order);
	request.expires_at = default_expiry();
	if (known != NULL)
	{
		/* Refused before: what came in since does not change the answer. */
		answers = reserve_refuse(work, &request, "refused");
		event_emit_refusal(work, order->order_id, request.user_id, known,
						   answers, true, NULL);
		return outcome_applied();
	}
	answers = reserve_apply(work, &request, &granted);
	if (!granted)
	{
		refused_store(work, order->order_id, refusal_reason(answers));
		event_emit_refusal(work, order->order_id, request.user_id,
						   refusal_reason(answers), answers, false, NULL);
	}
	return outcome_applied();
}

/* ---- What gives back ---- */

/*
 * Whether a message speaks of an attempt before the order's present one: it
 * would end what was reserved, and perhaps paid, since.  Clocks of services
 * differ, so one that is older by less than the tolerance counts as of now.  A
 * first attempt has nothing that it could be confused with, whatever the clocks
 * say, unless the order was refused before.
 */
bool
message_is_stale(Work *work, const Message *message, const Order *order)
{
	TimestampTz latest = TimestampTzPlusMilliseconds(message->happened_at,
													 pgstock_clock_tolerance);

	return latest < attempt_began_at(order) &&
		   (order->attempt > 1 || refused_find(work, order->order_id) != NULL);
}

/* The part that a message names, without what its verb does not act on. */
static List *
part_to_settle(Call *call, const Order *order, SettleVerb verb, List *part,
			   bool *live)
{
	List	 *items = NIL;
	ListCell *cell;

	*live = false;
	foreach(cell, part)
	{
		const Line		  *item = lfirst(cell);
		const Reservation *line = order_line(order, order->attempt,
											 item->product_id, item->location);

		if (verb == SETTLE_RELEASE && line->state == LINE_CONFIRMED)
			continue;
		*live = *live || line_is_live(call, line);
		items = lappend(items, lfirst(cell));
	}
	return items;
}

/* The outcome of one that names other pieces than the order has. */
static Outcome
differing(Outcome outcome)
{
	outcome.reason = "items_differ";
	outcome.notable = true;
	return outcome;
}

/* Gives back what a message names, as far as it is the order's. */
static Outcome
give_back_part(Work *work, const Message *message, Order *order, Settle *settle)
{
	bool	differs;
	bool	live;
	List   *part = differs_part(&work->call, order, message->told_lines,
								&differs);
	Outcome outcome = outcome_applied();

	settle->items = part_to_settle(&work->call, order, settle->verb, part,
								   &live);
	if (settle->items != NIL)
		(void) settle_apply(work, settle, order);
	if (!live)
	{
		commit_fence_answer();
		outcome = outcome_skipped(
			part != NIL && settle->items == NIL ? "confirmed" : "already");
	}
	return differs ? differing(outcome) : outcome;
}

/* Gives back all of an order, or what the message names. */
static Outcome
give_back(Work *work, Message *message, Order *order, Settle *settle)
{
	bool live = order_is_live(&work->call, order);

	settle->reason = message->reason;
	if (message->names_part && message->told_lines != NIL)
		return give_back_part(work, message, order, settle);
	/* of one that has ended, it notes that it was given up */
	(void) settle_apply(work, settle, order);
	return live ? outcome_applied() : outcome_skipped("already");
}

/* For an order without lines: why there is nothing to give back. */
static Outcome
nothing_to_give_back(Work *work, Order *order)
{
	if (refused_find(work, order->order_id) != NULL)
		return outcome_skipped("refused");
	return outcome_wait_for_order();
}

/* Another payment may follow: until then the stock is free. */
static Outcome
payment_failed(Work *work, Message *message, Order *order)
{
	Settle settle = {.verb = SETTLE_RELEASE, .declined = true};

	if (order->lines == NIL)
		return nothing_to_give_back(work, order);
	if (message_is_stale(work, message, order))
		return outcome_skipped("stale");
	if (!order_has(&work->call, order, LINE_RESERVED) &&
		order_has(&work->call, order, LINE_CONFIRMED))
	{
		commit_fence_answer();
		return outcome_skipped("confirmed");
	}
	return give_back(work, message, order, &settle);
}

static Outcome
order_cancelled(Work *work, Message *message, Order *order)
{
	Settle settle = {.verb = SETTLE_RELEASE};

	if (order->lines == NIL)
		return nothing_to_give_back(work, order);
	if (message_is_stale(work, message, order))
		return outcome_skipped("stale");
	if (order_has(&work->call, order, LINE_CONFIRMED))
		settle.verb = SETTLE_ROLLBACK;
	return give_back(work, message, order, &settle);
}

/* What it tells of the items is not used: the ledger knows. */
static Outcome
order_failed(Work *work, Message *message, Order *order)
{
	Settle	settle = {.verb = SETTLE_ROLLBACK};
	Outcome outcome;

	if (order->lines == NIL)
		return nothing_to_give_back(work, order);
	if (message_is_stale(work, message, order))
		return outcome_skipped("stale");
	outcome = give_back(work, message, order, &settle);
	if (strcmp(outcome.result, "applied") == 0 &&
		differs_lines(order, message->told_lines))
		return differing(outcome);
	return outcome;
}

/* ---- By topic ---- */

static const Handler handlers[] = {
	{"order-created", .wants_lines = true, .apply = order_created},
	{"payment-success", .apply = payment_success},
	{"payment-failed", .names_part = true, .apply = payment_failed},
	{"order-cancelled", .names_part = true, .apply = order_cancelled},
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
	work->call.causation_id = message->event_id;
	work->call.attributes = message->attributes;
	if (message->trace_id != NULL)
	{
		work->call.trace_id = message->trace_id;
		work->call.traceparent = message->traceparent;
	}
	outcome = handler->apply(work, message, order);
	if (outcome.reason == NULL && strcmp(outcome.result, "applied") == 0)
		outcome.reason = message->remark;
	call_reset_trace(&work->call);
	return outcome;
}

/* ---- The SQL functions: by hand, or from a function of the user's ---- */

/* A member of "message" that is an id, or NULL. */
static const char *
message_member(Jsonb *object, const char *name)
{
	JsonbValue *value;
	char	   *id;

	if (!JB_ROOT_IS_OBJECT(object))
		return NULL;
	value = getKeyJsonValueFromContainer(&object->root, name, strlen(name),
										 NULL);
	if (value == NULL || value->type != jbvString || value->val.string.len == 0)
		return NULL;
	id = pnstrdup(value->val.string.val, value->val.string.len);
	if (args_id_fault(id) != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s of message %s", name, args_id_fault(id))));
	return id;
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
	message->names_part = handler->names_part;
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
