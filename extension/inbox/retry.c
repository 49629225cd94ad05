/*-------------------------------------------------------------------------
 *
 * inbox/retry.c
 *	  Another try for messages that wait.
 *
 * The locks of all of them are taken first, in the one order.  Then each try is
 * a subtransaction, so that one which fails again does not undo the others.
 *
 * An error at COMMIT is not the error of a try: a foreign table that a handler
 * wrote to may refuse there.  So a session remembers the messages that it tried
 * in a transaction that did not commit: each of these is then tried in a
 * transaction of its own, and if that does not commit either, it has failed.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "inbox/inbox.h"

PG_FUNCTION_INFO_V1(pgstock_relay_retry);

#define RETRY_ROWS_MAX 50

StaticAssertDecl(RETRY_ROWS_MAX <= SAVEPOINTS_MAX,
				 "each try is a subtransaction");

/* ---- Transactions that did not commit ---- */

/* The messages whose registered handlers this session called last. */
typedef struct LastTry
{
	int	  count;
	int64 ids[RETRY_ROWS_MAX];
	bool  open;	  /* its transaction has not ended */
	bool  failed; /* it has ended without its commit */
} LastTry;

static LastTry last_try;

static void
retry_on_transaction_end(XactEvent event, void *arg)
{
	if (!last_try.open ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE &&
		 event != XACT_EVENT_ABORT))
		return;
	last_try.open = false;
	last_try.failed = event == XACT_EVENT_ABORT;
}

static void
retry_watch_transactions(void)
{
	static bool watching = false;

	if (!watching)
		RegisterXactCallback(retry_on_transaction_end, NULL);
	watching = true;
}

static bool
retry_did_not_commit(const LastTry *last, const Message *message)
{
	for (int i = 0; last->failed && i < last->count; i++)
	{
		if (last->ids[i] == message->failed.id)
			return true;
	}
	return false;
}

/* Isolates the messages whose transaction did not commit. */
static void
retry_isolate_uncommitted(List *due)
{
	ListCell *cell;

	foreach(cell, due)
	{
		Message *message = lfirst(cell);

		message->try.isolated |= retry_did_not_commit(&last_try, message);
	}
}

/* ---- One try ---- */

/* Gives a message up that has waited long enough for its order. */
static void
retry_end_wait(const Call *call, const InboxOptions *options, Message *message)
{
	TimestampTz ends_at = message->failed.first_failed_at +
						  order_wait_ms(options, message) * 1000;

	if (message->outcome.error_class == ERROR_CLASS_ORDER &&
		ends_at <= call->now)
		message->outcome = order_wait_give_up(message);
}

/* Applies a message whose row is locked, unless parsing has decided. */
static void
retry_apply(Work *work, const InboxOptions *options, Message *message)
{
	if (message->outcome.kind != OUTCOME_NONE)
		return;
	Assert(message->try.registered == NULL);
	batch_lock_stock(work, list_make1(message));
	message->outcome = builtin_handler_apply(work, message->try.builtin,
											 &message->parsed);
	retry_end_wait(&work->call, options, message);
}

/* Writes how the try has ended; one that waits on keeps its inbox row. */
static void
retry_store(Call *call, const InboxOptions *options, Message *message)
{
	Assert(message->outcome.kind != OUTCOME_NONE &&
		   message->outcome.kind != OUTCOME_DUPLICATE);
	failed_event_store(call, options, message);
	if (message->outcome.kind == OUTCOME_WAITING)
		return;
	inbox_row_update(call, message);
	key_queue_wake_next(call, message);
}

/*
 * Suspends a message that is behind an earlier one of its key.  A call of its
 * own: the key may be locked before the message's order.  As a rule this
 * transaction has locked that order already (retry_lock_due); where messages
 * are tried one by one, lock_timeout ends a deadlock.
 */
static bool
retry_suspend_if_behind(Message *message)
{
	Call call;
	bool is_behind;

	call_begin(&call, "relay_retry()");
	is_behind = key_queue_suspend_if_behind(&call, message);
	call_end(&call);
	return is_behind;
}

/*
 * One try, or its failure if there is an error, in a unit of work of its own.
 * False: the message is not to be tried now, for another session has ended it
 * or it must queue.
 */
static bool
retry_message(const InboxOptions *options, Message *message,
			  const ErrorData *error)
{
	Work work;
	bool is_due;

	if (retry_suspend_if_behind(message))
		return false;
	work_begin(&work, "relay_retry()");
	is_due = failed_event_lock_due(&work.call, message);
	if (is_due && error == NULL)
		retry_apply(&work, options, message);
	else if (is_due)
	{
		const char *sqlstate = unpack_sql_state(error->sqlerrcode);

		message->try.attempts++;
		message->outcome = failure_outcome(options, message->try.attempts,
										   sqlstate, failure_reason(error));
	}
	if (is_due)
		retry_store(&work.call, options, message);
	work_end(&work);
	return is_due;
}

/* A try as a step of savepoint_run. */
typedef struct RetryStep
{
	const InboxOptions *options;
	Message			   *message;
	bool				tried;
} RetryStep;

static void
retry_step(void *arg)
{
	RetryStep *step = arg;

	step->tried = retry_message(step->options, step->message, NULL);
}

/*
 * Tries a message by a built-in handler.  A transient error fails the whole
 * call, which the relay makes again, later with one_by_one set; any other error
 * is the message's failure, as is a transient one then.
 */
