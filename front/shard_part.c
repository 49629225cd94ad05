/*-------------------------------------------------------------------------
 *
 * shard_part.c
 *	  A step of an order over shards, which this shard takes once.
 *
 * The row of the order's part is read and locked, the function of pgstock is
 * called as the role that has called the front, and the answer is stored, all
 * in one subtransaction.  An error that a repetition would return again (class
 * SK or 22) is the step's answer: it is stored in place of what was undone.
 * After any other error the step must be repeated.
 *
 * A hold need not be durable: no client has received an answer for it, and if
 * it is lost, the keep fails.  So it does not wait for a flush; the keep's
 * commit flushes both.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "common/string.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "base/limits.h"
#include "shard.h"
#include "shard_part.h"

PG_FUNCTION_INFO_V1(pgstock_shard_part_step_call);

/* The columns of pgstock_shard.answer. */
enum
{
	ANSWER_SHARD,
	ANSWER_ERROR,
	ANSWER_ROWS,
	ANSWER_COLUMNS,
};

/* ---- What a step needs --------------------------------------------------- */

/* The row is written with its owner's rights: only a front may do that. */
static void
part_check_session(void)
{
	Oid role = GetSessionUserId();

	if (role != get_role_oid("pgstock_front", true) && !superuser_arg(role))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for orders over shards"),
						errhint("Call the functions of the front.")));
}

/* The sweeper does not wait long for a row that is locked. */
static void
part_set_lock_timeout(const Step *step)
{
	NullableDatum timeout = shard_part_member(step, "lock_timeout");

	if (!timeout.isnull)
		shard_set("lock_timeout", TextDatumGetCString(timeout.value));
}

/*
 * What the front's coordinator records as done must not be lost here, whatever
 * synchronous_commit the role has.
 */
static void
part_set_durability(const Step *step)
{
	if (step->verb == VERB_HOLD)
	{
		if (synchronous_commit != SYNCHRONOUS_COMMIT_OFF)
			shard_set("synchronous_commit", "off");
		Assert(synchronous_commit == SYNCHRONOUS_COMMIT_OFF);
	}
	else if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF ||
			 synchronous_commit == SYNCHRONOUS_COMMIT_LOCAL_FLUSH)
		shard_set("synchronous_commit", "on");
}

pg_noreturn static void
part_raise_late(const Step *step)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("step %d of order \"%s\" arrived too late", step->id.number,
					TextDatumGetCString(step->id.order_id)),
			 errdetail("A later step has reached the shard."),
			 errhint("Repeat the call.")));
}

/*
 * Answers a step that was taken before with its stored answer, or returns
 * false.  Raises an error if a later one was taken, or another one of its
 * number.
 */
static bool
part_answer_again(Step *step, const PartRow *row)
{
	const PartStep *id = &step->id;
	bool			is_same = row->is_found && row->saga == id->saga &&
				   row->step == id->number;

	if (row->is_found && (row->saga > id->saga ||
						  (row->saga == id->saga && row->step > id->number)))
		part_raise_late(step);
	if (is_same && strcmp(row->verb, shard_verb_name(step->verb)) != 0)
		part_raise_late(step);
	Assert(!row->is_found || row->saga < id->saga ||
		   (row->saga == id->saga && row->step <= id->number));
	if (!is_same || !row->is_answered)
		return false;
	shard_part_touch(step->wrapper, id);
	step->answer = row->answer;
	return true;
}

/* Raises an error for a keep unless the order's lines are those of its hold. */
static void
part_check_held(const Step *step, const PartRow *row)
{
	const PartStep *id = &step->id;

	Assert(!step->is_begun && step->answer == (Datum) 0);
	if (step->verb == VERB_KEEP && (!row->is_held || row->held != id->saga))
		ereport(ERROR,
				(errcode(ERRCODE_SK_EXPIRED),
				 errmsg("shard \"%s\" does not hold order \"%s\"",
						get_database_name(MyDatabaseId),
						TextDatumGetCString(id->order_id)),
				 errdetail("The hold was lost when the server stopped.")));
}

/* ---- The answer ---------------------------------------------------------- */

/* The number of this shard; false: it has none, or what is set is no number. */
static bool
part_own_number(Datum *number)
{
	const char *own = shard_own_number();
	char	   *end;

	if (own == NULL)
		return false;
	errno = 0;
	*number = Int32GetDatum(strtoint(own, &end, 10));
	return errno == 0 && *end == '\0';
}

