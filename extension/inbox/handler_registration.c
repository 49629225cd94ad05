/*-------------------------------------------------------------------------
 *
 * inbox/handler_registration.c
 *	  The handlers that users have registered for topics.
 *
 * A handler runs with the rights of the role that registered it.  Names alone
 * do not identify the role and the function for good: a role can be dropped
 * and created again, a function or a schema replaced by another one of its
 * name.  So a registration has the oids as well, and each call verifies that
 * the names still stand for them; if not, the handler is refused until it is
 * registered again.
 *
 * In another database the same objects have other oids: one that was restored
 * from a dump, upgraded or copied.  So a registration names its database too,
 * and "adopt" updates it where function, owner and role have the same names
 * (sql/adopt.sql).  The table has no column of a reg* type, since pg_upgrade
 * accepts none.
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
#include "base/statistics.h"
#include "inbox/inbox.h"

PGSTOCK_COUNTED_FUNCTION(pgstock_register_handler, CALL_REGISTER_HANDLER);

#define SIGNATURE_HINT \
	"A handler is f(payload jsonb, message jsonb) RETURNS void."

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
 * The function that a name stands for in the present search_path; an error if
 * it cannot be a handler or the current role may not call it.
 */
static Oid
registration_find_function(const char *name)
{
	Oid		  types[2] = {JSONBOID, JSONBOID};
	List	 *names = textToQualifiedNameList(cstring_to_text(name));
	Oid		  function = LookupFuncName(names, 2, types, true);
	AclResult access;

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(jsonb, jsonb) does not exist", name),
				 errhint(SIGNATURE_HINT)));
	if (get_func_prokind(function) != PROKIND_FUNCTION ||
		get_func_rettype(function) != VOIDOID || get_func_retset(function))
		ereport(ERROR, (errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
						errmsg("%s cannot be a handler", name),
						errdetail("It is not a function that returns void."),
						errhint(SIGNATURE_HINT)));
	access = compat_function_access(function, GetUserId());
	if (access != ACLCHECK_OK)
		aclcheck_error(access, OBJECT_FUNCTION, name);
	return function;
}

static Oid
registration_function_owner(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid		  owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* ---- Which handlers a topic has ---- */

static RegisteredHandler *
registration_read(TupleTableSlot *slot)
{
	RegisteredHandler *handler = palloc(sizeof(RegisteredHandler));

	handler->event_type = row_get_text(slot, HANDLER_EVENT_TYPE);
	handler->function = row_get_text(slot, HANDLER_FUNCTION);
	handler->role = row_get_text(slot, HANDLER_ROLE);
	handler->function_oid = row_get_oid(slot, HANDLER_FUNCTION_OID);
	handler->owner_oid = row_get_oid(slot, HANDLER_OWNER_OID);
	handler->role_oid = row_get_oid(slot, HANDLER_ROLE_OID);
	handler->schema_oid = row_get_oid(slot, HANDLER_SCHEMA_OID);
	handler->system_id = row_get_int64(slot, HANDLER_SYSTEM_ID);
	handler->database = row_get_oid(slot, HANDLER_DATABASE);
	return handler;
}

/* The handlers of a topic, a List of RegisteredHandler. */
static List *
registration_load_topic(Call *call, const char *topic)
{
	Table		 *table = table_use(call, TABLE_USER_HANDLER);
	List		 *handlers = NIL;
	ScanKeyData	  key;
	IndexScanDesc scan;

	/* As a rule there is none, which is cheap to see. */
	if (table_is_empty(table))
		return NIL;
	table_key_text(&key, 1, topic);
	scan = table_scan_begin(call, table, "user_handler_pkey", 1, &key);
	while (table_scan_next(scan, table))
		handlers = lappend(handlers, registration_read(table->slot));
	table_scan_end(table, scan);
	return handlers;
}

/* Sets the candidates of each message: the handlers of its topic. */
void
registration_load_handlers(Call *call, List *messages)
{
	const Message *last = NULL;
	ListCell	  *cell;

	foreach(cell, messages)
	{
		Message	   *message = lfirst(cell);
		const char *topic = message->record->topic;

		if (last != NULL && strcmp(last->record->topic, topic) == 0)
			message->try.candidates = last->try.candidates;
		else
			message->try.candidates = registration_load_topic(call, topic);
		last = message;
	}
}

/* The handler of an event type, else that of the whole topic, else NULL. */
const RegisteredHandler *
registration_choose(const List *candidates, const char *event_type)
{
	const RegisteredHandler *of_topic = NULL;
	ListCell				*cell;

	foreach(cell, candidates)
	{
		const RegisteredHandler *handler = lfirst(cell);

		Assert(handler->event_type != NULL && handler->function != NULL);
		if (handler->event_type[0] == '\0')
			of_topic = handler;
		else if (event_type != NULL &&
				 strcmp(handler->event_type, event_type) == 0)
			return handler;
	}
	return of_topic;
}

/* ---- Whether a handler is still the one that was registered ---- */

/* Refuses a handler; the detail names what has changed. */
static void
registration_refuse(const char *topic, const char *change)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the handler of topic \"%s\" is not what was registered",
					topic),
			 errdetail("%s", change),
			 errhint("Register it again with register_handler().")));
}

