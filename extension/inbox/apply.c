/*-------------------------------------------------------------------------
 *
 * inbox/apply.c
 *	  A batch of messages from Kafka, applied in one transaction.
 *
 * Inbox rows, effects, their events and the next offset of each partition are
 * one commit.  The batch collects the locks of all its messages and takes them
 * in the one order (work.c); then each message is applied in turn, in memory.
 * No message can make the batch fail for what it holds: it is parsed first,
 * and the handlers look before they act.
 *
 * An id that was seen before from its source is a duplicate, whatever the body;
 * its row says what it is one of.  A key whose
 * earlier message waits, waits behind it; everything else flows.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "inbox/inbox.h"

PG_FUNCTION_INFO_V1(pgstock_relay_apply);
PG_FUNCTION_INFO_V1(pgstock_relay_apply_failed);

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
	INBOX_RECEIVED_AT,
	INBOX_SOURCE,
	INBOX_VALUE_HASH
};

/* ---- Names and rows ---- */

/* Finds the row of the message that was the first of its name. */
static bool
inbox_find(Call *call, Table *table, const Message *message, ItemPointer tid)
{
	ScanKeyData keys[2];

	table_key_text(&keys[0], 1, message->event_id);
	table_key_text(&keys[1], 2, message->source);
	return table_find(call, table, "inbox_dedup", 2, keys, tid);
}

static void
inbox_fill(Call *call, const Message *message, TupleTableSlot *slot,
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
	row_put_text(slot, INBOX_REASON,
				 message->first ? message->first : outcome->reason);
	row_put_text(slot, INBOX_TRACE_ID, message->trace_id);
	row_put(slot, INBOX_RECEIVED_AT, TimestampTzGetDatum(call->now));
	row_put_text(slot, INBOX_SOURCE, message->source);
	row_put(slot, INBOX_VALUE_HASH, Int64GetDatum(name_value_hash(message)));
}

static bool
is_result(const Message *message, const char *result)
{
	return message->outcome.result != NULL &&
		   strcmp(message->outcome.result, result) == 0;
}

static void
inbox_insert(Call *call, const Message *message)
{
	Table *table = table_use(call, TABLE_INBOX);

	inbox_fill(call, message, table_new_row(table),
			   is_result(message, "duplicate"));
	table_insert(call, table);
}

/* A message that waited has come to an end. */
void
inbox_finish(Call *call, const Message *message)
{
	Table		   *table = table_use(call, TABLE_INBOX);
	ItemPointerData tid;

	if (!inbox_find(call, table, message, &tid))
		return; /* its row is beyond retention */
	inbox_fill(call, message, table_new_row(table), false);
	table_update(call, table, &tid);
}

/* ---- The batch ---- */

static int
name_compare(const ListCell *a, const ListCell *b)
{
	const Message *x = lfirst(a);
	const Message *y = lfirst(b);
	int			   difference = strcmp(x->event_id, y->event_id);

	return difference != 0 ? difference : strcmp(x->source, y->source);
}

/* Locks the ids in their order. */
static void
lock_ids(Call *call, List *messages)
{
	List	 *sorted = list_copy(messages);
	ListCell *cell;

	list_sort(sorted, name_compare);
	foreach(cell, sorted)
		lock_acquire(call, LOCK_MESSAGE_ID, name_as_text(lfirst(cell)));
	call_refresh_snapshot();
}

static bool
is_of_record(TupleTableSlot *slot, const Message *message)
{
	return row_get_int64(slot, INBOX_OFFSET) == message->offset &&
		   row_get_int32(slot, INBOX_PARTITION) == message->partition &&
		   strcmp(row_get_text(slot, INBOX_TOPIC), message->topic) == 0;
}

/*
 * The message is one that was seen before: its row says where.  Its id counts,
 * whatever it holds; but if that is something else, two producers may number
 * their events alike, so it must not pass in silence.
 */
