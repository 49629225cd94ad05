/*-------------------------------------------------------------------------
 *
 * inbox/batch_lock.c
 *	  Takes the locks of a batch of messages, in the one order: the ids, then
 *	  the orders, then the levels.
 *
 * The ids are locked so that of two batches with the same event the second one
 * waits, and finds the row of the first.  Orders and levels are only locked
 * for messages that a built-in handler is to apply.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "inbox/inbox.h"

static int
batch_lock_compare(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* Locks the ids of messages; then the snapshot shows the rows of others. */
void
batch_lock_ids(Call *call, List *messages)
{
	List	 *names = NIL;
	ListCell *cell;

	foreach(cell, messages)
	{
		const Message *message = lfirst(cell);

		names = lappend(names, message_id_text(&message->parsed));
	}
	list_sort(names, batch_lock_compare);
	foreach(cell, names)
		lock_acquire(call, LOCK_MESSAGE_ID, lfirst(cell));
	call_refresh_snapshot();
}

/* Whether a built-in handler will apply the message. */
static bool
batch_lock_is_needed(const Message *message)
{
	return message->outcome.kind == OUTCOME_NONE &&
		   message->try.registered == NULL;
}

/* Locks the orders and levels that the undecided messages need. */
void
batch_lock_stock(Work *work, List *messages)
{
	ListCell *cell;

	foreach(cell, messages)
	{
		const Message *message = lfirst(cell);
		Order		  *order;

		if (!batch_lock_is_needed(message))
			continue;
		Assert(message->try.builtin != NULL && message->parsed.poison == NULL);
		order = work_request_order(work, message->parsed.order_id);
		if (!message->try.builtin->opens_order)
			order_request_history(order);
	}
	work_lock_orders(work);
	foreach(cell, messages)
	{
		const Message *message = lfirst(cell);

		if (batch_lock_is_needed(message))
			builtin_handler_request_levels(work, &message->parsed);
	}
	work_read_levels(work);
	work_lock_levels(work);
}
