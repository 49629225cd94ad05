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

/* When a message happened that has no time: one that waited, no later than it
 * failed. */
static TimestampTz
prepare_default_time(const Message *message)
{
	if (message->failed.id != 0)
		return message->failed.first_failed_at;
	return GetCurrentTimestamp();
}

/*
 * Parses a message as its handlers need it, and sets the one that is chosen.
 * False: it has no handler.  Poison may have been found without a handler: the
 * message is broken, and may be of a type that has one.
 */
static bool
prepare_parse(Message *message)
{
	const Record		 *record = message->record;
	Parsed				 *parsed = &message->parsed;
	Try					 *try = &message->try;
	const BuiltinHandler *builtin = builtin_handler_find(record->topic);

	if (try->candidates != NIL)
	{
		message_parse_any(record, parsed);
		try->registered = registration_choose(try->candidates,
											  parsed->event_type);
	}
	if (try->registered == NULL && (builtin != NULL || try->candidates == NIL))
	{
		message_parse(record, builtin ? builtin->line_use : LINES_UNUSED,
					  prepare_default_time(message), parsed);
		try->builtin = builtin;
	}
	Assert(try->registered == NULL || try->builtin == NULL);
	if (try->candidates != NIL && parsed->event_type == NULL &&
		parsed->poison != NULL)
		return true;
	return try->registered != NULL || try->builtin != NULL;
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
		message->outcome = outcome_skipped("no_handler");
	else if (message->parsed.poison != NULL)
	{
		try->attempts = 1;
		message->outcome = outcome_dead(ERROR_CLASS_POISON,
										message->parsed.poison);
	}
	Assert(message->parsed.event_id != NULL);
	Assert(message->outcome.kind != OUTCOME_NONE || try->registered != NULL ||
		   try->builtin != NULL);
}