static void
set_duplicate(Message *message, const char *topic, int partition, int64 offset,
			  int64 hash)
{
	bool same = strcmp(topic, message->topic) == 0 &&
				hash == name_value_hash(message);

	message->outcome = (Outcome){.result = "duplicate"};
	message->first = psprintf("%s %s/%d/" INT64_FORMAT,
							  same ? "seen before at"
								   : "id_reused: it was that of",
							  topic, partition, offset);
	if (!same)
	{
		message->outcome.reason = "id_reused";
		message->outcome.notable = true;
	}
}

/* Finds the messages whose id was seen before. */
static void
find_duplicates(Call *call, List *messages)
{
	Table		   *table = table_use(call, TABLE_INBOX);
	ListCell	   *cell;
	ItemPointerData tid;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);

		if (!inbox_find(call, table, message, &tid))
		{
			if (!partition_is_behind_unnamed(call, message))
				continue;
			commit_fence_answer();
			message->outcome = (Outcome){.result = "duplicate"};
			message->known = true;
			continue;
		}
		commit_fence_answer();
		set_duplicate(message, row_get_text(table->slot, INBOX_TOPIC),
					  row_get_int32(table->slot, INBOX_PARTITION),
					  row_get_int64(table->slot, INBOX_OFFSET),
					  row_get_int64(table->slot, INBOX_VALUE_HASH));
		/*
		 * The very same record, read again: it has its row.  If it was a
		 * duplicate then too, that row is another one than what was found.
		 */
		message->known = is_of_record(table->slot, message) ||
						 partition_is_behind(call, message);
	}
}

static void
find_duplicates_in_batch(List *messages)
{
	typedef struct Seen
	{
		char		   name[MESSAGE_NAME_BYTES];
		const Message *first;
	} Seen;
	HASHCTL	  control = {.keysize = MESSAGE_NAME_BYTES,
						 .entrysize = sizeof(Seen)};
	HTAB	 *names = hash_create("names of a batch", list_length(messages),
								  &control, HASH_ELEM | HASH_STRINGS);
	ListCell *cell;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);
		char	*name = name_as_text(message);
		bool	 found;
		Seen	*seen;

		Assert(strlen(name) < MESSAGE_NAME_BYTES);
		seen = hash_search(names, name, HASH_ENTER, &found);
		if (!found)
			seen->first = message;
		else
			set_duplicate(message, seen->first->topic, seen->first->partition,
						  seen->first->offset, name_value_hash(seen->first));
	}
	hash_destroy(names);
}

/* Finds the handler of a message, and parses it as that needs it. */
static bool
find_handler(Message *message)
{
	const Handler *handler = handler_find(message->topic);

	if (message->user_handlers != NIL)
	{
		message_parse_any(message);
		message->user = user_handler_choose(message);
	}
	if (message->user == NULL && (handler != NULL || !message->user_handlers))
	{
		message->wants_lines = handler != NULL && handler->wants_lines;
		message->compares_lines = handler != NULL && handler->compares_lines;
		message->names_part = handler != NULL && handler->names_part;
		message_parse(message);
	}
	/* It may be of a type that has one: that it is broken is what is known. */
	if (message->user_handlers != NIL && message->event_type == NULL &&
		message->poison != NULL)
		return true;
	return message->user != NULL || handler != NULL;
}