/* A pgstock_shard.answer: what the function returned, or the step's error. */
static Datum
part_answer(Step *step, const ErrorData *error)
{
	static const Oid types[ANSWER_COLUMNS] = {INT4OID, TEXTOID, TEXTARRAYOID};
	TupleDesc		 desc = lookup_rowtype_tupdesc(step->answer_type, -1);
	Datum			 values[ANSWER_COLUMNS];
	bool  nulls[ANSWER_COLUMNS] = {!part_own_number(&values[ANSWER_SHARD]),
								   error == NULL,
								   error != NULL || step->rows.texts == NULL};
	Datum answer;

	if (desc->natts != ANSWER_COLUMNS ||
		!shard_has_columns(desc, types, ANSWER_COLUMNS))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the type of an answer was altered"),
						errhint(VERSION_HINT)));
	if (error != NULL)
		values[ANSWER_ERROR] = CStringGetTextDatum(
			shard_failure(error, step->is_begun));
	else if (step->rows.texts != NULL)
		values[ANSWER_ROWS] = makeArrayResult(step->rows.texts,
											  CurrentMemoryContext);
	answer = HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
	ReleaseTupleDesc(desc);
	return answer;
}

/*
 * Stores the answer; false: a step that it must not replace was taken.  A call
 * that settles an order applies to all its lines, even if it fails.
 */
static bool
part_store(Step *step, bool is_refused, PartOver over)
{
	bool is_held = step->verb == VERB_HOLD
					   ? !is_refused && step->rows.is_granted
					   : step->verb != VERB_KEEP && step->verb != VERB_UNDO;

	Assert(step->answer != (Datum) 0);
	Assert(!is_refused || step->rows.texts == NULL || step->is_begun);
	return shard_part_write(step->wrapper, &step->id, step->answer, is_held,
							over);
}

static void
part_run(void *arg)
{
	Step				*step = arg;
	const NullableDatum *columns = step->columns;
	PartRow				 row;

	shard_part_read_call(step);
	shard_check_number(&columns[STEP_SHARDS]);
	part_check_session();
	part_set_lock_timeout(step);
	part_set_durability(step);
	shard_part_read(step->wrapper, &step->id, &row);
	if (part_answer_again(step, &row))
		return;
	part_check_held(step, &row);
	Assert(step->answer == (Datum) 0);
	step->is_begun = true;
	shard_act_as(&columns[STEP_ROLE], &columns[STEP_TRACE],
				 &columns[STEP_ACTOR]);
	shard_part_act(step, &row);
	step->answer = part_answer(step, NULL);
	/* an order without a row locks none: one may have been written meanwhile */
	if (!part_store(step, false,
					row.is_found || step->verb == VERB_HOLD ? PART_OVER_SAME
															: PART_OVER_NONE))
		part_raise_late(step);
}

/*
 * The end of the subtransaction has unlocked the row, so another session may
 * have taken the same step meanwhile: its answer is the step's.
 */
static void
part_store_refusal(void *arg)
{
	Step   *step = arg;
	PartRow row;

	Assert(step->answer != (Datum) 0);
	Assert(step->verb < VERBS);
	part_set_lock_timeout(step);
	part_set_durability(step);
	shard_part_read(step->wrapper, &step->id, &row);
	if (part_answer_again(step, &row) ||
		part_store(step, true, PART_OVER_EARLIER))
		return;
	shard_part_read(step->wrapper, &step->id, &row);
	if (!part_answer_again(step, &row))
		part_raise_late(step);
}

/* Whether a repetition would return this error again. */
static bool
part_is_refusal(const Step *step, const ErrorData *error)
{
	int category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	Assert(error->elevel == ERROR);
	return category == MAKE_SQLSTATE('S', 'K', '0', '0', '0') ||
		   (step->is_begun && category == ERRCODE_DATA_EXCEPTION);
}

static Datum
part_take(Step *step)
{
	ErrorData *error = both_try(part_run, step);

	Assert(type_is_rowtype(step->answer_type));
	Assert(error != NULL || step->answer != (Datum) 0);
	if (error == NULL)
		return step->answer;
	step->answer = part_answer(step, error);
	if (part_is_refusal(step, error))
	{
		error = both_try(part_store_refusal, step);
		if (error == NULL)
			return step->answer;
		/* what is not stored is no refusal */
		if (part_is_refusal(step, error))
			error->sqlerrcode = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
		step->answer = part_answer(step, error);
	}
	return step->answer;
}

/* Takes a step, which a front sends as one text. */
Datum
pgstock_shard_part_step_call(PG_FUNCTION_ARGS)
{
	Step *step = palloc0(sizeof(Step));

	Assert(PG_NARGS() == 1);
	step->wrapper = fcinfo->flinfo->fn_oid;
	step->answer_type = get_func_rettype(step->wrapper);
	step->input = text_to_cstring(PG_GETARG_TEXT_PP(0));
	PG_RETURN_DATUM(part_take(step));
}
