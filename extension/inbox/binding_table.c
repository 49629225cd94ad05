/*-------------------------------------------------------------------------
 *
 * inbox/binding_table.c
 *	  The bindings that are stored: bind_topic() and register_handler().
 *
 * The table user_handler has a row for each binding.  One of a registered
 * handler also has what identifies its function and role
 * (handler_registration.c); one of a built-in handler has its name.  A default
 * topic without a row for all its types has its own built-in handler.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/statistics.h"
#include "inbox/inbox.h"

PGSTOCK_COUNTED_FUNCTION(pgstock_register_handler, CALL_REGISTER_HANDLER);
PG_FUNCTION_INFO_V1(pgstock_bind_topic);
PG_FUNCTION_INFO_V1(pgstock_unbind_topic);
PG_FUNCTION_INFO_V1(pgstock_default_bindings);

#define BINDING_HANDLER_HINT                                            \
	"The built-in handlers are order_created, payment_success, "        \
	"payment_failed, order_cancelled, order_failed and ignore; one of " \
	"your own is a function f(payload jsonb, message jsonb) RETURNS void."

enum
{
	BINDING_TOPIC = 1,
	BINDING_EVENT_TYPE,
	BINDING_HANDLER,
	BINDING_ROLE, /* the next eight: NULL where the handler is built in */
	BINDING_OWNER,
	BINDING_FUNCTION_OID,
	BINDING_OWNER_OID,
	BINDING_ROLE_OID,
	BINDING_SCHEMA_OID,
	BINDING_SYSTEM_ID,
	BINDING_DATABASE,
	BINDING_FIELDS,
	BINDING_OPTIONS
};

/* ---- Which bindings a topic has ---- */

static RegisteredHandler *
binding_read_registered(TupleTableSlot *slot)
{
	RegisteredHandler *handler = palloc(sizeof(RegisteredHandler));

	handler->function = row_get_text(slot, BINDING_HANDLER);
	handler->role = row_get_text(slot, BINDING_ROLE);
	handler->function_oid = row_get_oid(slot, BINDING_FUNCTION_OID);
	handler->owner_oid = row_get_oid(slot, BINDING_OWNER_OID);
	handler->role_oid = row_get_oid(slot, BINDING_ROLE_OID);
	handler->schema_oid = row_get_oid(slot, BINDING_SCHEMA_OID);
	handler->system_id = row_get_int64(slot, BINDING_SYSTEM_ID);
	handler->database = row_get_oid(slot, BINDING_DATABASE);
	return handler;
}

/* A copy of a column, since the row is not kept; NULL: it has none. */
static Jsonb *
binding_read_jsonb(TupleTableSlot *slot, AttrNumber column)
{
	return row_is_null(slot, column)
			   ? NULL
			   : DatumGetJsonbPCopy(row_get(slot, column));
}

static Binding *
binding_read(TupleTableSlot *slot)
{
	const BuiltinHandler *builtin = NULL;
	RegisteredHandler	 *registered = NULL;
	char				 *handler = row_get_text(slot, BINDING_HANDLER);

	if (row_is_null(slot, BINDING_FUNCTION_OID))
		builtin = builtin_handler_find(handler);
	else
		registered = binding_read_registered(slot);
	if (builtin == NULL && registered == NULL)
		elog(ERROR, "there is no built-in handler \"%s\"", handler);
	return binding_new(row_get_text(slot, BINDING_EVENT_TYPE), builtin,
					   registered, binding_read_jsonb(slot, BINDING_FIELDS),
					   binding_read_jsonb(slot, BINDING_OPTIONS));
}

static TopicBindings *
binding_load_topic(Call *call, const char *topic)
{
	Table				 *table = table_use(call, TABLE_USER_HANDLER);
	const BuiltinHandler *builtin = builtin_handler_of_topic(topic);
	List				 *bindings = NIL;
	bool				  is_bound;
	ScanKeyData			  key;
	IndexScanDesc		  scan;
	const Binding		 *first;

	/* As a rule there is none, which is cheap to see. */
	if (!table_is_empty(table))
	{
		table_key_text(&key, 1, topic);
		scan = table_scan_begin(call, table, "user_handler_pkey", 1, &key);
		while (table_scan_next(scan, table))
			bindings = lappend(bindings, binding_read(table->slot));
		table_scan_end(table, scan);
	}
	is_bound = bindings != NIL;
	first = is_bound ? linitial(bindings) : NULL;
	/* in the index's order, that of all types is the first */
	if (builtin != NULL && (first == NULL || first->event_type[0] != '\0'))
		bindings = lcons(binding_new("", builtin, NULL, NULL, NULL), bindings);
	return binding_topic(bindings, is_bound);
}

/* Sets the bindings of each message's topic, compiled once for all. */
void
binding_load(Call *call, List *messages)
{
	const Message *last = NULL;
	NameMap		   topics = {0};
	ListCell	  *cell;

	foreach(cell, messages)
	{
		Message	   *message = lfirst(cell);
		const char *topic = message->record->topic;

		if (last != NULL && strcmp(last->record->topic, topic) == 0)
			message->try.topic = last->try.topic;
		else
			message->try.topic = name_map_find(&topics, topic);
		if (message->try.topic == NULL)
		{
			TopicBindings *loaded = binding_load_topic(call, topic);

			name_map_put(&topics, topic, loaded);
			message->try.topic = loaded;
		}
		last = message;
	}
}