static bool
retry_builtin(const InboxOptions *options, LockPatience *patience,
			  Message *message)
{
	RetryStep  step = {options, message, false};
	ErrorData *error;

	if (options->one_by_one)
		lock_patience_set_timeout(patience, &message->parsed);
	error = savepoint_run(retry_step, &step);
	lock_patience_note(patience, &message->parsed, error);
	if (error == NULL)
		return step.tried;
	if (failure_is_transient(error) && !options->one_by_one)
		ReThrowError(error);
	return retry_message(options, message, error);
}

/* ---- Registered handlers ---- */

/* A try by a registered handler as a step of savepoint_run. */
typedef struct UserStep
{
	const InboxOptions *options;
	HandlerBatch	   *batch;
	Message			   *message;
	bool				tried;
	bool				ends_call; /* before this message */
} UserStep;

static void
retry_registered_step(void *arg)
{
	UserStep *step = arg;
	Message	 *message = step->message;
	Call	  call;

	call_begin(&call, "relay_retry()");
	step->tried = !key_queue_suspend_if_behind(&call, message) &&
				  failed_event_lock_due(&call, message);
	if (step->tried && message->outcome.kind == OUTCOME_NONE)
	{
		step->ends_call = registered_handler_batch_is_over(step->batch) ||
						  !registered_handler_apply(step->batch, step->options,
													message);
		if (!step->ends_call)
		{
			failed_event_lock_again(&call, message);
			retry_end_wait(&call, step->options, message);
		}
	}
	if (step->tried && !step->ends_call)
		retry_store(&call, step->options, message);
	call_end(&call);
}

/*
 * Tries a message by its registered handler, which has a subtransaction of its
 * own.  The step around it is undone if writing the outcome fails: then the
 * handler has done nothing, and that error is its failure, so that no message
 * can make each call fail and block the others.  False if the call is to end
 * before the message.
 */
static bool
retry_registered(const InboxOptions *options, HandlerBatch *batch,
				 Message *message, List **tried)
{
	FailedEvent row = message->failed;
	bool		succeeded = batch->succeeded;
	UserStep	step = {options, batch, message, false, false};
	ErrorData  *error = savepoint_run(retry_registered_step, &step);

	Assert(row.id != 0);
	if (error != NULL)
	{
		if (failure_is_transient(error))
			ReThrowError(error);
		message->failed = row;
		message->outcome = (Outcome){0};
		batch->succeeded = succeeded;
		step.ends_call = false;
		step.tried = retry_message(options, message, error);
	}
	batch->calls++; /* two subtransactions */
	if (step.tried && !step.ends_call)
		*tried = lappend(*tried, message);
	return !step.ends_call;
}

/*
 * The same; but a message that was by itself in a transaction that did not
 * commit has failed by that.
 */
static bool
retry_registered_or_fail(const InboxOptions *options, const LastTry *before,
						 HandlerBatch *batch, Message *message, List **tried)
{
	ErrorData error = {
		.sqlerrcode = ERRCODE_TRANSACTION_ROLLBACK,
		.message = "the transaction of its try failed at COMMIT; the "
				   "server's log says why",
	};

	if (before->count != 1 || !retry_did_not_commit(before, message))
	{
		Assert(last_try.count < RETRY_ROWS_MAX);
		last_try.ids[last_try.count++] = message->failed.id;
		return retry_registered(options, batch, message, tried);
	}
	if (retry_message(options, message, &error))
		*tried = lappend(*tried, message);
	return true;
}

/* ---- The SQL function ---- */

/*
 * Sets the messages that are due, as many as may share a transaction, parsed,
 * with all their locks taken unless each is to take its own.  False: tries
 * were recorded instead.
 */
static bool
retry_lock_due(const InboxOptions *options, int max_rows, List **due)
{
	Work	  work;
	bool	  recorded;
	ListCell *cell;

	work_begin(&work, "relay_retry()");
	*due = failed_event_list_due(&work.call, max_rows);
	binding_load(&work.call, *due);
	retry_isolate_uncommitted(*due);
	*due = batch_cut_by_kind(*due);
	/* before they are recorded: a message that is cut off is not tried */
	*due = batch_cut_isolated(*due);
	recorded = !options->count_attempts ||
			   failed_event_record_tries(&work.call, *due);
	if (recorded)
	{
		foreach(cell, *due)
			prepare_message(options, lfirst(cell));
		*due = batch_cut_by_handler(*due);
		if (!options->one_by_one)
		{
			batch_lock_ids(&work.call, *due);
			batch_lock_stock(&work, *due);
		}
	}
	work_end(&work);
	return recorded;
}

/* relay_retry(max_rows int, options jsonb): docs/relay-protocol.md */
Datum
pgstock_relay_retry(PG_FUNCTION_ARGS)
{
	int max_rows = PG_ARGISNULL(0) ? RETRY_ROWS_MAX : PG_GETARG_INT32(0);
	InboxOptions options = batch_options_arg(fcinfo, 1);
	HandlerBatch batch = {.began_at = GetCurrentTimestamp()};
	LockPatience patience;
	LastTry		 before;
	List		*due;
	List		*tried = NIL;
	ListCell	*cell;

	retry_watch_transactions();
	lock_patience_begin(&patience);
	if (!retry_lock_due(&options, Min(max_rows, RETRY_ROWS_MAX), &due))
		return batch_return_started(fcinfo, due);
	before = last_try;
	last_try = (LastTry){0};
	foreach(cell, due)
	{
		Message *message = lfirst(cell);

		if (options.one_by_one && lock_patience_is_over(&patience))
			break;
		if (message->try.registered != NULL)
		{
			if (!retry_registered_or_fail(&options, &before, &batch, message,
										  &tried))
				break;
		}
		else if (retry_builtin(&options, &patience, message))
			tried = lappend(tried, message);
	}
	last_try.open = true;
	return batch_return(fcinfo, tried);
}
