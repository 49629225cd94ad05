/*-------------------------------------------------------------------------
 *
 * inbox/batch_args.c
 *	  The relay's calls: their arguments as messages, outcomes as rows.
 *
 * docs/relay-protocol.md has the contract.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "base/epoch_ms.h"
#include "inbox/inbox.h"

/* ---- Arguments ---- */

/* The arrays of a batch, in the order of the arguments. */
enum
{
	ARG_TOPICS,
	ARG_PARTITIONS,
	ARG_OFFSETS,
	ARG_TIMESTAMPS,
	ARG_KEYS,
	ARG_VALUES,
	ARG_HEADERS,
	BATCH_ARGS
};

typedef struct BatchArrays
{
	int	   count;
	Datum *values[BATCH_ARGS];
	bool  *nulls[BATCH_ARGS];
} BatchArrays;

/* Reads the arrays; an error unless all have the same length. */
static BatchArrays
batch_arrays_arg(FunctionCallInfo fcinfo)
{
	static const struct
	{
		Oid	  type;
		int16 length;
		bool  by_value;
		char  align;
	} types[BATCH_ARGS] = {
		{TEXTOID, -1, false, TYPALIGN_INT},
		{INT4OID, 4, true, TYPALIGN_INT},
		{INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
		{INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
		{BYTEAOID, -1, false, TYPALIGN_INT},
		{BYTEAOID, -1, false, TYPALIGN_INT},
		{BYTEAOID, -1, false, TYPALIGN_INT},
	};
	BatchArrays arrays = {0};

	Assert(PG_NARGS() > BATCH_ARGS); /* the options follow */
	for (int i = 0; i < BATCH_ARGS; i++)
	{
		int n;

		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("argument %d must not be null", i + 1)));
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(i), types[i].type,
						  types[i].length, types[i].by_value, types[i].align,
						  &arrays.values[i], &arrays.nulls[i], &n);
		if (i > 0 && n != arrays.count)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the arrays of a batch must be of equal length")));
		arrays.count = n;
	}
	return arrays;
}

static bytea *
batch_bytes(const BatchArrays *arrays, int arg, int i)
{
	return arrays->nulls[arg][i] ? NULL
								 : DatumGetByteaPP(arrays->values[arg][i]);
}

static Record *
batch_record(const BatchArrays *arrays, int i)
{
	Record *record = palloc0(sizeof(Record));
	int64	time_ms;

	if (arrays->nulls[ARG_TOPICS][i] || arrays->nulls[ARG_PARTITIONS][i] ||
		arrays->nulls[ARG_OFFSETS][i] || arrays->nulls[ARG_TIMESTAMPS][i])
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("topic, partition, offset and timestamp must "
							   "not be null")));
	record->topic = TextDatumGetCString(arrays->values[ARG_TOPICS][i]);
	record->partition = DatumGetInt32(arrays->values[ARG_PARTITIONS][i]);
	record->offset = DatumGetInt64(arrays->values[ARG_OFFSETS][i]);
	if (record->partition < 0 || record->offset < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("partition and offset must not be negative")));
	time_ms = DatumGetInt64(arrays->values[ARG_TIMESTAMPS][i]);
	record->sent_at_ms = epoch_ms_is_sane(time_ms) ? time_ms : -1;
	record->key = batch_bytes(arrays, ARG_KEYS, i);
	record->value = batch_bytes(arrays, ARG_VALUES, i);
	record->headers = batch_bytes(arrays, ARG_HEADERS, i);
	record->fingerprint = fingerprint(time_ms, record->key, record->value,
									  record->headers);
	return record;
}

/* The batch of the arguments 0 to 6, not yet parsed. */
List *
batch_messages_arg(FunctionCallInfo fcinfo)
{
	BatchArrays arrays = batch_arrays_arg(fcinfo);
	List	   *messages = NIL;

	for (int i = 0; i < arrays.count; i++)
	{
		Message *message = palloc0(sizeof(Message));

		message->record = batch_record(&arrays, i);
		messages = lappend(messages, message);
	}
	return messages;
}

/* The options of argument n, which also name the relay's process. */
InboxOptions
batch_options_arg(FunctionCallInfo fcinfo, int n)
{
	InboxOptions options;

	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("options must not be null")));
	options = options_from_jsonb(PG_GETARG_JSONB_P(n));
	attempt_set_process(&options);
	return options;
}

/* ---- Results ---- */

enum
{
	RESULT_TOPIC,
	RESULT_RESULT,
	RESULT_REASON,
	RESULT_N,
	RESULT_ATTEMPTS,
	RESULT_MESSAGE,
	RESULT_SENT_MS,
	RESULT_FAILURE,
	RESULT_COLUMNS
};

/* Whether the relay's log is to name the message: it has a row of its own. */
static bool
batch_is_notable(const Message *message)
{
	const Outcome *outcome = &message->outcome;

	return outcome->kind == OUTCOME_DEAD || outcome->notable;
}

/* How often a message was tried until now. */
static int
batch_tries(const Message *message)
{
	OutcomeKind kind = message->outcome.kind;

	return message->try.attempts +
		   (kind == OUTCOME_APPLIED || kind == OUTCOME_SKIPPED);
}