/* The bindings of a built-in handler that is called by hand. */
TopicBindings *
binding_of_handler(const BuiltinHandler *builtin)
{
	return binding_topic(list_make1(binding_new("", builtin, NULL, NULL, NULL)),
						 false);
}

/*
 * Locks the bindings of a topic until the transaction ends; whether a built-in
 * handler applies messages of it.
 */
bool
binding_lock_topic(Call *call, const char *topic)
{
	ListCell *cell;

	lock_acquire(call, LOCK_HANDLER_TOPIC, topic);
	call_refresh_snapshot();
	foreach(cell, binding_load_topic(call, topic)->bindings)
	{
		const Binding *binding = lfirst(cell);

		if (binding->builtin != NULL && binding->builtin->apply != NULL)
			return true;
	}
	return false;
}

/* ---- Storing ---- */

/* A binding as it is stored. */
typedef struct BindingRow
{
	const char				*topic;
	const char				*event_type;
	const char				*handler;	 /* NULL: none, delete what is there */
	const RegisteredHandler *registered; /* NULL: it is built in */
	Jsonb					*fields;
	Jsonb					*options;
} BindingRow;

static void
binding_put_jsonb(TupleTableSlot *slot, AttrNumber column, Jsonb *value)
{
	if (value != NULL)
		row_put(slot, column, JsonbPGetDatum(value));
}

static void
binding_put_row(TupleTableSlot *slot, const BindingRow *row)
{
	const RegisteredHandler *handler = row->registered;

	row_put_text(slot, BINDING_TOPIC, row->topic);
	row_put_text(slot, BINDING_EVENT_TYPE, row->event_type);
	row_put_text(slot, BINDING_HANDLER, row->handler);
	binding_put_jsonb(slot, BINDING_FIELDS, row->fields);
	binding_put_jsonb(slot, BINDING_OPTIONS, row->options);
	if (handler == NULL)
		return;
	Assert(handler->database == MyDatabaseId);
	Assert(OidIsValid(handler->function_oid));
	row_put_text(slot, BINDING_ROLE, handler->role);
	row_put_text(slot, BINDING_OWNER,
				 GetUserNameFromId(handler->owner_oid, false));
	row_put(slot, BINDING_FUNCTION_OID,
			ObjectIdGetDatum(handler->function_oid));
	row_put(slot, BINDING_OWNER_OID, ObjectIdGetDatum(handler->owner_oid));
	row_put(slot, BINDING_ROLE_OID, ObjectIdGetDatum(handler->role_oid));
	row_put(slot, BINDING_SCHEMA_OID, ObjectIdGetDatum(handler->schema_oid));
	row_put(slot, BINDING_SYSTEM_ID, Int64GetDatum(handler->system_id));
	row_put(slot, BINDING_DATABASE, ObjectIdGetDatum(handler->database));
}

/*
 * A built-in handler answers by stock events.  If it read these, there would be
 * no end: see event_topic.c too.
 */
static void
binding_must_not_loop(Call *call, const BindingRow *row)
{
	const BuiltinHandler *builtin = NULL;

	if (row->handler == NULL && row->event_type[0] == '\0')
		builtin = builtin_handler_of_topic(row->topic);
	else if (row->handler != NULL && row->registered == NULL)
		builtin = builtin_handler_find(row->handler);
	if (builtin == NULL || builtin->apply == NULL ||
		!topic_is_for_stock_events(call, row->topic))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("handler \"%s\" cannot read topic \"%s\"", builtin->name,
					row->topic),
			 errdetail("Stock events go to the topic: the handler would "
					   "answer each with another one."),
			 errhint("Bind another topic, or set another one for the events "
					 "with set_event_topic().")));
}

/* Stores a binding in place of what was there; false: nothing was. */
static bool
binding_store(Call *call, const BindingRow *row)
{
	Table		   *table = table_use(call, TABLE_USER_HANDLER);
	ScanKeyData		keys[2];
	ItemPointerData tid;
	bool			found;

	lock_acquire(call, LOCK_HANDLER_TOPIC, row->topic);
	call_refresh_snapshot();
	binding_must_not_loop(call, row);
	table_key_text(&keys[0], 1, row->topic);
	table_key_text(&keys[1], 2, row->event_type);
	found = table_find(call, table, "user_handler_pkey", 2, keys, &tid) &&
			table_lock_row(table, &tid);
	if (row->handler == NULL)
	{
		if (found)
			table_delete(table, &tid);
		return found;
	}
	binding_put_row(table_new_row(table), row);
	if (found)
		table_update(call, table, &tid);
	else
		table_insert(call, table);
	return found;
}

