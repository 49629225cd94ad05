/*-------------------------------------------------------------------------
 *
 * inbox/payload.c
 *	  Finds the message in a record's value: frames and envelopes.
 *
 * The value is JSON, as it is or behind the five bytes that Confluent's
 * serializers put in front of it.  The message is the value, or what one of
 * these envelopes holds:
 *
 *	CloudEvents, structured mode		{"specversion", "id", "source", "type",
 *										"data": message}
 *	Kafka Connect's JSON converter		{"schema", "payload": message}
 *	Debezium's change events			{"op", "source", "after": message}; a
 *										row of an outbox table has the message
 *										in its column "payload"
 *	Debezium's outbox event router		a JSON string that holds the message,
 *										in a record with a header "id"
 *
 * An envelope is recognized by its members and headers, never by trying, so
 * that a record has one meaning.  A value that holds no message has a reason,
 * which names the format that it looks like.
 *
 * A registered handler gets the value as it is, without Confluent's frame.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <jansson.h>

#include "common/base64.h"

#include "inbox/inbox.h"

/* A zero byte and the schema's id, in network byte order. */
#define CONFLUENT_FRAME 5

#define CLOUDEVENTS_TYPE	   "application/cloudevents"
#define CLOUDEVENTS_BATCH_TYPE "application/cloudevents-batch"

/* ---- Bytes ---- */

static bool
payload_begins(const char *value, int length, const char *prefix,
			   int prefix_length)
{
	return length >= prefix_length && memcmp(value, prefix, prefix_length) == 0;
}

static bool
payload_is_framed(const char *value, int length)
{
	return length > CONFLUENT_FRAME && value[0] == '\0';
}

/* Where JSON begins in a value: behind the frame, if it has one. */
int
payload_frame_length(const bytea *value)
{
	const char *bytes = VARDATA_ANY(value);
	int			length = VARSIZE_ANY_EXHDR(value);

	/* in the frame of other formats no brace follows */
	if (!payload_is_framed(bytes, length) ||
		strchr("{[\"", bytes[CONFLUENT_FRAME]) == NULL ||
		bytes[CONFLUENT_FRAME] == '\0')
		return 0;
	return CONFLUENT_FRAME;
}

/* The format that bytes which are not JSON look like, or NULL. */
static const char *
payload_format_of_bytes(const char *value, int length)
{
	static const struct
	{
		const char *magic;
		int			length;
		const char *format;
	} formats[] = {
		{"\x1f\x8b", 2, "gzip"},
		{"\x28\xb5\x2f\xfd", 4, "zstd"},
		{"\x04\x22\x4d\x18", 4, "LZ4"},
		{"\x82SNAPPY\0", 8, "Snappy"},
		{"\xff\x06\0\0sNaPpY", 10, "Snappy"},
		{"PK\x03\x04", 4, "a ZIP file"},
		{"Obj\x01", 4, "an Avro file"},
		{"\xc3\x01", 2, "Avro with a single-object header"},
		{"\xac\xed\0\x05", 4, "a serialized Java object"},
		{"PAR1", 4, "Parquet"},
		{"\xd9\xd9\xf7", 3, "CBOR"},
		{"\xff\xfe", 2, "UTF-16"},
		{"\xfe\xff", 2, "UTF-16"},
		{"<", 1, "XML"},
		{"---", 3, "YAML"},
	};

	for (int i = 0; i < lengthof(formats); i++)
	{
		if (payload_begins(value, length, formats[i].magic, formats[i].length))
			return formats[i].format;
	}
	return NULL;
}

/*
 * Whether bytes are fields of a Protobuf message to their end, with tags of
 * plausible numbers.
 */
