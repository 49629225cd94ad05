/*-------------------------------------------------------------------------
 *
 * inbox/batch_cut.c
 *	  Cuts a batch to the messages that may share a transaction.
 *
 * A batch is applied from its first message on, and the relay's next call
 * begins where this one has ended.  So each function returns a prefix, which
 * is never empty: a batch always makes progress.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "inbox/inbox.h"

/*
 * Before parsing: messages of topics with and without registered handlers do
 * not share a transaction, and there is a limit to the subtransactions in it.
 */
List *
batch_cut_by_kind(List *messages)
{
	bool	  registered = false;
	ListCell *cell;

	foreach(cell, messages)
	{
		const Message *message = lfirst(cell);
		int			   n = foreach_current_index(cell);

		if (n == 0)
			registered = message->try.topic->has_registered;
		else if (registered != message->try.topic->has_registered ||
				 (registered && n >= SAVEPOINTS_MAX))
			return list_truncate(messages, n);
	}
	Assert(!registered || list_length(messages) <= SAVEPOINTS_MAX);
	return messages;
}

/* Gives an isolated message a batch of its own. */
List *
batch_cut_isolated(List *messages)
{
	ListCell *cell;

	foreach(cell, messages)
	{
		const Message *message = lfirst(cell);

		if (message->try.isolated)
		{
			messages = list_truncate(messages,
									 Max(1, foreach_current_index(cell)));
			break;
		}
	}
	Assert(list_length(messages) <= 1 ||
		   !((const Message *) llast(messages))->try.isolated);
	return messages;
}

/* After parsing: a topic may have handlers of both kinds, by event type. */
List *
batch_cut_by_handler(List *messages)
{
	const Message *undecided = NULL;
	ListCell	  *cell;

	foreach(cell, messages)
	{
		const Message *message = lfirst(cell);

		if (message->outcome.kind != OUTCOME_NONE)
			continue;
		if (undecided == NULL)
			undecided = message;
		else if ((undecided->try.registered == NULL) !=
				 (message->try.registered == NULL))
		{
			/* the first undecided message is before this one */
			Assert(foreach_current_index(cell) > 0);
			return list_truncate(messages, foreach_current_index(cell));
		}
	}
	return messages;
}