/* Parses a message, and decides what needs no look at stock. */
void
inbox_prepare(const InboxOptions *options, Message *message)
{
	int limit = attempts_max(options) - message->attempts;

	if (message->alone && message->started >= limit)
	{
		/* Once its reading may be tried, for the archive's sake. */
		if (message->started == limit)
			(void) find_handler(message);
		else
			message_parse_headers(message);
		message->outcome = attempts_exhausted(message->started);
	}
	else if (!find_handler(message))
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

/* Whether one of the two must not be in the other's transaction. */
static bool
is_of_other_kind(const Message *a, const Message *b)
{
	return (a->user_handlers == NIL) != (b->user_handlers == NIL);
}

/* Cuts a batch to what may be in one transaction, before it is parsed. */
List *
inbox_cut(List *messages)
{
	ListCell *cell;

	foreach(cell, messages)
	{
		const Message *message = lfirst(cell);
		int			   n = foreach_current_index(cell);

		if (n > 0 && (is_of_other_kind(linitial(messages), message) ||
					  (message->user_handlers != NIL && n >= USER_BATCH_MAX)))
			return list_truncate(messages, n);
	}
	return messages;
}

/* Cuts it further: what must be alone is alone. */
List *
inbox_cut_alone(List *messages)
{
	ListCell *cell;

	foreach(cell, messages)
	{
		if (((Message *) lfirst(cell))->alone)
			return list_truncate(messages, Max(1, foreach_current_index(cell)));
	}
	return messages;
}

/* And once it is parsed: a topic of both kinds, by type. */
List *
inbox_cut_parsed(List *messages)
{
	const Message *decided = NULL;
	ListCell	  *cell;

	foreach(cell, messages)
	{
		const Message *message = lfirst(cell);

		if (message->outcome.result != NULL)
			continue;
		if (decided == NULL)
			decided = message;
		else if ((decided->user == NULL) != (message->user == NULL))
			return list_truncate(messages, foreach_current_index(cell));
	}
	return messages;
}

/* Locks what the undecided messages need, in the one order; ids are locked. */
static void
lock_batch(Work *work, List *messages)
{
	ListCell *cell;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);

		if (message->outcome.result == NULL && message->user == NULL)
			work_want_order(work, message->order_id);
	}
	work_lock_orders(work);
	foreach(cell, messages)
	{
		Message *message = lfirst(cell);

		if (message->outcome.result == NULL && message->user == NULL)
			handler_want_levels(work, message);
	}
	work_read_levels(work);
	work_lock_levels(work);
}

/* Locks ids, orders and levels of messages that will be applied one by one. */
void
inbox_lock_messages(Work *work, List *messages)
{
	lock_ids(&work->call, messages);
	lock_batch(work, messages);
}

/* The name of a message's topic and key: what waits under it, queues. */
static char *
key_name(const Message *message)
{
	int	  length = VARSIZE_ANY_EXHDR(message->key);
	char *hex = palloc(length * 2 + 1);

	hex_encode(VARDATA_ANY(message->key), length, hex);
	hex[length * 2] = '\0';
	return name_of(message->topic, hex, "");
}

/* Whether the message must wait behind an earlier one of its key. */
static bool
must_queue(Call *call, const Message *message, const NameMap *waiting)
{
	if (message_has_key(message) && waiting->entries != NULL &&
		name_map_find(waiting, key_name(message)) != NULL)
		return true;
	return failed_must_queue(call, message);
}

/* Sets a message's outcome; false if the batch is to end before it. */
static bool
decide(Work *work, const InboxOptions *options, UserBatch *batch,
	   Message *message, const NameMap *waiting)
{
	if (message->outcome.result != NULL)
		return true;
	if (must_queue(&work->call, message, waiting))
	{
		message->outcome =
			(Outcome){.result = "waiting",
					  .reason = "an earlier message of its key waits",
					  .error_class = "queue"};
		return true;
	}
	if (message->user != NULL)
		return !user_batch_is_over(batch) &&
			   user_handler_apply(batch, options, message);
	message->outcome = handler_apply(work, message);
	return true;
}

/*
 * Applies the messages in turn, and writes what became of each.  Returns those
 * that were: a batch of users' handlers may end early.
 */
static List *
apply_batch(Work *work, const InboxOptions *options, List *messages)
{
	UserBatch batch = {.began_at = GetCurrentTimestamp()};
	NameMap	  waiting = {0};
	ListCell *cell;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);
		Outcome *outcome = &message->outcome;

		if (!decide(work, options, &batch, message, &waiting))
		{
			messages = list_truncate(messages, foreach_current_index(cell));
			break;
		}
		if (is_result(message, "waiting") && message_has_key(message))
			name_map_put(&waiting, key_name(message), message);
		if (is_result(message, "waiting") || is_result(message, "dead"))
			failed_store(&work->call, options, message, outcome);
		if (!message->known)
			inbox_insert(&work->call, message);
	}
	Assert(messages != NIL);
	partitions_move(&work->call, messages);
	return messages;
}

