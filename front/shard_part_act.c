/*-------------------------------------------------------------------------
 *
 * shard_part_act.c
 *	  The function of pgstock that a step of an order over shards calls.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

#include "base/limits.h"
#include "shard.h"
#include "shard_part.h"

/* The functions of pgstock that steps call. */
typedef enum Function
{
	FUNCTION_RESERVE,
	FUNCTION_TRY_RESERVE,
	FUNCTION_EXTEND,
	FUNCTION_CONFIRM,
	FUNCTION_RELEASE,
	FUNCTION_ROLLBACK,
	FUNCTION_RETURN,
	FUNCTIONS,
} Function;

/* An argument: a member of args, unless it is one of the two below. */
typedef struct Argument
{
	Oid			type;
	const char *member; /* NULL: the argument is NULL */
} Argument;

static const char part_order[] = "the order's id";
static const char part_items[] = "its lines here";

#define ARGUMENTS_MAX 6
#define ORDER               \
	{                       \
		TEXTOID, part_order \
	}
#define ITEMS                \
	{                        \
		JSONBOID, part_items \
	}
#define KEY                        \
	{                              \
		TEXTOID, "idempotency_key" \
	}
#define REASON            \
	{                     \
		TEXTOID, "reason" \
	}
#define TTL(member)         \
	{                       \
		INTERVALOID, member \
	}

static const struct
{
	const char *name;
	int			nargs;
	Argument	args[ARGUMENTS_MAX];
} part_functions[FUNCTIONS] = {
	[FUNCTION_RESERVE] = {"reserve_order",
						  6,
						  {ORDER,
						   ITEMS,
						   {TEXTOID, "user_id"},
						   TTL("hold"),
						   {TEXTOID, "strategy"},
						   {TEXTOID, NULL}}},
	[FUNCTION_TRY_RESERVE] = {"try_reserve_order",
							  6,
							  {ORDER,
							   ITEMS,
							   {TEXTOID, "user_id"},
							   TTL("hold"),
							   {TEXTOID, "strategy"},
							   {TEXTOID, NULL}}},
	[FUNCTION_EXTEND] = {"extend_reservation", 3, {ORDER, TTL("ttl"), KEY}},
	[FUNCTION_CONFIRM] = {"confirm_stock",
						  3,
						  {ORDER, {TEXTOID, "payment_id"}, KEY}},
	[FUNCTION_RELEASE] = {"release_stock", 4, {ORDER, REASON, ITEMS, KEY}},
	[FUNCTION_ROLLBACK] = {"rollback_stock", 4, {ORDER, REASON, ITEMS, KEY}},
	[FUNCTION_RETURN] = {"return_stock",
						 4,
						 {ORDER, ITEMS, {BOOLOID, "restock"}, KEY}},
};

/* The functions, as this session knows them. */
static struct
{
	Oid			  wrapper;	  /* the function that takes the step */
	uint64		  generation; /* when it was looked up; 0: it was not */
	ShardFunction function;
} part_found[FUNCTIONS];

static ShardFunction *
part_find_function(Oid wrapper, Function which)
{
	uint64 generation = shard_generation;
	Oid	   types[ARGUMENTS_MAX];
	int	   nargs = part_functions[which].nargs;

	Assert(which < FUNCTIONS && nargs <= ARGUMENTS_MAX);
	if (part_found[which].wrapper == wrapper &&
		part_found[which].generation == generation)
		return &part_found[which].function;
	part_found[which].generation = 0; /* if an error interrupts it */
	for (int i = 0; i < nargs; i++)
		types[i] = part_functions[which].args[i].type;
	shard_find_function(&part_found[which].function, part_functions[which].name,
						wrapper, types, nargs);
	part_found[which].wrapper = wrapper;
	part_found[which].generation = generation;
	return &part_found[which].function;
}

static NullableDatum
part_argument(const Step *step, const Argument *argument)
{
	NullableDatum value = {.isnull = true};
	char		 *input;

	if (argument->member == part_order)
		return step->columns[STEP_ORDER];
	if (argument->member == part_items)
		return shard_part_lines(step);
	if (argument->member != NULL)
		value = shard_part_member(step, argument->member);
	if (value.isnull || argument->type == TEXTOID)
		return value;
	input = TextDatumGetCString(value.value);
	if (argument->type == BOOLOID)
		value.value = DirectFunctionCall1(boolin, CStringGetDatum(input));
	else
	{
		Assert(argument->type == INTERVALOID);
		value.value = DirectFunctionCall3(interval_in, CStringGetDatum(input),
										  ObjectIdGetDatum(InvalidOid),
										  Int32GetDatum(-1));
	}
	return value;
}

