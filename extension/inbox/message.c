/*-------------------------------------------------------------------------
 *
 * inbox/message.c
 *	  Parses an incoming message: bytes in, fields or the reason out.
 *
 * No message makes this raise an error.  One that can never be applied is
 * poison, and parsed->poison has the reason, worded for the operator that reads
 * its dead letter.  The first fault found is the one reported.
 *
 * The value is loaded (payload.c), its type chooses the binding, and the
 * binding says which fields are read, and where.  A field that was set before
 * stays: a message that waited has its id already.
 *
 * jansson parses, not jsonb: it distinguishes 3 from 3.0 and 1e6, refuses
 * duplicate keys, \u0000, invalid UTF-8 and deep nesting, and does all that by
 * a return code.  Its trees are malloc'd, so none outlives the function that
 * loads it.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <jansson.h>

#include "base/epoch_ms.h"
#include "inbox/inbox.h"

#define EVENT_VERSION_MAX 1

/*
 * Why the event happened.  People read it and it is often a stack trace, so no
 * character in it may keep the stock of the order from being released.
 */
static char *
message_reason(Parsed *parsed, const FieldMap *map, json_t *message)
{
	const json_t *value = NULL;
	const char	 *utf8;
	char		 *reason;

	if (!field_is_mapped(map, FIELD_REASON))
		value = message_member(parsed, message, "failed_reason",
							   "failedReason");
	if (value == NULL)
		value = field_get(map, FIELD_REASON, parsed, message);
	if (value == NULL)
		return NULL;
	utf8 = json_string_value(value);
	if (utf8 == NULL)
	{
		message_set_poison(parsed, psprintf("%s is not a string",
											field_label(map, FIELD_REASON)));
		return NULL;
	}
	reason = text_from_utf8(utf8, strlen(utf8));
	return text_printable(reason ? reason : text_as_ascii(utf8));
}

/*
 * The event's own time, else its envelope's, else the record's, else what is
 * set already.
 */
static void
message_parse_time(Parsed *parsed, const FieldMap *map, const Payload *payload)
{
	const json_t *value = field_get(map, FIELD_TIMESTAMP, parsed,
									payload->message);
	bool		  no_zone = false;

	if (parsed->sent_at_ms >= 0)
		parsed->happened_at = epoch_ms_to_timestamp(parsed->sent_at_ms);
	if (value == NULL && json_is_string(payload->time))
		value = payload->time;
	if (value == NULL)
		return;
	if (json_is_integer(value) && epoch_ms_is_sane(json_integer_value(value)))
	{
		parsed->happened_at = epoch_ms_to_timestamp(json_integer_value(value));
		return;
	}
	if (!json_is_string(value) ||
		!rfc3339_parse(json_string_value(value), &parsed->happened_at,
					   &no_zone))
		message_set_poison(parsed, psprintf("%s is neither RFC 3339 nor epoch "
											"milliseconds",
											field_label(map, FIELD_TIMESTAMP)));
	if (no_zone)
		parsed->remark = REASON_TIMESTAMP_WITHOUT_ZONE;
}

/* What the answer repeats, as it is written or, failing that, as escapes. */
static void
message_parse_attributes(Parsed *parsed, const Binding *binding,
						 const Payload *payload)
{
	char *utf8 = attributes_cut(payload->text, payload->length,
								&binding->attributes, binding->fields);

	if (utf8 == NULL)
		return;
	parsed->attributes = text_from_utf8(utf8, strlen(utf8));
	if (parsed->attributes == NULL)
		parsed->attributes = json_as_ascii(utf8, strlen(utf8));
}

/* The version is that of pgstock's own format, which has no binding's paths. */
static void
message_parse_version(Parsed *parsed, json_t *message)
{
	const json_t *value = message_member(parsed, message, "event_version",
										 "eventVersion");

	if (value == NULL)
		return;
	if (!json_is_integer(value) || json_integer_value(value) < 1)
		message_set_poison(parsed,
						   "\"event_version\" is not a positive integer");
	else if (json_integer_value(value) > EVENT_VERSION_MAX)
		message_set_poison(parsed,
						   psprintf("event_version %lld is newer than the "
									"newest known, %d",
									(long long) json_integer_value(value),
									EVENT_VERSION_MAX));
}