static void
prepare_all(const InboxOptions *options, List *messages)
{
	ListCell *cell;

	foreach(cell, messages)
	{
		CHECK_FOR_INTERRUPTS();
		inbox_prepare(options, lfirst(cell));
	}
}

/* ---- One by one ---- */

/* A message and, of one that was tried in vain, why. */
typedef struct Alone
{
	const InboxOptions *options;
	Message			   *message;
	const Careful	   *careful;  /* NULL: waits for its locks */
	const char		   *sqlstate; /* NULL: it is to be tried */
	const char		   *error;
} Alone;

/* A batch of one, also as a step of guard_call. */
static void
apply_alone(void *arg)
{
	Alone	*alone = arg;
	Message *message = alone->message;
	List	*one = list_make1(message);
	Work	 work;

	work_begin(&work, "relay_apply()");
	user_handlers_find(&work.call, one);
	inbox_prepare(alone->options, message);
	if (alone->careful != NULL)
		careful_wait(alone->careful, message);
	lock_ids(&work.call, one);
	find_duplicates(&work.call, one);
	if (message->outcome.result == NULL && alone->sqlstate != NULL)
	{
		message->attempts = 1;
		message->outcome = failed_classify(alone->options, message,
										   alone->sqlstate, alone->error);
	}
	lock_batch(&work, one);
	(void) apply_batch(&work, alone->options, one);
	work_end(&work);
}

/*
 * Applies the messages one after another; one that fails is tried again later.
 * Returns those that came to something.
 */
static List *
apply_one_by_one(const InboxOptions *options, List *messages)
{
	Careful	  careful;
	ListCell *cell;

	careful_begin(&careful);
	foreach(cell, messages)
	{
		Message	  *message = lfirst(cell);
		Message	   untried = *message;
		Alone	   alone = {options, message, &careful, NULL, NULL};
		ErrorData *failure;

		if (careful_is_over(&careful))
			return list_truncate(messages, foreach_current_index(cell));
		failure = guard_call(apply_alone, &alone);
		careful_note(&careful, message, failure);
		if (failure == NULL)
			continue;
		*message = untried;
		alone.sqlstate = unpack_sql_state(failure->sqlerrcode);
		alone.error = failed_reason(failure);
		apply_alone(&alone);
		CommandCounterIncrement();
	}
	return messages;
}

/* ---- The SQL functions ---- */

/* relay_apply(…): docs/relay-protocol.md */
Datum
pgstock_relay_apply(PG_FUNCTION_ARGS)
{
	InboxOptions options = inbox_options_arg(fcinfo, 7);
	List		*messages = inbox_messages_arg(fcinfo);
	Work		 work;

	work_begin(&work, "relay_apply()");
	user_handlers_find(&work.call, messages);
	messages = inbox_cut(messages);
	if (options.count_attempts && !attempts_record(&work.call, &messages))
	{
		work_end(&work);
		return inbox_return_started(fcinfo, messages);
	}
	if (options.careful && messages != NIL &&
		((Message *) linitial(messages))->user_handlers == NIL)
	{
		work_end(&work);
		return inbox_return(fcinfo, apply_one_by_one(&options, messages));
	}
	prepare_all(&options, messages);
	messages = inbox_cut_parsed(messages);
	find_duplicates_in_batch(messages);
	lock_ids(&work.call, messages);
	find_duplicates(&work.call, messages);
	lock_batch(&work, messages);
	if (messages != NIL)
		messages = apply_batch(&work, &options, messages);
	work_end(&work);
	return inbox_return(fcinfo, messages);
}

/* relay_apply_failed(…): one message that made its batch fail */
Datum
pgstock_relay_apply_failed(PG_FUNCTION_ARGS)
{
	InboxOptions options = inbox_options_arg(fcinfo, 7);
	List		*messages = inbox_messages_arg(fcinfo);
	char		*sqlstate = args_text(fcinfo, 8);
	char		*error = args_text(fcinfo, 9);

	if (list_length(messages) != 1 || sqlstate == NULL || error == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("one message, its SQLSTATE and its error are needed")));
	apply_alone(&(Alone){&options, linitial(messages), NULL, sqlstate, error});
	return inbox_return(fcinfo, messages);
}
