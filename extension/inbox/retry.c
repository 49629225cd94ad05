/*-------------------------------------------------------------------------
 *
 * inbox/retry.c
 *	  Another try for messages that wait.
 *
 * What all of them need is locked first, in the one order.  Then each try is a
 * subtransaction, so that one that fails again costs nobody else anything.
 *
 * What fails at COMMIT is no try's error: a foreign table that a handler wrote
 * to may refuse there.  So a session remembers what it tried in a transaction
 * that did not commit: each of these is then tried alone, and if that does not
 * commit either, it has failed.
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

/* ---- Transactions that did not commit ---- */

/* What handlers of users were called for in this session's last try. */
typedef struct LastTry
{
	int	  count;
	int64 ids[RETRY_ROWS_MAX];
	bool  open;	  /* its transaction has not ended */
	bool  failed; /* it has, without its commit */
} LastTry;

static LastTry last_try;

static void
on_transaction_end(XactEvent event, void *arg)
{
	if (!last_try.open ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE &&
		 event != XACT_EVENT_ABORT))
		return;
	last_try.open = false;
	last_try.failed = event == XACT_EVENT_ABORT;
}

static void
watch_transactions(void)
{
	static bool watching = false;

	if (!watching)
		RegisterXactCallback(on_transaction_end, NULL);
	watching = true;
}

static bool
did_not_commit(const LastTry *last, const Message *message)
{
	for (int i = 0; last->failed && i < last->count; i++)
	{
		if (last->ids[i] == message->failed_id)
			return true;
	}
	return false;
}

/* What was in a transaction that did not commit is tried alone. */
static void
part_uncommitted(List *due)
{
	ListCell *cell;

	foreach(cell, due)
	{
		Message *message = lfirst(cell);

		message->alone |= did_not_commit(&last_try, message);
	}
}

/* ---- One try ---- */

/* What an order that never came means to the message that waits for it. */
static void
give_up_waiting(Message *message)
{
	Outcome *outcome = &message->outcome;

	if (strcmp(message->topic, "payment-success") != 0)
	{
		*outcome = (Outcome){.result = "skipped", .reason = "unknown_order"};
		return;
	}
	outcome->result = "dead";
	outcome->reason = "its order did not arrive in time";
}

/* Applies a message whose row is locked, if its parsing has not decided. */
static void
try_message(Work *work, const InboxOptions *options, Message *message)
{
	if (message->outcome.result != NULL)
		return;
	work_want_order(work, message->order_id);
	work_lock_orders(work);
	handler_want_levels(work, message);
	work_read_levels(work);
	work_lock_levels(work);
	message->outcome = handler_apply(work, message);
	if (strcmp(message->outcome.result, "waiting") == 0 &&
		message->first_failed_at + options->order_wait_ms * 1000 <=
			work->call.now)
		give_up_waiting(message);
}

/* Writes how the try ended; one that waits on keeps its place. */
static void
store_try(Call *call, const InboxOptions *options, Message *message)
{
	failed_store(call, options, message, &message->outcome);
	if (strcmp(message->outcome.result, "waiting") == 0)
		return;
	inbox_finish(call, message);
	failed_wake_next(call, message);
}

/*
 * One try, or its failure, in a unit of work of its own.  False if the message
 * is not to be tried now: another session has ended it, or it must queue.
 */
static bool
retry_message(const InboxOptions *options, Message *message,
			  const ErrorData *failure)
{
	Work work;
	bool mine;

	work_begin(&work, "relay_retry()");
	if (failed_must_queue(&work.call, message))
	{
		failed_queue(&work.call, message);
		work_end(&work);
		return false;
	}
	mine = failed_lock(&work.call, message);
	if (mine && failure == NULL)
		try_message(&work, options, message);
	else if (mine)
	{
		message->attempts++;
		message->outcome = failed_classify(options, message,
										   unpack_sql_state(
											   failure->sqlerrcode),
										   failed_reason(failure));
	}
	if (mine)
		store_try(&work.call, options, message);
	work_end(&work);
	return mine;
}

/* A try as a step of guard_call. */
typedef struct Try
{
	const InboxOptions *options;
	Message			   *message;
	bool				mine;
} Try;

static void
retry_step(void *arg)
{
	Try *step = arg;

	step->mine = retry_message(step->options, step->message, NULL);
}

/*
 * retry_message, with an error of its own becoming the message's failure.  One
 * that may pass is the call's, which the relay makes again; if it does not
 * pass, the relay comes carefully.
 */
static bool
retry_guarded(const InboxOptions *options, Careful *careful, Message *message)
{
	Try		   step = {options, message, false};
	ErrorData *failure;

	if (options->careful)
		careful_wait(careful, message);
	failure = guard_call(retry_step, &step);
	careful_note(careful, message, failure);
	if (failure == NULL)
		return step.mine;
	if (failed_is_transient(failure) && !options->careful)
		ReThrowError(failure);
	return retry_message(options, message, failure);
}

