/*-------------------------------------------------------------------------
 *
 * inbox/failed_event.c
 *	  The rows of messages that have failed.
 *
 * A message has one row from its first failure to its end, in one of these
 * states:
 *
 *	waiting		its next try has a time, unless it queues behind an earlier
 *				message of its key (key_queue.c)
 *	archived	it was given up
 *	retried		a later try ended well
 *	discarded	an administrator ended it, by sql/failed_events.sql
 *
 * Giving up is one transaction: the archive (this row), the record in the dead
 * letter topic (dead_letter.c), the alert (alert.c), and the inbox's row.
 *
 * Several relays try the messages that are due.  So a try begins by locking the
 * row, which shows whether another one has ended the message meanwhile.
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
#include "utils/timestamp.h"

#include "base/epoch_ms.h"
#include "inbox/inbox.h"

/* So many failures of a message are kept. */
#define FAILURES_MAX 20

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

/* ---- Failures ---- */

static bool
failed_event_same_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

/*
 * Notes a failure that differs from the one before it: a message that waits for
 * its order fails each second.  The first ones and the last one matter most.
 */
static void
failed_event_note_failure(Call *call, FailedEvent *failed,
						  const Outcome *outcome)
{
	const Failure *last = &failed->last;
	const char *class = error_class_text(outcome->error_class);
	const char *sqlstate = outcome->sqlstate ? outcome->sqlstate : "";

	if (outcome->error_class == last->error_class &&
		failed_event_same_text(outcome->sqlstate, last->sqlstate) &&
		failed_event_same_text(outcome->reason, last->reason))
		return;
	if (list_length(failed->history) == FAILURES_MAX)
		failed->history = list_delete_last(failed->history);
	failed->history = lappend(failed->history,
							  psprintf("%s %s%s%s: %s",
									   rfc3339_from_time(call->now), class,
									   sqlstate[0] ? " " : "", sqlstate,
									   outcome->reason));
	failed->last = (Failure){.error_class = outcome->error_class,
							 .sqlstate = outcome->sqlstate,
							 .reason = outcome->reason};
	Assert(list_length(failed->history) <= FAILURES_MAX);
}

/* Why the message fails; of one that has ended well, why it had failed. */
static void
failed_event_fill_failure(TupleTableSlot *slot, const FailedEvent *failed,
						  const Outcome *outcome, FailedState state)
{
	Failure	  failure = {.error_class = outcome->error_class,
						 .sqlstate = outcome->sqlstate,
						 .reason = outcome->reason};
	int		  n = list_length(failed->history);
	Datum	 *texts = palloc(sizeof(Datum) * Max(1, n));
	ListCell *cell;

	if (state == FAILED_STATE_RETRIED)
		failure = failed->last;
	row_put_text(slot, FAILED_CLASS, error_class_text(failure.error_class));
	row_put_text(slot, FAILED_SQLSTATE, failure.sqlstate);
	row_put_text(slot, FAILED_ERROR,
				 failure.reason ? failure.reason : outcome_text(outcome->kind));
	foreach(cell, failed->history)
		texts[foreach_current_index(cell)] = CStringGetTextDatum(lfirst(cell));
	row_put(slot, FAILED_FAILURES,
			PointerGetDatum(
				construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT)));
}

