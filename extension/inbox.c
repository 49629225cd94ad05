/*-------------------------------------------------------------------------
 *
 * inbox.c
 *	  A batch of messages from Kafka, applied in one transaction.
 *
 * Inbox rows, effects, their events and the next offset of each partition are
 * one commit.  The batch collects the locks of all its messages and takes them
 * in the one order (work.c); then each message is applied in turn, in memory.
 * No message can make the batch fail for what it holds: it is parsed first,
 * and the handlers look before they act.
 *
 * An id that was seen before is a duplicate, whatever the body.  A key whose
 * earlier message waits, waits behind it; everything else flows.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

#include "pgstock.h"

PG_FUNCTION_INFO_V1(pgstock_relay_apply);
PG_FUNCTION_INFO_V1(pgstock_relay_apply_failed);

#define LOCK_CLASS_INBOX  0x7065
#define LOCK_CLASS_OFFSET 0x706a /* a partition that has no row yet */

enum
{
	INBOX_TOPIC = 1,
	INBOX_PARTITION,
	INBOX_OFFSET,
	INBOX_EVENT_ID,
	INBOX_DEDUP_ID,
	INBOX_KEY,
	INBOX_ORDER,
	INBOX_RESULT,
	INBOX_REASON,
	INBOX_TRACE_ID,
	INBOX_RECEIVED_AT
};
enum
{
	OFFSET_TOPIC = 1,
	OFFSET_PARTITION,
	OFFSET_NEXT
};

/* ---- Rows of the inbox ---- */

static void
inbox_fill(Work *work, const Message *message, TupleTableSlot *slot,
		   bool duplicate)
{
	const Outcome *outcome = &message->outcome;

	row_put_text(slot, INBOX_TOPIC, message->topic);
	row_put(slot, INBOX_PARTITION, Int32GetDatum(message->partition));
	row_put(slot, INBOX_OFFSET, Int64GetDatum(message->offset));
	row_put_text(slot, INBOX_EVENT_ID, message->event_id);
	if (!duplicate)
		row_put_text(slot, INBOX_DEDUP_ID, message->event_id);
	row_put_bytes(slot, INBOX_KEY, message->key);
	row_put_text(slot, INBOX_ORDER, message->order_id);
	row_put_text(slot, INBOX_RESULT, outcome->result);
	row_put_text(slot, INBOX_REASON, outcome->reason);
	row_put_text(slot, INBOX_TRACE_ID, message->trace_id);
	row_put(slot, INBOX_RECEIVED_AT, TimestampTzGetDatum(work->now));
}

static bool
is_result(const Message *message, const char *result)
{
	return message->outcome.result != NULL &&
		   strcmp(message->outcome.result, result) == 0;
}

static void
inbox_insert(Work *work, const Message *message)
{
	Table *table = table_use(work, TABLE_INBOX);

	inbox_fill(work, message, table_new_row(table),
			   is_result(message, "duplicate"));
	table_insert(work, table);
}

/* A message that waited has come to an end. */
void
inbox_finish(Work *work, const Message *message)
{
	Table		   *table = table_use(work, TABLE_INBOX);
	ItemPointerData tid;

	if (!table_find_text(work, table, "inbox_dedup", message->event_id, &tid))
		return; /* its row is beyond retention */
	inbox_fill(work, message, table_new_row(table), false);
	table_update(work, table, &tid);
}

/* ---- Offsets ---- */

static void
offset_store(Work *work, const char *topic, int partition, int64 next)
{
	Table		   *table = table_use(work, TABLE_INBOX_OFFSET);
	ScanKeyData		keys[2];
	ItemPointerData tid;
	bool			found;
	TupleTableSlot *slot;

	table_key_text(&keys[0], 1, topic);
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(partition));
	found = table_find(work, table, "inbox_offset_pkey", 2, keys, &tid);
	if (!found)
	{
		/* Of two batches one makes the row and the other finds it. */
		lock_name(LOCK_CLASS_OFFSET, psprintf("%s\t%d", topic, partition));
		work_refresh_snapshot();
		found = table_find(work, table, "inbox_offset_pkey", 2, keys, &tid);
	}
	found = found && table_lock_row(table, &tid);

	slot = table_new_row(table);
	row_put_text(slot, OFFSET_TOPIC, topic);
	row_put(slot, OFFSET_PARTITION, Int32GetDatum(partition));
	row_put(slot, OFFSET_NEXT, Int64GetDatum(next));
	if (found)
		table_update(work, table, &tid);
	else
		table_insert(work, table);
}

