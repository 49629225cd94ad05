/*-------------------------------------------------------------------------
 *
 * pgstock_shard.c
 *	  The calls of a front in a shard: a call is one text, and so is its answer.
 *
 * PL/Proxy does not prepare its statements, so a call must be cheap: the
 * function of pgstock is looked up once in a session, and called without the
 * executor.  An error is returned, because PL/Proxy drops a connection on which
 * one is raised; so a call runs in a subtransaction.
 *
 * A call needs nothing that an earlier one has left in the session, so a pooler
 * may give each call another session.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/string.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "shard_checks.h"

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

#define COLUMNS_MAX (CALL_ARGS + FUNC_MAX_ARGS)

/* A function of pgstock, as this session calls it. */
typedef struct Callee
{
	Oid		 wrapper;	 /* the function that the front calls: the key */
	uint64	 generation; /* when it was looked up; 0: it was not */
	Oid		 function;
	Oid		 call_type;
	Oid		 result_type;
	int		 ncolumns;
	Oid		 column_types[COLUMNS_MAX];
	FmgrInfo read;	/* a text as a call */
	FmgrInfo write; /* a row of the result as a text */
} Callee;

typedef struct Call
{
	Callee		  *callee;
	bool		   is_read;
	NullableDatum  columns[COLUMNS_MAX];
	StringInfoData rows; /* the result as the text of an array; empty: NULL */
} Call;

static HTAB *shard_callees;

/* Counts changes of functions, which may be noticed during a call. */
static uint64 shard_generation = 1;

/* ---- The function -------------------------------------------------------- */

/* A function was created, changed or dropped. */
static void
shard_forget_callees(Datum arg, int cache, uint32 hash)
{
	shard_generation++;
}

/* Whether a row type has columns of these types; ignores dropped columns. */
static bool
shard_has_columns(TupleDesc desc, const Oid *types, int count)
{
	int n = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (column->attisdropped)
			continue;
		if (n == count || column->atttypid != types[n])
			return false;
		n++;
	}
	return n == count;
}

/*
 * Whether a function is the one that a call of this type is for: it has its
 * arguments, and is one of pgstock's public functions, or of this extension.
 */
static bool
shard_is_callee(Form_pg_proc proc, Callee *callee, TupleDesc desc)
{
	static const Oid own_columns[CALL_ARGS] = {INT4ARRAYOID, TEXTOID, TEXTOID,
											   TEXTOID};
	Oid extension = getExtensionOfObject(ProcedureRelationId, proc->oid);
	Oid own = getExtensionOfObject(ProcedureRelationId, callee->wrapper);

	if (!OidIsValid(extension) || proc->proisstrict ||
		(extension != own &&
		 (extension != get_extension_oid("pgstock", true) ||
		  proc->pronamespace == get_namespace_oid("pgstock_internal", true))))
		return false;
	memcpy(callee->column_types, own_columns, sizeof(own_columns));
	memcpy(callee->column_types + CALL_ARGS, proc->proargtypes.values,
		   proc->pronargs * sizeof(Oid));
	callee->ncolumns = CALL_ARGS + proc->pronargs;
	return shard_has_columns(desc, callee->column_types, callee->ncolumns);
}

/* Finds the function of that name that has the arguments of the call. */
static void
shard_find_function(Callee *callee, const char *name)
{
	CatCList *list = SearchSysCacheList1(PROCNAMEARGSNSP,
										 CStringGetDatum(name));
	TupleDesc desc = lookup_rowtype_tupdesc(callee->call_type, -1);

	callee->function = InvalidOid;
	for (int i = 0; i < list->n_members && !OidIsValid(callee->function); i++)
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);

		if (shard_is_callee(proc, callee, desc))
		{
			callee->function = proc->oid;
			callee->result_type = proc->prorettype;
		}
	}
	ReleaseTupleDesc(desc);
	ReleaseSysCacheList(list);
	if (!OidIsValid(callee->function))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("pgstock has no function \"%s\" with these "
							   "arguments",
							   name)));
}

static void
shard_look_up(Callee *callee)
{
	uint64 generation = shard_generation;
	char  *name = get_func_name(callee->wrapper);
	Oid	   support;
	Oid	   typioparam;
	bool   is_varlena;

	if (name == NULL || !pg_str_endswith(name, CALL_SUFFIX))
		elog(ERROR, "function %u is no call of a front", callee->wrapper);
	callee->call_type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
										CStringGetDatum(name),
										ObjectIdGetDatum(get_func_namespace(
											callee->wrapper)));
	if (!OidIsValid(callee->call_type))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("there is no type \"%s\"", name)));
	name[strlen(name) - strlen(CALL_SUFFIX)] = '\0';
	shard_find_function(callee, name);
	getTypeInputInfo(callee->call_type, &support, &typioparam);
	if (callee->read.fn_oid != support)
		fmgr_info_cxt(support, &callee->read, TopMemoryContext);
	getTypeOutputInfo(callee->result_type, &support, &is_varlena);
	if (callee->write.fn_oid != support)
		fmgr_info_cxt(support, &callee->write, TopMemoryContext);
	callee->generation = generation;
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
		memset(callee, 0, sizeof(Callee));
		callee->wrapper = wrapper;
	}
	if (callee->generation != shard_generation)
	{
		callee->generation = 0; /* if an error interrupts it */
		shard_look_up(callee);
	}
	return callee;
}

/* ---- The call ------------------------------------------------------------ */

static void
shard_set(const char *name, const char *value)
{
	set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
					  true, 0, false);
}

