/*-------------------------------------------------------------------------
 *
 * inbox/failed.c
 *	  Messages that failed: waiting for another try, or given up.
 *
 * One row a message from its first failure to its end.  Giving up is one
 * transaction: the archive (the same row), the record in the dead letter topic
 * (through the outbox, as everything that leaves), the alert that a relay will
 * send to whoever wants to be told, and the inbox's result.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "inbox/inbox.h"

/* While an order has not arrived, it is looked for this often. */
#define ORDER_LOOK_MS 1000

/* So many failures of a message are kept. */
#define FAILURES_MAX 20

/* Stands for the topic in the name of its dead letter topic. */
#define TOPIC_MARK "{topic}"

/* ---- The relay's settings ---- */

static JsonbValue *
option(Jsonb *options, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&options->root, name,
													 strlen(name), NULL);

	if (value == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" is missing", name)));
	return value;
}

static int64
option_int64(JsonbValue *value, const char *name)
{
	if (value->type != jbvNumeric)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" is not a number", name)));
	return DatumGetInt64(
		DirectFunctionCall1(numeric_int8, NumericGetDatum(value->val.numeric)));
}

static char *
option_text(JsonbValue *value, const char *name)
{
	if (value->type != jbvString)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" is not a string", name)));
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* One that may be missing. */
static bool
option_is_true(Jsonb *options, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&options->root, name,
													 strlen(name), NULL);

	return value != NULL && value->type == jbvBool && value->val.boolean;
}

static char *
option_text_or(Jsonb *options, const char *name, char *otherwise)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&options->root, name,
													 strlen(name), NULL);

	return value != NULL ? option_text(value, name) : otherwise;
}

/* The longest topic names are cut, so that what is added still fits. */
static char *
dead_topic(const InboxOptions *options, const char *topic)
{
	const char *mark = strstr(options->dlq_topic, TOPIC_MARK);
	int			rest = (int) strlen(options->dlq_topic) - strlen(TOPIC_MARK);

	if (mark == NULL)
		return pstrdup(options->dlq_topic);
	return psprintf("%.*s%.*s%s", (int) (mark - options->dlq_topic),
					options->dlq_topic, OUTBOX_TOPIC_MAX - rest, topic,
					mark + strlen(TOPIC_MARK));
}

InboxOptions
inbox_options(Jsonb *options)
{
	InboxOptions o = {0};
	JsonbValue	*delays;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("options must be a JSON object")));
	o.group = option_text(option(options, "group"), "group");
	o.relay = option_text_or(options, "relay", "");
	o.dlq_topic = option_text(option(options, "dlq_topic"), "dlq_topic");
	if (outbox_topic_fault(dead_topic(&o, "x")) != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" makes no legal topic name",
							   "dlq_topic")));
	o.order_wait_ms = option_int64(option(options, "order_wait_ms"),
								   "order_wait_ms");
	o.count_attempts = option_is_true(options, "count_attempts");
	o.alert = option_is_true(options, "alert");
	o.careful = option_is_true(options, "careful");
	delays = option(options, "retry_delays_ms");
	if (delays->type != jbvBinary ||
		!JsonContainerIsArray(delays->val.binary.data))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" is not an array", "retry_delays_ms")));
	o.retry_count = JsonContainerSize(delays->val.binary.data);
	o.retry_delays_ms = palloc(sizeof(int64) * Max(1, o.retry_count));
	for (int i = 0; i < o.retry_count; i++)
		o.retry_delays_ms[i] =
			option_int64(getIthJsonbValueFromContainer(delays->val.binary.data,
													   i),
						 "retry_delays_ms");
	return o;
}

/* ---- Classes of failure ---- */

/* Whether trying again cannot help: data that no try will change. */
static bool
is_permanent(const char *sqlstate)
{
	return strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "23", 2) == 0 ||
		   strncmp(sqlstate, "SK", 2) == 0;
}

