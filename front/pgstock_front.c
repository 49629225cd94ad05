/*-------------------------------------------------------------------------
 *
 * pgstock_front.c
 *	  The C functions of pgstock_front, the front of several shards.
 *
 * A call that PL/Proxy sends to a shard commits there at once.  Inside a
 * transaction block of the front it would appear to be part of that
 * transaction, but a ROLLBACK would not undo it.  So a call that writes is
 * rejected there, unless the session has set pgstock.front_autonomous = on.
 *
 * The module is independent of pgstock, which is not installed in a front.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "front.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(pgstock_front_actor);
PG_FUNCTION_INFO_V1(pgstock_front_begin_call);
PG_FUNCTION_INFO_V1(pgstock_front_call_failed);
PG_FUNCTION_INFO_V1(pgstock_front_call_shard);
PG_FUNCTION_INFO_V1(pgstock_front_caller);
PG_FUNCTION_INFO_V1(pgstock_front_has_coordinator);
PG_FUNCTION_INFO_V1(pgstock_front_history);
PG_FUNCTION_INFO_V1(pgstock_front_next_number);
PG_FUNCTION_INFO_V1(pgstock_front_raise);

#define SQLSTATE_LENGTH 5

/* How the functions begin that pgstock_front.set_shards() creates. */
#define KEY_FUNCTION "function pgstock_front."

#define FAILURE_COLUMNS 4

pg_noreturn static void front_raise(const char *sqlstate, const char *message,
									const char *detail, const char *hint);

/*
 * Whether the session permits that each call commits by itself.
 *
 * The setting is read by its name, because it may have been set before the
 * module was loaded, and because pgstock, which reserves the prefix, defines it
 * where both are loaded.
 */
static bool
front_is_autonomous(void)
{
	const char *value = GetConfigOption("pgstock.front_autonomous", true,
										false);
	bool		autonomous = false;

	if (value != NULL && !parse_bool(value, &autonomous))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("parameter \"%s\" requires a Boolean value",
							   "pgstock.front_autonomous"),
						errhint("Use on or off.")));
	return autonomous;
}

/* Raises an error; detail and hint may be NULL. */
static void
front_raise(const char *sqlstate, const char *message, const char *detail,
			const char *hint)
{
	if (sqlstate == NULL || message == NULL)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("an error needs a SQLSTATE and a message")));
	if (strlen(sqlstate) != SQLSTATE_LENGTH ||
		strspn(sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") !=
			SQLSTATE_LENGTH)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" is not a SQLSTATE", sqlstate)));
	ereport(ERROR, (errcode(MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2],
										  sqlstate[3], sqlstate[4])),
					errmsg_internal("%s", message),
					detail ? errdetail_internal("%s", detail) : 0,
					hint ? errhint("%s", hint) : 0));
}

/* Raises an error for what this version of the module needs and cannot find. */
pg_noreturn static void
front_raise_missing(int sqlstate, const char *kind, const char *name)
{
	Assert(sqlstate == ERRCODE_UNDEFINED_FUNCTION ||
		   sqlstate == ERRCODE_UNDEFINED_OBJECT);
	ereport(ERROR,
			(errcode(sqlstate),
			 errmsg("%s \"pgstock_front.%s\" does not exist", kind, name),
			 errhint("The extension may be of an earlier version: ALTER "
					 "EXTENSION pgstock_front UPDATE.")));
}

/*
 * The function of pgstock_front with two arguments of these types; InvalidOid:
 * there is none.
 */
static Oid
front_find_function(const char *name, Oid first, Oid second)
{
	Oid types[] = {first, second};

	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
						   CStringGetDatum(name),
						   PointerGetDatum(
							   buildoidvector(types, lengthof(types))),
						   ObjectIdGetDatum(
							   get_namespace_oid("pgstock_front", false)));
}

/* The same for a function that the extension must have. */
Oid
front_function(const char *name, Oid first, Oid second)
{
	Oid function = front_find_function(name, first, second);

	if (!OidIsValid(function))
		front_raise_missing(ERRCODE_UNDEFINED_FUNCTION, "function", name);
	return function;
}

/* Whether set_shards() was called, which creates the functions of the key. */
static bool
front_is_configured(void)
{
	static bool is_known = false;

	if (!is_known)
		is_known = OidIsValid(
			front_find_function("line_shard", TEXTOID, TEXTOID));
	return is_known;
}

/*
 * Rejects a call that writes, given its name, where it would appear to be part
 * of the session's transaction: in a transaction block, in a subtransaction,
 * and after the transaction has written something itself.
 */
Datum
pgstock_front_begin_call(PG_FUNCTION_ARGS)
{
	Assert(PG_NARGS() == 1);
	if (!front_is_autonomous() &&
		(IsTransactionBlock() ||
		 TransactionIdIsValid(GetTopTransactionIdIfAny())))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block of the front",
						text_to_cstring(PG_GETARG_TEXT_PP(0))),
				 errdetail("The call commits in its shard at once; a ROLLBACK "
						   "here would not undo it."),
				 errhint("Call it outside a transaction block. If your own "
						 "tables belong to the same commit, connect to the "
						 "shard. To have each call commit by itself, SET "
						 "pgstock.front_autonomous = on.")));
	if (!front_is_configured())
		front_raise("55000", "no shards are configured", NULL,
					"Call pgstock_front.set_shards() first.");
	PG_RETURN_BOOL(true);
}