static bool
payload_is_protobuf(const char *value, int length)
{
	int at = 0;
	int fields = 0;

	while (at < length && fields < 100)
	{
		uint64 n[2] = {0, 0};
		int	   kind;

		/* a tag, and what follows it if that is a number too */
		for (int i = 0; i < 2; i++)
		{
			int shift = 0;

			do
			{
				if (at >= length || shift > 63)
					return false;
				n[i] |= (uint64) (value[at] & 0x7f) << shift;
				shift += 7;
			} while (value[at++] & 0x80);
			if ((n[0] & 7) != 0 && (n[0] & 7) != 2)
				break;
		}
		kind = n[0] & 7;
		if ((n[0] >> 3) < 1 || (n[0] >> 3) > 1000 ||
			(kind != 0 && kind != 1 && kind != 2 && kind != 5))
			return false;
		if (kind == 2 && n[1] > (uint64) (length - at))
			return false;
		at += kind == 1 ? 8 : kind == 5 ? 4 : kind == 2 ? (int) n[1] : 0;
		fields++;
	}
	return at == length && fields > 0;
}

/*
 * What a value that begins with a zero byte looks like.  A brace or a bracket
 * begins no message of Avro, where it would be a negative length.
 */
static const char *
payload_framed_format(const char *value, int length)
{
	bool   is_json;
	uint32 id;

	if (!payload_is_framed(value, length))
		return "Confluent's frame without a message";
	is_json = value[CONFLUENT_FRAME] == '{' || value[CONFLUENT_FRAME] == '[';
	memcpy(&id, value + 1, sizeof(id));
	return psprintf("%s in Confluent's frame (schema %u)",
					is_json ? "JSON" : "Avro or Protobuf", pg_ntoh32(id));
}

/* The format that a value which is not JSON looks like, or NULL. */
static const char *
payload_looks_like(const char *value, int length)
{
	unsigned char first = (unsigned char) value[0];
	const char	 *known;

	if (first == '\0')
		return payload_framed_format(value, length);
	known = payload_format_of_bytes(value, length);
	if (known != NULL)
		return known;
	if (payload_is_protobuf(value, length))
		return "Protobuf";
	/* maps: other values are too common as first bytes */
	if ((first >= 0x81 && first <= 0x8f) || first == 0xde || first == 0xdf)
		return "MessagePack";
	if ((first >= 0xa1 && first <= 0xb7) || first == 0xbf)
		return "CBOR";
	return NULL;
}

/* ---- JSON ---- */

/* Why jansson refused a value, without quoting the value. */
static const char *
payload_json_fault(const json_error_t *error)
{
	switch (json_error_code(error))
	{
		case json_error_duplicate_key:
			return "a key stands twice in an object";
		case json_error_stack_overflow:
			return "it is nested too deeply";
		case json_error_null_character:
			return "it holds \\u0000";
		case json_error_invalid_utf8:
			return "it is not UTF-8";
		case json_error_numeric_overflow:
			return "a number is too large";
		case json_error_premature_end_of_input:
			return "it ends too early";
		default:
			return "its syntax is wrong";
	}
}

/* Text as JSON of any kind; NULL and *fault, with the byte, if it is none. */
static json_t *
payload_load_json(const char *string, int length, char **fault)
{
	const char	*nul = memchr(string, 0, length);
	json_error_t error;
	json_t		*json;

	/* jansson overlooks one behind a number and accepts what follows */
	if (nul != NULL)
	{
		*fault = psprintf("it holds a zero byte (byte %d)",
						  (int) (nul - string) + 1);
		return NULL;
	}
	json = json_loadb(string, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
					  &error);
	if (json == NULL)
		*fault = psprintf("%s (byte %d)", payload_json_fault(&error),
						  error.position);
	return json;
}

/* Keeps a tree until payload_free. */
static void
payload_keep(Payload *payload, json_t *tree)
{
	Assert(payload->n_trees < PAYLOAD_TREES);
	payload->trees[payload->n_trees++] = tree;
}

/* The value as JSON of any kind; false and poison if it is not JSON. */
bool
payload_load(const Record *record, Payload *payload, Parsed *parsed)
{
	const char *value;
	int			length;
	int			frame;
	char	   *fault = NULL;

	Assert(record->value != NULL);
	frame = payload_frame_length(record->value);
	value = VARDATA_ANY(record->value);
	length = VARSIZE_ANY_EXHDR(record->value);
	payload->text = value + frame;
	payload->length = length - frame;
	if (length == 0)
		message_set_poison(parsed, "the value is empty");
	else
		payload->message = payload_load_json(payload->text, payload->length,
											 &fault);
	if (payload->message != NULL)
		payload_keep(payload, payload->message);
	if (fault != NULL)
	{
		const char *format = payload_looks_like(value, length);

		message_set_poison(parsed,
						   psprintf("the value is not valid JSON: %s%s%s",
									fault, format ? "; it looks like " : "",
									format ? format : ""));
	}
	return payload->message != NULL;
}

