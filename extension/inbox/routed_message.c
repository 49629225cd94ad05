/*-------------------------------------------------------------------------
 *
 * inbox/routed_message.c
 *	  Messages about orders whose stock is in other databases, the shards.
 *
 * The handlers of pgstock_front (front/incoming.sql) read a message, call the
 * functions of the front, and answer.  What they share with the built-in
 * handlers is here: the formats of messages, the answers, and what must be
 * remembered of orders that have no line anywhere.
 *
 * To read a message locks its order here until the transaction ends, so that
 * of two messages about an order the second one finds what the first has done.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "inbox/inbox.h"

PG_FUNCTION_INFO_V1(pgstock_read_message);
PG_FUNCTION_INFO_V1(pgstock_answer_message);
PG_FUNCTION_INFO_V1(pgstock_apply_message);

/* The columns that read_message() returns. */
enum
{
	READ_ORDER,
	READ_USER,
	READ_PAYMENT,
	READ_REASON,
	READ_TRACE,
	READ_ITEMS,
	READ_REFUSED,
	READ_IDLE,
	READ_COLUMNS
};

/* Argument "handler", the third one of all three functions. */
static const BuiltinHandler *
routed_handler_arg(FunctionCallInfo fcinfo)
{
	const char			 *name = args_text(fcinfo, 2);
	const BuiltinHandler *handler = name ? builtin_handler_find(name) : NULL;

	if (handler == NULL || handler->apply == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" is not a handler of messages",
							   name ? name : "null"),
						errhint("Give the name of a built-in handler, such as "
								"order_created.")));
	return handler;
}

/* ---- Reading ---- */

/* Lines as the argument "items" of the functions that reserve. */
static Datum
routed_items(List *lines)
{
	StringInfoData json;
	ListCell	  *cell;

	Assert(lines != NIL);
	initStringInfo(&json);
	foreach(cell, lines)
	{
		const Line *line = lfirst(cell);

		appendStringInfoString(&json, json.len > 0 ? ",{\"product_id\":"
												   : "[{\"product_id\":");
		escape_json(&json, line->product_id);
		appendStringInfoString(&json, ",\"location\":");
		escape_json(&json, line->location);
		appendStringInfo(&json, ",\"quantity\":" INT64_FORMAT "}",
						 line->quantity);
	}
	appendStringInfoChar(&json, ']');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

static void
routed_set_text(Datum *values, bool *nulls, int column, const char *value)
{
	nulls[column] = value == NULL;
	if (value != NULL)
		values[column] = CStringGetTextDatum(value);
}

/* What is remembered of a message's order, which is locked. */
static void
routed_read_order(const BuiltinHandler *handler, Message *message,
				  Datum *values, bool *nulls)
{
	const Parsed *parsed = &message->parsed;
	bool		  idle;
	Work		  work;

	Assert(parsed->order_id != NULL);
	work_begin(&work, handler->topic);
	batch_lock_stock(&work, list_make1(message));
	routed_set_text(values, nulls, READ_REFUSED,
					refused_find(&work, parsed->order_id));
	idle = handler->is_payment &&
		   (!payment_is_paid(parsed->status) ||
			payment_is_surplus(&work, parsed,
							   work_find_order(&work, parsed->order_id)));
	values[READ_IDLE] = BoolGetDatum(idle);
	work_end(&work);
}

/*
 * read_message(payload jsonb, message jsonb, handler text, OUT order_id text,
 * OUT user_id text, OUT payment_id text, OUT reason text, OUT trace_id text,
 * OUT items jsonb, OUT refused text, OUT idle boolean)
 */
Datum
pgstock_read_message(PG_FUNCTION_ARGS)
{
	const BuiltinHandler *handler = routed_handler_arg(fcinfo);
	Message				 *message = handler_message_args(fcinfo, handler);
	const Parsed		 *parsed = &message->parsed;
	List	 *lines = parsed->lines ? parsed->lines : parsed->stated_lines;
	Datum	  values[READ_COLUMNS] = {0};
	bool	  nulls[READ_COLUMNS] = {0};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	Assert(desc->natts == READ_COLUMNS);
	routed_set_text(values, nulls, READ_ORDER, parsed->order_id);
	routed_set_text(values, nulls, READ_USER, parsed->user_id);
	routed_set_text(values, nulls, READ_PAYMENT, parsed->payment_id);
	routed_set_text(values, nulls, READ_REASON, parsed->reason);
	routed_set_text(values, nulls, READ_TRACE, parsed->trace_id);
	nulls[READ_ITEMS] = lines == NIL;
	if (lines != NIL)
		values[READ_ITEMS] = routed_items(lines);
	nulls[READ_REFUSED] = true;
	values[READ_IDLE] = BoolGetDatum(true);
	/* a row that was deleted has no order */
	if (parsed->skip == REASON_NONE)
		routed_read_order(handler, message, values, nulls);
	PG_RETURN_DATUM(HeapTupleGetDatum(
		heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* ---- Answering ---- */

/* Whether rows of this type are read as rows of stock_result. */
static bool
routed_is_result(TupleDesc desc)
{
	static const Oid types[] = {
		TEXTOID, TEXTOID, TEXTOID,		  INT8OID, INT8OID,
		TEXTOID, INT8OID, TIMESTAMPTZOID, INT8OID, BOOLOID,
	};

	if (desc->natts != lengthof(types))
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->atttypid != types[i])
			return false;
	}
	return true;
}

/* Whether a row has all that an event says of a line. */
static bool
routed_is_line(Datum row, TupleDesc desc)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);

	for (int i = 0; i < desc->natts; i++)
	{
		bool isnull;

		(void) GetAttributeByNum(header, i + 1, &isnull);
		if (isnull && TupleDescAttr(desc, i)->atttypid != TIMESTAMPTZOID)
			return false;
	}
	return true;
}