/* A try of a user's handler as a step of guard_call. */
typedef struct UserTry
{
	const InboxOptions *options;
	UserBatch		   *batch;
	Message			   *message;
	bool				mine;
	bool				go_on; /* false: the call is to end before it */
} UserTry;

static void
retry_user_step(void *arg)
{
	UserTry *step = arg;
	Message *message = step->message;
	Call	 call;

	call_begin(&call, "relay_retry()");
	if (failed_must_queue(&call, message))
		failed_queue(&call, message);
	else
		step->mine = failed_lock(&call, message);
	if (step->mine && message->outcome.result == NULL)
	{
		step->go_on = !user_batch_is_over(step->batch) &&
					  user_handler_apply(step->batch, step->options, message);
		if (step->go_on)
			failed_lock_again(&call, message);
	}
	if (step->mine && step->go_on)
		store_try(&call, step->options, message);
	call_end(&call);
}

/*
 * The same for a handler of a user's, which has a subtransaction of its own:
 * here it is what is written of the try that may fail.  Then the handler has
 * done nothing, and that error is its failure: no message can make each call
 * fail and so stop the others.  False if the call is to end before the message.
 */
static bool
retry_user(const InboxOptions *options, UserBatch *batch, Message *message,
		   List **tried)
{
	Message	   untried = *message;
	UserBatch  before = *batch;
	UserTry	   step = {options, batch, message, false, true};
	ErrorData *failure = guard_call(retry_user_step, &step);

	if (failure != NULL)
	{
		if (failed_is_transient(failure))
			ReThrowError(failure);
		*message = untried;
		batch->succeeded = before.succeeded;
		step.go_on = true;
		step.mine = retry_message(options, message, failure);
	}
	batch->called++; /* two subtransactions */
	if (step.mine && step.go_on)
		*tried = lappend(*tried, message);
	return step.go_on;
}

/*
 * The messages that are due, as many as may share a transaction, parsed, and
 * all that they need locked: carefully, each takes its own locks.  False if
 * tries were put on record instead.
 */
static bool
lock_due_messages(const InboxOptions *options, int max_rows, List **due)
{
	Work	  work;
	bool	  recorded;
	ListCell *cell;

	work_begin(&work, "relay_retry()");
	*due = failed_due(&work.call, max_rows);
	user_handlers_find(&work.call, *due);
	part_uncommitted(*due);
	*due = inbox_cut(*due);
	/* before they are put on record: what is cut off is not tried */
	*due = inbox_cut_alone(*due);
	recorded = !options->count_attempts ||
			   failed_record_tries(&work.call, *due);
	if (recorded)
	{
		foreach(cell, *due)
			inbox_prepare(options, lfirst(cell));
		*due = inbox_cut_parsed(*due);
		if (!options->careful)
			inbox_lock_messages(&work, *due);
	}
	work_end(&work);
	return recorded;
}

/*
 * A handler of a user's, unless the message was alone in a transaction that did
 * not commit.  False if the call is to end before the message.
 */
static bool
retry_user_or_fail(const InboxOptions *options, const LastTry *before,
				   UserBatch *batch, Message *message, List **tried)
{
	ErrorData failure = {
		.sqlerrcode = ERRCODE_TRANSACTION_ROLLBACK,
		.message = "the transaction of its try failed at COMMIT; the "
				   "server's log says why",
	};

	if (before->count != 1 || !did_not_commit(before, message))
	{
		last_try.ids[last_try.count++] = message->failed_id;
		return retry_user(options, batch, message, tried);
	}
	if (retry_message(options, message, &failure))
		*tried = lappend(*tried, message);
	return true;
}

/* relay_retry(max_rows int, options jsonb): docs/relay-protocol.md */
Datum
pgstock_relay_retry(PG_FUNCTION_ARGS)
{
	int			 max_rows = PG_ARGISNULL(0) ? RETRY_ROWS_MAX
											: Min(PG_GETARG_INT32(0), RETRY_ROWS_MAX);
	InboxOptions options = inbox_options_arg(fcinfo, 1);
	UserBatch	 batch = {.began_at = GetCurrentTimestamp()};
	Careful		 careful;
	LastTry		 before;
	List		*due;
	List		*tried = NIL;
	ListCell	*cell;

	watch_transactions();
	careful_begin(&careful);
	if (!lock_due_messages(&options, max_rows, &due))
		return inbox_return_started(fcinfo, due);
	before = last_try;
	last_try = (LastTry){0};
	foreach(cell, due)
	{
		Message *message = lfirst(cell);

		if (options.careful && careful_is_over(&careful))
			break;
		if (message->user != NULL)
		{
			if (!retry_user_or_fail(&options, &before, &batch, message, &tried))
				break;
		}
		else if (retry_guarded(&options, &careful, message))
			tried = lappend(tried, message);
	}
	last_try.open = true;
	return inbox_return(fcinfo, tried);
}