/* Notes a row of the result (ShardTakeRow). */
static void
part_take_row(void *taker, ShardFunction *function, Datum value, bool is_null)
{
	Rows		   *rows = taker;
	HeapTupleHeader row = DatumGetHeapTupleHeader(value);
	bool			no_count;
	bool			is_unknown;
	Datum			granted;
	Datum			replayed;

	Assert(!is_null); /* of a set of rows */
	if (rows->texts->nelems == 0)
	{
		granted = GetAttributeByName(row, "granted", &no_count);
		replayed = GetAttributeByName(row, "replayed", &is_unknown);
		rows->is_granted = !no_count && DatumGetInt64(granted) > 0;
		rows->is_replayed = !is_unknown && DatumGetBool(replayed);
	}
	accumArrayResult(rows->texts,
					 CStringGetTextDatum(
						 OutputFunctionCall(&function->write, value)),
					 false, TEXTOID, rows->context);
}

/* Calls step->function (as both_try calls it). */
static void
part_invoke(void *arg)
{
	Step		  *step = arg;
	Rows		  *rows = &step->rows;
	ShardFunction *function = part_find_function(step->wrapper, step->function);
	NullableDatum  args[ARGUMENTS_MAX];

	for (int i = 0; i < function->nargs; i++)
		args[i] = part_argument(step, &part_functions[step->function].args[i]);
	rows->context = CurrentMemoryContext;
	rows->texts = initArrayResult(TEXTOID, rows->context, false);
	/* it must see what was committed while this session waited for the row */
	PushActiveSnapshot(GetTransactionSnapshot());
	shard_invoke(function, args, part_take_row, rows);
	PopActiveSnapshot();
}

/* Also of what was confirmed in this shard itself, without the saga. */
static void
part_undo(Step *step)
{
	ErrorData *error;

	Assert(step->verb == VERB_UNDO);
	step->function = FUNCTION_RELEASE;
	error = both_try(part_invoke, step);
	if (error == NULL)
		return;
	if (error->sqlerrcode != ERRCODE_SK_WRONG_STATE)
		ReThrowError(error);
	step->function = FUNCTION_ROLLBACK;
	part_invoke(step);
}

/* Whether lines here are of the saga that an undo is for. */
static bool
part_is_to_undo(const Step *step, const PartRow *row)
{
	NullableDatum undone = shard_part_member(step, "undoes");
	int64		  saga = step->id.saga;

	Assert(step->verb == VERB_UNDO);
	if (!row->is_held)
		return false;
	if (row->held == saga || undone.isnull)
		return row->held == saga;
	saga = DatumGetInt64(
		DirectFunctionCall1(int8in, CStringGetDatum(
										TextDatumGetCString(undone.value))));
	return row->held == saga;
}

/* An order that exists here without a saga belongs to another request. */
static void
part_check_new(const Step *step)
{
	PartRow row;

	Assert(step->verb == VERB_HOLD && step->rows.is_replayed);
	shard_part_read(step->wrapper, &step->id, &row);
	if (!row.is_held)
		ereport(ERROR,
				(errcode(ERRCODE_SK_KEY_REUSED),
				 errmsg("order \"%s\" is already reserved by another request",
						TextDatumGetCString(step->id.order_id)),
				 errdetail("It has lines in one shard only."),
				 errhint("Release the order first, or use another order id.")));
}

/* Calls the function of pgstock that the step is for. */
void
shard_part_act(Step *step, const PartRow *row)
{
	static const Function functions[VERBS] = {
		[VERB_HOLD] = FUNCTION_TRY_RESERVE,
		[VERB_KEEP] = FUNCTION_EXTEND,
		[VERB_UNDO] = FUNCTION_RELEASE,
		[VERB_CONFIRM] = FUNCTION_CONFIRM,
		[VERB_RELEASE] = FUNCTION_RELEASE,
		[VERB_COMPENSATE] = FUNCTION_ROLLBACK,
		[VERB_ROLLBACK] = FUNCTION_ROLLBACK,
		[VERB_RETURN] = FUNCTION_RETURN,
		[VERB_EXTEND] = FUNCTION_EXTEND,
	};

	Assert(step->is_begun && step->rows.texts == NULL);
	if (step->verb == VERB_UNDO)
	{
		if (part_is_to_undo(step, row))
			part_undo(step);
		return;
	}
	step->function = functions[step->verb];
	if (step->verb == VERB_HOLD && shard_part_is_true(step, "raise"))
		step->function = FUNCTION_RESERVE;
	part_invoke(step);
	if (step->verb == VERB_HOLD && step->rows.is_replayed)
		part_check_new(step);
}