static void
failed_event_read_failure(TupleTableSlot *slot, FailedEvent *failed)
{
	char *class = row_get_text(slot, FAILED_CLASS);
	Datum *texts;
	int	   n;

	failed->last = (Failure){
		.error_class = error_class_from_text(class),
		.sqlstate = row_get_text(slot, FAILED_SQLSTATE),
		.reason = row_get_text(slot, FAILED_ERROR),
	};
	deconstruct_array(DatumGetArrayTypeP(slot->tts_values[FAILED_FAILURES - 1]),
					  TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
	failed->history = NIL;
	for (int i = 0; i < n; i++)
		failed->history = lappend(failed->history,
								  TextDatumGetCString(texts[i]));
}

/* ---- Writing ---- */

static FailedState
failed_event_state(const Outcome *outcome)
{
	switch (outcome->kind)
	{
		case OUTCOME_WAITING:
			return FAILED_STATE_WAITING;
		case OUTCOME_DEAD:
			return FAILED_STATE_ARCHIVED;
		default:
			Assert(outcome->kind == OUTCOME_APPLIED ||
				   outcome->kind == OUTCOME_SKIPPED);
			return FAILED_STATE_RETRIED;
	}
}

static void
failed_event_fill_record(TupleTableSlot *slot, const Record *record,
						 const Parsed *parsed)
{
	row_put_text(slot, FAILED_TOPIC, record->topic);
	row_put(slot, FAILED_PARTITION, Int32GetDatum(record->partition));
	row_put(slot, FAILED_OFFSET, Int64GetDatum(record->offset));
	row_put_text(slot, FAILED_EVENT_ID, parsed->event_id);
	row_put_text(slot, FAILED_SOURCE, parsed->source);
	row_put_bytes(slot, FAILED_KEY, record->key);
	row_put_bytes(slot, FAILED_VALUE, record->value);
	row_put_bytes(slot, FAILED_HEADERS, record->headers);
	if (record->sent_at_ms >= 0)
		row_put(slot, FAILED_SENT_AT,
				TimestampTzGetDatum(epoch_ms_to_timestamp(record->sent_at_ms)));
	row_put_text(slot, FAILED_ORDER, parsed->order_id);
	row_put_text(slot, FAILED_TRACE_ID, parsed->trace_id);
}

static void
failed_event_fill(Call *call, const InboxOptions *options,
				  const Message *message, TupleTableSlot *slot)
{
	const Outcome	  *outcome = &message->outcome;
	const FailedEvent *failed = &message->failed;
	FailedState		   state = failed_event_state(outcome);

	row_put(slot, FAILED_ID, Int64GetDatum(failed->id));
	failed_event_fill_record(slot, message->record, &message->parsed);
	row_put(slot, FAILED_ATTEMPTS, Int32GetDatum(message->try.attempts));
	row_put_text(slot, FAILED_STATE, failed_state_texts[state]);
	failed_event_fill_failure(slot, failed, outcome, state);
	row_put(slot, FAILED_FIRST_AT,
			TimestampTzGetDatum(failed->first_failed_at));
	row_put(slot, FAILED_HANDLED, BoolGetDatum(false));
	row_put(slot, FAILED_STARTED, Int32GetDatum(0)); /* this try has ended */
	/* One that queues is not due by itself: the one before it wakes it. */
	if (state == FAILED_STATE_WAITING &&
		outcome->error_class != ERROR_CLASS_QUEUE)
		row_put(slot, FAILED_NEXT_RETRY_AT,
				TimestampTzGetDatum(
					failure_next_try(options, message, call->now)));
	if (state == FAILED_STATE_ARCHIVED)
		row_put(slot, FAILED_ARCHIVED_AT, TimestampTzGetDatum(call->now));
	else if (failed->archived_at != 0 && failed->archived_at != DT_NOBEGIN)
		row_put(slot, FAILED_ARCHIVED_AT,
				TimestampTzGetDatum(failed->archived_at));
	/* A try that ends well closes what was archived. */
	if (state == FAILED_STATE_RETRIED)
	{
		row_put(slot, FAILED_HANDLED, BoolGetDatum(true));
		row_put(slot, FAILED_HANDLED_AT, TimestampTzGetDatum(call->now));
		row_put_text(slot, FAILED_HANDLED_BY, call->actor);
	}
}

/*
 * Stores a failure, or how a message that had failed has ended; of a dead one
 * its dead letter and its alert too.
 */
void
failed_event_store(Call *call, const InboxOptions *options, Message *message)
{
	Table		*table = table_use(call, TABLE_FAILED_EVENT);
	FailedEvent *failed = &message->failed;
	Outcome		*outcome = &message->outcome;
	bool		 is_dead = outcome->kind == OUTCOME_DEAD;
	bool		 is_failure = is_dead || outcome->kind == OUTCOME_WAITING;
	bool		 is_new = failed->id == 0;

	Assert(is_failure == (outcome->error_class != ERROR_CLASS_NONE));
	Assert(!is_failure || outcome->reason != NULL);
	/* An error repeats data: it may be of any length, and no text at all. */
	if (outcome->reason != NULL)
		outcome->reason = text_printable(outcome->reason);
	if (is_failure)
		failed_event_note_failure(call, failed, outcome);
	if (is_dead)
	{
		/* Waiting for its order was not counted, but this was a try. */
		message->try.attempts = Max(1, message->try.attempts +
										   message->try.unfinished);
		dead_letter_publish(call, options, message->record, &message->parsed,
							message->try.attempts, outcome);
	}
	if (is_new)
	{
		failed->id = nextval_internal(relation_sequence("failed_event_id"),
									  false);
		failed->first_failed_at = call->now;
	}
	Assert(is_new || ItemPointerIsValid(&failed->tid));
	failed_event_fill(call, options, message, table_new_row(table));
	if (is_new)
		table_insert(call, table);
	else
		table_update(call, table, &failed->tid);
	if (options->alert && is_dead)
		alert_store(call, failed->id);
}

/* ---- Reading ---- */

static Record *
failed_event_read_record(TupleTableSlot *slot)
{
	Record	   *record = palloc0(sizeof(Record));
	TimestampTz sent_at = row_get_time(slot, FAILED_SENT_AT, DT_NOBEGIN);

	record->topic = row_get_text(slot, FAILED_TOPIC);
	record->partition = row_get_int32(slot, FAILED_PARTITION);
	record->offset = row_get_int64(slot, FAILED_OFFSET);
	record->key = row_get_bytes(slot, FAILED_KEY);
	record->value = row_get_bytes(slot, FAILED_VALUE);
	record->headers = row_get_bytes(slot, FAILED_HEADERS);
	record->sent_at_ms = sent_at == DT_NOBEGIN
							 ? -1
							 : epoch_ms_from_timestamp(sent_at);
	return record;
}

/*
 * What is on record of tries.  A try of a session that is alive has not ended
 * with its process, nor has that of a session which this relay has lost.
 */
static void
failed_event_read_try(TupleTableSlot *slot, Try *try)
{
	try->attempts = row_get_int32(slot, FAILED_ATTEMPTS);
	try->unfinished = row_get_int32(slot, FAILED_STARTED);
	if (try->unfinished > 0 &&
		(row_get_int64(slot, FAILED_PROCESS) == attempt_process() ||
		 attempt_session_is_alive(row_get_int64(slot, FAILED_SESSION))))
	{
		try->recorded = true;
		try->unfinished--;
	}
	Assert(try->unfinished >= 0);
	try->isolated = try->unfinished > 0;
}

static Message *
failed_event_read(TupleTableSlot *slot)
{
	Message		*message = palloc0(sizeof(Message));
	FailedEvent *failed = &message->failed;

	message->record = failed_event_read_record(slot);
	message->parsed.event_id = row_get_text(slot, FAILED_EVENT_ID);
	message->parsed.source = row_get_text(slot, FAILED_SOURCE);
	failed_event_read_try(slot, &message->try);
	failed->id = row_get_int64(slot, FAILED_ID);
	failed->first_failed_at = row_get_time(slot, FAILED_FIRST_AT, 0);
	failed->archived_at = row_get_time(slot, FAILED_ARCHIVED_AT, DT_NOBEGIN);
	failed_event_read_failure(slot, failed);
	Assert(failed->id != 0);
	return message;
}

/* The waiting messages whose next try is due, the longest due first. */
List *
failed_event_list_due(Call *call, int max_rows)
{
	Table		 *table = table_use(call, TABLE_FAILED_EVENT);
	ScanKeyData	  key;
	IndexScanDesc scan;
	List		 *due = NIL;

	ScanKeyInit(&key, 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(call->now));
	scan = table_scan_begin(call, table, "failed_event_due", 1, &key);
	while (list_length(due) < max_rows && table_scan_next(scan, table))
		due = lappend(due, failed_event_read(table->slot));
	table_scan_end(table, scan);
	return due;
}

/* Finds and locks the row of a message. */
static bool
failed_event_lock(Call *call, FailedEvent *failed)
{
	Table	   *table = table_use(call, TABLE_FAILED_EVENT);
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(failed->id));
	return table_find(call, table, "failed_event_pkey", 1, &key,
					  &failed->tid) &&
		   table_lock_row(table, &failed->tid);
}

