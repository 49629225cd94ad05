/*-------------------------------------------------------------------------
 *
 * inbox/message_id.c
 *	  Identifies a message: a source, and an id that is unique within it.
 *
 * Two records with the same source and id are the same event: the second one
 * is a duplicate.  So an id must not depend on how or by which relay a record
 * was read.
 *
 * Apart from message.c, since jansson and the server's headers declare the
 * same name.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "inbox/inbox.h"

/* A header that can be an id as it is, or NULL. */
char *
message_id_header(List *headers, const char *name)
{
	const Header *header = headers_find(headers, name);
	char		 *value;

	if (header == NULL || header->value == NULL || header->value_len == 0 ||
		header->value_len > STOCK_ID_BYTES_MAX)
		return NULL;
	value = text_from_utf8(header->value, header->value_len);
	/* another encoding may need more bytes */
	return value != NULL && args_id_fault(value) == NULL ? value : NULL;
}

/* The digest of bytes that cannot be an id themselves. */
static char *
message_id_digest(const char *bytes, int length)
{
	bytea *digest = DatumGetByteaPP(
		DirectFunctionCall1(sha256_bytea,
							PointerGetDatum(
								cstring_to_text_with_len(bytes, length))));
	int	  n = VARSIZE_ANY_EXHDR(digest);
	char *hex = palloc0(2 * n + 1);

	hex_encode(VARDATA_ANY(digest), n, hex);
	return psprintf("sha256:%s", hex);
}

/*
 * Bytes as an id, or NULL if there are none.  Such as are too long or no text
 * count too, by their digest: without it, the same event sent again would be
 * applied again.
 */
static char *
message_id_from_bytes(const char *bytes, int length)
{
	char *id;

	if (bytes == NULL || length == 0)
		return NULL;
	id = length <= STOCK_ID_BYTES_MAX ? text_from_utf8(bytes, length) : NULL;
	/* another encoding may need more bytes */
	return id != NULL && args_id_fault(id) == NULL
			   ? id
			   : message_id_digest(bytes, length);
}

static char *
message_id_from_header(List *headers, const char *name)
{
	const Header *header = headers_find(headers, name);

	return header ? message_id_from_bytes(header->value, header->value_len)
				  : NULL;
}

/*
 * The id of a record that has none: its place and its fingerprint, for a topic
 * that was created again has other records at the same places.
 */
static char *
message_id_of_place(const Record *record)
{
	Assert(record->fingerprint != NULL && record->offset >= 0);
	return psprintf("%s/%d/" INT64_FORMAT "/%s", record->topic,
					record->partition, record->offset, record->fingerprint);
}

/*
 * A source that the producer chose.  One that could be the name of a topic gets
 * a prefix that no topic has: else its ids would be those of that topic's
 * messages, and a client that may write to one topic could make messages of
 * another one duplicates.
 */
static char *
message_id_chosen_source(char *source)
{
	return source != NULL && outbox_topic_fault(source) == NULL
			   ? psprintf("ce:%s", source)
			   : source;
}

/*
 * The id and source of a CloudEvent, in headers or, structured, in the value;
 * false: it is none.
 */
static bool
message_id_of_cloud_event(List *headers, const Payload *payload, Parsed *parsed)
{
	char *source;

	parsed->event_id = message_id_from_header(headers, HEADER_CE_ID);
	source = message_id_from_header(headers, HEADER_CE_SOURCE);
	if (parsed->event_id == NULL && payload != NULL && payload->id != NULL &&
		payload->source != NULL)
	{
		parsed->event_id = message_id_from_bytes(payload->id,
												 strlen(payload->id));
		source = message_id_from_bytes(payload->source,
									   strlen(payload->source));
	}
	source = message_id_chosen_source(source);
	if (parsed->event_id != NULL && source != NULL)
		parsed->source = source;
	return parsed->event_id != NULL;
}

/*
 * Whether a message of the topic can have a source that a header names: its
 * topic, its binding's, or one that a producer may choose.  Whoever may write
 * to the topic can write that header, and a dead letter's as well.
 */
static bool
message_id_is_source(const Record *record, const Parsed *parsed,
					 const char *source)
{
	return strcmp(source, record->topic) == 0 ||
		   (parsed->source != NULL && strcmp(source, parsed->source) == 0) ||
		   outbox_topic_fault(source) != NULL;
}

/*
 * The identity of a record that was sent back from a dead letter topic: that of
 * the message which it was.  False: it is none.
 */
static bool
message_id_of_redriven(const Record *record, List *headers, Parsed *parsed)
{
	char *id;
	char *source;

	if (headers_find(headers, HEADER_REDRIVES) == NULL)
		return false;
	id = message_id_header(headers, HEADER_EVENT_ID);
	source = message_id_header(headers, HEADER_EVENT_SOURCE);
	if (id == NULL || source == NULL ||
		!message_id_is_source(record, parsed, source))
		return false; /* the letter of another program, or forged */
	parsed->event_id = id;
	parsed->source = source;
	parsed->is_redriven = true;
	return true;
}

/*
 * Sets the source and the id, unless the message has them already: one that
 * waited has.  One that was sent back keeps its own.  The id is a CloudEvent's,
 * with its source; else one that the producer gave it in a header, an envelope
 * or the body, which is unique within its topic, or within the source that its
 * binding names; else its place.  A call by hand may have none.
 */
void
message_id_assign(const Record *record, List *headers, const Payload *payload,
				  const char *body_id, Parsed *parsed)
{
	static const char *const id_names[] = {"event_id", "id"};

	if (parsed->event_id == NULL &&
		message_id_of_redriven(record, headers, parsed))
		return;
	if (parsed->source == NULL)
		parsed->source = record->topic;
	if (parsed->event_id != NULL ||
		message_id_of_cloud_event(headers, payload, parsed))
		return;
	for (int i = 0; i < lengthof(id_names) && parsed->event_id == NULL; i++)
		parsed->event_id = message_id_from_header(headers, id_names[i]);
	if (parsed->event_id == NULL && payload != NULL && payload->id != NULL)
		parsed->event_id = message_id_from_bytes(payload->id,
												 strlen(payload->id));
	if (parsed->event_id == NULL)
		parsed->event_id = body_id;
	if (parsed->event_id == NULL && record->partition >= 0)
		parsed->event_id = message_id_of_place(record);
	Assert(parsed->event_id != NULL || record->partition < 0);
}

/* Source and id as one text, which no other source and id give. */
char *
message_id_text(const Parsed *parsed)
{
	char *id;

	Assert(parsed->source != NULL && parsed->event_id != NULL);
	id = psprintf("%zu %s %s", strlen(parsed->source), parsed->source,
				  parsed->event_id);
	Assert(strlen(id) < MESSAGE_ID_TEXT_BYTES);
	return id;
}

/* A hash that distinguishes values under one id; 0: a tombstone. */
int64
message_id_value_hash(const Record *record)
{
	const bytea *value = record->value;

	if (value == NULL)
		return 0;
	return (int64) DatumGetUInt64(
		hash_any_extended((const unsigned char *) VARDATA_ANY(value),
						  VARSIZE_ANY_EXHDR(value), 0));
}
