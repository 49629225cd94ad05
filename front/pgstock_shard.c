/*-------------------------------------------------------------------------
 *
 * pgstock_shard.c
 *	  The calls of a front in a shard: a call is one text, and so is its answer.
 *
 * PL/Proxy does not prepare its statements, so a shard parses and plans each
 * call.  What follows must be cheap: what a function of pgstock needs is looked
 * up once in a session, the text is read as a row of the type of the call, and
 * the function is called without the executor.
 *
 * An error is returned, because PL/Proxy drops a connection on which one is
 * raised.  So a call runs in a subtransaction.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "common/string.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "base/compat.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(pgstock_shard_act_as);
PG_FUNCTION_INFO_V1(pgstock_shard_call);
PG_FUNCTION_INFO_V1(pgstock_shard_check_shard);

/* A function f of pgstock is called by f_call, for a row of the type f_call. */
#define CALL_SUFFIX "_call"

/* The columns of the type of a call, before the arguments of the function. */
enum
{
	CALL_SHARDS,
	CALL_ROLE,
	CALL_TRACE,
	CALL_ACTOR,
	CALL_ARGS,
};

/* A function of pgstock, as this session calls it. */
typedef struct Callee
{
	Oid		 wrapper;  /* the function that the front calls: the key */
	Oid		 function; /* InvalidOid: to be looked up */
	Oid		 call_type;
	Oid		 result_type;
	int		 nargs;
	FmgrInfo read;	/* a text as a call */
	FmgrInfo write; /* a row of the result as a text */
} Callee;

typedef struct Call
{
	Callee		  *callee;
	bool		   is_read;
	int			   ncolumns;
	NullableDatum  columns[CALL_ARGS + FUNC_MAX_ARGS];
	StringInfoData rows; /* the result as the text of an array; empty: NULL */
} Call;

static HTAB *shard_callees;

/* ---- What is called ------------------------------------------------------ */

/* A function was created, changed or dropped. */
static void
shard_forget_callees(Datum arg, int cache, uint32 hash)
{
	HASH_SEQ_STATUS scan;
	Callee		   *callee;

	hash_seq_init(&scan, shard_callees);
	while ((callee = hash_seq_search(&scan)) != NULL)
		callee->function = InvalidOid;
}

/*
 * The function of that name that a front may call: one of pgstock's public
 * functions, or of this extension.  Another one's is none, whatever its schema.
 */
static Oid
shard_find_function(const char *name, Oid wrapper)
{
	Oid		  own = getExtensionOfObject(ProcedureRelationId, wrapper);
	Oid		  pgstock = get_extension_oid("pgstock", false);
	Oid		  internal = get_namespace_oid("pgstock_internal", false);
	Oid		  function = InvalidOid;
	CatCList *list = SearchSysCacheList1(PROCNAMEARGSNSP,
										 CStringGetDatum(name));

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);
		Oid extension = getExtensionOfObject(ProcedureRelationId, proc->oid);

		if ((OidIsValid(own) && extension == own) ||
			(extension == pgstock && proc->pronamespace != internal))
			function = proc->oid;
	}
	ReleaseSysCacheList(list);
	if (!OidIsValid(function))
		elog(ERROR, "pgstock has no function \"%s\"", name);
	return function;
}

static void
shard_look_up(Callee *callee)
{
	char *name = get_func_name(callee->wrapper);
	Oid namespace = get_func_namespace(callee->wrapper);
	Oid	 function;
	Oid	 type;
	Oid	 result;
	Oid	 support;
	Oid	 typioparam;
	bool is_varlena;

	if (name == NULL || !pg_str_endswith(name, CALL_SUFFIX))
		elog(ERROR, "function %u is no call of a front", callee->wrapper);
	type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(name),
						   ObjectIdGetDatum(namespace));
	name[strlen(name) - strlen(CALL_SUFFIX)] = '\0';
	function = shard_find_function(name, callee->wrapper);
	if (callee->call_type != type)
	{
		getTypeInputInfo(type, &support, &typioparam);
		fmgr_info_cxt(support, &callee->read, TopMemoryContext);
		callee->call_type = type;
	}
	result = get_func_rettype(function);
	if (callee->result_type != result)
	{
		getTypeOutputInfo(result, &support, &is_varlena);
		fmgr_info_cxt(support, &callee->write, TopMemoryContext);
		callee->result_type = result;
	}
	callee->nargs = get_func_nargs(function);
	callee->function = function;
}