/* Not the message's fault: the same try again may go well. */
bool
failed_is_transient(const ErrorData *failure)
{
	int category = ERRCODE_TO_CATEGORY(failure->sqlerrcode);

	return category == ERRCODE_OPERATOR_INTERVENTION ||
		   category == ERRCODE_INSUFFICIENT_RESOURCES ||
		   category == ERRCODE_CONNECTION_EXCEPTION ||
		   category == ERRCODE_TRANSACTION_ROLLBACK ||
		   failure->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

/* Why a try failed, for people. */
const char *
failed_reason(const ErrorData *failure)
{
	if (failure->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		return failure->message;
	return psprintf("another session has locked what it needs: %s",
					failure->message);
}

/* What becomes of a message whose handler raised an error. */
Outcome
failed_classify(const InboxOptions *options, const Message *message,
				const char *sqlstate, const char *error)
{
	Outcome outcome = {.reason = error, .sqlstate = sqlstate};

	if (is_permanent(sqlstate))
	{
		outcome.result = "dead";
		outcome.error_class = "permanent";
	}
	else if (message->attempts > options->retry_count)
	{
		outcome.result = "dead";
		outcome.error_class = "retries";
	}
	else
	{
		outcome.result = "waiting";
		outcome.error_class = "retry";
	}
	return outcome;
}

/* When a waiting message is tried next. */
static TimestampTz
next_try(Call *call, const InboxOptions *options, const Message *message,
		 const Outcome *outcome)
{
	int	  i = message->attempts - 1;
	int64 delay_ms = 0;

	if (strcmp(outcome->error_class, "order") == 0)
		delay_ms = Min(ORDER_LOOK_MS, options->order_wait_ms);
	else if (strcmp(outcome->error_class, "retry") == 0)
	{
		Assert(i >= 0 && i < options->retry_count);
		delay_ms = options->retry_delays_ms[i];
	}
	return call->now + delay_ms * 1000;
}

/* ---- The dead letter ---- */

static List *
header_add(List *headers, const char *name, const char *value)
{
	Header *header = palloc(sizeof(Header));

	header->name = name;
	header->name_len = strlen(name);
	header->value = text_to_utf8(value, strlen(value), &header->value_len);
	return lappend(headers, header);
}

/* To the message's own headers: what happened, by the names of KIP-1191. */
static List *
dead_headers(Call *call, const InboxOptions *options, const Message *message,
			 const Outcome *outcome, List *headers)
{
	headers = header_add(headers, "__dlq.errors.topic", message->topic);
	headers = header_add(headers, "__dlq.errors.partition",
						 psprintf("%d", message->partition));
	headers = header_add(headers, "__dlq.errors.offset",
						 psprintf(INT64_FORMAT, message->offset));
	headers = header_add(headers, "__dlq.errors.group", options->group);
	headers = header_add(headers, "__dlq.errors.delivery.count",
						 psprintf("%d", message->attempts));
	headers = header_add(headers, "__dlq.errors.message", outcome->reason);
	if (outcome->sqlstate != NULL)
		headers = header_add(headers, "__dlq.errors.sqlstate",
							 outcome->sqlstate);
	headers = header_add(headers, "__dlq.errors.class", outcome->error_class);
	return header_add(headers, "__dlq.errors.failed.time",
					  rfc3339_from_time(call->now));
}

/*
 * Key, value and headers go out unchanged.  What is too large for that stays
 * in the archive, and a record of headers alone says where it came from.
 */
static void
dead_letter(Call *call, const InboxOptions *options, const Message *message,
			Outcome *outcome)
{
	OutboxRecord record = {
		.topic = dead_topic(options, message->topic),
		.event_type = "DeadLetter",
		.format = 'r',
	};

	uuid_generate(&record.event_id);
	record.headers = headers_pack(
		dead_headers(call, options, message, outcome,
					 headers_unpack(message->headers)));
	if (message->key != NULL)
	{
		record.key = VARDATA_ANY(message->key);
		record.key_len = VARSIZE_ANY_EXHDR(message->key);
	}
	if (message->value != NULL)
	{
		record.payload = VARDATA_ANY(message->value);
		record.payload_len = VARSIZE_ANY_EXHDR(message->value);
	}
	if (outbox_record_bytes(&record) > pgstock_max_event_bytes)
	{
		outcome
			->reason = psprintf("%s; it is too large for the dead letter topic",
								outcome->reason);
		record.headers = headers_pack(
			dead_headers(call, options, message, outcome, NIL));
		record.payload = NULL;
		record.payload_len = 0;
	}
	if (outbox_record_bytes(&record) > pgstock_max_event_bytes)
	{
		record.key = NULL;
		record.key_len = 0;
		record.is_minimal = true;
	}
	outbox_append(call, &record);
}

/* ---- The row ---- */

enum
{
	FAILED_ID = 1,
	FAILED_TOPIC,
	FAILED_PARTITION,
	FAILED_OFFSET,
	FAILED_EVENT_ID,
	FAILED_KEY,
	FAILED_VALUE,
	FAILED_HEADERS,
	FAILED_SENT_AT,
	FAILED_ORDER,
	FAILED_ATTEMPTS,
	FAILED_NEXT_RETRY_AT,
	FAILED_STATE,
	FAILED_CLASS,
	FAILED_SQLSTATE,
	FAILED_ERROR,
	FAILED_TRACE_ID,
	FAILED_FIRST_AT,
	FAILED_ARCHIVED_AT,
	FAILED_HANDLED,
	FAILED_HANDLED_AT,
	FAILED_HANDLED_BY,
	FAILED_STARTED,
	FAILED_SESSION,
	FAILED_SOURCE,
	FAILED_FAILURES,
	FAILED_PROCESS
};

static const char *
row_state(const Outcome *outcome)
{
	if (strcmp(outcome->result, "waiting") == 0)
		return "waiting";
	if (strcmp(outcome->result, "dead") == 0)
		return "archived";
	return "retried"; /* a later try ended it well */
}

static bool
same_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

/*
 * Notes a failure that is another one than that before it: a message that waits
 * for its order fails each second.  The first ones say most, and the last.
 */
static void
note_failure(Call *call, Message *message, const Outcome *outcome)
{
	const Outcome *last = &message->failure;

	if (same_text(outcome->error_class, last->error_class) &&
		same_text(outcome->sqlstate, last->sqlstate) &&
		same_text(outcome->reason, last->reason))
		return;
	if (list_length(message->failures) == FAILURES_MAX)
		message->failures = list_delete_last(message->failures);
	message->failures = lappend(message->failures,
								psprintf("%s %s%s%s: %s",
										 rfc3339_from_time(call->now),
										 outcome->error_class,
										 outcome->sqlstate ? " " : "",
										 outcome->sqlstate ? outcome->sqlstate
														   : "",
										 outcome->reason));
	message->failure = *outcome;
}

/* Why it failed: of one that a try has ended well, why it had failed. */
static void
row_fill_failure(TupleTableSlot *slot, const Message *message,
				 const Outcome *outcome, const char *state)
{
	const Outcome *failure = strcmp(state, "retried") == 0 ? &message->failure
														   : outcome;
	int			   n = list_length(message->failures);
	Datum		  *texts = palloc(sizeof(Datum) * Max(1, n));
	ListCell	  *cell;

	row_put_text(slot, FAILED_CLASS,
				 failure->error_class ? failure->error_class : "none");
	row_put_text(slot, FAILED_SQLSTATE, failure->sqlstate);
	row_put_text(slot, FAILED_ERROR,
				 failure->reason ? failure->reason : outcome->result);
	foreach(cell, message->failures)
		texts[foreach_current_index(cell)] = CStringGetTextDatum(lfirst(cell));
	row_put(slot, FAILED_FAILURES,
			PointerGetDatum(
				construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT)));
}

/* What the row has of that. */
static void
row_read_failure(TupleTableSlot *slot, Message *message)
{
	Datum *texts;
	int	   n;

	message->failure = (Outcome){
		.error_class = row_get_text(slot, FAILED_CLASS),
		.sqlstate = row_get_text(slot, FAILED_SQLSTATE),
		.reason = row_get_text(slot, FAILED_ERROR),
	};
	deconstruct_array(DatumGetArrayTypeP(slot->tts_values[FAILED_FAILURES - 1]),
					  TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
	message->failures = NIL;
	for (int i = 0; i < n; i++)
		message->failures = lappend(message->failures,
									TextDatumGetCString(texts[i]));
}

static void
row_fill(Call *call, const InboxOptions *options, const Message *message,
		 const Outcome *outcome, TupleTableSlot *slot)
{
	const char *state = row_state(outcome);

	row_put(slot, FAILED_ID, Int64GetDatum(message->failed_id));
	row_put_text(slot, FAILED_TOPIC, message->topic);
	row_put(slot, FAILED_PARTITION, Int32GetDatum(message->partition));
	row_put(slot, FAILED_OFFSET, Int64GetDatum(message->offset));
	row_put_text(slot, FAILED_EVENT_ID, message->event_id);
	row_put_text(slot, FAILED_SOURCE, message->source);
	row_put_bytes(slot, FAILED_KEY, message->key);
	row_put_bytes(slot, FAILED_VALUE, message->value);
	row_put_bytes(slot, FAILED_HEADERS, message->headers);
	if (message->sent_at_ms >= 0)
		row_put(slot, FAILED_SENT_AT,
				TimestampTzGetDatum(message_time(message->sent_at_ms)));
	row_put_text(slot, FAILED_ORDER, message->order_id);
	row_put(slot, FAILED_ATTEMPTS, Int32GetDatum(message->attempts));
	row_put_text(slot, FAILED_STATE, state);
	row_fill_failure(slot, message, outcome, state);
	row_put_text(slot, FAILED_TRACE_ID, message->trace_id);
	row_put(slot, FAILED_FIRST_AT,
			TimestampTzGetDatum(message->first_failed_at));
	row_put(slot, FAILED_HANDLED, BoolGetDatum(false));
	row_put(slot, FAILED_STARTED, Int32GetDatum(0)); /* this try has ended */
	/* One that queues is not due by itself: the one before it wakes it. */
	Assert(strcmp(state, "waiting") != 0 || outcome->error_class != NULL);
	if (strcmp(state, "waiting") == 0 &&
		strcmp(outcome->error_class, "queue") != 0)
		row_put(slot, FAILED_NEXT_RETRY_AT,
				TimestampTzGetDatum(next_try(call, options, message, outcome)));
	if (strcmp(state, "archived") == 0)
		row_put(slot, FAILED_ARCHIVED_AT, TimestampTzGetDatum(call->now));
	else if (message->archived_at != 0 && message->archived_at != DT_NOBEGIN)
		row_put(slot, FAILED_ARCHIVED_AT,
				TimestampTzGetDatum(message->archived_at));
	/* A try that ends well closes what was archived. */
	if (strcmp(state, "retried") == 0)
	{
		row_put(slot, FAILED_HANDLED, BoolGetDatum(true));
		row_put(slot, FAILED_HANDLED_AT, TimestampTzGetDatum(call->now));
		row_put_text(slot, FAILED_HANDLED_BY, call->actor);
	}
}

/* Stores a failure, or how it ended; a dead message's dead letter and alert. */
void
failed_store(Call *call, const InboxOptions *options, Message *message,
			 Outcome *outcome)
{
	Table *table = table_use(call, TABLE_FAILED_EVENT);
	bool   is_new = message->failed_id == 0;

	/* An error repeats data: it may be of any length, and no text at all. */
	if (outcome->reason != NULL)
		outcome->reason = text_for_people(outcome->reason);
	if (outcome->error_class != NULL)
		note_failure(call, message, outcome);
	if (strcmp(outcome->result, "dead") == 0)
	{
		Assert(outcome->reason != NULL && outcome->error_class != NULL);
		/* Waiting for its order was not counted, but this was a try. */
		message->attempts = Max(1, message->attempts + message->started);
		dead_letter(call, options, message, outcome);
	}
	if (is_new)
	{
		message->failed_id = nextval_internal(relation_sequence(
												  "failed_event_id"),
											  false);
		message->first_failed_at = call->now;
	}
	row_fill(call, options, message, outcome, table_new_row(table));
	if (is_new)
		table_insert(call, table);
	else
		table_update(call, table, &message->failed_tid);
	if (options->alert && strcmp(outcome->result, "dead") == 0)
		alert_store(call, message);
}

/* ---- Messages that queue behind one of their key ---- */

/* A scan of the waiting messages of a topic and key, by id. */
static IndexScanDesc
waiting_scan(Call *call, Table *table, const Message *message)
{
	ScanKeyData keys[2];

	table_key_text(&keys[0], 1, message->topic);
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_BYTEAEQ,
				DirectFunctionCall1(sha256_bytea,
									PointerGetDatum(message->key)));
	return table_scan_begin(call, table, "failed_event_waiting", 2, keys);
}

/* Whether an earlier message of the same topic and key waits. */
static bool
earlier_waits(Call *call, const Message *message)
{
	Table		 *table = table_use(call, TABLE_FAILED_EVENT);
	IndexScanDesc scan = waiting_scan(call, table, message);
	bool		  waits;

	waits = table_scan_next(scan, table) &&
			(message->failed_id == 0 ||
			 row_get_int64(table->slot, FAILED_ID) < message->failed_id);
	table_scan_end(table, scan);
	return waits;
}

/*
 * Who queues and who ends a queue's head must not pass each other: the one
 * would wait for a wake-up that the other never sends.
 */
static void
lock_key(Call *call, const Message *message)
{
	int	  length = VARSIZE_ANY_EXHDR(message->key);
	char *hex = palloc(length * 2 + 1);

	hex_encode(VARDATA_ANY(message->key), length, hex);
	hex[length * 2] = '\0';
	lock_acquire(call, LOCK_WAITING_KEY,
				 psprintf("%s\t%s", message->topic, hex));
}

/* Whether the message must queue; if so, its key stays locked. */
bool
failed_must_queue(Call *call, const Message *message)
{
	if (!message_has_key(message) || !earlier_waits(call, message))
		return false;
	lock_key(call, message);
	call_refresh_snapshot();
	return earlier_waits(call, message);
}

/* Takes a message that queues off the clock: it will be woken. */
void
failed_queue(Call *call, Message *message)
{
	const Change never = {FAILED_NEXT_RETRY_AT, .isnull = true};

	if (failed_lock(call, message))
		table_update_columns(call, &call->tables[TABLE_FAILED_EVENT], 1,
							 &never);
}

/* A message has ended: the next one of its key is due. */
void
failed_wake_next(Call *call, const Message *message)
{
	Table		   *table = table_use(call, TABLE_FAILED_EVENT);
	IndexScanDesc	scan;
	const Change	now = {FAILED_NEXT_RETRY_AT, TimestampTzGetDatum(call->now),
						   false};
	ItemPointerData tid;
	bool			found = false;

	if (!message_has_key(message))
		return;
	lock_key(call, message);
	call_refresh_snapshot();
	scan = waiting_scan(call, table, message);
	while (!found && table_scan_next(scan, table))
		found = row_get_int64(table->slot, FAILED_ID) != message->failed_id;
	tid = table->slot->tts_tid;
	table_scan_end(table, scan);
	if (found && table_lock_row(table, &tid))
		table_update_columns(call, table, 1, &now);
}

/* ---- Reading ---- */

static Message *
row_read(TupleTableSlot *slot)
{
	Message	   *message = palloc0(sizeof(Message));
	TimestampTz sent_at = row_get_time(slot, FAILED_SENT_AT, DT_NOBEGIN);

	message->failed_id = row_get_int64(slot, FAILED_ID);
	message->topic = row_get_text(slot, FAILED_TOPIC);
	message->partition = row_get_int32(slot, FAILED_PARTITION);
	message->offset = row_get_int64(slot, FAILED_OFFSET);
	message->event_id = row_get_text(slot, FAILED_EVENT_ID);
	message->source = row_get_text(slot, FAILED_SOURCE);
	message->key = row_get_bytes(slot, FAILED_KEY);
	message->value = row_get_bytes(slot, FAILED_VALUE);
	message->headers = row_get_bytes(slot, FAILED_HEADERS);
	message->sent_at_ms = sent_at == DT_NOBEGIN ? -1 : message_time_ms(sent_at);
	message->attempts = row_get_int32(slot, FAILED_ATTEMPTS);
	message->first_failed_at = row_get_time(slot, FAILED_FIRST_AT, 0);
	message->archived_at = row_get_time(slot, FAILED_ARCHIVED_AT, DT_NOBEGIN);
	row_read_failure(slot, message);
	message->started = row_get_int32(slot, FAILED_STARTED);
	/* Every relay looks at what waits: a live session's try is no death, nor is
	 * that of a session which this relay has lost. */
	if (message->started > 0 &&
		(row_get_int64(slot, FAILED_PROCESS) == attempts_process() ||
		 session_is_alive(row_get_int64(slot, FAILED_SESSION))))
	{
		message->recorded = true;
		message->started--;
	}
	message->alone = message->started > 0;
	return message;
}

/* The waiting messages whose time has come, the longest due first. */
List *
failed_due(Call *call, int max_rows)
{
	Table		 *table = table_use(call, TABLE_FAILED_EVENT);
	ScanKeyData	  key;
	IndexScanDesc scan;
	List		 *due = NIL;

	ScanKeyInit(&key, 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(call->now));
	scan = table_scan_begin(call, table, "failed_event_due", 1, &key);
	while (list_length(due) < max_rows && table_scan_next(scan, table))
		due = lappend(due, row_read(table->slot));
	table_scan_end(table, scan);
	return due;
}

/* Finds and locks the row of a message. */
static bool
lock_row(Call *call, Message *message)
{
	Table	   *table = table_use(call, TABLE_FAILED_EVENT);
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(message->failed_id));
	return table_find(call, table, "failed_event_pkey", 1, &key,
					  &message->failed_tid) &&
		   table_lock_row(table, &message->failed_tid);
}

