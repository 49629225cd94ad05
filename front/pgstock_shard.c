/*-------------------------------------------------------------------------
 *
 * pgstock_shard.c
 *	  The calls of a front in a shard: a call is one text, and so is its answer.
 *
 * PL/Proxy does not prepare its statements, so a call must be cheap: the
 * function of pgstock is looked up once in a session (shard_function.c), and
 * so is the type of the call (shard_type.c).
 *
 * A call needs nothing that an earlier one has left in the session, so a pooler
 * may give each call another session.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/string.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"

#include "shard.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(pgstock_shard_call);
PG_FUNCTION_INFO_V1(pgstock_shard_check_shard);

/* A function f of pgstock is called by f_call, for a row of the type f_call. */
typedef struct Callee
{
	Oid			  wrapper;	  /* the function that the front calls: the key */
	uint64		  generation; /* when it was looked up; 0: it was not */
	ShardFunction function;
	ShardCallType type;
} Callee;

typedef struct Call
{
	Oid			   wrapper;
	char		  *input;
	bool		   is_read;
	NullableDatum  columns[COLUMNS_MAX];
	StringInfoData rows; /* the result as the text of an array; empty: NULL */
} Call;

static HTAB *shard_callees;

void _PG_init(void);

void
_PG_init(void)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(Callee)};

	shard_callees = hash_create("pgstock_shard functions", 64, &control,
								HASH_ELEM | HASH_BLOBS);
	shard_watch_functions();
}

static void
shard_look_up(Callee *callee)
{
	static const Oid own_columns[CALL_ARGS] = {INT4ARRAYOID, TEXTOID, TEXTOID,
											   TEXTOID};
	uint64			 generation = shard_generation;
	ShardCallType	*type = &callee->type;
	char			*name = get_func_name(callee->wrapper);

	if (name == NULL || !pg_str_endswith(name, CALL_SUFFIX))
		elog(ERROR, "function %u is no call of a front", callee->wrapper);
	shard_find_type(type, callee->wrapper);
	if (type->ncolumns < CALL_ARGS ||
		memcmp(type->column_types, own_columns, sizeof(own_columns)) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("type \"%s\" is not one of a call", name)));
	name[strlen(name) - strlen(CALL_SUFFIX)] = '\0';
	shard_find_function(&callee->function, name, callee->wrapper,
						type->column_types + CALL_ARGS,
						type->ncolumns - CALL_ARGS);
	callee->generation = generation;
}

static Callee *
shard_find_callee(Oid wrapper)
{
	bool	found;
	Callee *callee = hash_search(shard_callees, &wrapper, HASH_ENTER, &found);

	if (!found)
	{
		memset(callee, 0, sizeof(Callee));
		callee->wrapper = wrapper;
	}
	Assert(callee->generation <= shard_generation);
	if (callee->generation != shard_generation)
	{
		callee->generation = 0; /* if an error interrupts it */
		shard_look_up(callee);
	}
	return callee;
}

/* Adds a row to the text of an array, which is not closed yet. */
static void
shard_add_row(void *taker, ShardFunction *function, Datum value, bool is_null)
{
	Call *call = taker;

	Assert(call->rows.len == 0 || call->rows.data[0] == '{');
	appendStringInfoCharMacro(&call->rows, call->rows.len == 0 ? '{' : ',');
	if (is_null)
		appendStringInfoString(&call->rows, "NULL");
	else
		both_append_quoted(&call->rows,
						   OutputFunctionCall(&function->write, value), '\\');
}

static void
shard_run_call(void *arg)
{
	Call		  *call = arg;
	Callee		  *callee;
	NullableDatum *columns = call->columns;

	shard_check_settings();
	callee = shard_find_callee(call->wrapper);
	shard_read_row(&callee->type, call->input, columns);
	call->is_read = true;
	shard_check_number(&columns[CALL_SHARDS]);
	shard_act_as(&columns[CALL_ROLE], &columns[CALL_TRACE],
				 &columns[CALL_ACTOR]);
	shard_invoke(&callee->function, columns + CALL_ARGS, shard_add_row, call);
	if (call->rows.len > 0)
		appendStringInfoChar(&call->rows, '}');
	else if (get_func_retset(callee->function.oid))
		appendStringInfoString(&call->rows, "{}");
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

/* Calls the function of pgstock that the name of this function contains. */
Datum
pgstock_shard_call(PG_FUNCTION_ARGS)
{
	Call	  *call = palloc0(sizeof(Call));
	ErrorData *error;

	call->wrapper = fcinfo->flinfo->fn_oid;
	call->input = text_to_cstring(PG_GETARG_TEXT_PP(0));
	initStringInfo(&call->rows);
	error = both_try(shard_run_call, call);
	PG_RETURN_TEXT_P(
		shard_answer(call, error ? shard_failure(error, call->is_read) : NULL));
}

Datum
pgstock_shard_check_shard(PG_FUNCTION_ARGS)
{
	Assert(PG_NARGS() == 1);
	shard_check_number(&fcinfo->args[0]);
	PG_RETURN_BOOL(true);
}