static Callee *
shard_find_callee(Oid wrapper)
{
	Callee *callee;
	bool	found;

	if (shard_callees == NULL)
	{
		HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(Callee)};

		shard_callees = hash_create("pgstock_shard functions", 64, &control,
									HASH_ELEM | HASH_BLOBS);
		CacheRegisterSyscacheCallback(PROCOID, shard_forget_callees, 0);
	}
	callee = hash_search(shard_callees, &wrapper, HASH_ENTER, &found);
	if (!found)
	{
		callee->function = InvalidOid;
		callee->call_type = InvalidOid;
		callee->result_type = InvalidOid;
	}
	if (!OidIsValid(callee->function))
		shard_look_up(callee);
	return callee;
}

/* ---- Text ---------------------------------------------------------------- */

/* Appends a field of a row; NULL is nothing. */
static void
shard_append_field(StringInfo row, const char *value)
{
	if (value == NULL)
		return;
	appendStringInfoCharMacro(row, '"');
	for (; *value != '\0'; value++)
	{
		if (*value == '"' || *value == '\\')
			appendStringInfoCharMacro(row, *value);
		appendStringInfoCharMacro(row, *value);
	}
	appendStringInfoCharMacro(row, '"');
}

/* Appends an element to the text of an array, which is not closed yet. */
static void
shard_append_row(StringInfo array, const char *value)
{
	appendStringInfoCharMacro(array, array->len == 0 ? '{' : ',');
	if (value == NULL)
	{
		appendStringInfoString(array, "NULL");
		return;
	}
	appendStringInfoCharMacro(array, '"');
	for (; *value != '\0'; value++)
	{
		if (*value == '"' || *value == '\\')
			appendStringInfoCharMacro(array, '\\');
		appendStringInfoCharMacro(array, *value);
	}
	appendStringInfoCharMacro(array, '"');
}

/* ---- The call ------------------------------------------------------------ */

/* The number of this shard, a setting of the database; NULL: it has none. */
static const char *
shard_own_number(void)
{
	const char *shard = GetConfigOption("pgstock_shard.shard", true, false);

	return shard == NULL || shard[0] == '\0' ? NULL : shard;
}

/*
 * Raises an error unless this is one of the shards that a call is for.  Without
 * this check, a front whose connections were exchanged would send the calls for
 * an order to a database that does not have it.
 */
static void
shard_check_number(const NullableDatum *shards)
{
	const char	  *own = shard_own_number();
	ArrayType	  *numbers = NULL;
	int			   count = 0;
	StringInfoData expected;

	initStringInfo(&expected);
	if (!shards->isnull)
	{
		numbers = DatumGetArrayTypeP(shards->value);
		if (!array_contains_nulls(numbers))
			count = ArrayGetNItems(ARR_NDIM(numbers), ARR_DIMS(numbers));
	}
	for (int i = 0; i < count; i++)
	{
		int32 number = ((int32 *) ARR_DATA_PTR(numbers))[i];

		if (own != NULL && pg_strtoint32(own) == number)
			return;
		appendStringInfo(&expected, "%s%d", i > 0 ? " or " : "", number);
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("database \"%s\" is not shard %s",
					get_database_name(MyDatabaseId), expected.data),
			 own != NULL ? errdetail("It is shard %s.", own)
						 : errdetail("It has no number."),
			 errhint("Compare pgstock_front.shard_status() with the "
					 "databases: pgstock_shard.set_shard() gives a database "
					 "its number.")));
}

static void
shard_set(const char *name, const char *value)
{
	set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
					  true, 0, false);
}

/*
 * Switches to the role that has called the front, if the session's role is a
 * member of it.
 */
static void
shard_set_role(const char *role)
{
	Oid oid = get_role_oid(role, true);

	if (!OidIsValid(oid) || !compat_may_set_role(GetSessionUserId(), oid))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 OidIsValid(oid)
					 ? errmsg("permission denied to set role \"%s\"", role)
					 : errmsg("role \"%s\" does not exist", role),
				 errhint("pgstock-shards role %s LEVEL makes the role in each "
						 "shard, and pgstock_front a member of it.",
						 role)));
	shard_set("role", role);
}