static int
partition_compare(const ListCell *a, const ListCell *b)
{
	const Message *x = lfirst(a);
	const Message *y = lfirst(b);
	int			   difference = strcmp(x->topic, y->topic);

	if (difference != 0)
		return difference;
	if (x->partition != y->partition)
		return x->partition < y->partition ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Moves each partition of the batch behind its last message. */
static void
offsets_store(Work *work, List *messages)
{
	List	 *sorted = list_copy(messages);
	ListCell *cell;

	list_sort(sorted, partition_compare);
	foreach(cell, sorted)
	{
		Message	 *message = lfirst(cell);
		ListCell *next = lnext(sorted, cell);
		Message	 *following = next ? lfirst(next) : NULL;

		if (following == NULL || following->partition != message->partition ||
			strcmp(following->topic, message->topic) != 0)
			offset_store(work, message->topic, message->partition,
						 message->offset + 1);
	}
}

/* ---- The batch ---- */

static int
event_id_compare(const ListCell *a, const ListCell *b)
{
	return strcmp(((Message *) lfirst(a))->event_id,
				  ((Message *) lfirst(b))->event_id);
}

/* Locks the ids in their order. */
static void
lock_ids(Work *work, List *messages)
{
	List	 *sorted = list_copy(messages);
	ListCell *cell;

	list_sort(sorted, event_id_compare);
	foreach(cell, sorted)
		lock_name(LOCK_CLASS_INBOX, ((Message *) lfirst(cell))->event_id);
	work_refresh_snapshot();
}

/* Finds the messages whose id was seen before. */
static void
find_duplicates(Work *work, List *messages)
{
	Table		   *table = table_use(work, TABLE_INBOX);
	ListCell	   *cell;
	ItemPointerData tid;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);

		if (!table_find_text(work, table, "inbox_dedup", message->event_id,
							 &tid))
			continue;
		commit_fence_answer();
		message->outcome = (Outcome){.result = "duplicate"};
		/* The very same record, read again: it has its row. */
		message->known = row_get_int64(table->slot, INBOX_OFFSET) ==
							 message->offset &&
						 row_get_int32(table->slot, INBOX_PARTITION) ==
							 message->partition &&
						 strcmp(row_get_text(table->slot, INBOX_TOPIC),
								message->topic) == 0;
	}
}

/* Whether a message of the list has the same id, before this one. */
static bool
seen_in_batch(HTAB *seen, const char *event_id)
{
	bool found;
	char name[STOCK_ID_BYTES_MAX + 64];

	strlcpy(name, event_id, sizeof(name));
	hash_search(seen, name, HASH_ENTER, &found);
	return found;
}

static void
find_duplicates_in_batch(List *messages)
{
	HASHCTL control = {.keysize = STOCK_ID_BYTES_MAX + 64,
					   .entrysize = STOCK_ID_BYTES_MAX + 64};
	HTAB *seen = hash_create("ids of a batch", list_length(messages), &control,
							 HASH_ELEM | HASH_STRINGS);
	ListCell *cell;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);

		if (seen_in_batch(seen, message->event_id))
			message->outcome = (Outcome){.result = "duplicate"};
	}
	hash_destroy(seen);
}

/* Parses a message, and decides what needs no look at stock. */
void
inbox_prepare(Message *message)
{
	const Handler *handler = handler_find(message->topic);

	message->wants_lines = handler != NULL && handler->wants_lines;
	message_parse(message);
	if (handler == NULL)
		message->outcome = (Outcome){.result = "skipped",
									 .reason = "no_handler"};
	else if (message->poison != NULL)
	{
		message->attempts = 1;
		message->outcome = (Outcome){.result = "dead",
									 .reason = message->poison,
									 .error_class = "poison"};
	}
}

/* Locks what the undecided messages need, in the one order; ids are locked. */
static void
lock_batch(Work *work, List *messages)
{
	ListCell *cell;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);

		if (message->outcome.result == NULL)
			work_want_order(work, message->order_id);
	}
	work_lock_orders(work);
	foreach(cell, messages)
	{
		Message *message = lfirst(cell);

		if (message->outcome.result == NULL)
			handler_want_levels(work, message);
	}
	work_read_levels(work);
	work_lock_levels(work);
}

/* Locks ids, orders and levels of messages that will be applied one by one. */
void
inbox_lock_messages(Work *work, List *messages)
{
	lock_ids(work, messages);
	lock_batch(work, messages);
}