/*
 * Locks a message's row and reads its failures; false if its try is not due any
 * more.  The row is searched again, for an earlier try of the same call may
 * have changed it, and another relay may have tried it meanwhile.
 */
bool
failed_event_lock_due(Call *call, Message *message)
{
	Table		   *table = table_use(call, TABLE_FAILED_EVENT);
	TupleTableSlot *slot;
	const char	   *state;

	Assert(message->failed.id != 0);
	if (!failed_event_lock(call, &message->failed))
		return false;
	slot = table->slot;
	message->try.attempts = row_get_int32(slot, FAILED_ATTEMPTS);
	failed_event_read_failure(slot, &message->failed);
	state = row_get_text(slot, FAILED_STATE);
	return strcmp(state, failed_state_texts[FAILED_STATE_WAITING]) == 0 &&
		   row_get_time(slot, FAILED_NEXT_RETRY_AT, DT_NOBEGIN) <= call->now;
}

/*
 * Locks a message's row after a registered handler, which may have changed it:
 * retried or discarded its own message, or deleted the row.  Then the message
 * gets a new row.
 */
void
failed_event_lock_again(Call *call, Message *message)
{
	Assert(message->failed.id != 0);
	if (!failed_event_lock(call, &message->failed))
		message->failed.id = 0;
}

