/*-------------------------------------------------------------------------
 *
 * front_saga.c
 *	  A step of an order over shards: its calls, and how they are sent.
 *
 * This and front_rows.c are what a front does for each such order if nothing
 * fails; the rest is in saga.sql and saga_step.sql.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "both.h"
#include "front.h"

PG_FUNCTION_INFO_V1(pgstock_front_args);
PG_FUNCTION_INFO_V1(pgstock_front_distinct);
PG_FUNCTION_INFO_V1(pgstock_front_parts);
PG_FUNCTION_INFO_V1(pgstock_front_push);

/* Columns of pgstock_front.turn. */
enum
{
	TURN_ORDER_ID = 2,
	TURN_SAGA = 3,
	TURN_ARGS = 7,
	TURN_SHARDS = 8,
	TURN_STEP_SHARDS = 9,
	TURN_STEP_PARTS = 10,
};

typedef struct Step
{
	Oid	   function; /* of PL/Proxy, that sends calls */
	int	   count;	 /* of its shards */
	Datum *shards;	 /* their numbers, int4 */
	Datum *calls;	 /* text: a pgstock_shard.part_step_call for each */
	Datum *answers;	 /* pgstock_front.answer, in any order */
} Step;

/* The elements of an array; raises an error if one is NULL. */
Datum *
front_elements(Datum array, Oid type, int *count)
{
	int16  length;
	bool   is_by_value;
	char   align;
	Datum *elements;

	get_typlenbyvalalign(type, &length, &is_by_value, &align);
	deconstruct_array(DatumGetArrayTypeP(array), type, length, is_by_value,
					  align, &elements, NULL, count);
	return elements;
}

Datum
front_array(Datum *elements, int count, Oid type)
{
	int16 length;
	bool  is_by_value;
	char  align;

	get_typlenbyvalalign(type, &length, &is_by_value, &align);
	return PointerGetDatum(
		construct_array(elements, count, type, length, is_by_value, align));
}

/* ---- The request --------------------------------------------------------- */

static void
front_push_text(JsonbParseState **state, const char *key, char *value)
{
	JsonbValue name = {.type = jbvString};
	JsonbValue string = {.type = jbvString};

	if (value == NULL)
		return;
	name.val.string.val = (char *) key;
	name.val.string.len = strlen(key);
	string.val.string.val = value;
	string.val.string.len = strlen(value);
	pushJsonbValue(state, WJB_KEY, &name);
	pushJsonbValue(state, WJB_VALUE, &string);
}

/*
 * Returns the arguments of a step that are not null, with role, trace and actor
 * of the call that begins it.
 */
Datum
pgstock_front_args(PG_FUNCTION_ARGS)
{
	Jsonb			*args = PG_GETARG_JSONB_P(0);
	JsonbIterator	*iterator = JsonbIteratorInit(&args->root);
	JsonbParseState *state = NULL;
	JsonbValue		 key;
	JsonbValue		 value;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	JsonbIteratorNext(&iterator, &key, true); /* the object begins */
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		JsonbIteratorNext(&iterator, &value, true);
		if (value.type == jbvNull)
			continue;
		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	front_push_text(&state, "role", front_caller());
	front_push_text(&state, "trace", front_setting("pgstock.trace_id"));
	front_push_text(&state, "actor", front_actor());
	PG_RETURN_JSONB_P(
		JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* Where a shard is among others; -1: it is not. */
static int
front_position(Datum shard, const Datum *shards, int count)
{
	for (int i = 0; i < count; i++)
		if (shards[i] == shard)
			return i;
	return -1;
}

/* Returns each of the shards once; shard 0 if there is none. */
Datum
pgstock_front_distinct(PG_FUNCTION_ARGS)
{
	int	   count;
	int	   n = 0;
	Datum *places = front_elements(PG_GETARG_DATUM(0), INT4OID, &count);
	Datum *shards = palloc((count + 1) * sizeof(Datum));

	for (int i = 0; i < count; i++)
		if (DatumGetInt32(places[i]) >= 0 &&
			front_position(places[i], shards, n) < 0)
			shards[n++] = places[i];
	if (n == 0)
		shards[n++] = Int32GetDatum(0);
	Assert(n >= 1 && n <= Max(count, 1));
	PG_RETURN_DATUM(front_array(shards, n, INT4OID));
}

/*
 * Returns the lines of each of the shards, given all lines and the shard of
 * each.  A line that is in none of them is sent to the first.
 */
Datum
pgstock_front_parts(PG_FUNCTION_ARGS)
{
	Jsonb *items = PG_GETARG_JSONB_P(0);
	int	   nplaces;
	int	   count;
	Datum *places = front_elements(PG_GETARG_DATUM(1), INT4OID, &nplaces);
	Datum *shards = front_elements(PG_GETARG_DATUM(2), INT4OID, &count);
	JsonbParseState **states = palloc0((count + 1) * sizeof(JsonbParseState *));
	Datum			 *parts = palloc((count + 1) * sizeof(Datum));

	if (!JB_ROOT_IS_ARRAY(items) || JB_ROOT_IS_SCALAR(items))
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("items must be a JSON array"),
						errhint("Give a JSON array such as "
								"[{\"product_id\": \"SKU-1\", "
								"\"quantity\": 2}].")));
	if (JB_ROOT_COUNT(items) != nplaces)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the number of lines is not %d", nplaces)));
	for (int i = 0; i < count; i++)
		pushJsonbValue(&states[i], WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < nplaces && count > 0; i++)
		pushJsonbValue(&states[Max(0,
								   front_position(places[i], shards, count))],
					   WJB_ELEM,
					   getIthJsonbValueFromContainer(&items->root, i));
	for (int i = 0; i < count; i++)
		parts[i] = JsonbPGetDatum(
			JsonbValueToJsonb(pushJsonbValue(&states[i], WJB_END_ARRAY, NULL)));
	PG_RETURN_DATUM(front_array(parts, count, JSONBOID));
}