/* Frees the trees; the payload's strings remain. */
void
payload_free(Payload *payload)
{
	for (int i = 0; i < payload->n_trees; i++)
		json_decref(payload->trees[i]);
	payload->n_trees = 0;
	payload->message = NULL;
}

/* ---- Envelopes ---- */

/* A string member in the database's encoding; NULL if there is none. */
static char *
payload_string(json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	if (!json_is_string(value) || json_string_length(value) == 0)
		return NULL;
	return text_from_utf8(json_string_value(value), json_string_length(value));
}

/* What kind of value stands where a message is expected. */
static const char *
payload_kind(const json_t *value)
{
	switch (json_typeof(value))
	{
		case JSON_ARRAY:
			return "a JSON array";
		case JSON_INTEGER:
		case JSON_REAL:
			return "a JSON number";
		case JSON_TRUE:
		case JSON_FALSE:
			return "a JSON boolean";
		case JSON_NULL:
			return "JSON's null";
		default:
			return "a JSON string";
	}
}

/* Parses the text in a string as the message; *fault if it is not JSON. */
static void
payload_enter_text(Payload *payload, const char *string, int length,
				   const char *where)
{
	char   *fault = NULL;
	json_t *message = payload_load_json(string, length, &fault);

	payload->text = pnstrdup(string, length);
	payload->length = length;
	payload->message = message;
	payload->where = where;
	if (message != NULL)
		payload_keep(payload, message);
	else
		payload->fault = psprintf("%s is a string that is not JSON: %s", where,
								  fault);
}

/*
 * Makes a member of the message's object the message; a string is parsed if it
 * may hold one.
 */
static void
payload_enter(Payload *payload, const char *name, const char *where,
			  bool may_be_text)
{
	json_t *value = json_object_get(payload->message, name);

	if (value == NULL || json_is_null(value))
	{
		payload->fault = psprintf("%s is missing", where);
		return;
	}
	if (may_be_text && json_is_string(value))
	{
		payload_enter_text(payload, json_string_value(value),
						   json_string_length(value), where);
		return;
	}
	payload->text = attributes_find(payload->text, payload->length, name,
									&payload->length);
	payload->message = value;
	payload->where = where;
	Assert(payload->text != NULL);
}

/* data_base64: bytes that are JSON, or no message. */
static void
payload_enter_base64(Payload *payload, const json_t *value)
{
	int	  length = json_string_length(value);
	int	  size = pg_b64_dec_len(length);
	char *bytes = palloc(size + 1);
	int	  n = pg_b64_decode(json_string_value(value), length, (void *) bytes,
							size);

	if (n < 0)
		payload->fault = "\"data_base64\" of the CloudEvent is not base64";
	else
		payload_enter_text(payload, bytes, n,
						   "\"data_base64\" of the CloudEvent");
}

static void
payload_open_cloud_event(Payload *payload)
{
	json_t *event = payload->message;
	json_t *base64 = json_object_get(event, "data_base64");

	payload->id = payload_string(event, "id");
	payload->source = payload_string(event, "source");
	payload->event_type = payload_string(event, "type");
	payload->traceparent = payload_string(event, "traceparent");
	payload->time = json_object_get(event, "time");
	if (payload->id == NULL || payload->source == NULL ||
		payload->event_type == NULL)
		payload->fault = "\"id\", \"source\" or \"type\" of the CloudEvent is "
						 "missing";
	else if (json_is_string(base64) && json_object_get(event, "data") == NULL)
		payload_enter_base64(payload, base64);
	else
		payload_enter(payload, "data", "\"data\" of the CloudEvent", false);
}