static bool
same_key(const Message *a, const Message *b)
{
	return a->key != NULL && b->key != NULL &&
		   strcmp(a->topic, b->topic) == 0 &&
		   VARSIZE_ANY_EXHDR(a->key) == VARSIZE_ANY_EXHDR(b->key) &&
		   memcmp(VARDATA_ANY(a->key), VARDATA_ANY(b->key),
				  VARSIZE_ANY_EXHDR(a->key)) == 0;
}

/* Whether the message must wait behind an earlier one of its key. */
static bool
must_queue(Work *work, const Message *message, List *waiting)
{
	ListCell *cell;

	foreach(cell, waiting)
	{
		if (same_key(message, lfirst(cell)))
			return true;
	}
	return failed_must_queue(work, message);
}

/* Applies the messages in turn, and writes what became of each. */
static void
apply_batch(Work *work, const InboxOptions *options, List *messages)
{
	List	 *waiting = NIL;
	ListCell *cell;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);
		Outcome *outcome = &message->outcome;

		if (outcome->result == NULL)
		{
			if (must_queue(work, message, waiting))
				*outcome =
					(Outcome){.result = "waiting",
							  .reason = "an earlier message of its key waits",
							  .error_class = "queue"};
			else
				*outcome = handler_apply(work, message);
		}
		if (is_result(message, "waiting"))
			waiting = lappend(waiting, message);
		if (is_result(message, "waiting") || is_result(message, "dead"))
			failed_store(work, options, message, outcome);
		if (!message->known)
			inbox_insert(work, message);
	}
	offsets_store(work, messages);
}

/* ---- The SQL functions ---- */

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

/* The batch of the arguments 0 to 6, parsed. */
static List *
messages_from_args(FunctionCallInfo fcinfo)
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
		inbox_prepare(message);
		messages = lappend(messages, message);
	}
	return messages;
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
	return difference;
}

/* Returns how many messages of each topic came to each result and reason. */
Datum
inbox_return(FunctionCallInfo fcinfo, List *messages)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell	  *cell;
	int64		   n = 0;

	InitMaterializedSRF(fcinfo, 0);
	list_sort(messages, outcome_compare);
	foreach(cell, messages)
	{
		Message	 *message = lfirst(cell);
		ListCell *next = lnext(messages, cell);
		Datum	  values[4];
		bool	  nulls[4] = {0};

		n++;
		if (next != NULL && outcome_compare(cell, next) == 0)
			continue;
		values[0] = CStringGetTextDatum(message->topic);
		values[1] = CStringGetTextDatum(message->outcome.result);
		nulls[2] = message->outcome.reason == NULL;
		values[2] = nulls[2] ? (Datum) 0
							 : CStringGetTextDatum(message->outcome.reason);
		values[3] = Int64GetDatum(n);
		tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
		n = 0;
	}
	return (Datum) 0;
}

InboxOptions
inbox_options_arg(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("options must not be null")));
	return inbox_options(PG_GETARG_JSONB_P(n));
}

/* relay_apply(…): docs/relay-protocol.md */
Datum
pgstock_relay_apply(PG_FUNCTION_ARGS)
{
	InboxOptions options = inbox_options_arg(fcinfo, 7);
	List		*messages = messages_from_args(fcinfo);
	Work		 work;

	work_begin(&work, "relay_apply()");
	find_duplicates_in_batch(messages);
	lock_ids(&work, messages);
	find_duplicates(&work, messages);
	lock_batch(&work, messages);
	apply_batch(&work, &options, messages);
	work_end(&work);
	return inbox_return(fcinfo, messages);
}

/* relay_apply_failed(…): one message that made its batch fail */
Datum
pgstock_relay_apply_failed(PG_FUNCTION_ARGS)
{
	InboxOptions options = inbox_options_arg(fcinfo, 7);
	List		*messages = messages_from_args(fcinfo);
	char		*sqlstate = args_text(fcinfo, 8);
	char		*error = args_text(fcinfo, 9);
	Message		*message;
	Work		 work;

	if (list_length(messages) != 1 || sqlstate == NULL || error == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("one message, its SQLSTATE and its error are needed")));
	message = linitial(messages);

	work_begin(&work, "relay_apply_failed()");
	lock_ids(&work, messages);
	find_duplicates(&work, messages);
	if (message->outcome.result == NULL)
	{
		message->attempts = 1;
		message->outcome = failed_classify(&options, message, sqlstate, error);
	}
	apply_batch(&work, &options, messages);
	work_end(&work);
	return inbox_return(fcinfo, messages);
}
