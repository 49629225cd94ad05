/*-------------------------------------------------------------------------
 *
 * inbox/handler_registration.c
 *	  Handlers that users register for topics: which function, whose.
 *
 * A handler runs with the rights of the role that registered it.  Names alone
 * do not say which role and which function that were: a role can be dropped and
 * created again, a function or a schema replaced by another one of its name.  So
 * a registration holds what the names stood for as well, and each call makes
 * sure that they still do; if not, the handler is refused until somebody
 * registers it again.
 *
 * Another database gives its objects other oids: one that was restored from a
 * dump, upgraded or copied.  A registration names its database too, and "adopt"
 * takes it along where function, owner and role have the same names (in
 * sql/relay.sql).  No reg* type is used, for pg_upgrade takes none in a table.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "inbox/inbox.h"

PG_FUNCTION_INFO_V1(pgstock_register_handler);

enum
{
	HANDLER_TOPIC = 1,
	HANDLER_EVENT_TYPE,
	HANDLER_FUNCTION,
	HANDLER_ROLE,
	HANDLER_OWNER,
	HANDLER_FUNCTION_OID,
	HANDLER_OWNER_OID,
	HANDLER_ROLE_OID,
	HANDLER_SCHEMA_OID,
	HANDLER_SYSTEM_ID,
	HANDLER_DATABASE
};

/* ---- The function ---- */

/*
 * The function that a name stands for, in the present search_path and for the
 * present role; an error if it is not a handler or not theirs to call.
 */
static Oid
handler_function(const char *name)
{
	Oid		  types[2] = {JSONBOID, JSONBOID};
	List	 *names = textToQualifiedNameList(cstring_to_text(name));
	Oid		  function = LookupFuncName(names, 2, types, true);
	AclResult access;

	if (!OidIsValid(function))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("function %s(jsonb, jsonb) does not exist", name),
			 errhint(
				 "A handler is f(payload jsonb, message jsonb) RETURNS void.")));
	if (get_func_prokind(function) != PROKIND_FUNCTION ||
		get_func_rettype(function) != VOIDOID || get_func_retset(function))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
			 errmsg("%s cannot be a handler", name),
			 errdetail("It is not a function that returns void."),
			 errhint(
				 "A handler is f(payload jsonb, message jsonb) RETURNS void.")));
	access = compat_function_access(function, GetUserId());
	if (access != ACLCHECK_OK)
		aclcheck_error(access, OBJECT_FUNCTION, name);
	return function;
}

/* ---- Who is registered ---- */

/* The handlers of a topic, a List of UserHandler. */
static List *
topic_handlers(Call *call, const char *topic)
{
	Table		 *table = table_use(call, TABLE_USER_HANDLER);
	List		 *handlers = NIL;
	ScanKeyData	  key;
	IndexScanDesc scan;

	/* As a rule there is none, and that is cheap to see. */
	if (table_is_empty(table))
		return NIL;
	table_key_text(&key, 1, topic);
	scan = table_scan_begin(call, table, "user_handler_pkey", 1, &key);
	while (table_scan_next(scan, table))
	{
		UserHandler *handler = palloc(sizeof(UserHandler));

		handler->event_type = row_get_text(table->slot, HANDLER_EVENT_TYPE);
		handler->function = row_get_text(table->slot, HANDLER_FUNCTION);
		handler->role = row_get_text(table->slot, HANDLER_ROLE);
		handler->function_oid = row_get_oid(table->slot, HANDLER_FUNCTION_OID);
		handler->owner_oid = row_get_oid(table->slot, HANDLER_OWNER_OID);
		handler->role_oid = row_get_oid(table->slot, HANDLER_ROLE_OID);
		handler->schema_oid = row_get_oid(table->slot, HANDLER_SCHEMA_OID);
		handler->system_id = row_get_int64(table->slot, HANDLER_SYSTEM_ID);
		handler->database = row_get_oid(table->slot, HANDLER_DATABASE);
		handlers = lappend(handlers, handler);
	}
	table_scan_end(table, scan);
	return handlers;
}

/* Gives each message the handlers of its topic. */
void
user_handlers_find(Call *call, List *messages)
{
	const Message *last = NULL;
	ListCell	  *cell;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);

		if (last != NULL && strcmp(last->topic, message->topic) == 0)
			message->user_handlers = last->user_handlers;
		else
			message->user_handlers = topic_handlers(call, message->topic);
		last = message;
	}
}

/* The handler of a message whose type is known: its type's, or the topic's. */
const UserHandler *
user_handler_choose(const Message *message)
{
	const UserHandler *whole_topic = NULL;
	ListCell		  *cell;

	foreach(cell, message->user_handlers)
	{
		const UserHandler *handler = lfirst(cell);

		if (handler->event_type[0] == '\0')
			whole_topic = handler;
		else if (message->event_type != NULL &&
				 strcmp(handler->event_type, message->event_type) == 0)
			return handler;
	}
	return whole_topic;
}

/* ---- Whether it is the one that was registered ---- */

/* Refuses a handler, with the sentence that says what is different. */
static void
refuse(const Message *message, const char *because)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the handler of topic \"%s\" is not what was registered",
					message->topic),
			 errdetail("%s", because),
			 errhint("Register it again with register_handler().")));
}

static void
check_database(const Message *message)
{
	const UserHandler *user = message->user;

	if (user->system_id != (int64) GetSystemIdentifier() ||
		user->database != MyDatabaseId)
		refuse(message, "It was registered in another database, of which this "
						"is a copy: run pgstock-relay adopt, or register it "
						"again.");
}