/* Argument "lines", rows as those of stock_result, of any type. */
static List *
routed_lines_arg(FunctionCallInfo fcinfo, int n)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(n);
	Oid		   type = ARR_ELEMTYPE(array);
	TupleDesc  desc = type_is_rowtype(type) ? lookup_rowtype_tupdesc(type, -1)
											: NULL;
	List	  *lines = NIL;
	Datum	  *rows;
	int		   count = 0;

	if (desc != NULL && routed_is_result(desc))
		deconstruct_array(array, type, -1, false, TYPALIGN_DOUBLE, &rows, NULL,
						  &count);
	for (int i = 0; i < count && routed_is_line(rows[i], desc); i++)
		lines = lappend(lines, answer_from_datum(rows[i], desc));
	if (lines == NIL || list_length(lines) != count)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lines must be rows of stock_result that name their "
						"products")));
	ReleaseTupleDesc(desc);
	return lines;
}

/* Argument "event_type": a type that answers a message. */
static const char *
routed_type_arg(FunctionCallInfo fcinfo, int n)
{
	static const char *const types[] = {
		"StockReserved", "StockReserveFailed", "StockConfirmed",
		"StockReleased", "StockRolledBack",	   "StockShortfall",
	};
	const char *type = args_text(fcinfo, n);

	for (int i = 0; i < lengthof(types) && type != NULL; i++)
	{
		if (strcmp(types[i], type) == 0)
			return types[i];
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("\"%s\" is not the type of an answer",
						   type ? type : "null")));
	return NULL;
}

/* The earliest time at which one of the lines expires. */
static TimestampTz
routed_expiry(List *lines)
{
	TimestampTz earliest = DT_NOEND;
	ListCell   *cell;

	foreach(cell, lines)
		earliest = Min(earliest, ((const Answer *) lfirst(cell))->expires_at);
	return earliest;
}

static void
routed_emit(Work *work, const BuiltinHandler *handler, const Parsed *parsed,
			const Event *event)
{
	Assert(event->items != NIL);
	Assert(work->orders_locked && work_find_order(work, event->order_id));
	if (strcmp(event->type, "StockReserveFailed") == 0)
	{
		if (!event->replayed)
			refused_store(work, parsed->order_id, event->reason);
		event_emit_refusal(work, parsed->order_id, event->user_id,
						   event->reason, event->items, event->replayed, NULL);
	}
	else if (handler->is_payment && event->reason != NULL)
		payment_report(work, parsed, work_find_order(work, parsed->order_id),
					   event);
	else
		event_emit(work, event);
}

/* The event that the arguments of answer_message() describe. */
static Event
routed_event_args(FunctionCallInfo fcinfo, const Parsed *parsed)
{
	Event event = {.type = routed_type_arg(fcinfo, 3)};

	event.reason = args_text(fcinfo, 4);
	if (PG_ARGISNULL(7) || parsed->skip != REASON_NONE ||
		(event.reason == NULL && strcmp(event.type, "StockReserveFailed") == 0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an answer needs an order and lines, and a "
							   "refusal its reason")));
	event.replayed = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);
	event.user_id = args_text(fcinfo, 6);
	event.items = routed_lines_arg(fcinfo, 7);
	event.order_id = parsed->order_id;
	event.payment_id = parsed->payment_id;
	event.expires_at = strcmp(event.type, "StockReserved") == 0
						   ? routed_expiry(event.items)
						   : DT_NOEND;
	return event;
}

/*
 * answer_message(payload jsonb, message jsonb, handler text, event_type text,
 * reason text, replayed boolean, user_id text, lines anyarray) RETURNS void
 *
 * A refusal that is not replayed is remembered.  A payment that has a reason
 * is reported once.
 */
Datum
pgstock_answer_message(PG_FUNCTION_ARGS)
{
	const BuiltinHandler *handler = routed_handler_arg(fcinfo);
	Message				 *message = handler_message_args(fcinfo, handler);
	const Parsed		 *parsed = &message->parsed;
	Event				  event = routed_event_args(fcinfo, parsed);
	Work				  work;

	work_begin(&work, handler->topic);
	batch_lock_stock(&work, list_make1(message));
	call_set_message(&work.call,
					 &(Cause){.event_id = parsed->event_id,
							  .traceparent = parsed->traceparent,
							  .trace_id = parsed->trace_id},
					 parsed->order_id, parsed->attributes);
	routed_emit(&work, handler, parsed, &event);
	call_reset_trace(&work.call);
	work_end(&work);
	PG_RETURN_VOID();
}

/* apply_message(payload jsonb, message jsonb, handler text) RETURNS void */
Datum
pgstock_apply_message(PG_FUNCTION_ARGS)
{
	handler_call_message(fcinfo, routed_handler_arg(fcinfo));
	PG_RETURN_VOID();
}
