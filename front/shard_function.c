/*-------------------------------------------------------------------------
 *
 * shard_function.c
 *	  A function of pgstock, which is looked up once in a session and called
 *	  without the executor.
 *
 * Neither search_path nor the name of a schema decides which function that is:
 * it must be one of pgstock's public functions, or of this extension.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "shard.h"

/* Counts changes of functions, which may be noticed during a call. */
uint64 shard_generation = 1;

/* A function or a schema was created, changed or dropped. */
static void
function_forget_all(Datum arg, int cache, uint32 hash)
{
	shard_generation++;
}

/* Called once, before any function is looked up. */
void
shard_watch_functions(void)
{
	CacheRegisterSyscacheCallback(PROCOID, function_forget_all, 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, function_forget_all, 0);
}

/*
 * Whether a function has these arguments and is one of pgstock's public
 * functions, or of the extension that has the wrapper.
 */
static bool
function_is_wanted(Form_pg_proc proc, Oid wrapper, const Oid *types, int nargs)
{
	Oid extension;

	if (proc->proisstrict || proc->pronargs != nargs ||
		memcmp(proc->proargtypes.values, types, nargs * sizeof(Oid)) != 0)
		return false;
	extension = getExtensionOfObject(ProcedureRelationId, proc->oid);
	if (!OidIsValid(extension))
		return false;
	return extension == getExtensionOfObject(ProcedureRelationId, wrapper) ||
		   (extension == get_extension_oid("pgstock", true) &&
			proc->pronamespace != get_namespace_oid("pgstock_internal", true));
}

/*
 * Finds the function of that name that has these arguments.  That there is none
 * is no refusal of a step, which is repeated after the extension's update.
 */
void
shard_find_function(ShardFunction *function, const char *name, Oid wrapper,
					const Oid *types, int nargs)
{
	CatCList *list = SearchSysCacheList1(PROCNAMEARGSNSP,
										 CStringGetDatum(name));
	Oid		  output;
	bool	  is_varlena;

	Assert(nargs >= 0 && nargs <= FUNC_MAX_ARGS);
	function->oid = InvalidOid;
	for (int i = 0; i < list->n_members && !OidIsValid(function->oid); i++)
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);

		if (function_is_wanted(proc, wrapper, types, nargs))
		{
			function->oid = proc->oid;
			function->result_type = proc->prorettype;
			function->nargs = nargs;
		}
	}
	ReleaseSysCacheList(list);
	if (!OidIsValid(function->oid))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg(VERSION_MESSAGE),
						errdetail("pgstock has no function \"%s\" with these "
								  "arguments.",
								  name),
						errhint(VERSION_HINT)));
	getTypeOutputInfo(function->result_type, &output, &is_varlena);
	if (function->write.fn_oid != output)
		fmgr_info_cxt(output, &function->write, TopMemoryContext);
}

/* Passes on what a function has returned: rows of its type, or values. */
static void
function_pass_rows(ShardFunction *function, ReturnSetInfo *result,
				   ShardTakeRow take, void *taker)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(result->setDesc,
													&TTSOpsMinimalTuple);
	bool			is_row = type_is_rowtype(function->result_type);
	bool			is_null = false;
	MemoryContext	context = MemoryContextSwitchTo(
		  result->econtext->ecxt_per_tuple_memory);
	Datum value;

	Assert(is_row || result->setDesc->natts == 1);
	while (tuplestore_gettupleslot(result->setResult, true, false, slot))
	{
		CHECK_FOR_INTERRUPTS();
		value = is_row ? ExecFetchSlotHeapTupleDatum(slot)
					   : slot_getattr(slot, 1, &is_null);
		take(taker, function, value, is_null);
		ExecClearTuple(slot); /* may own memory of the context */
		ResetExprContext(result->econtext);
	}
	MemoryContextSwitchTo(context);
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(result->setResult);
}

/* Calls a function that returns a set, which must be one in a tuplestore. */
static void
function_invoke_set(ShardFunction *function, FunctionCallInfo fcinfo,
					ShardTakeRow take, void *taker)
{
	ReturnSetInfo result = {
		.type = T_ReturnSetInfo,
		.econtext = CreateStandaloneExprContext(),
		.allowedModes = SFRM_ValuePerCall | SFRM_Materialize |
						SFRM_Materialize_Preferred,
		.returnMode = SFRM_ValuePerCall,
	};

	get_func_result_type(function->oid, NULL, &result.expectedDesc);
	if (result.expectedDesc == NULL) /* not rows, but values */
	{
		result.expectedDesc = CreateTemplateTupleDesc(1);
		TupleDescInitEntry(result.expectedDesc, 1, "value",
						   function->result_type, -1, 0);
	}
	fcinfo->resultinfo = (Node *) &result;
	FunctionCallInvoke(fcinfo);
	if (result.returnMode != SFRM_Materialize)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("function \"%s\" did not return its rows in a "
							   "tuplestore",
							   get_func_name(function->oid))));
	if (result.setResult != NULL)
	{
		BlessTupleDesc(result.setDesc);
		function_pass_rows(function, &result, take, taker);
	}
	FreeExprContext(result.econtext, true);
}

/* What the parser and the executor check before they call a function. */
static void
function_check_access(Oid function)
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
void
shard_invoke(ShardFunction *function, const NullableDatum *args,
			 ShardTakeRow take, void *taker)
{
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	FmgrInfo info;
	Datum	 value;

	Assert(OidIsValid(function->oid));
	function_check_access(function->oid);
	fmgr_info(function->oid, &info);
	Assert(!info.fn_strict && info.fn_nargs == function->nargs);
	InitFunctionCallInfoData(*fcinfo, &info, function->nargs,
							 DEFAULT_COLLATION_OID, NULL, NULL);
	memcpy(fcinfo->args, args, function->nargs * sizeof(NullableDatum));
	if (info.fn_retset)
	{
		function_invoke_set(function, fcinfo, take, taker);
		return;
	}
	value = FunctionCallInvoke(fcinfo);
	if (function->result_type != VOIDOID)
		take(taker, function, value, fcinfo->isnull);
}
