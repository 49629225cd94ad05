/*-------------------------------------------------------------------------
 *
 * inbox/apply.c
 *	  Applies a batch of messages from Kafka in one transaction.
 *
 * Inbox rows, effects, their events and the next offset of each partition are
 * one commit.  The batch takes the locks of all its messages in the one order
 * (batch_lock.c); then each message is applied in turn, in memory.  No message
 * can make the batch fail by what it holds: it is parsed first, and the
 * built-in handlers look before they act.
 *
 * A batch ends early where a message must not share its transaction
 * (batch_cut.c); the relay's next call begins there.
 *
 * A message whose key has an earlier one waiting waits behind it; all others
 * are applied.
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

/* ---- The batch ---- */

/* Whether none of a batch's messages has a registered handler to choose. */
static bool
apply_is_builtin(const List *messages)
{
	return messages != NIL &&
		   !((const Message *) linitial(messages))->try.topic->has_registered;
}

/*
 * Whether the message must wait behind an earlier one of its key, of this
 * batch or of those before.
 */
static bool
apply_must_queue(Call *call, const Message *message, const NameMap *waiting)
{
	if (record_has_key(message->record) && waiting->entries != NULL &&
		name_map_find(waiting, key_queue_name(message->record)) != NULL)
		return true;
	return key_queue_lock_if_behind(call, message);
}

/* Sets a message's outcome; false if the batch is to end before it. */
static bool
apply_message(Work *work, const InboxOptions *options, HandlerBatch *batch,
			  Message *message, const NameMap *waiting)
{
	if (message->outcome.kind != OUTCOME_NONE)
		return true;
	if (apply_must_queue(&work->call, message, waiting))
	{
		message->outcome = (Outcome){.kind = OUTCOME_WAITING,
									 .reason = outcome_reason_text(
										 REASON_KEY_WAITS),
									 .error_class = ERROR_CLASS_QUEUE};
		return true;
	}
	if (message->try.registered != NULL)
		return !registered_handler_batch_is_over(batch) &&
			   registered_handler_apply(batch, options, message);
	message->outcome = builtin_handler_apply(work, message->try.builtin,
											 &message->parsed);
	return true;
}

/* Writes what became of a message. */
static void
apply_store(Call *call, const InboxOptions *options, Message *message,
			NameMap *waiting)
{
	OutcomeKind kind = message->outcome.kind;

	Assert(!message->outcome.has_row || kind == OUTCOME_DUPLICATE);
	Assert(kind != OUTCOME_NONE && kind != OUTCOME_STARTED);
	if ((kind == OUTCOME_WAITING || message->outcome.retries) &&
		record_has_key(message->record))
		name_map_put(waiting, key_queue_name(message->record), message);
	if (kind == OUTCOME_WAITING || kind == OUTCOME_DEAD)
		failed_event_store(call, options, message);
	if (!message->outcome.has_row)
		inbox_row_insert(call, message);
}

/*
 * Applies the messages in turn, and writes what became of each.  Returns those
 * that were: a batch of registered handlers may end early.
 */
static List *
apply_batch(Work *work, const InboxOptions *options, List *messages)
{
	HandlerBatch batch = {.began_at = GetCurrentTimestamp()};
	NameMap		 waiting = {0};
	ListCell	*cell;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);

		if (!apply_message(work, options, &batch, message, &waiting))
		{
			messages = list_truncate(messages, foreach_current_index(cell));
			break;
		}
		apply_store(&work->call, options, message, &waiting);
	}
	/* the first message never ends a batch: else the relay would not advance */
	Assert(messages != NIL);
	Assert(batch.calls == 0 || !apply_is_builtin(messages));
	offset_advance(&work->call, messages);
	return messages;
}

/* ---- One by one ---- */

/* A batch of one message, also as a step of savepoint_run. */
typedef struct SingleMessage
{
	const InboxOptions *options;
	Message			   *message;
	const LockPatience *patience; /* NULL: waits for its locks */
	const char		   *sqlstate; /* NULL: the message is to be tried */
	const char		   *error;	  /* else how its try has failed */
} SingleMessage;

