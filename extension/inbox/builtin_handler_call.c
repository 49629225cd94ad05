/*-------------------------------------------------------------------------
 *
 * inbox/builtin_handler_call.c
 *	  The built-in handlers as SQL functions, such as handle_order_created().
 *
 * They are called by hand, or from a registered handler that does more than
 * the built-in one.  Here a message that cannot be applied is an error: the
 * caller is there to read it.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/statistics.h"
#include "inbox/inbox.h"

PGSTOCK_COUNTED_FUNCTION(pgstock_handle_order_created,
						 CALL_HANDLE_ORDER_CREATED);
PGSTOCK_COUNTED_FUNCTION(pgstock_handle_payment_success,
						 CALL_HANDLE_PAYMENT_SUCCESS);
PGSTOCK_COUNTED_FUNCTION(pgstock_handle_payment_failed,
						 CALL_HANDLE_PAYMENT_FAILED);
PGSTOCK_COUNTED_FUNCTION(pgstock_handle_order_cancelled,
						 CALL_HANDLE_ORDER_CANCELLED);
PGSTOCK_COUNTED_FUNCTION(pgstock_handle_order_failed, CALL_HANDLE_ORDER_FAILED);
PG_FUNCTION_INFO_V1(pgstock_has_builtin_handler);

/* A member of argument "message" that is an id, or NULL. */
static const char *
handler_id_member(Jsonb *object, const char *name)
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

/* Argument "payload" as the record that Kafka would deliver. */
static Record *
handler_record_arg(FunctionCallInfo fcinfo, const char *topic)
{
	Record *record = palloc0(sizeof(Record));
	Jsonb  *payload;
	char   *json;
	int		length;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("payload must not be null")));
	payload = PG_GETARG_JSONB_P(0);
	json = JsonbToCString(NULL, &payload->root, VARSIZE(payload));
	json = text_to_utf8(json, strlen(json), &length);
	record->topic = topic;
	record->partition = -1;
	record->sent_at_ms = -1;
	record->value = (bytea *) cstring_to_text_with_len(json, length);
	return record;
}

/* The arguments "payload" and "message" as a message of this handler. */
Message *
handler_message_args(FunctionCallInfo fcinfo, const BuiltinHandler *handler)
{
	Message *message = palloc0(sizeof(Message));
	Parsed	*parsed = &message->parsed;

	message->record = handler_record_arg(fcinfo, handler->topic);
	message->try.builtin = handler;
	if (!PG_ARGISNULL(1))
	{
		parsed->event_id = handler_id_member(PG_GETARG_JSONB_P(1), "event_id");
		parsed->trace_id = handler_id_member(PG_GETARG_JSONB_P(1), "trace_id");
	}
	(void) message_parse(message->record, binding_of_handler(handler),
						 GetCurrentTimestamp(), parsed);
	if (parsed->poison != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("payload is not valid for \"%s\"", handler->topic),
				 errdetail("%s.", parsed->poison)));
	return message;
}

/* Applies the message of these arguments. */
void
handler_call_message(FunctionCallInfo fcinfo, const BuiltinHandler *handler)
{
	Message *message = handler_message_args(fcinfo, handler);
	Work	 work;
	Outcome	 outcome;

	/* a row that was deleted has no order */
	if (message->parsed.skip != REASON_NONE)
		return;
	work_begin(&work, handler->topic);
	batch_lock_stock(&work, list_make1(message));
	Assert(message->outcome.kind == OUTCOME_NONE);
	outcome = builtin_handler_apply(&work, handler, &message->parsed);
	if (outcome.kind == OUTCOME_WAITING)
		order_wait_raise(handler, message->parsed.order_id);
	work_end(&work);
}

static Datum
handler_call(FunctionCallInfo fcinfo, BuiltinHandlerId id)
{
	handler_call_message(fcinfo, builtin_handler(id));
	PG_RETURN_VOID();
}

static Datum
pgstock_handle_order_created_body(PG_FUNCTION_ARGS)
{
	return handler_call(fcinfo, HANDLER_ORDER_CREATED);
}

static Datum
pgstock_handle_payment_success_body(PG_FUNCTION_ARGS)
{
	return handler_call(fcinfo, HANDLER_PAYMENT_SUCCESS);
}

static Datum
pgstock_handle_payment_failed_body(PG_FUNCTION_ARGS)
{
	return handler_call(fcinfo, HANDLER_PAYMENT_FAILED);
}

static Datum
pgstock_handle_order_cancelled_body(PG_FUNCTION_ARGS)
{
	return handler_call(fcinfo, HANDLER_ORDER_CANCELLED);
}

static Datum
pgstock_handle_order_failed_body(PG_FUNCTION_ARGS)
{
	return handler_call(fcinfo, HANDLER_ORDER_FAILED);
}

/* has_builtin_handler(topic text) RETURNS boolean */
Datum
pgstock_has_builtin_handler(PG_FUNCTION_ARGS)
{
	char *topic = text_to_cstring(PG_GETARG_TEXT_PP(0));

	PG_RETURN_BOOL(builtin_handler_of_topic(topic) != NULL);
}
