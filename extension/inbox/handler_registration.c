/*-------------------------------------------------------------------------
 *
 * inbox/handler_registration.c
 *	  Handlers that users have registered: function, owner and role.
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
#include "inbox/inbox.h"

/* ---- The function ---- */

/*
 * The function that a name stands for in the present search_path; an error if
 * it cannot be a handler or the current role may not call it.  Hint: where
 * there is none.
 */
static Oid
registration_find_function(const char *name, const char *hint)
{
	Oid		  types[2] = {JSONBOID, JSONBOID};
	List	 *names = textToQualifiedNameList(cstring_to_text(name));
	Oid		  function = LookupFuncName(names, 2, types, true);
	AclResult access;

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(jsonb, jsonb) does not exist", name),
				 errhint("%s", hint)));
	if (get_func_prokind(function) != PROKIND_FUNCTION ||
		get_func_rettype(function) != VOIDOID || get_func_retset(function))
		ereport(ERROR, (errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
						errmsg("%s cannot be a handler", name),
						errdetail("It is not a function that returns void."),
						errhint(HANDLER_SIGNATURE_HINT)));
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
	Oid function = registration_find_function(handler->function,
											  HANDLER_SIGNATURE_HINT);

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

/*
 * The handler that a function's name and the current role make now; 42883 with
 * that hint, 42P13 or 42501 if it cannot be one.
 */
RegisteredHandler *
registration_from_name(const char *name, Oid schema, const char *hint)
{
	RegisteredHandler *handler = palloc0(sizeof(RegisteredHandler));
	Oid				   function = registration_find_function(name, hint);
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
