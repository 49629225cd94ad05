/*-------------------------------------------------------------------------
 *
 * stock/answer.c
 *	  Answers: rows of stock_result.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/statistics.h"
#include "stock/stock.h"

#define ANSWER_COLUMNS 10

/*
 * What the statistics count an answer as that grants nothing.  "refused" is
 * not in it: another line of the order says why.
 */
static const struct
{
	AnswerStatus status;
	CallStatus	 counted;
} answer_refusals[] = {
	{ANSWER_INSUFFICIENT, CALL_INSUFFICIENT},
	{ANSWER_UNKNOWN_PRODUCT, CALL_UNKNOWN_PRODUCT},
	{ANSWER_UNKNOWN_ORDER, CALL_UNKNOWN_ORDER},
	{ANSWER_ALREADY, CALL_ALREADY},
	{ANSWER_NOT_OPEN, CALL_NOT_OPEN},
	{ANSWER_OVER_LIMIT, CALL_OVER_LIMIT},
	{ANSWER_EXPIRED, CALL_EXPIRED},
	{ANSWER_SHORTFALL, CALL_SHORTFALL},
};

const char *
answer_status_text(AnswerStatus status)
{
	Assert(status > ANSWER_NONE && status < ANSWER_STATUSES);
	return answer_status_texts[status];
}

/* The status of a stored answer. */
static AnswerStatus
answer_status_from_text(const char *name)
{
	for (int i = ANSWER_NONE + 1; i < ANSWER_STATUSES; i++)
	{
		if (strcmp(answer_status_texts[i], name) == 0)
			return (AnswerStatus) i;
	}
	elog(ERROR, "unknown status \"%s\" in a stored answer", name);
	return ANSWER_NONE;
}

/* An answer that grants nothing yet. */
Answer *
answer_new(const char *order_id, const char *product_id, const char *location,
		   int64 requested)
{
	Answer *answer = palloc0(sizeof(Answer));

	Assert(requested >= 0 && (product_id == NULL) == (location == NULL));
	answer->order_id = pstrdup(order_id);
	answer->product_id = product_id ? pstrdup(product_id) : NULL;
	answer->location = location ? pstrdup(location) : NULL;
	answer->requested = requested;
	answer->expires_at = DT_NOEND;
	return answer;
}

/* What is left after the call. */
void
answer_level(Answer *answer, const Level *level)
{
	Assert(level != NULL);
	if (!level->known)
		return;
	answer->available = level_available(level);
	answer->version = level_sum(level).version;
}

/* The answer for a line as it stands, or for this much of it. */
Answer *
answer_of_line(Work *work, const Reservation *line, int64 quantity)
{
	Answer *answer = answer_new(line->order->order_id, line->product_id,
								line->location, quantity);

	if (line->slot < SLOT_MAIN)
		answer->activity_id = line->activity_id;
	answer_level(answer, work_find_level(work, line->product_id, line->location,
										 line->slot));
	return answer;
}

static Datum
answer_text_or_null(const char *value, bool *isnull)
{
	*isnull = value == NULL;
	return value ? CStringGetTextDatum(value) : (Datum) 0;
}

static HeapTuple
answer_tuple(const Answer *answer, TupleDesc desc)
{
	Datum values[ANSWER_COLUMNS];
	bool  nulls[ANSWER_COLUMNS] = {0};

	Assert(desc->natts == ANSWER_COLUMNS);
	Assert(answer->order_id != NULL);
	Assert(answer->granted >= 0 && answer->granted <= answer->requested);
	values[0] = answer_text_or_null(answer->order_id, &nulls[0]);
	values[1] = answer_text_or_null(answer->product_id, &nulls[1]);
	values[2] = answer_text_or_null(answer->location, &nulls[2]);
	values[3] = Int64GetDatum(answer->requested);
	values[4] = Int64GetDatum(answer->granted);
	values[5] = CStringGetTextDatum(answer_status_text(answer->status));
	values[6] = Int64GetDatum(answer->available);
	values[7] = TimestampTzGetDatum(answer->expires_at);
	nulls[7] = answer->expires_at == DT_NOEND;
	values[8] = Int64GetDatum(answer->version);
	values[9] = BoolGetDatum(answer->replayed);
	return heap_form_tuple(desc, values, nulls);
}

Datum
answer_datum(const Answer *answer, TupleDesc desc)
{
	return HeapTupleGetDatum(answer_tuple(answer, desc));
}

/* A row of stock_result that was stored, as the replay that it now is. */
Answer *
answer_from_datum(Datum row, TupleDesc desc)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);
	HeapTupleData	tuple = {.t_len = HeapTupleHeaderGetDatumLength(header),
							 .t_data = header};
	Datum			v[ANSWER_COLUMNS];
	bool			nulls[ANSWER_COLUMNS];
	Answer		   *answer = palloc0(sizeof(Answer));

	Assert(desc->natts == ANSWER_COLUMNS);
	heap_deform_tuple(&tuple, desc, v, nulls);
	answer->order_id = nulls[0] ? NULL : TextDatumGetCString(v[0]);
	answer->product_id = nulls[1] ? NULL : TextDatumGetCString(v[1]);
	answer->location = nulls[2] ? NULL : TextDatumGetCString(v[2]);
	answer->requested = DatumGetInt64(v[3]);
	answer->granted = DatumGetInt64(v[4]);
	answer->status = answer_status_from_text(TextDatumGetCString(v[5]));
	answer->available = DatumGetInt64(v[6]);
	answer->expires_at = nulls[7] ? DT_NOEND : DatumGetTimestampTz(v[7]);
	answer->version = DatumGetInt64(v[8]);
	answer->replayed = true;
	return answer;
}

/* Counts an answer that is a refusal; true if it is one. */
static bool
answer_count_refusal(const Answer *answer)
{
	if (answer->granted > 0)
		return false;
	for (int i = 0; i < lengthof(answer_refusals); i++)
	{
		if (answer_refusals[i].status == answer->status)
		{
			statistics_refuse(answer_refusals[i].counted);
			return true;
		}
	}
	return false;
}

/* Counts an order's refusal once, whatever number of its lines do not fit. */
static void
answer_count_refusals(const List *answers)
{
	const char *counted = "";
	ListCell   *cell;

	foreach(cell, answers)
	{
		const Answer *answer = lfirst(cell);

		if (strcmp(answer->order_id, counted) != 0 &&
			answer_count_refusal(answer))
			counted = answer->order_id;
	}
}

/* Returns one row. */
Datum
answer_return_row(FunctionCallInfo fcinfo, const Answer *answer)
{
	TupleDesc desc;

	(void) answer_count_refusal(answer);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return answer_datum(answer, BlessTupleDesc(desc));
}

/* Returns a set of rows. */
Datum
answer_return_set(FunctionCallInfo fcinfo, List *answers)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell	  *cell;

	answer_count_refusals(answers);
	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, answers)
	{
		CHECK_FOR_INTERRUPTS();
		tuplestore_puttuple(info->setResult,
							answer_tuple(lfirst(cell), info->setDesc));
	}
	return (Datum) 0;
}