/* A row of an outbox table has the message in a column. */
static void
payload_open_row(Payload *payload)
{
	json_t *row = payload->message;

	if (!json_is_object(row) || json_object_get(row, "aggregatetype") == NULL ||
		json_object_get(row, "aggregateid") == NULL ||
		json_object_get(row, "payload") == NULL)
		return;
	payload->id = payload_string(row, "id");
	payload->event_type = payload_string(row, "type");
	payload_enter(payload, "payload", "\"payload\" of the outbox row", true);
}

static bool
payload_is_change(json_t *object)
{
	return json_is_string(json_object_get(object, "op")) &&
		   json_is_object(json_object_get(object, "source")) &&
		   json_object_get(object, "after") != NULL;
}

static void
payload_open_change(Payload *payload)
{
	if (json_is_null(json_object_get(payload->message, "after")))
	{
		payload->is_deletion = true;
		payload->fault = "\"after\" of the change event is missing";
		return;
	}
	payload_enter(payload, "after", "\"after\" of the change event", false);
	if (payload->fault == NULL)
		payload_open_row(payload);
}

/* Kafka Connect's envelope has these two members and no others. */
static bool
payload_is_connect(json_t *object)
{
	json_t *schema = json_object_get(object, "schema");

	return json_object_size(object) == 2 &&
		   json_object_get(object, "payload") != NULL &&
		   (json_is_object(schema) || json_is_null(schema));
}

/* The media type of a record, without its parameters, or "". */
static char *
payload_media_type(List *headers)
{
	char *type = message_id_header(headers, HEADER_CONTENT_TYPE);
	char *end;

	if (type == NULL)
		return pstrdup("");
	end = strpbrk(type, "; \t");
	if (end != NULL)
		*end = '\0';
	return type;
}

static bool
payload_is_cloud_event(json_t *object, const char *media_type)
{
	return pg_strncasecmp(media_type, CLOUDEVENTS_TYPE "+",
						  strlen(CLOUDEVENTS_TYPE "+")) == 0 ||
		   (json_is_string(json_object_get(object, "specversion")) &&
			json_is_string(json_object_get(object, "id")) &&
			json_is_string(json_object_get(object, "source")) &&
			json_is_string(json_object_get(object, "type")));
}

/* Why a value that is not an object holds no message. */
static void
payload_refuse_kind(Payload *payload)
{
	const json_t *value = payload->message;
	const char	 *where = payload->where ? payload->where : "the value";
	json_t		 *inner = NULL;

	if (json_is_string(value))
		inner = json_loadb(json_string_value(value), json_string_length(value),
						   0, NULL);
	payload->fault = inner != NULL
						 ? psprintf("%s is a JSON string that holds JSON: it "
									"was encoded twice",
									where)
						 : psprintf("%s is %s, not an object", where,
									payload_kind(value));
	json_decref(inner);
}

/*
 * Finds the message in a value that was loaded, and what its envelope says of
 * it.  payload->fault: why there is none.
 */
void
payload_open(List *headers, Payload *payload)
{
	char   *media_type = payload_media_type(headers);
	json_t *value = payload->message;

	Assert(value != NULL && payload->fault == NULL);
	if (pg_strncasecmp(media_type, CLOUDEVENTS_BATCH_TYPE,
					   strlen(CLOUDEVENTS_BATCH_TYPE)) == 0 ||
		(json_is_array(value) &&
		 payload_is_cloud_event(json_array_get(value, 0), "")))
	{
		payload->fault = "the value is a batch of CloudEvents; a record must "
						 "hold one event";
		return;
	}
	if (json_is_object(value) && payload_is_cloud_event(value, media_type))
		payload_open_cloud_event(payload);
	else if (json_is_object(value) && payload_is_change(value))
		payload_open_change(payload);
	else if (json_is_object(value) && payload_is_connect(value))
	{
		payload_enter(payload, "payload", "\"payload\"", true);
		if (payload->fault == NULL && payload_is_change(payload->message))
			payload_open_change(payload);
	}
	else if (json_is_string(value) && headers_find(headers, "id") != NULL)
		payload_enter_text(payload, json_string_value(value),
						   json_string_length(value), "the value");
	if (payload->fault == NULL && !json_is_object(payload->message))
		payload_refuse_kind(payload);
}