/* Switches to the role that has called the front. */
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

/* Reads a call as a row of its type: its columns, except dropped ones. */
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
	bool	  fits = shard_has_columns(desc, call->callee->column_types,
									   call->callee->ncolumns);
	int		  n = 0;

	heap_deform_tuple(&tuple, desc, values, nulls);
	for (int i = 0; fits && i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			call->columns[n++] = (NullableDatum){.value = values[i],
												 .isnull = nulls[i]};
	Assert(!fits || n == call->callee->ncolumns);
	ReleaseTupleDesc(desc);
	if (!fits)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the columns of the call do not match the "
							   "arguments of the function")));
}

/* ---- The result ---------------------------------------------------------- */

/* Appends a quoted text; escape precedes " and \; '\0': they are doubled. */
static void
shard_append_quoted(StringInfo to, const char *value, char escape)
{
	appendStringInfoCharMacro(to, '"');
	for (; *value != '\0'; value++)
	{
		if (*value == '"' || *value == '\\')
			appendStringInfoCharMacro(to, escape ? escape : *value);
		appendStringInfoCharMacro(to, *value);
	}
	appendStringInfoCharMacro(to, '"');
}

/* Appends a field of a row; NULL is nothing. */
static void
shard_append_field(StringInfo row, const char *value)
{
	if (value != NULL)
		shard_append_quoted(row, value, '\0');
}

/* Adds a row to the text of an array, which is not closed yet. */
static void
shard_add_row(Call *call, Datum value, bool is_null)
{
	Assert(call->rows.len == 0 || call->rows.data[0] == '{');
	appendStringInfoCharMacro(&call->rows, call->rows.len == 0 ? '{' : ',');
	if (is_null)
		appendStringInfoString(&call->rows, "NULL");
	else
		shard_append_quoted(&call->rows,
							OutputFunctionCall(&call->callee->write, value),
							'\\');
}

/* Adds what a function has returned: rows of its type, or values. */
static void
shard_add_rows(Call *call, ReturnSetInfo *result)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(result->setDesc,
													&TTSOpsMinimalTuple);
	bool			is_row = type_is_rowtype(call->callee->result_type);
	bool			is_null = false;
	MemoryContext	context = MemoryContextSwitchTo(
		  result->econtext->ecxt_per_tuple_memory);
	Datum value;

	while (tuplestore_gettupleslot(result->setResult, true, false, slot))
	{
		CHECK_FOR_INTERRUPTS();
		value = is_row ? ExecFetchSlotHeapTupleDatum(slot)
					   : slot_getattr(slot, 1, &is_null);
		shard_add_row(call, value, is_null);
		ExecClearTuple(slot); /* may own memory of the context */
		ResetExprContext(result->econtext);
	}
	MemoryContextSwitchTo(context);
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(result->setResult);
}

/* Calls a function that returns a set; those of pgstock return it as a whole */
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
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("function \"%s\" did not return its rows in a "
							   "tuplestore",
							   get_func_name(call->callee->function))));
	if (result.setResult != NULL)
	{
		BlessTupleDesc(result.setDesc);
		shard_add_rows(call, &result);
	}
	FreeExprContext(result.econtext, true);
	if (call->rows.len == 0)
		appendStringInfoChar(&call->rows, '{');
}

/* What the parser and the executor check before they call a function. */
static void
shard_check_access(Oid function)
{
	Oid		  schema = get_func_namespace(function);
	AclResult access = compat_schema_access(schema, GetUserId());

	if (access != ACLCHECK_OK)
		aclcheck_error(access, OBJECT_SCHEMA, get_namespace_name(schema));
	access = compat_function_access(function, GetUserId());
	if (access != ACLCHECK_OK)
		aclcheck_error(access, OBJECT_FUNCTION, get_func_name(function));
	InvokeFunctionExecuteHook(function);
}

/* Calls the function, as the role that is set now. */
static void
shard_invoke(Call *call)
{
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	Callee	*callee = call->callee;
	int		 nargs = callee->ncolumns - CALL_ARGS;
	FmgrInfo function;
	Datum	 value;

	shard_check_access(callee->function);
	fmgr_info(callee->function, &function);
	Assert(!function.fn_strict && function.fn_nargs == nargs);
	InitFunctionCallInfoData(*fcinfo, &function, nargs, DEFAULT_COLLATION_OID,
							 NULL, NULL);
	memcpy(fcinfo->args, call->columns + CALL_ARGS,
		   nargs * sizeof(NullableDatum));
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
	shard_check_settings();
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
	const char	  *texts[] = {error->message, error->detail, error->hint};
	StringInfoData row;

	if (!call->is_read &&
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_DATA_EXCEPTION)
	{
		state = "55000";
		texts[0] = "the call does not match the function of this shard";
		texts[1] = error->message;
		texts[2] = "pgstock_front.shard_status() shows the versions of each "
				   "shard: ALTER EXTENSION pgstock_shard UPDATE there.";
	}
	initStringInfo(&row);
	appendStringInfo(&row, "(%s", state);
	for (int i = 0; i < (int) lengthof(texts); i++)
	{
		appendStringInfoChar(&row, ',');
		shard_append_field(&row, texts[i]);
	}
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
	if (error != NULL && (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
						  error->sqlerrcode == ERRCODE_ASSERT_FAILURE))
		ReThrowError(error);
	PG_RETURN_TEXT_P(
		shard_answer(call, error ? shard_failure(call, error) : NULL));
}

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