static int
batch_compare(const ListCell *a, const ListCell *b)
{
	const Message *x = lfirst(a);
	const Message *y = lfirst(b);
	const Outcome *p = &x->outcome;
	const Outcome *q = &y->outcome;
	int			   difference = strcmp(x->record->topic, y->record->topic);

	Assert(x->try.attempts >= 0 && y->try.attempts >= 0);
	if (difference == 0)
		difference = strcmp(outcome_text(p->kind), outcome_text(q->kind));
	if (difference == 0)
		difference = strcmp(p->reason ? p->reason : "",
							q->reason ? q->reason : "");
	if (difference == 0)
		difference = (int) p->error_class - (int) q->error_class;
	return difference != 0 ? difference : batch_tries(x) - batch_tries(y);
}

/* A producer's text as a value in the log: it must not end its field. */
static void
batch_add_field(StringInfo line, const char *name, const char *value)
{
	bool plain = value[0] != '\0' && strpbrk(value, " =\"\\\t\r\n") == NULL;

	appendStringInfo(line, " %s=", name);
	if (plain)
		appendStringInfoString(line, value);
	else
		escape_json(line, value);
}

/* Names a message for the log. */
static char *
batch_message_name(const Message *message)
{
	const Parsed  *parsed = &message->parsed;
	StringInfoData name;

	initStringInfo(&name);
	appendStringInfo(&name, "partition=%d offset=" INT64_FORMAT,
					 message->record->partition, message->record->offset);
	batch_add_field(&name, "event_id", parsed->event_id);
	if (parsed->order_id != NULL)
		batch_add_field(&name, "order_id", parsed->order_id);
	if (parsed->trace_id != NULL)
		batch_add_field(&name, "trace_id", parsed->trace_id);
	return name.data;
}

/*
 * When the orders were sent that have now been answered: for the relay's
 * histogram of how long they waited.
 */
static Datum
batch_sent_array(const List *messages, int first, int n, bool *isnull)
{
	Datum *times = palloc(sizeof(Datum) * n);
	int	   count = 0;

	for (int i = first; i < first + n; i++)
	{
		const Message		 *message = list_nth(messages, i);
		const Record		 *record = message->record;
		const BuiltinHandler *builtin = message->try.builtin;

		if (builtin != NULL && builtin->opens_order &&
			message->outcome.kind == OUTCOME_APPLIED && record->sent_at_ms >= 0)
			times[count++] = Int64GetDatum(record->sent_at_ms);
	}
	Assert(count <= n);
	*isnull = count == 0;
	return PointerGetDatum(construct_array(times, count, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static void
batch_put_row(ReturnSetInfo *info, const List *messages, int first, int n)
{
	const Message *last = list_nth(messages, first + n - 1);
	const Outcome *outcome = &last->outcome;
	Datum		   values[RESULT_COLUMNS] = {0};
	bool		   nulls[RESULT_COLUMNS] = {0};

	Assert(n == 1 || !batch_is_notable(last));
	Assert(info->setDesc->natts == RESULT_COLUMNS);
	values[RESULT_TOPIC] = CStringGetTextDatum(last->record->topic);
	values[RESULT_RESULT] = CStringGetTextDatum(outcome_text(outcome->kind));
	nulls[RESULT_REASON] = outcome->reason == NULL;
	if (outcome->reason != NULL)
		values[RESULT_REASON] = CStringGetTextDatum(outcome->reason);
	values[RESULT_N] = Int64GetDatum(n);
	values[RESULT_ATTEMPTS] = Int32GetDatum(batch_tries(last));
	nulls[RESULT_MESSAGE] = !batch_is_notable(last);
	if (!nulls[RESULT_MESSAGE])
		values[RESULT_MESSAGE] = CStringGetTextDatum(batch_message_name(last));
	values[RESULT_SENT_MS] = batch_sent_array(messages, first, n,
											  &nulls[RESULT_SENT_MS]);
	nulls[RESULT_FAILURE] = outcome->error_class == ERROR_CLASS_NONE;
	if (!nulls[RESULT_FAILURE])
		values[RESULT_FAILURE] = CStringGetTextDatum(
			error_class_text(outcome->error_class));
	tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
}

/*
 * Returns how many messages of each topic have each outcome and reason, after
 * how many tries; a notable message has a row of its own, which names it.
 */
Datum
batch_return(FunctionCallInfo fcinfo, List *messages)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell	  *cell;
	int			   first = 0;

	InitMaterializedSRF(fcinfo, 0);
	list_sort(messages, batch_compare);
	foreach(cell, messages)
	{
		ListCell *next = lnext(messages, cell);
		int		  i = foreach_current_index(cell);

		if (next != NULL && !batch_is_notable(lfirst(cell)) &&
			!batch_is_notable(lfirst(next)) && batch_compare(cell, next) == 0)
			continue;
		batch_put_row(info, messages, first, i - first + 1);
		first = i + 1;
	}
	Assert(first == list_length(messages));
	return (Datum) 0;
}

/* Returns that tries were recorded: the same call again begins them. */
Datum
batch_return_started(FunctionCallInfo fcinfo, List *messages)
{
	ListCell *cell;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);

		message->try.attempts = 0;
		message->outcome = (Outcome){.kind = OUTCOME_STARTED};
	}
	return batch_return(fcinfo, messages);
}