/*
 * The role that calls a function of the front, although the function runs with
 * its owner's rights: the role of SET ROLE, or else of the session.  NULL for a
 * superuser, which does not act as a superuser in the shards.
 */
char *
front_caller(void)
{
	Oid caller = GetOuterUserId();

	return superuser_arg(caller) ? NULL : GetUserNameFromId(caller, false);
}

/* A setting of the session; NULL: it has no value. */
char *
front_setting(const char *name)
{
	const char *value = GetConfigOption(name, true, false);

	return value == NULL || value[0] == '\0' ? NULL : pstrdup(value);
}

/*
 * pgstock.actor for a shard, or NULL.  A superuser's name precedes it, because
 * a superuser acts as pgstock_front there.
 */
char *
front_actor(void)
{
	char *actor = front_setting("pgstock.actor");
	char *user;

	if (front_caller() != NULL)
		return actor;
	user = GetUserNameFromId(GetSessionUserId(), false);
	return actor == NULL ? user : psprintf("%s/%s", user, actor);
}

Datum
pgstock_front_caller(PG_FUNCTION_ARGS)
{
	char *caller = front_caller();

	if (caller == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(caller));
}

Datum
pgstock_front_actor(PG_FUNCTION_ARGS)
{
	char *actor = front_actor();

	if (actor == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(actor));
}

/* Whether pgstock_front.set_coordinator() was called. */
Datum
pgstock_front_has_coordinator(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(
		OidIsValid(get_foreign_server_oid("pgstock_coordinator", true)));
}

/*
 * Returns the history of this database, which changes with a failover or a
 * restore: system identifier, timeline and oid of the database.
 */
Datum
pgstock_front_history(PG_FUNCTION_ARGS)
{
	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("recovery is in progress")));
	PG_RETURN_TEXT_P(cstring_to_text(
		psprintf(UINT64_FORMAT "/%08X/%u", GetSystemIdentifier(),
				 GetWALInsertionTimeLine(), MyDatabaseId)));
}

/*
 * Returns the number of a new saga: the time in microseconds since 1970, but
 * greater than the last one.
 */
Datum
pgstock_front_next_number(PG_FUNCTION_ARGS)
{
	int64 now = GetCurrentTimestamp() +
				(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	int64 next;

	if (pg_add_s64_overflow(PG_GETARG_INT64(0), 1, &next))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("bigint out of range")));
	PG_RETURN_INT64(Max(now, next));
}

/* A text argument, or NULL. */
static char *
front_text(const NullableDatum *value)
{
	return value->isnull ? NULL : TextDatumGetCString(value->value);
}

/*
 * Raises the error that a shard returned: SQLSTATE and message, with detail and
 * hint if there are any.
 */
Datum
pgstock_front_raise(PG_FUNCTION_ARGS)
{
	Assert(PG_NARGS() == FAILURE_COLUMNS);
	front_raise(front_text(&fcinfo->args[0]), front_text(&fcinfo->args[1]),
				front_text(&fcinfo->args[2]), front_text(&fcinfo->args[3]));
	PG_RETURN_VOID();
}

/* ---- A call of one shard ------------------------------------------------- */

/*
 * Raises an error that occurred before a shard could answer, with a hint what
 * to do.  PL/Proxy reports all of them as internal errors; libpq's text shows
 * which one it was.
 */
static void
front_call_failed(const char *function, const char *state, const char *message,
				  const char *detail, const char *hint)
{
	bool is_lost = strncmp(state, "57P0", 4) == 0 ||
				   strncmp(state, "08", 2) == 0 || strcmp(state, "XX000") == 0;

	Assert(strlen(state) == SQLSTATE_LENGTH);
	if (strstr(message, "cluster not found") != NULL ||
		(strcmp(state, "42883") == 0 &&
		 strncmp(message, KEY_FUNCTION, strlen(KEY_FUNCTION)) == 0 &&
		 strstr(message, "_shard(") != NULL))
		front_raise("55000", "no shards are configured", message,
					"Call pgstock_front.set_shards() first.");
	if (strcmp(state, "42883") == 0 || strcmp(state, "3F000") == 0)
		front_raise("55000",
					psprintf("a shard has no function pgstock_shard.%s",
							 function),
					message,
					"pgstock_front.shard_status() shows the versions of each "
					"shard: CREATE EXTENSION pgstock_shard, or ALTER EXTENSION "
					"pgstock_shard UPDATE there.");
	if (strcmp(state, "XX000") == 0 && strstr(message, "PQconnect") != NULL)
		front_raise("08001", "could not connect to a shard", message,
					"Nothing was changed there. Try again once the shard "
					"accepts connections.");
	if (is_lost)
		front_raise("08006",
					psprintf("lost the connection to a shard during %s",
							 function),
					message,
					"The call may have taken effect. Repeat it with the same "
					"order id or idempotency key.");
	front_raise(state, message, detail, hint);
}

