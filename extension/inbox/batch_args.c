/*-------------------------------------------------------------------------
 *
 * inbox/batch_args.c
 *	  The relay's calls for the inbox: arguments in, what became of them out.
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

#include "inbox/inbox.h"

/* One array argument, NULLs allowed or not. */
static int
array_arg(FunctionCallInfo fcinfo, int n, Oid type, int16 length, bool by_value,
		  char align, Datum **values, bool **nulls)
{
	int count;

	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument %d must not be null", n + 1)));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), type, length, by_value, align,
					  values, nulls, &count);
	return count;
}

static bytea *
bytes_or_null(Datum value, bool isnull)
{
	return isnull ? NULL : DatumGetByteaPP(value);
}

/* The batch of the arguments 0 to 6, not yet parsed. */
List *
inbox_messages_arg(FunctionCallInfo fcinfo)
{
	static const struct
	{
		Oid	  type;
		int16 length;
		bool  by_value;
		char  align;
	} types[7] = {
		{TEXTOID, -1, false, TYPALIGN_INT},
		{INT4OID, 4, true, TYPALIGN_INT},
		{INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
		{INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
		{BYTEAOID, -1, false, TYPALIGN_INT},
		{BYTEAOID, -1, false, TYPALIGN_INT},
		{BYTEAOID, -1, false, TYPALIGN_INT},
	};
	Datum *v[7];
	bool  *nulls[7];
	int	   count = 0;
	List  *messages = NIL;

	for (int i = 0; i < 7; i++)
	{
		int n = array_arg(fcinfo, i, types[i].type, types[i].length,
						  types[i].by_value, types[i].align, &v[i], &nulls[i]);

		if (i > 0 && n != count)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the arrays of a batch must be of equal length")));
		count = n;
	}
	for (int i = 0; i < count; i++)
	{
		Message *message = palloc0(sizeof(Message));

		if (nulls[0][i] || nulls[1][i] || nulls[2][i] || nulls[3][i])
			ereport(
				ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg(
					 "topic, partition, offset and timestamp must not be null")));
		message->topic = TextDatumGetCString(v[0][i]);
		message->partition = DatumGetInt32(v[1][i]);
		message->offset = DatumGetInt64(v[2][i]);
		if (message->partition < 0 || message->offset < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("partition and offset must not be negative")));
		message->sent_at_ms = DatumGetInt64(v[3][i]);
		if (!message_time_is_sane(message->sent_at_ms))
			message->sent_at_ms = -1;
		message->key = bytes_or_null(v[4][i], nulls[4][i]);
		message->value = bytes_or_null(v[5][i], nulls[5][i]);
		message->headers = bytes_or_null(v[6][i], nulls[6][i]);
		message->fingerprint = fingerprint(DatumGetInt64(v[3][i]), message->key,
										   message->value, message->headers);
		messages = lappend(messages, message);
	}
	return messages;
}

/* ---- The answer ---- */

/* What a person looks for in the log has a row of its own. */
static bool
is_notable(const Message *message)
{
	const Outcome *outcome = &message->outcome;

	return strcmp(outcome->result, "dead") == 0 || outcome->notable;
}

/* How often a message was tried until now. */
static int
tries(const Message *message)
{
	return message->attempts +
		   (strcmp(message->outcome.result, "applied") == 0 ||
			strcmp(message->outcome.result, "skipped") == 0);
}

static int
outcome_compare(const ListCell *a, const ListCell *b)
{
	const Message *x = lfirst(a);
	const Message *y = lfirst(b);
	int			   difference = strcmp(x->topic, y->topic);

	if (difference == 0)
		difference = strcmp(x->outcome.result, y->outcome.result);
	if (difference == 0)
		difference = strcmp(x->outcome.reason ? x->outcome.reason : "",
							y->outcome.reason ? y->outcome.reason : "");
	return difference != 0 ? difference : tries(x) - tries(y);
}

/* A producer's text, as a value in the log: it makes no field of its own. */
static void
append_field(StringInfo line, const char *name, const char *value)
{
	bool plain = value[0] != '\0' && strpbrk(value, " =\"\\\t\r\n") == NULL;

	appendStringInfo(line, " %s=", name);
	if (plain)
		appendStringInfoString(line, value);
	else
		escape_json(line, value);
}

/* Which message it was, for the log. */
static char *
message_name(const Message *message)
{
	StringInfoData name;

	initStringInfo(&name);
	appendStringInfo(&name, "partition=%d offset=" INT64_FORMAT,
					 message->partition, message->offset);
	append_field(&name, "event_id", message->event_id);
	if (message->order_id != NULL)
		append_field(&name, "order_id", message->order_id);
	if (message->trace_id != NULL)
		append_field(&name, "trace_id", message->trace_id);
	return name.data;
}

/* When the orders were sent that are answered now: the relay tells how long
 * they have waited. */
static Datum
sent_array(const List *messages, int first, int n, bool *isnull)
{
	Datum *times = palloc(sizeof(Datum) * n);
	int	   count = 0;

	for (int i = first; i < first + n; i++)
	{
		const Message *message = list_nth(messages, i);

		if (strcmp(message->topic, "order-created") == 0 &&
			strcmp(message->outcome.result, "applied") == 0 &&
			message->sent_at_ms >= 0)
			times[count++] = Int64GetDatum(message->sent_at_ms);
	}
	*isnull = count == 0;
	return PointerGetDatum(construct_array(times, count, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * Returns how many messages of each topic came to each result and reason, in
 * how many tries; a notable one has a row of its own that names it.
 */
Datum
inbox_return(FunctionCallInfo fcinfo, List *messages)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell	  *cell;
	int			   n = 0;

	InitMaterializedSRF(fcinfo, 0);
	list_sort(messages, outcome_compare);
	foreach(cell, messages)
	{
		Message	 *message = lfirst(cell);
		ListCell *next = lnext(messages, cell);
		Datum	  values[7];
		bool	  nulls[7] = {0};

		n++;
		if (next != NULL && !is_notable(message) && !is_notable(lfirst(next)) &&
			outcome_compare(cell, next) == 0)
			continue;
		values[0] = CStringGetTextDatum(message->topic);
		values[1] = CStringGetTextDatum(message->outcome.result);
		nulls[2] = message->outcome.reason == NULL;
		values[2] = nulls[2] ? (Datum) 0
							 : CStringGetTextDatum(message->outcome.reason);
		values[3] = Int64GetDatum(n);
		values[4] = Int32GetDatum(tries(message));
		nulls[5] = !is_notable(message);
		values[5] = nulls[5] ? (Datum) 0
							 : CStringGetTextDatum(message_name(message));
		values[6] = sent_array(messages, foreach_current_index(cell) - n + 1, n,
							   &nulls[6]);
		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
		n = 0;
	}
	return (Datum) 0;
}

/* Returns that tries were put on record: the caller is to come again. */
Datum
inbox_return_started(FunctionCallInfo fcinfo, List *messages)
{
	ListCell *cell;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);

		message->attempts = 0;
		message->outcome = (Outcome){.result = "started"};
	}
	return inbox_return(fcinfo, messages);
}

InboxOptions
inbox_options_arg(FunctionCallInfo fcinfo, int n)
{
	InboxOptions options;

	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("options must not be null")));
	options = inbox_options(PG_GETARG_JSONB_P(n));
	attempts_begin(&options);
	return options;
}