/* What was bound, for the audit. */
static char *
binding_describe(const BindingRow *row)
{
	StringInfoData string;

	initStringInfo(&string);
	appendStringInfoString(&string, row->handler ? row->handler : "removed");
	if (row->fields != NULL)
		appendStringInfo(&string, " fields %s",
						 JsonbToCString(NULL, &row->fields->root, 0));
	if (row->options != NULL)
		appendStringInfo(&string, " options %s",
						 JsonbToCString(NULL, &row->options->root, 0));
	return text_printable(string.data);
}

/* Records the binding among the actions of administrators. */
static void
binding_audit(Call *call, const char *action, const BindingRow *row)
{
	const char *target = row->topic;

	if (row->event_type[0] != '\0')
		target = psprintf("%s %s", row->topic, row->event_type);
	admin_action_write(call, action, target, binding_describe(row));
}

/* ---- The SQL functions ---- */

/* The arguments "topic" and "event_type". */
static BindingRow
binding_row_args(FunctionCallInfo fcinfo, int event_type_arg)
{
	BindingRow	row = {.topic = args_id(fcinfo, 0, "topic"), .event_type = ""};
	const char *fault = outbox_topic_fault(row.topic);

	if (!PG_ARGISNULL(event_type_arg))
		row.event_type = args_id(fcinfo, event_type_arg, "event_type");
	if (fault != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("topic %s", fault)));
	return row;
}

/* A JSON argument; NULL if it is empty too. */
static Jsonb *
binding_jsonb_arg(FunctionCallInfo fcinfo, int n)
{
	Jsonb *value = PG_ARGISNULL(n) ? NULL : PG_GETARG_JSONB_P(n);

	return value == NULL ||
				   (JB_ROOT_IS_OBJECT(value) && JB_ROOT_COUNT(value) == 0)
			   ? NULL
			   : value;
}

/* Stores and audits a binding in a call of its own; as binding_store. */
static bool
binding_store_and_audit(const char *action, const BindingRow *row)
{
	Call call;
	bool found;

	call_begin(&call, psprintf("%s()", action));
	found = binding_store(&call, row);
	binding_audit(&call, action, row);
	call_end(&call);
	return found;
}

/* register_handler(topic text, handler text, event_type text) RETURNS void */
static Datum
pgstock_register_handler_body(PG_FUNCTION_ARGS)
{
	BindingRow row = binding_row_args(fcinfo, 2);
	char	  *name = args_text(fcinfo, 1);
	Oid		   schema = get_func_namespace(fcinfo->flinfo->fn_oid);

	if (name != NULL)
	{
		row.registered = registration_from_name(name, schema,
												HANDLER_SIGNATURE_HINT);
		row.handler = row.registered->function;
	}
	(void) binding_store_and_audit("register_handler", &row);
	PG_RETURN_VOID();
}

/*
 * bind_topic(topic text, handler text, event_type text, fields jsonb,
 * options jsonb) RETURNS void
 */
Datum
pgstock_bind_topic(PG_FUNCTION_ARGS)
{
	BindingRow			  row = binding_row_args(fcinfo, 2);
	char				 *name = args_text(fcinfo, 1);
	Oid					  schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	const BuiltinHandler *builtin;

	if (name == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("handler must not be null"),
						errhint("unbind_topic() removes a binding.")));
	topic_must_not_be_position(row.topic);
	builtin = builtin_handler_find(name);
	if (builtin == NULL)
		row.registered = registration_from_name(name, schema,
												BINDING_HANDLER_HINT);
	row.handler = builtin ? builtin->name : row.registered->function;
	row.fields = binding_jsonb_arg(fcinfo, 3);
	row.options = binding_jsonb_arg(fcinfo, 4);
	(void) binding_new(row.event_type, builtin, row.registered, row.fields,
					   row.options);
	(void) binding_store_and_audit("bind_topic", &row);
	PG_RETURN_VOID();
}

/* unbind_topic(topic text, event_type text) RETURNS void */
Datum
pgstock_unbind_topic(PG_FUNCTION_ARGS)
{
	BindingRow			  row = binding_row_args(fcinfo, 1);
	const BuiltinHandler *builtin = builtin_handler_of_topic(row.topic);

	if (binding_store_and_audit("unbind_topic", &row))
		PG_RETURN_VOID();
	if (builtin != NULL && row.event_type[0] == '\0')
		ereport(NOTICE,
				(errmsg("topic \"%s\" has its default binding", row.topic),
				 errhint("To apply none of its messages, bind it to the "
						 "handler \"ignore\".")));
	else
		ereport(NOTICE,
				(errmsg("topic \"%s\" has no such binding", row.topic)));
	PG_RETURN_VOID();
}

/* default_bindings() RETURNS TABLE (topic text, handler text) */
Datum
pgstock_default_bindings(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (BuiltinHandlerId id = 0; id < BUILTIN_HANDLERS; id++)
	{
		const BuiltinHandler *builtin = builtin_handler(id);
		Datum				  values[2];
		bool				  nulls[2] = {false, false};

		if (builtin->topic == NULL)
			continue;
		values[0] = CStringGetTextDatum(builtin->topic);
		values[1] = CStringGetTextDatum(builtin->name);
		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
	}
	return (Datum) 0;
}
