/*-------------------------------------------------------------------------
 *
 * retry.c
 *	  Another try for messages that wait.
 *
 * Each try is a subtransaction, so that one that fails again costs nobody else
 * anything; few enough to a transaction that they slow nobody down (beyond 64
 * subtransactions every snapshot in the cluster does more work).
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "pgstock.h"

PG_FUNCTION_INFO_V1(pgstock_relay_retry);

#define RETRY_ROWS_MAX 50

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

/* Applies a message whose row is locked. */
static void
try_message(Work *work, const InboxOptions *options, Message *message)
{
	message->wants_lines = handler_find(message->topic)->wants_lines;
	message_parse(message);
	if (message->poison != NULL)
	{
		/* It was not when it began to wait; a setting has changed. */
		message->outcome = (Outcome){.result = "dead",
									 .reason = message->poison,
									 .error_class = "poison"};
		return;
	}
	work_want_order(work, message->order_id);
	work_lock_orders(work);
	handler_want_levels(work, message);
	work_read_levels(work);
	work_lock_levels(work);
	message->outcome = handler_apply(work, message);
	if (strcmp(message->outcome.result, "waiting") == 0 &&
		message->first_failed_at + options->order_wait_ms * 1000 <= work->now)
		give_up_waiting(message);
}

/* Writes how the try ended; a message that waits on keeps its inbox row. */
static void
store_try(Work *work, const InboxOptions *options, Message *message)
{
	failed_store(work, options, message, &message->outcome);
	if (strcmp(message->outcome.result, "waiting") != 0)
		inbox_finish(work, message);
	refused_write(work);
}

/* One try, or its failure, in a unit of work of its own. */
static bool
retry_message(const InboxOptions *options, Message *message,
			  const ErrorData *failure)
{
	Work work;
	bool mine;

	work_begin(&work, "relay_retry()");
	inbox_lock_id(message->event_id);
	work_refresh_snapshot();
	mine = failed_lock(&work, message) && !failed_key_waits(&work, message);
	if (mine)
	{
		if (failure == NULL)
			try_message(&work, options, message);
		else
		{
			message->attempts++;
			message->outcome = failed_classify(options, message,
											   unpack_sql_state(
												   failure->sqlerrcode),
											   failure->message);
		}
		store_try(&work, options, message);
	}
	work_end(&work);
	return mine;
}

/* retry_message, with an error of its own becoming the message's failure. */
static bool
retry_guarded(const InboxOptions *options, Message *message)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile failure = NULL;
	volatile bool mine = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		mine = retry_message(options, message, NULL);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		failure = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	if (failure == NULL)
		return mine;
	/* The call was cancelled or the server is in trouble: not its fault. */
	if (ERRCODE_TO_CATEGORY(failure->sqlerrcode) ==
			ERRCODE_OPERATOR_INTERVENTION ||
		ERRCODE_TO_CATEGORY(failure->sqlerrcode) ==
			ERRCODE_INSUFFICIENT_RESOURCES)
		ReThrowError(failure);
	return retry_message(options, message, failure);
}

/* relay_retry(max_rows int, options jsonb): docs/relay-protocol.md */
Datum
pgstock_relay_retry(PG_FUNCTION_ARGS)
{
	int			 max_rows = PG_ARGISNULL(0) ? RETRY_ROWS_MAX
											: Min(PG_GETARG_INT32(0), RETRY_ROWS_MAX);
	InboxOptions options = inbox_options(PG_GETARG_JSONB_P(1));
	List		*tried = NIL;
	List		*due;
	ListCell	*cell;
	Work		 work;

	work_begin(&work, "relay_retry()");
	due = failed_due(&work, max_rows);
	work_end(&work);
	foreach(cell, due)
	{
		if (retry_guarded(&options, lfirst(cell)))
			tried = lappend(tried, lfirst(cell));
	}
	return inbox_return(fcinfo, tried);
}
