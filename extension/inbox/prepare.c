/*-------------------------------------------------------------------------
 *
 * inbox/prepare.c
 *	  Parses a message, chooses its handler, and decides what needs no look at
 *	  stock.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "inbox/inbox.h"

/*
 * When a message happened that has no time: one that waited, no later than it
 * failed.
 */
static TimestampTz
prepare_default_time(const Message *message)
{
	if (message->failed.id != 0)
		return message->failed.first_failed_at;
	return GetCurrentTimestamp();
}

/*
 * Parses a message and sets the handler that is chosen.  False: it has none.
 * A message that is broken may be of a type that has one.
 */
static bool
prepare_parse(Message *message)
{
	Parsed		  *parsed = &message->parsed;
	Try			  *try = &message->try;
	const Binding *binding = message_parse(message->record, try->topic,
										   prepare_default_time(message),
										   parsed);

	try->binding = binding;
	try->registered = binding ? binding->registered : NULL;
	try->builtin = binding ? binding->builtin : NULL;
	return binding != NULL ||
		   (try->topic->is_bound && parsed->event_type == NULL &&
			parsed->poison != NULL);
}

/*
 * Whether the message's handler is "ignore": a broken message could be of a
 * type that has another one.
 */
static bool
prepare_is_ignored(const Message *message)
{
	const Try	 *try = &message->try;
	const Parsed *parsed = &message->parsed;

	return try->builtin != NULL && try->builtin->apply == NULL &&
		   (parsed->poison == NULL || parsed->event_type != NULL ||
			!try->topic->has_types);
}

/*
 * Prepares a message: sets its fields and handler, and its outcome if it has
 * none to call, is poison or has been tried too often.
 */
void
prepare_message(const InboxOptions *options, Message *message)
{
	Try *try = &message->try;
	int	 limit = attempt_max(options) - try->attempts;

	Assert(message->outcome.kind == OUTCOME_NONE);
	if (try->isolated && try->unfinished >= limit)
	{
		/* Parsing it is tried once, for the archive's sake. */
		if (try->unfinished == limit)
			(void) prepare_parse(message);
		else
			message_parse_headers(message->record, &message->parsed);
		message->outcome = attempt_exhausted(try->unfinished);
	}
	else if (!prepare_parse(message))
		message->outcome = outcome_skipped(REASON_NO_HANDLER);
	else if (prepare_is_ignored(message))
		message->outcome = outcome_skipped(REASON_IGNORED);
	else if (message->parsed.poison != NULL)
	{
		try->attempts = 1;
		message->outcome = outcome_dead(ERROR_CLASS_POISON,
										message->parsed.poison);
	}
	else if (message->parsed.skip != REASON_NONE)
		message->outcome = outcome_skipped(message->parsed.skip);
	Assert(message->parsed.event_id != NULL);
	Assert(message->outcome.kind != OUTCOME_NONE || try->registered != NULL ||
		   try->builtin != NULL);
}