static void
apply_single(void *arg)
{
	SingleMessage *single = arg;
	Message		  *message = single->message;
	List		  *one = list_make1(message);
	Work		   work;

	Assert((single->sqlstate == NULL) == (single->error == NULL));
	work_begin(&work, "relay_apply()");
	binding_load(&work.call, one);
	prepare_message(single->options, message);
	if (single->patience != NULL)
		lock_patience_set_timeout(single->patience, &message->parsed);
	batch_lock_ids(&work.call, one);
	inbox_row_find_duplicates(&work.call, one);
	if (message->outcome.kind == OUTCOME_NONE && single->sqlstate != NULL)
	{
		message->try.attempts = 1;
		message->outcome = failure_outcome(single->options, 1, single->sqlstate,
										   single->error);
	}
	batch_lock_stock(&work, one);
	(void) apply_batch(&work, single->options, one);
	work_end(&work);
}

/*
 * Undoes a try whose subtransaction was rolled back.  What remains is the
 * record, and what is on record of earlier tries.
 */
static void
apply_undo_try(Message *message)
{
	Try *try = &message->try;

	message->parsed = (Parsed){0};
	message->failed = (FailedEvent){0};
	message->outcome = (Outcome){0};
	*try = (Try){.unfinished = try->unfinished,
				 .isolated = try->isolated,
				 .recorded = try->recorded};
}

/*
 * Applies the messages one by one; one that fails waits for another try.
 * Returns those that were applied or failed.
 */
static List *
apply_one_by_one(const InboxOptions *options, List *messages)
{
	LockPatience patience;
	ListCell	*cell;

	lock_patience_begin(&patience);
	foreach(cell, messages)
	{
		Message		 *message = lfirst(cell);
		SingleMessage single = {options, message, &patience, NULL, NULL};
		ErrorData	 *error;

		if (lock_patience_is_over(&patience))
			return list_truncate(messages, foreach_current_index(cell));
		Assert(message->failed.id == 0);
		error = savepoint_run(apply_single, &single);
		lock_patience_note(&patience, &message->parsed, error);
		if (error == NULL)
			continue;
		apply_undo_try(message);
		single.sqlstate = unpack_sql_state(error->sqlerrcode);
		single.error = failure_reason(error);
		apply_single(&single);
		CommandCounterIncrement();
	}
	return messages;
}

/* ---- The SQL functions ---- */

static void
apply_prepare_all(const InboxOptions *options, List *messages)
{
	ListCell *cell;

	foreach(cell, messages)
	{
		CHECK_FOR_INTERRUPTS();
		prepare_message(options, lfirst(cell));
	}
}

/* relay_apply(…): docs/relay-protocol.md */
Datum
pgstock_relay_apply(PG_FUNCTION_ARGS)
{
	InboxOptions options = batch_options_arg(fcinfo, 7);
	List		*messages = batch_messages_arg(fcinfo);
	Work		 work;

	work_begin(&work, "relay_apply()");
	binding_load(&work.call, messages);
	messages = batch_cut_by_kind(messages);
	if (options.count_attempts && !attempt_record_batch(&work.call, &messages))
	{
		work_end(&work);
		return batch_return_started(fcinfo, messages);
	}
	if (options.one_by_one && apply_is_builtin(messages))
	{
		work_end(&work);
		return batch_return(fcinfo, apply_one_by_one(&options, messages));
	}
	apply_prepare_all(&options, messages);
	messages = batch_cut_by_handler(messages);
	inbox_row_find_duplicates_in_batch(messages);
	batch_lock_ids(&work.call, messages);
	inbox_row_find_duplicates(&work.call, messages);
	batch_lock_stock(&work, messages);
	if (messages != NIL)
		messages = apply_batch(&work, &options, messages);
	work_end(&work);
	return batch_return(fcinfo, messages);
}

/* relay_apply_failed(…): one message that made its batch fail */
Datum
pgstock_relay_apply_failed(PG_FUNCTION_ARGS)
{
	InboxOptions  options = batch_options_arg(fcinfo, 7);
	List		 *messages = batch_messages_arg(fcinfo);
	SingleMessage single = {.options = &options,
							.sqlstate = args_text(fcinfo, 8),
							.error = args_text(fcinfo, 9)};

	if (list_length(messages) != 1 || single.sqlstate == NULL ||
		single.error == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("exactly one message, its SQLSTATE and its error "
						"message are required")));
	single.message = linitial(messages);
	apply_single(&single);
	return batch_return(fcinfo, messages);
}