/* ---- The calls ----------------------------------------------------------- */

/* Appends a field of a row, except its first; NULL is nothing. */
static void
front_append_field(StringInfo row, const char *value)
{
	appendStringInfoChar(row, ',');
	if (value != NULL)
		both_append_quoted(row, value, '\\');
}

/* A column of a turn that a step needs. */
static Datum
front_turn(Datum turn, int number)
{
	NullableDatum column = front_column(turn, number);

	if (column.isnull)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("column %d of a turn is NULL", number)));
	return column.value;
}

/* A text among the arguments of a step, or NULL. */
static char *
front_argument(Jsonb *args, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&args->root, name,
													 strlen(name), NULL);

	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* The columns of a call that are the same for all shards: role to args. */
static char *
front_call_of_all(Datum turn, const char *verb, int number)
{
	static const char *own[] = {"role", "trace", "actor"};
	Jsonb			  *args = DatumGetJsonbP(front_turn(turn, TURN_ARGS));
	int				   count;
	Datum *shards = front_elements(front_turn(turn, TURN_SHARDS), INT4OID,
								   &count);
	StringInfoData call;

	initStringInfo(&call);
	for (int i = 0; i < (int) lengthof(own); i++)
		front_append_field(&call, front_argument(args, own[i]));
	front_append_field(&call,
					   TextDatumGetCString(front_turn(turn, TURN_ORDER_ID)));
	appendStringInfo(&call, "," INT64_FORMAT ",%d,\"{",
					 DatumGetInt64(front_turn(turn, TURN_SAGA)), number);
	for (int i = 0; i < count; i++)
		appendStringInfo(&call, "%s%d", i > 0 ? "," : "",
						 DatumGetInt32(shards[i]));
	appendStringInfoString(&call, "}\"");
	front_append_field(&call, verb);
	front_append_field(&call, JsonbToCString(NULL, &args->root, VARSIZE(args)));
	appendStringInfoChar(&call, ')');
	return call.data;
}

/* Makes the calls of a step of a turn: one for each of its shards. */
static void
front_make_calls(Step *step, Datum turn, const char *verb, int number)
{
	char  *all = front_call_of_all(turn, verb, number);
	int	   count;
	Datum *parts = front_elements(front_turn(turn, TURN_STEP_PARTS), JSONBOID,
								  &count);

	step->shards = front_elements(front_turn(turn, TURN_STEP_SHARDS), INT4OID,
								  &step->count);
	if (count != step->count)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the step has %d shards, but %d parts",
							   step->count, count)));
	step->calls = palloc(count * sizeof(Datum));
	step->answers = palloc0(count * sizeof(Datum));
	for (int i = 0; i < count; i++)
	{
		Jsonb		  *part = DatumGetJsonbP(parts[i]);
		StringInfoData element;
		StringInfoData call;

		initStringInfo(&element);
		initStringInfo(&call);
		appendStringInfo(&call, "({%d}", DatumGetInt32(step->shards[i]));
		appendStringInfoChar(&element, '{');
		both_append_quoted(&element,
						   JsonbToCString(NULL, &part->root, VARSIZE(part)),
						   '\\');
		appendStringInfoChar(&element, '}');
		front_append_field(&call, element.data);
		appendStringInfoString(&call, all);
		step->calls[i] = PointerGetDatum(
			cstring_to_text_with_len(call.data, call.len));
	}
}