/* ---- Single columns ---- */

/*
 * Records tries of these messages (reasons: attempt.c).  False: some were not
 * on record, and the caller has to commit and to return.
 */
bool
failed_event_record_tries(Call *call, List *messages)
{
	static bool first_call = true;
	Table	   *table = table_use(call, TABLE_FAILED_EVENT);
	bool		recorded = true;
	ListCell   *cell;

	foreach(cell, messages)
	{
		Message		*message = lfirst(cell);
		const Try	*try = &message->try;
		const Change changes[] = {
			{FAILED_STARTED, Int32GetDatum(try->unfinished + 1), false},
			{FAILED_SESSION, Int64GetDatum(attempt_session()), false},
			{FAILED_PROCESS, Int64GetDatum(attempt_process()), false},
		};

		if (try->recorded ||
			(!try->topic->has_registered && !first_call && !try->isolated) ||
			!failed_event_lock_due(call, message))
			continue;
		table_update_columns(call, table, lengthof(changes), changes);
		recorded = false;
	}
	if (recorded && messages != NIL)
		first_call = false;
	return recorded;
}

/* Takes the next try from a message that is due: it waits to be woken. */
void
failed_event_suspend(Call *call, Message *message)
{
	Table		*table = table_use(call, TABLE_FAILED_EVENT);
	const Change never = {FAILED_NEXT_RETRY_AT, .isnull = true};

	if (failed_event_lock_due(call, message))
		table_update_columns(call, table, 1, &never);
}

/* Makes a waiting message due, unless it has vanished meanwhile. */
void
failed_event_make_due(Call *call, ItemPointer tid)
{
	Table		*table = table_use(call, TABLE_FAILED_EVENT);
	const Change now = {FAILED_NEXT_RETRY_AT, TimestampTzGetDatum(call->now),
						false};

	if (table_lock_row(table, tid))
		table_update_columns(call, table, 1, &now);
}

/*
 * Finds the first waiting message of a record's topic and key, other than
 * except_id.  Returns its id and sets its tid; 0 if there is none.
 */
int64
failed_event_first_waiting(Call *call, const Record *record, int64 except_id,
						   ItemPointer tid)
{
	Table		 *table = table_use(call, TABLE_FAILED_EVENT);
	ScanKeyData	  keys[2];
	IndexScanDesc scan;
	int64		  id = 0;

	Assert(record_has_key(record));
	table_key_text(&keys[0], 1, record->topic);
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_BYTEAEQ,
				DirectFunctionCall1(sha256_bytea,
									PointerGetDatum(record->key)));
	scan = table_scan_begin(call, table, "failed_event_waiting", 2, keys);
	while (id == 0 && table_scan_next(scan, table))
	{
		Assert(row_get_int64(table->slot, FAILED_ID) > 0);
		if (row_get_int64(table->slot, FAILED_ID) == except_id)
			continue;
		id = row_get_int64(table->slot, FAILED_ID);
		*tid = table->slot->tts_tid;
	}
	table_scan_end(table, scan);
	return id;
}