Datum
pgstock_front_call_failed(PG_FUNCTION_ARGS)
{
	Assert(PG_NARGS() == 3);
	front_call_failed(TextDatumGetCString(PG_GETARG_DATUM(0)),
					  TextDatumGetCString(PG_GETARG_DATUM(1)),
					  TextDatumGetCString(PG_GETARG_DATUM(2)), NULL, NULL);
	PG_RETURN_VOID();
}

Oid
front_type(const char *name)
{
	Oid type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
							   CStringGetDatum(name),
							   ObjectIdGetDatum(
								   get_namespace_oid("pgstock_front", false)));

	if (!OidIsValid(type))
		front_raise_missing(ERRCODE_UNDEFINED_OBJECT, "type", name);
	return type;
}

/* Raises the error of an answer, the text of a pgstock_front.failure. */
static void
front_raise_failure(char *input)
{
	NullableDatum columns[FAILURE_COLUMNS];
	Oid			  type = front_type("failure");
	Oid			  read;
	Oid			  typioparam;
	Datum		  row;

	getTypeInputInfo(type, &read, &typioparam);
	row = OidInputFunctionCall(read, input, typioparam, -1);
	Assert(HeapTupleHeaderGetNatts(DatumGetHeapTupleHeader(row)) ==
		   FAILURE_COLUMNS);
	for (int i = 0; i < FAILURE_COLUMNS; i++)
		columns[i].value = GetAttributeByNum(DatumGetHeapTupleHeader(row),
											 i + 1, &columns[i].isnull);
	front_raise(front_text(&columns[0]), front_text(&columns[1]),
				front_text(&columns[2]), front_text(&columns[3]));
}

/* A column of a row. */
NullableDatum
front_column(Datum row, int number)
{
	NullableDatum column;

	column.value = GetAttributeByNum(DatumGetHeapTupleHeader(row), number,
									 &column.isnull);
	return column;
}

/* Reads the text of a pgstock_front.answer. */
Datum
front_read_answer(char *input)
{
	static FmgrInfo read;
	static Oid		read_type = InvalidOid;
	Oid				type = front_type("answer");
	Oid				function;
	Oid				typioparam;
	Datum			row;

	if (read_type != type)
	{
		getTypeInputInfo(type, &function, &typioparam);
		fmgr_info_cxt(function, &read, TopMemoryContext);
		read_type = type;
	}
	row = InputFunctionCall(&read, input, type, -1);
	Assert(HeapTupleHeaderGetNatts(DatumGetHeapTupleHeader(row)) ==
		   ANSWER_ROWS);
	return row;
}

void
front_no_answer(void)
{
	front_raise("55000", "a shard returned no answer", NULL,
				"Its functions pgstock_shard.*_call must be those of the "
				"extension pgstock_shard.");
}

/* Whether PL/Proxy raises such an error before a shard can answer. */
static bool
front_is_call_failure(const char *state)
{
	return strncmp(state, "08", 2) == 0 || strncmp(state, "XX", 2) == 0 ||
		   strncmp(state, "57P0", 4) == 0 || strcmp(state, "3F000") == 0 ||
		   strcmp(state, "42704") == 0 || strcmp(state, "42883") == 0;
}

/*
 * Calls a function of PL/Proxy for one shard: the function of pgstock, the
 * number of the shard, and the call.  Returns the rows, or raises the error
 * that the shard has returned.
 *
 * An error of PL/Proxy itself is raised again with another text, which needs no
 * subtransaction.
 */
Datum
pgstock_front_call_shard(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(proxy, 2);
	FmgrInfo	   function;
	MemoryContext  context = CurrentMemoryContext;
	volatile Datum answer = (Datum) 0;
	NullableDatum  error;
	NullableDatum  rows;

	Assert(PG_NARGS() == 4);
	PG_TRY();
	{
		fmgr_info(PG_GETARG_OID(0), &function);
		InitFunctionCallInfoData(*proxy, &function, 2, InvalidOid, NULL, NULL);
		proxy->args[0] = fcinfo->args[2];
		proxy->args[1] = fcinfo->args[3];
		answer = FunctionCallInvoke(proxy);
	}
	PG_CATCH();
	{
		ErrorData  *failure;
		const char *state = unpack_sql_state(geterrcode());

		if (!front_is_call_failure(state))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		failure = CopyErrorData();
		FlushErrorState();
		front_call_failed(TextDatumGetCString(PG_GETARG_DATUM(1)), state,
						  failure->message, failure->detail, failure->hint);
	}
	PG_END_TRY();
	if (proxy->isnull)
		front_no_answer();
	answer = front_read_answer(TextDatumGetCString(answer));
	error = front_column(answer, ANSWER_ERROR);
	if (!error.isnull)
		front_raise_failure(TextDatumGetCString(error.value));
	rows = front_column(answer, ANSWER_ROWS);
	fcinfo->isnull = rows.isnull;
	return rows.value;
}
