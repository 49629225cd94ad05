/*-------------------------------------------------------------------------
 *
 * shard_part_args.c
 *	  The arguments of a step of an order over shards.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "shard.h"
#include "shard_part.h"

static const Oid part_step_types[STEP_COLUMNS] = {
	[STEP_SHARDS] = INT4ARRAYOID,
	[STEP_PARTS] = JSONBARRAYOID,
	[STEP_ROLE] = TEXTOID,
	[STEP_TRACE] = TEXTOID,
	[STEP_ACTOR] = TEXTOID,
	[STEP_ORDER] = TEXTOID,
	[STEP_SAGA] = INT8OID,
	[STEP_NUMBER] = INT4OID,
	[STEP_ORDER_SHARDS] = INT4ARRAYOID,
	[STEP_VERB] = TEXTOID,
	[STEP_ARGS] = JSONBOID,
};

static const char *const part_verb_names[VERBS] = {
	[VERB_HOLD] = "hold",		  [VERB_KEEP] = "keep",
	[VERB_UNDO] = "undo",		  [VERB_CONFIRM] = "confirm",
	[VERB_RELEASE] = "release",	  [VERB_COMPENSATE] = "compensate",
	[VERB_ROLLBACK] = "rollback", [VERB_RETURN] = "return",
	[VERB_EXTEND] = "extend",
};

/* The type of a call, as this session knows it. */
static struct
{
	Oid			  wrapper;	  /* the function that reads it */
	uint64		  generation; /* when it was looked up; 0: it was not */
	ShardCallType type;
} part_known;

const char *
shard_verb_name(Verb verb)
{
	Assert(verb < VERBS && part_verb_names[verb] != NULL);
	return part_verb_names[verb];
}

/* Reads the columns of a call. */
static void
part_read_columns(Step *step)
{
	ShardCallType *type = &part_known.type;
	uint64		   generation = shard_generation;

	Assert(step->input != NULL);
	if (part_known.wrapper != step->wrapper ||
		part_known.generation != generation)
	{
		part_known.generation = 0; /* if an error interrupts it */
		shard_find_type(type, step->wrapper);
		part_known.wrapper = step->wrapper;
		part_known.generation = generation;
	}
	if (type->ncolumns != STEP_COLUMNS ||
		memcmp(type->column_types, part_step_types, sizeof(part_step_types)) !=
			0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the type of the call is not that of a step")));
	shard_read_row(type, step->input, step->columns);
}

static Verb
part_find_verb(const char *name)
{
	for (int i = 0; i < VERBS; i++)
		if (strcmp(part_verb_names[i], name) == 0)
			return (Verb) i;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("there is no step \"%s\"", name)));
}

/* Only parts, role, trace and actor may be NULL. */
void
shard_part_read_call(Step *step)
{
	const NullableDatum *columns = step->columns;

	shard_check_settings();
	part_read_columns(step);
	for (int i = 0; i < STEP_COLUMNS; i++)
		if (columns[i].isnull && i != STEP_PARTS &&
			(i < STEP_ROLE || i > STEP_ACTOR))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("argument %d of a step is NULL", i + 1)));
	step->id = (PartStep){
		.order_id = columns[STEP_ORDER].value,
		.saga = DatumGetInt64(columns[STEP_SAGA].value),
		.number = DatumGetInt32(columns[STEP_NUMBER].value),
		.verb = columns[STEP_VERB].value,
		.shards = columns[STEP_ORDER_SHARDS].value,
	};
	Assert(step->id.order_id != (Datum) 0 && step->id.verb != (Datum) 0);
	step->verb = part_find_verb(TextDatumGetCString(step->id.verb));
}

/* A member of args as a text. */
NullableDatum
shard_part_member(const Step *step, const char *name)
{
	NullableDatum value;
	LOCAL_FCINFO(fcinfo, 2);

	Assert(!step->columns[STEP_ARGS].isnull);
	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0] = step->columns[STEP_ARGS];
	fcinfo->args[1] = (NullableDatum){.value = CStringGetTextDatum(name)};
	value.value = jsonb_object_field_text(fcinfo);
	value.isnull = fcinfo->isnull;
	return value;
}

bool
shard_part_is_true(const Step *step, const char *name)
{
	NullableDatum value = shard_part_member(step, name);

	return !value.isnull &&
		   DatumGetBool(
			   DirectFunctionCall1(boolin, CStringGetDatum(TextDatumGetCString(
											   value.value))));
}

/* Whether a JSON value is null. */
static bool
part_is_json_null(Datum json)
{
	Jsonb	  *jsonb = DatumGetJsonbP(json);
	JsonbValue value;

	return JB_ROOT_IS_SCALAR(jsonb) &&
		   JsonbExtractScalar(&jsonb->root, &value) && value.type == jbvNull;
}

/* The lines that the step applies to; NULL: all. */
NullableDatum
shard_part_lines(const Step *step)
{
	NullableDatum lines = {.isnull = true};
	int			  first = 1;

	Assert(step->verb < VERBS);
	if (step->verb == VERB_UNDO || step->columns[STEP_PARTS].isnull)
		return lines;
	lines.value = array_get_element(step->columns[STEP_PARTS].value, 1, &first,
									-1, -1, false, TYPALIGN_INT, &lines.isnull);
	if (!lines.isnull)
		lines.isnull = part_is_json_null(lines.value);
	return lines;
}