/* ---- Sent back from the dead letter topic ---- */

/*
 * Finds and locks the latest row of the message that a redriven record was.
 * Topics may share a source: whoever may write to one must not have another
 * one's message tried again.
 */
static bool
failed_event_lock_redriven(Call *call, const Message *message, ItemPointer tid)
{
	const Parsed *parsed = &message->parsed;
	Table		 *table = table_use(call, TABLE_FAILED_EVENT);
	ScanKeyData	  keys[2];

	table_key_text(&keys[0], 1, parsed->event_id);
	table_key_text(&keys[1], 2, parsed->source);
	lock_reach(call, LOCK_REDRIVEN_ROW);
	return table_find(call, table, "failed_event_message", 2, keys, tid) &&
		   strcmp(row_get_text(table->slot, FAILED_TOPIC),
				  message->record->topic) == 0 &&
		   table_lock_row(table, tid);
}

/*
 * The headers of a row, with how often the message was sent back: its next dead
 * letter has that again, and ends a loop by it.
 */
static bytea *
failed_event_count_redrives(bytea *packed, const Record *record)
{
	List		 *headers = headers_unpack(packed);
	const Header *count = headers_find(headers_unpack(record->headers),
									   HEADER_REDRIVES);

	Assert(count != NULL);
	headers = headers_remove(headers, HEADER_REDRIVES);
	return headers_pack(lappend(headers, unconstify(Header *, count)));
}

/* Makes the message of the locked row due, as retry_failed_event() does. */
static void
failed_event_retry(Call *call, Table *table, const Record *record)
{
	int64		 id = row_get_int64(table->slot, FAILED_ID);
	bytea		*headers = row_get_bytes(table->slot, FAILED_HEADERS);
	const Change changes[] = {
		{FAILED_STATE,
		 CStringGetTextDatum(failed_state_texts[FAILED_STATE_WAITING]), false},
		{FAILED_NEXT_RETRY_AT, TimestampTzGetDatum(call->now), false},
		{FAILED_HEADERS,
		 PointerGetDatum(failed_event_count_redrives(headers, record)), false},
	};

	table_update_columns(call, table, lengthof(changes), changes);
	admin_action_write(call, "redrive", psprintf("id " INT64_FORMAT, id),
					   psprintf("sent back to topic %s", record->topic));
}

/*
 * A record that was sent back from its dead letter topic is another try of the
 * message in the archive, which is tried there: so it takes effect once,
 * whether it is sent back, retried by hand, or both, and its order within its
 * key is that of the archive.  Sets the outcome, which is that of a duplicate;
 * false: there is no such message.
 */
bool
failed_event_redrive(Call *call, Message *message)
{
	Table		   *table = table_use(call, TABLE_FAILED_EVENT);
	Outcome			outcome = {.kind = OUTCOME_DUPLICATE};
	ItemPointerData tid;
	int64			id;
	const char	   *state;

	Assert(message->parsed.is_redriven);
	if (!failed_event_lock_redriven(call, message, &tid))
		return false;
	durability_fence_answer();
	outcome.has_row = offset_is_past(call, message->record);
	id = row_get_int64(table->slot, FAILED_ID);
	state = row_get_text(table->slot, FAILED_STATE);
	if (strcmp(state, failed_state_texts[FAILED_STATE_ARCHIVED]) == 0 &&
		DatumGetBool(row_get(table->slot, FAILED_HANDLED)))
		state = "handled";
	else if (strcmp(state, failed_state_texts[FAILED_STATE_ARCHIVED]) == 0 &&
			 !outcome.has_row)
	{
		failed_event_retry(call, table, message->record);
		outcome.retries = true;
		state = "tried again";
	}
	outcome.original = psprintf("redriven: failed event " INT64_FORMAT " is %s",
								id, state);
	message->outcome = outcome;
	return true;
}