/* The role whose rights the handler has. */
Oid
registration_role(const RegisteredHandler *handler, const char *topic)
{
	if (handler->system_id != (int64) GetSystemIdentifier() ||
		handler->database != MyDatabaseId)
		registration_refuse(topic, "It was registered in another database, of "
								   "which this is a copy: run pgstock-relay "
								   "adopt, or register it again.");
	if (get_role_oid(handler->role, false) != handler->role_oid)
		registration_refuse(topic, psprintf("Role \"%s\" is another one; "
											"register it again.",
											handler->role));
	return handler->role_oid;
}

/* The handler's function, which the current role may call. */
Oid
registration_function(const RegisteredHandler *handler, const char *topic)
{
	Oid function = registration_find_function(handler->function);

	/* registration_role() came first, and the role is set */
	Assert(handler->database == MyDatabaseId);
	Assert(GetUserId() == handler->role_oid);
	if (function != handler->function_oid)
		registration_refuse(topic, psprintf("Function %s is another one; "
											"register it again.",
											handler->function));
	if (registration_function_owner(function) != handler->owner_oid)
		registration_refuse(topic, psprintf("Function %s has another owner; "
											"register it again.",
											handler->function));
	return function;
}

/* The function's schema and the extension's, by their present names. */
const char *
registration_search_path(const RegisteredHandler *handler, const char *topic)
{
	char *ours = get_namespace_name(handler->schema_oid);
	char *its = get_namespace_name(get_func_namespace(handler->function_oid));

	if (ours == NULL || its == NULL)
		registration_refuse(topic, "The extension's schema is another one; "
								   "register it again.");
	return psprintf("%s, %s, pg_temp", pstrdup(quote_identifier(its)),
					pstrdup(quote_identifier(ours)));
}

/* ---- Registering ---- */

/* Stores a handler, or deletes what is registered if it is NULL. */
static void
registration_store(Call *call, const char *topic, const char *event_type,
				   const RegisteredHandler *handler)
{
	Table		   *table = table_use(call, TABLE_USER_HANDLER);
	ScanKeyData		keys[2];
	ItemPointerData tid;
	bool			found;
	TupleTableSlot *slot;

	Assert(handler == NULL || handler->database == MyDatabaseId);
	Assert(handler == NULL || OidIsValid(handler->function_oid));
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

/* Records the registration among the actions of administrators. */
static void
registration_audit(Call *call, const char *topic, const char *event_type,
				   const char *function)
{
	const char *target = event_type[0] != '\0'
							 ? psprintf("%s %s", topic, event_type)
							 : topic;

	admin_action_write(call, "register_handler", target, function);
}

/* The handler that a function's name and the current role make now. */
static RegisteredHandler *
registration_from_name(const char *name, Oid schema)
{
	RegisteredHandler *handler = palloc0(sizeof(RegisteredHandler));
	Oid				   function = registration_find_function(name);
	char *its_schema = get_namespace_name(get_func_namespace(function));

	handler->function = quote_qualified_identifier(its_schema,
												   get_func_name(function));
	handler->function_oid = function;
	handler->owner_oid = registration_function_owner(function);
	handler->role_oid = GetUserId();
	handler->role = GetUserNameFromId(handler->role_oid, false);
	handler->schema_oid = schema;
	handler->system_id = (int64) GetSystemIdentifier();
	handler->database = MyDatabaseId;
	return handler;
}

/* register_handler(topic text, handler text, event_type text) RETURNS void */
static Datum
pgstock_register_handler_body(PG_FUNCTION_ARGS)
{
	char *topic = args_id(fcinfo, 0, "topic");
	char *name = args_text(fcinfo, 1);
	char *event_type = PG_ARGISNULL(2) ? "" : args_id(fcinfo, 2, "event_type");
	const char		  *fault = outbox_topic_fault(topic);
	Oid				   schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	RegisteredHandler *handler = NULL;
	Call			   call;

	if (fault != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("topic %s", fault)));
	if (name != NULL)
		handler = registration_from_name(name, schema);
	call_begin(&call, "register_handler()");
	registration_store(&call, topic, event_type, handler);
	registration_audit(&call, topic, event_type,
					   handler ? handler->function : "removed");
	call_end(&call);
	PG_RETURN_VOID();
}