/*
 * After a user's handler, which may have changed the row: retried or discarded
 * its own message, or deleted it.  Then the message gets a new row.
 */
void
failed_lock_again(Call *call, Message *message)
{
	if (!lock_row(call, message))
		message->failed_id = 0;
}

/*
 * Locks a message's row; false if it no longer waits.  It is found anew, for
 * an earlier try of the same call may have woken it.
 */
bool
failed_lock(Call *call, Message *message)
{
	Table *table = table_use(call, TABLE_FAILED_EVENT);

	if (!lock_row(call, message))
		return false;
	/* Another relay may have tried it while we waited. */
	message->attempts = row_get_int32(table->slot, FAILED_ATTEMPTS);
	row_read_failure(table->slot, message);
	return strcmp(row_get_text(table->slot, FAILED_STATE), "waiting") == 0 &&
		   row_get_time(table->slot, FAILED_NEXT_RETRY_AT, DT_NOBEGIN) <=
			   call->now;
}

/*
 * Sees to it that tries of these messages are on record (inbox/partition.c says
 * why); false if some were not, and the caller is to commit and come again.
 */
bool
failed_record_tries(Call *call, List *messages)
{
	static bool first_look = true;
	Table	   *table = table_use(call, TABLE_FAILED_EVENT);
	bool		recorded = true;
	ListCell   *cell;

	foreach(cell, messages)
	{
		Message		*message = lfirst(cell);
		const Change begun[] = {
			{FAILED_STARTED, Int32GetDatum(message->started + 1), false},
			{FAILED_SESSION, Int64GetDatum(session_id()), false},
			{FAILED_PROCESS, Int64GetDatum(attempts_process()), false},
		};

		if (message->recorded ||
			(message->user_handlers == NIL && !first_look && !message->alone) ||
			!failed_lock(call, message))
			continue;
		table_update_columns(call, table, lengthof(begun), begun);
		recorded = false;
	}
	if (recorded && messages != NIL)
		first_look = false;
	return recorded;
}