/*
 * Sets role, trace and actor of a call until the end of the transaction; each
 * may be NULL, and is then unchanged.
 */
static void
shard_act_as(const NullableDatum *role, const NullableDatum *trace,
			 const NullableDatum *actor)
{
	if (!role->isnull)
		shard_set_role(TextDatumGetCString(role->value));
	if (!trace->isnull)
		shard_set("pgstock.trace_id", TextDatumGetCString(trace->value));
	if (!actor->isnull)
		shard_set("pgstock.actor", TextDatumGetCString(actor->value));
}

/* Reads a call as a row of its type: its columns, without those dropped. */
static void
shard_read_call(Call *call, char *input)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(
		InputFunctionCall(&call->callee->read, input, call->callee->call_type,
						  -1));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header),
						   .t_data = header};
	TupleDesc desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header),
											HeapTupleHeaderGetTypMod(header));
	Datum	 *values = palloc(desc->natts * sizeof(Datum));
	bool	 *nulls = palloc(desc->natts * sizeof(bool));

	heap_deform_tuple(&tuple, desc, values, nulls);
	for (int i = 0;
		 i < desc->natts && call->ncolumns < (int) lengthof(call->columns); i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			call->columns[call->ncolumns++] =
				(NullableDatum){.value = values[i], .isnull = nulls[i]};
	ReleaseTupleDesc(desc);
	if (call->ncolumns != CALL_ARGS + call->callee->nargs)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the call has %d columns, not %d", call->ncolumns,
						CALL_ARGS + call->callee->nargs)));
}

/* ---- The result ---------------------------------------------------------- */

static void
shard_add_row(Call *call, Datum value, bool is_null)
{
	shard_append_row(&call->rows,
					 is_null ? NULL
							 : OutputFunctionCall(&call->callee->write, value));
}

/* Adds what a function has returned: rows of its type, or values. */
static void
shard_add_rows(Call *call, ReturnSetInfo *result)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(result->setDesc,
													&TTSOpsMinimalTuple);
	bool			is_row = type_is_rowtype(call->callee->result_type);
	bool			is_null = false;
	Datum			value;

	while (tuplestore_gettupleslot(result->setResult, true, false, slot))
	{
		value = is_row ? ExecFetchSlotHeapTupleDatum(slot)
					   : slot_getattr(slot, 1, &is_null);
		shard_add_row(call, value, is_null);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(result->setResult);
}

/*
 * Calls a function that returns a set, which every function of pgstock returns
 * as a whole.
 */
static void
shard_invoke_set(Call *call, FunctionCallInfo fcinfo)
{
	ReturnSetInfo result = {
		.type = T_ReturnSetInfo,
		.econtext = CreateStandaloneExprContext(),
		.allowedModes = SFRM_ValuePerCall | SFRM_Materialize |
						SFRM_Materialize_Preferred,
		.returnMode = SFRM_ValuePerCall,
	};

	get_func_result_type(call->callee->function, NULL, &result.expectedDesc);
	if (result.expectedDesc == NULL) /* not rows, but values */
	{
		result.expectedDesc = CreateTemplateTupleDesc(1);
		TupleDescInitEntry(result.expectedDesc, 1, "value",
						   call->callee->result_type, -1, 0);
	}
	fcinfo->resultinfo = (Node *) &result;
	FunctionCallInvoke(fcinfo);
	if (result.returnMode != SFRM_Materialize)
		elog(ERROR, "function \"%s\" returned rows one by one",
			 get_func_name(call->callee->function));
	if (result.setResult != NULL)
	{
		BlessTupleDesc(result.setDesc);
		shard_add_rows(call, &result);
	}
	FreeExprContext(result.econtext, true);
	if (call->rows.len == 0)
		appendStringInfoChar(&call->rows, '{');
}