/* ---- Sending ------------------------------------------------------------- */

/* Some of the calls of a step. */
typedef struct Part
{
	Step *step;
	int	  first;
	int	  count;
} Part;

/*
 * Sends calls to their shards at the same time, and reads the answers.  They
 * are read at the end, because PL/Proxy expects to be called until it has
 * returned all of them.
 */
static void
front_send(void *arg)
{
	Step *step = ((Part *) arg)->step;
	int	  first = ((Part *) arg)->first;
	int	  count = ((Part *) arg)->count;
	LOCAL_FCINFO(proxy, 2);
	FmgrInfo	  function;
	ReturnSetInfo result = {
		.type = T_ReturnSetInfo,
		.econtext = CreateStandaloneExprContext(),
		.allowedModes = SFRM_ValuePerCall,
		.returnMode = SFRM_ValuePerCall,
	};
	NullableDatum *answers = palloc0(count * sizeof(NullableDatum));
	int			   n = 0;

	fmgr_info(step->function, &function);
	InitFunctionCallInfoData(*proxy, &function, 2, InvalidOid, NULL,
							 (Node *) &result);
	Assert(function.fn_retset && function.fn_nargs == 2);
	Assert(first >= 0 && first + count <= step->count);
	proxy->args[0].value = front_array(step->shards + first, count, INT4OID);
	proxy->args[0].isnull = false;
	proxy->args[1].value = front_array(step->calls + first, count, TEXTOID);
	proxy->args[1].isnull = false;
	for (;; n++)
	{
		Datum answer;

		proxy->isnull = false;
		answer = FunctionCallInvoke(proxy);
		if (result.isDone != ExprMultipleResult)
			break;
		if (n < count)
			answers[n] = (NullableDatum){.value = answer,
										 .isnull = proxy->isnull};
	}
	FreeExprContext(result.econtext, true);
	if (n != count)
		front_no_answer();
	for (int i = 0; i < count; i++)
	{
		if (answers[i].isnull)
			front_no_answer();
		step->answers[first + i] = front_read_answer(
			TextDatumGetCString(answers[i].value));
	}
}

/* The same in a subtransaction: returns NULL, or the message of the error. */
static const char *
front_try_send(Step *step, int first, int count)
{
	Part	   part = {.step = step, .first = first, .count = count};
	ErrorData *error = both_try(front_send, &part);

	if (error == NULL)
		return NULL;
	/* NULL would be success */
	return error->message != NULL ? error->message : "unknown error";
}

/* The answer for a shard that has not answered: error 08006. */
static Datum
front_not_reached(int shard, const char *message)
{
	StringInfoData failure;
	StringInfoData answer;

	initStringInfo(&failure);
	appendStringInfoString(&failure, "(08006");
	front_append_field(&failure, psprintf("could not reach shard %d", shard));
	front_append_field(&failure, message);
	front_append_field(&failure, "Repeat the call with the same order id.");
	appendStringInfoChar(&failure, ')');
	initStringInfo(&answer);
	appendStringInfo(&answer, "(%d", shard);
	front_append_field(&answer, failure.data);
	appendStringInfoString(&answer, ",)");
	return front_read_answer(answer.data);
}

/*
 * Sends a step to its shards: the turn, the verb and the number of the step.
 *
 * If a shard does not answer, PL/Proxy does not return the other answers
 * either: then each shard is called by itself, and the failure is the answer of
 * the shard that failed.
 */
Datum
pgstock_front_push(PG_FUNCTION_ARGS)
{
	Step step;

	for (int i = 0; i < PG_NARGS(); i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("argument %d of a step is NULL", i + 1)));
	step.function = front_function("part_step", INT4ARRAYOID, TEXTARRAYOID);
	/* a row of PL/pgSQL is made flat once, and not for each column */
	front_make_calls(&step,
					 HeapTupleHeaderGetDatum(PG_GETARG_HEAPTUPLEHEADER(0)),
					 TextDatumGetCString(PG_GETARG_DATUM(1)),
					 PG_GETARG_INT32(2));
	if (front_try_send(&step, 0, step.count) != NULL)
		for (int i = 0; i < step.count; i++)
		{
			const char *message = front_try_send(&step, i, 1);

			if (message != NULL)
				step.answers[i] = front_not_reached(DatumGetInt32(
														step.shards[i]),
													message);
		}
	return front_array(step.answers, step.count, front_type("answer"));
}