/* The role whose rights the message's handler has. */
Oid
registered_role(const Message *message)
{
	const UserHandler *user = message->user;

	check_database(message);
	if (get_role_oid(user->role, false) != user->role_oid)
		refuse(message,
			   psprintf("Role \"%s\" is another one; register it again.",
						user->role));
	return user->role_oid;
}

static Oid
function_owner(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid		  owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* The message's handler, which the present role may call. */
Oid
registered_function(const Message *message)
{
	const UserHandler *user = message->user;
	Oid				   function = handler_function(user->function);

	if (function != user->function_oid)
		refuse(message,
			   psprintf("Function %s is another one; register it again.",
						user->function));
	if (function_owner(function) != user->owner_oid)
		refuse(message,
			   psprintf("Function %s has another owner; register it again.",
						user->function));
	return function;
}

/* Its schema and the extension's, by their present names. */
const char *
registered_search_path(const Message *message)
{
	const UserHandler *user = message->user;
	char			  *ours = get_namespace_name(user->schema_oid);
	char *its = get_namespace_name(get_func_namespace(user->function_oid));

	if (ours == NULL || its == NULL)
		refuse(message,
			   "The extension's schema is another one; register it again.");
	return psprintf("%s, %s, pg_temp", pstrdup(quote_identifier(its)),
					pstrdup(quote_identifier(ours)));
}

/* ---- Registering ---- */

/* Puts a handler into the table, or takes it out of it. */
static void
handler_store(Call *call, const char *topic, const char *event_type,
			  const UserHandler *handler)
{
	Table		   *table = table_use(call, TABLE_USER_HANDLER);
	ScanKeyData		keys[2];
	ItemPointerData tid;
	bool			found;
	TupleTableSlot *slot;

	lock_acquire(call, LOCK_HANDLER_TOPIC, topic);
	call_refresh_snapshot();
	table_key_text(&keys[0], 1, topic);
	table_key_text(&keys[1], 2, event_type);
	found = table_find(call, table, "user_handler_pkey", 2, keys, &tid) &&
			table_lock_row(table, &tid);
	if (handler == NULL)
	{
		if (found)
			table_delete(table, &tid);
		return;
	}
	slot = table_new_row(table);
	row_put_text(slot, HANDLER_TOPIC, topic);
	row_put_text(slot, HANDLER_EVENT_TYPE, event_type);
	row_put_text(slot, HANDLER_FUNCTION, handler->function);
	row_put_text(slot, HANDLER_ROLE, handler->role);
	row_put_text(slot, HANDLER_OWNER,
				 GetUserNameFromId(handler->owner_oid, false));
	row_put(slot, HANDLER_FUNCTION_OID,
			ObjectIdGetDatum(handler->function_oid));
	row_put(slot, HANDLER_OWNER_OID, ObjectIdGetDatum(handler->owner_oid));
	row_put(slot, HANDLER_ROLE_OID, ObjectIdGetDatum(handler->role_oid));
	row_put(slot, HANDLER_SCHEMA_OID, ObjectIdGetDatum(handler->schema_oid));
	row_put(slot, HANDLER_SYSTEM_ID, Int64GetDatum(handler->system_id));
	row_put(slot, HANDLER_DATABASE, ObjectIdGetDatum(handler->database));
	if (found)
		table_update(call, table, &tid);
	else
		table_insert(call, table);
}

static void
audit(Call *call, const char *action, const char *target, const char *reason)
{
	Table		   *table = table_use(call, TABLE_ADMIN_ACTION);
	TupleTableSlot *slot = table_new_row(table);

	row_put(slot, 1, TimestampTzGetDatum(call->now));
	row_put_text(slot, 2, call->actor);
	row_put_text(slot, 3, action);
	row_put_text(slot, 4, target);
	row_put_text(slot, 5, reason);
	table_insert(call, table);
}

/* What the name of a function stands for, and who registers it where. */
static UserHandler *
handler_from_name(const char *name, Oid schema)
{
	UserHandler *handler = palloc0(sizeof(UserHandler));
	Oid			 function = handler_function(name);

	handler->function = quote_qualified_identifier(get_namespace_name(
													   get_func_namespace(
														   function)),
												   get_func_name(function));
	handler->function_oid = function;
	handler->owner_oid = function_owner(function);
	handler->role_oid = GetUserId();
	handler->role = GetUserNameFromId(handler->role_oid, false);
	handler->schema_oid = schema;
	handler->system_id = (int64) GetSystemIdentifier();
	handler->database = MyDatabaseId;
	return handler;
}

/* register_handler(topic text, handler text, event_type text) RETURNS void */
Datum
pgstock_register_handler(PG_FUNCTION_ARGS)
{
	char *topic = args_id(fcinfo, 0, "topic");
	char *name = args_text(fcinfo, 1);
	char *event_type = PG_ARGISNULL(2) ? "" : args_id(fcinfo, 2, "event_type");
	const char	*fault = outbox_topic_fault(topic);
	UserHandler *handler = NULL;
	Call		 call;

	if (fault != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("topic %s", fault)));
	if (name != NULL)
		handler = handler_from_name(name,
									get_func_namespace(fcinfo->flinfo->fn_oid));
	call_begin(&call, "register_handler()");
	handler_store(&call, topic, event_type, handler);
	audit(&call, "register_handler",
		  event_type[0] ? psprintf("%s %s", topic, event_type) : topic,
		  handler ? handler->function : "removed");
	call_end(&call);
	PG_RETURN_VOID();
}