/* Calls the function, as the role that is set now. */
static void
shard_invoke(Call *call)
{
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	Callee	 *callee = call->callee;
	FmgrInfo  function;
	AclResult access = compat_function_access(callee->function, GetUserId());
	Datum	  value;

	if (access != ACLCHECK_OK)
		aclcheck_error(access, OBJECT_FUNCTION,
					   get_func_name(callee->function));
	fmgr_info(callee->function, &function);
	InitFunctionCallInfoData(*fcinfo, &function, callee->nargs,
							 DEFAULT_COLLATION_OID, NULL, NULL);
	memcpy(fcinfo->args, call->columns + CALL_ARGS,
		   callee->nargs * sizeof(NullableDatum));
	if (function.fn_retset)
		shard_invoke_set(call, fcinfo);
	else
	{
		value = FunctionCallInvoke(fcinfo);
		if (callee->result_type == VOIDOID)
			return;
		shard_add_row(call, value, fcinfo->isnull);
	}
	appendStringInfoChar(&call->rows, '}');
}

static void
shard_run_call(Call *call, Oid wrapper, char *input)
{
	call->callee = shard_find_callee(wrapper);
	shard_read_call(call, input);
	call->is_read = true;
	shard_check_number(&call->columns[CALL_SHARDS]);
	shard_act_as(&call->columns[CALL_ROLE], &call->columns[CALL_TRACE],
				 &call->columns[CALL_ACTOR]);
	shard_invoke(call);
}

/* ---- The answer ---------------------------------------------------------- */

/* The text of a pgstock_shard.failure. */
static char *
shard_failure(const Call *call, const ErrorData *error)
{
	const char	  *state = unpack_sql_state(error->sqlerrcode);
	const char	  *message = error->message;
	const char	  *detail = error->detail;
	const char	  *hint = error->hint;
	StringInfoData row;

	if (!call->is_read &&
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_DATA_EXCEPTION)
	{
		state = "55000";
		message = "the front calls a function with other arguments";
		detail = error->message;
		hint = "pgstock_front.shard_status() shows the versions of each shard: "
			   "ALTER EXTENSION pgstock_shard UPDATE there.";
	}
	initStringInfo(&row);
	appendStringInfo(&row, "(%s,", state);
	shard_append_field(&row, message);
	appendStringInfoChar(&row, ',');
	shard_append_field(&row, detail);
	appendStringInfoChar(&row, ',');
	shard_append_field(&row, hint);
	appendStringInfoChar(&row, ')');
	return row.data;
}

/* The text of a pgstock_shard.answer. */
static text *
shard_answer(const Call *call, const char *failure)
{
	const char	  *own = shard_own_number();
	StringInfoData row;

	initStringInfo(&row);
	appendStringInfo(&row, "(%s,", own != NULL ? own : "");
	shard_append_field(&row, failure);
	appendStringInfoChar(&row, ',');
	if (failure == NULL && call->rows.len > 0)
		shard_append_field(&row, call->rows.data);
	appendStringInfoChar(&row, ')');
	return cstring_to_text_with_len(row.data, row.len);
}

/*
 * Calls the function of pgstock that the name of this function contains.  As in
 * PL/pgSQL, the cancellation of a statement is not an error of the call.
 */
Datum
pgstock_shard_call(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int depth	  PG_USED_FOR_ASSERTS_ONLY = GetCurrentTransactionNestLevel();
	Call		 *call = palloc0(sizeof(Call));
	char		 *input = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ErrorData *volatile error = NULL;

	initStringInfo(&call->rows);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		shard_run_call(call, fcinfo->flinfo->fn_oid, input);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	Assert(GetCurrentTransactionNestLevel() == depth);
	if (error != NULL && (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
						  error->sqlerrcode == ERRCODE_ASSERT_FAILURE))
		ReThrowError(error);
	PG_RETURN_TEXT_P(
		shard_answer(call, error ? shard_failure(call, error) : NULL));
}

/* For the functions of this extension that are not called as above. */

Datum
pgstock_shard_check_shard(PG_FUNCTION_ARGS)
{
	shard_check_number(&fcinfo->args[0]);
	PG_RETURN_BOOL(true);
}

Datum
pgstock_shard_act_as(PG_FUNCTION_ARGS)
{
	shard_act_as(&fcinfo->args[0], &fcinfo->args[1], &fcinfo->args[2]);
	PG_RETURN_BOOL(true);
}
