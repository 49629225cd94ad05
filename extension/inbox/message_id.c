/*-------------------------------------------------------------------------
 *
 * inbox/message_id.c
 *	  By what a message is known again: a source, and an id within it.
 *
 * Apart from message.c, whose JSON library and the server's headers have a
 * name in common.
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

/* A header that can serve as a name, or NULL. */
char *
name_header(List *headers, const char *name)
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

/* The digest of bytes that are no name themselves. */
static char *
digest_name(const char *bytes, int length)
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
 * The header as an id, or NULL if there is none.  One that is too long or no
 * text is an id too: without it the same event would be another one wherever
 * its producer sends it again.
 */
static char *
header_id(List *headers, const char *name)
{
	const Header *header = headers_find(headers, name);
	char		 *id;

	if (header == NULL || header->value == NULL || header->value_len == 0)
		return NULL;
	id = name_header(headers, name);
	return id != NULL ? id : digest_name(header->value, header->value_len);
}

/*
 * A record without an id is known by where it stands and what it is: a topic
 * made anew under its name has others there.
 */
static char *
place_id(const Message *message)
{
	return psprintf("%s/%d/" INT64_FORMAT "/%s", message->topic,
					message->partition, message->offset, message->fingerprint);
}

/*
 * The one place where a message gets its name, the source and the id by which
 * it is known again: a CloudEvent's, else the id that the producer gave it, in
 * a header or in the body, which is unique in its topic at most; else its
 * place.  One that waited for another try has its name already.
 */
void
name_message(Message *message, List *headers, const char *body_id)
{
	static const char *const id_names[] = {"event_id", "id"};

	if (message->source == NULL)
		message->source = message->topic;
	if (message->event_id != NULL)
		return;
	message->event_id = header_id(headers, "ce_id");
	if (message->event_id != NULL)
	{
		char *source = header_id(headers, "ce_source");

		if (source != NULL)
			message->source = source;
		return;
	}
	for (int i = 0; i < lengthof(id_names) && message->event_id == NULL; i++)
		message->event_id = header_id(headers, id_names[i]);
	if (message->event_id == NULL)
		message->event_id = body_id;
	/* By hand there is no record that could name it. */
	if (message->event_id == NULL && message->partition >= 0)
		message->event_id = place_id(message);
}

/* Source and id as one text that no other source and id make. */
char *
name_as_text(const Message *message)
{
	return psprintf("%zu %s %s", strlen(message->source), message->source,
					message->event_id);
}

/* Tells two values apart; 0 is a tombstone's. */
int64
name_value_hash(const Message *message)
{
	if (message->value == NULL)
		return 0;
	return (int64) DatumGetUInt64(
		hash_any_extended((const unsigned char *) VARDATA_ANY(message->value),
						  VARSIZE_ANY_EXHDR(message->value), 0));
}