/* Reads the fields of a message for a built-in handler. */
static void
message_parse_fields(Parsed *parsed, const Binding *binding,
					 const Payload *payload)
{
	const FieldMap *map = binding->fields;
	json_t		   *message = payload->message;
	char		   *event_type;

	parsed->order_id = field_get_id(map, FIELD_ORDER_ID, parsed, message);
	if (parsed->order_id == NULL)
		message_set_poison(parsed, psprintf("%s is missing",
											field_label(map, FIELD_ORDER_ID)));
	parsed->user_id = field_get_optional_id(map, FIELD_USER_ID, parsed,
											message);
	parsed->payment_id = field_get_optional_id(map, FIELD_PAYMENT_ID, parsed,
											   message);
	event_type = message_string(parsed,
								message_member(parsed, message, "event_type",
											   "eventType"),
								"\"event_type\"");
	if (parsed->event_type == NULL)
		parsed->event_type = event_type;
	if (parsed->trace_id == NULL)
		parsed->trace_id = message_optional_id(parsed, message, "trace_id",
											   "traceId", "\"trace_id\"");
	parsed->status = message_string(parsed,
									field_get(map, FIELD_STATUS, parsed,
											  message),
									field_label(map, FIELD_STATUS));
	parsed->reason = message_reason(parsed, map, message);
	if (map == NULL)
		message_parse_version(parsed, message);
	message_parse_time(parsed, map, payload);
	message_parse_line_use(parsed, map, message);
	message_parse_attributes(parsed, binding, payload);
}

/* ---- Headers ---- */

static void
message_set_traceparent(Parsed *parsed, const char *traceparent)
{
	if (traceparent == NULL || !traceparent_is_valid(traceparent))
		return;
	parsed->traceparent = traceparent;
	parsed->trace_id = traceparent_trace_id(traceparent);
}

/* When a record was sent; if it was sent back, the first time. */
static int64
message_sent_at_ms(const Record *record, List *headers)
{
	char	   *sent = message_id_header(headers, HEADER_EVENT_TIME);
	TimestampTz at;
	bool		no_zone;
	int64		ms;

	if (sent == NULL || headers_find(headers, HEADER_REDRIVES) == NULL ||
		!rfc3339_parse(sent, &at, &no_zone))
		return record->sent_at_ms;
	ms = epoch_ms_from_timestamp(at);
	return epoch_ms_is_sane(ms) ? ms : record->sent_at_ms;
}

static void
message_read_headers(const Record *record, Parsed *parsed, List *headers)
{
	static const char *const type_names[] = {HEADER_CE_TYPE, HEADER_PLAIN_TYPE,
											 HEADER_DEBEZIUM_TYPE};
	char					*traceparent;

	parsed->sent_at_ms = message_sent_at_ms(record, headers);
	for (int i = 0; i < lengthof(type_names) && parsed->event_type == NULL; i++)
		parsed->event_type = message_id_header(headers, type_names[i]);
	traceparent = message_id_header(headers, HEADER_TRACEPARENT);
	if (traceparent == NULL)
		traceparent = message_id_header(headers, HEADER_CE_TRACEPARENT);
	message_set_traceparent(parsed, traceparent);
}

/* Reads the headers only, of a record whose value may end the process. */
void
message_parse_headers(const Record *record, Parsed *parsed)
{
	List *headers = headers_unpack(record->headers);

	message_read_headers(record, parsed, headers);
	message_id_assign(record, headers, NULL, NULL, parsed);
}

/* ---- The whole ---- */

/*
 * Loads the value and finds the message in it; false: it has none that is
 * JSON.
 */
