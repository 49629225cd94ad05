/*-------------------------------------------------------------------------
 *
 * inbox/dead_letter.c
 *	  The record of a message that was given up, for its dead letter topic.
 *
 * It is published through the outbox, like every event of pgstock, with key,
 * value and headers as they arrived.  Headers by the names of KIP-1191 are
 * added: the origin of the message and the error.  So is its identity, with
 * which "pgstock-relay redrive" sends it back.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/epoch_ms.h"
#include "inbox/inbox.h"

static List *
dead_letter_add_header(List *headers, const char *name, const char *value)
{
	Header *header = palloc(sizeof(Header));

	Assert(value != NULL);
	header->name = name;
	header->name_len = strlen(name);
	header->value = text_to_utf8(value, strlen(value), &header->value_len);
	return lappend(headers, header);
}

/*
 * Adds to headers what has happened to the message.  What an earlier letter, or
 * the producer, wrote under these names goes, also where nothing replaces it.
 * The count of redrives stays: a letter of another program has no other sign
 * that it was sent back.
 */
static List *
dead_letter_add_errors(Call *call, const InboxOptions *options,
					   const Record *record, const Parsed *parsed, int attempts,
					   const Outcome *outcome, bool is_incomplete,
					   List *headers)
{
	bool has_time = epoch_ms_is_sane(parsed->sent_at_ms);
	const struct
	{
		const char *name;
		const char *value; /* or NULL */
	} errors[] = {
		{HEADER_ERROR_TOPIC, record->topic},
		{HEADER_ERROR_PARTITION, psprintf("%d", record->partition)},
		{HEADER_ERROR_OFFSET, psprintf(INT64_FORMAT, record->offset)},
		{HEADER_ERROR_GROUP, options->group},
		{HEADER_ERROR_DELIVERIES, psprintf("%d", attempts)},
		{HEADER_ERROR_MESSAGE, outcome->reason},
		{HEADER_ERROR_SQLSTATE, outcome->sqlstate},
		{HEADER_ERROR_CLASS, error_class_text(outcome->error_class)},
		{HEADER_ERROR_TIME, rfc3339_from_time(call->now)},
		{HEADER_ERROR_INCOMPLETE, is_incomplete ? "true" : NULL},
		{HEADER_EVENT_ID, parsed->event_id},
		{HEADER_EVENT_SOURCE, parsed->source},
		{HEADER_EVENT_TIME,
		 has_time ? rfc3339_from_time(epoch_ms_to_timestamp(parsed->sent_at_ms))
				  : NULL},
	};

	for (int i = 0; i < lengthof(errors); i++)
	{
		headers = headers_remove(headers, errors[i].name);
		if (errors[i].value != NULL)
			headers = dead_letter_add_header(headers, errors[i].name,
											 errors[i].value);
	}
	return headers;
}

/*
 * Appends the record to the outbox.  One that is too large as it is loses its
 * value and its own headers, which the archive has, and its key if it must; the
 * outcome's reason records that.
 */
void
dead_letter_publish(Call *call, const InboxOptions *options,
					const Record *record, const Parsed *parsed, int attempts,
					Outcome *outcome)
{
	OutboxRecord letter = {
		.topic = options_dead_letter_topic(options, record->topic),
		.event_type = "DeadLetter",
		.format = 'r',
	};
	List *headers = headers_unpack(record->headers);

	Assert(outcome->kind == OUTCOME_DEAD && outcome->reason != NULL);
	Assert(outcome->error_class != ERROR_CLASS_NONE && attempts > 0);
	uuid_generate(&letter.event_id);
	headers = dead_letter_add_errors(call, options, record, parsed, attempts,
									 outcome, false, headers);
	letter.headers = headers_pack(headers);
	if (record->key != NULL)
	{
		letter.key = VARDATA_ANY(record->key);
		letter.key_len = VARSIZE_ANY_EXHDR(record->key);
	}
	if (record->value != NULL)
	{
		letter.payload = VARDATA_ANY(record->value);
		letter.payload_len = VARSIZE_ANY_EXHDR(record->value);
	}
	if (outbox_record_bytes(&letter) > pgstock_max_event_bytes)
	{
		const char *suffix = "it is too large for the dead letter topic";

		outcome->reason = psprintf("%s; %s", outcome->reason, suffix);
		headers = dead_letter_add_errors(call, options, record, parsed,
										 attempts, outcome, true, NIL);
		letter.headers = headers_pack(headers);
		letter.payload = NULL;
		letter.payload_len = 0;
	}
	if (outbox_record_bytes(&letter) > pgstock_max_event_bytes)
	{
		letter.key = NULL;
		letter.key_len = 0;
		letter.is_minimal = true;
	}
	Assert(letter.payload != NULL || letter.payload_len == 0);
	outbox_append(call, &letter);
}