static bool
message_load(const Record *record, List *headers, Payload *payload,
			 Parsed *parsed)
{
	if (record->value == NULL)
	{
		payload->fault = "the message has no value (a tombstone)";
		return false;
	}
	if (!payload_load(record, payload, parsed))
		return false;
	payload_open(headers, payload);
	if (parsed->event_type == NULL && payload->event_type != NULL &&
		args_id_fault(payload->event_type) == NULL)
		parsed->event_type = payload->event_type;
	if (parsed->traceparent == NULL)
		message_set_traceparent(parsed, payload->traceparent);
	return true;
}

/*
 * The type that a message is chosen by, if no header and no envelope has it:
 * its own, else the Java class that Spring Kafka names.
 */
static const char *
message_type(const Parsed *parsed, List *headers, const Payload *payload)
{
	const char *type = parsed->event_type;

	if (type == NULL && json_is_object(payload->message))
		type = message_find_id(payload->message, "event_type", "eventType");
	return type ? type : message_id_header(headers, "__TypeId__");
}

/* Reads what can be read of a message for any other handler, or for none. */
static void
message_parse_any(Parsed *parsed, const FieldMap *map, Payload *payload)
{
	json_t *message = payload->message;

	if (!json_is_object(message))
		return;
	if (parsed->trace_id == NULL)
		parsed->trace_id = message_find_id(message, "trace_id", "traceId");
	parsed->order_id = field_find_id(map, FIELD_ORDER_ID, message);
}

/*
 * Reads a message as its binding says.  Returns the id that the message gives
 * itself, or NULL.
 */
static char *
message_parse_bound(Parsed *parsed, const Binding *binding, Payload *payload)
{
	bool is_any = binding == NULL || binding->registered != NULL ||
				  binding->builtin->apply == NULL;
	const FieldMap *map = binding ? binding->fields : NULL;
	char		   *id;

	if (binding != NULL)
		parsed->source = parsed->source ? parsed->source : binding->source;
	if (is_any)
	{
		message_parse_any(parsed, map, payload);
		return field_find_id(map, FIELD_EVENT_ID, payload->message);
	}
	parsed->line_use = binding->builtin->line_use;
	if (payload->is_deletion)
		parsed->skip = REASON_ROW_DELETED;
	else if (payload->fault != NULL)
		message_set_poison(parsed, payload->fault);
	if (payload->fault != NULL || payload->message == NULL)
		return NULL;
	id = field_get_optional_id(map, FIELD_EVENT_ID, parsed, payload->message);
	message_parse_fields(parsed, binding, payload);
	return id;
}

/*
 * Parses a record for the handler that its topic's bindings give it, and
 * returns that binding, or NULL.  Default_time: when it happened if neither the
 * value nor the record has a time.
 */
const Binding *
message_parse(const Record *record, const TopicBindings *topic,
			  TimestampTz default_time, Parsed *parsed)
{
	List		  *headers = headers_unpack(record->headers);
	Payload		   payload = {0};
	const Binding *binding;
	const char	  *type;
	char		  *id;

	parsed->happened_at = default_time;
	message_read_headers(record, parsed, headers);
	(void) message_load(record, headers, &payload, parsed);
	type = message_type(parsed, headers, &payload);
	binding = binding_choose(topic, type);
	id = message_parse_bound(parsed, binding, &payload);
	if (parsed->event_type == NULL)
		parsed->event_type = type;
	payload_free(&payload);
	message_id_assign(record, headers, &payload, id, parsed);
	/* a handler may rely on these */
	Assert(parsed->poison != NULL || parsed->skip != REASON_NONE ||
		   binding == NULL || binding->builtin == NULL ||
		   binding->builtin->apply == NULL || parsed->order_id != NULL);
	Assert(parsed->poison != NULL || parsed->line_use != LINES_RESERVED ||
		   parsed->skip != REASON_NONE || parsed->lines != NIL);
	return binding;
}
