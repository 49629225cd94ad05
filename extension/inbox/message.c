/*-------------------------------------------------------------------------
 *
 * inbox/message.c
 *	  Parses an incoming message: bytes in, fields or the reason out.
 *
 * No message makes this raise an error.  One that can never be applied is
 * poison, and parsed->poison has the reason, worded for the operator that reads
 * its dead letter.  The first fault found is the one reported.
 *
 * jansson parses, not jsonb: it distinguishes 3 from 3.0 and 1e6, refuses
 * duplicate keys, \u0000, invalid UTF-8 and deep nesting, and does all that by
 * a return code.  Its trees are malloc'd, so none outlives the function that
 * loads it.
 *
 * Parsing a message twice is allowed, first for the registered handlers and
 * then for a built-in one: the first value found for the id, type, trace and
 * poison is kept.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <jansson.h>

#include "mb/pg_wchar.h"

#include "base/epoch_ms.h"
#include "inbox/inbox.h"

#define EVENT_VERSION_MAX 1

/* The members that pgstock reads; all others are returned as attributes. */
static const char *const message_known_names[] =
	{"event_id",		  "eventId",	   "event_type",
	 "eventType",		  "event_version", "eventVersion",
	 "timestamp",		  "order_id",	   "orderId",
	 "user_id",			  "userId",		   "payment_id",
	 "paymentId",		  "status",		   "reason",
	 "failed_reason",	  "failedReason",  "trace_id",
	 "traceId",			  "items",		   "product_quantity_map",
	 "productQuantityMap"};

/* Notes a fault; of several the first one counts. */
static void
message_set_poison(Parsed *parsed, const char *reason)
{
	Assert(reason != NULL);
	if (parsed->poison == NULL)
		parsed->poison = pstrdup(reason);
}

/*
 * A string of jansson's, which is UTF-8, in the database's encoding.  NULL and
 * poison if that lacks a character: all but UTF8 and SQL_ASCII lack most.
 */
static char *
message_text(Parsed *parsed, const char *utf8, const char *name)
{
	char *converted = text_from_utf8(utf8, strlen(utf8));

	if (converted == NULL)
		message_set_poison(parsed, psprintf("\"%s\" holds a character that the "
											"database's encoding, %s, lacks",
											name, GetDatabaseEncodingName()));
	return converted;
}

/* Why jansson refused a value, without quoting the value. */
static const char *
message_json_fault(const json_error_t *error)
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

/* A member by either of its names; two different values are poison. */
static json_t *
message_member(Parsed *parsed, json_t *object, const char *snake,
			   const char *camel)
{
	json_t *one = json_object_get(object, snake);
	json_t *other = json_object_get(object, camel);

	if (one != NULL && other != NULL && !json_equal(one, other))
		message_set_poison(parsed,
						   psprintf("\"%s\" and \"%s\" have different values",
									snake, camel));
	if (one == NULL)
		one = other;
	return json_is_null(one) ? NULL : one;
}

/* An id: a string, or an integer as it is written; NULL: none, or poison. */
static char *
message_id(Parsed *parsed, json_t *object, const char *snake, const char *camel)
{
	const json_t *value = message_member(parsed, object, snake, camel);
	char		 *id;

	if (value == NULL)
		return NULL;
	if (json_is_integer(value))
		id = psprintf("%lld", (long long) json_integer_value(value));
	else if (json_is_string(value))
		id = message_text(parsed, json_string_value(value), snake);
	else
	{
		message_set_poison(parsed,
						   psprintf("\"%s\" is neither a string nor an integer",
									snake));
		return NULL;
	}
	if (id == NULL)
		return NULL;
	if (args_id_fault(id) != NULL)
	{
		message_set_poison(parsed,
						   psprintf("\"%s\" %s", snake, args_id_fault(id)));
		return NULL;
	}
	return id;
}

/* The same where producers write "" for none. */
static char *
message_optional_id(Parsed *parsed, json_t *object, const char *snake,
					const char *camel)
{
	const json_t *value = message_member(parsed, object, snake, camel);

	if (json_is_string(value) && json_string_length(value) == 0)
		return NULL;
	return message_id(parsed, object, snake, camel);
}

static char *
message_string(Parsed *parsed, json_t *object, const char *snake,
			   const char *camel)
{
	const json_t *value = message_member(parsed, object, snake, camel);

	if (value == NULL)
		return NULL;
	if (!json_is_string(value))
	{
		message_set_poison(parsed, psprintf("\"%s\" is not a string", snake));
		return NULL;
	}
	return message_text(parsed, json_string_value(value), snake);
}

/*
 * Why the event happened.  People read it and it is often a stack trace, so no
 * character in it may keep the stock of the order from being released.
 */
static char *
message_reason(Parsed *parsed, json_t *object)
{
	const json_t *value = message_member(parsed, object, "failed_reason",
										 "failedReason");
	const char	 *utf8;
	char		 *reason;

	if (value == NULL)
		value = message_member(parsed, object, "reason", "reason");
	if (value == NULL)
		return NULL;
	utf8 = json_string_value(value);
	if (utf8 == NULL)
	{
		message_set_poison(parsed, "\"reason\" is not a string");
		return NULL;
	}
	reason = text_from_utf8(utf8, strlen(utf8));
	return text_printable(reason ? reason : text_as_ascii(utf8));
}

/* ---- The lines of an order ---- */

static void
message_add_line(Parsed *parsed, char *product_id, char *location,
				 const json_t *quantity, int64 *total)
{
	int64 n = json_is_integer(quantity) ? (int64) json_integer_value(quantity)
										: 0;

	Assert(parsed->poison != NULL || *total <= STOCK_QUANTITY_MAX);
	if (quantity == NULL)
		message_set_poison(parsed, "a \"quantity\" is missing");
	else if (!json_is_integer(quantity))
		message_set_poison(parsed, "a \"quantity\" is not an integer");
	else if (n < 1 || n > STOCK_QUANTITY_MAX)
		message_set_poison(parsed, "a \"quantity\" is not between 1 and 2^53");
	else if ((*total += n) > STOCK_QUANTITY_MAX)
		message_set_poison(parsed, "the quantities add up to more than 2^53");
	if (parsed->poison == NULL)
		parsed->lines = lappend(parsed->lines,
								line_new(product_id, location, n));
}

static void
message_parse_item(Parsed *parsed, json_t *item, int64 *total)
{
	char *product_id;
	char *location;

	if (!json_is_object(item))
	{
		message_set_poison(parsed, "an item is not an object");
		return;
	}
	product_id = message_id(parsed, item, "product_id", "productId");
	location = message_optional_id(parsed, item, "location", "location");
	if (product_id == NULL)
		message_set_poison(parsed, "a \"product_id\" is missing");
	message_add_line(parsed, product_id, location ? location : STOCK_MAIN,
					 json_object_get(item, "quantity"), total);
}

static void
message_parse_quantity_map(Parsed *parsed, json_t *map, int64 *total)
{
	const char *key;
	json_t	   *quantity;

	if (!json_is_object(map))
	{
		message_set_poison(parsed, "\"productQuantityMap\" is not an object");
		return;
	}
	json_object_foreach(map, key, quantity)
	{
		char *product_id = message_text(parsed, key, "productQuantityMap");

		if (product_id == NULL)
			return;
		if (args_id_fault(product_id) != NULL)
			message_set_poison(parsed, psprintf("a product id %s",
												args_id_fault(product_id)));
		message_add_line(parsed, product_id, STOCK_MAIN, quantity, total);
	}
}

static void
message_parse_lines(Parsed *parsed, json_t *root)
{
	json_t *items = json_object_get(root, "items");
	json_t *map = message_member(parsed, root, "product_quantity_map",
								 "productQuantityMap");
	json_t *item;
	size_t	i;
	size_t	n = json_is_array(items) ? json_array_size(items)
									 : json_object_size(map);
	int64	total = 0;

	if (items != NULL && map != NULL)
		message_set_poison(
			parsed, "there are both \"items\" and \"productQuantityMap\"");
	else if (items == NULL && map == NULL)
		message_set_poison(parsed, "\"items\" is missing");
	else if (items != NULL && !json_is_array(items))
		message_set_poison(parsed, "\"items\" is not an array");
	else if (n > (size_t) pgstock_max_lines)
		message_set_poison(parsed, psprintf("there are more than %d lines",
											pgstock_max_lines));
	if (parsed->poison != NULL)
		return;
	if (map != NULL)
		message_parse_quantity_map(parsed, map, &total);
	json_array_foreach(items, i, item) message_parse_item(parsed, item, &total);
	if (parsed->lines == NIL)
		message_set_poison(parsed, "there is no line in it");
	if (parsed->poison == NULL)
		parsed->lines = lines_merge(parsed->lines);
	Assert(parsed->poison != NULL ||
		   list_length(parsed->lines) <= pgstock_max_lines);
}

/* The lines of a message that needs none; NIL if they cannot be read. */
static List *
message_read_stated_lines(json_t *root)
{
	Parsed stated = {0};

	message_parse_lines(&stated, root);
	return stated.poison == NULL ? stated.lines : NIL;
}

/* The lines that select a part of the order, if the message has any. */
static void
message_parse_selection(Parsed *parsed, json_t *root)
{
	if (message_member(parsed, root, "items", "items") == NULL &&
		message_member(parsed, root, "product_quantity_map",
					   "productQuantityMap") == NULL)
		return;
	message_parse_lines(parsed, root);
	parsed->stated_lines = parsed->lines;
	parsed->lines = NIL;
}

static void
message_parse_line_use(Parsed *parsed, json_t *root)
{
	switch (parsed->line_use)
	{
		case LINES_UNUSED:
			break;
		case LINES_RESERVED:
			message_parse_lines(parsed, root);
			break;
		case LINES_COMPARED:
			parsed->stated_lines = message_read_stated_lines(root);
			break;
		case LINES_SELECT:
			message_parse_selection(parsed, root);
			break;
	}
	Assert(parsed->lines == NIL || parsed->line_use == LINES_RESERVED);
}

/* ---- The other members ---- */

/* The event's own time, else the record's, else what is set already. */
static void
message_parse_time(const Record *record, Parsed *parsed, const json_t *value)
{
	bool no_zone = false;

	if (record->sent_at_ms >= 0)
		parsed->happened_at = epoch_ms_to_timestamp(record->sent_at_ms);
	if (value == NULL || json_is_null(value))
		return;
	if (json_is_integer(value) && epoch_ms_is_sane(json_integer_value(value)))
	{
		parsed->happened_at = epoch_ms_to_timestamp(json_integer_value(value));
		return;
	}
	if (!json_is_string(value) ||
		!rfc3339_parse(json_string_value(value), &parsed->happened_at,
					   &no_zone))
		message_set_poison(parsed, "\"timestamp\" is neither RFC 3339 nor "
								   "epoch milliseconds");
	if (no_zone)
		parsed->remark = "timestamp_without_zone";
}

/* The other members, as they are written or, failing that, as escapes. */
static void
message_parse_attributes(const Record *record, Parsed *parsed)
{
	const char *value = VARDATA_ANY(record->value);
	int			length = VARSIZE_ANY_EXHDR(record->value);
	char	   *json = text_from_utf8(value, length);

	if (json == NULL)
		json = json_as_ascii(value, length);
	parsed->attributes = attributes_cut(json, strlen(json), message_known_names,
										lengthof(message_known_names));
}

static void
message_parse_version(Parsed *parsed, json_t *root)
{
	const json_t *value = message_member(parsed, root, "event_version",
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

static void
message_parse_object(const Record *record, Parsed *parsed, json_t *root)
{
	char *event_type;

	parsed->order_id = message_id(parsed, root, "order_id", "orderId");
	if (parsed->order_id == NULL)
		message_set_poison(parsed, "\"order_id\" is missing");
	parsed->user_id = message_optional_id(parsed, root, "user_id", "userId");
	parsed->payment_id = message_optional_id(parsed, root, "payment_id",
											 "paymentId");
	event_type = message_string(parsed, root, "event_type", "eventType");
	if (parsed->event_type == NULL)
		parsed->event_type = event_type;
	if (parsed->trace_id == NULL)
		parsed->trace_id = message_optional_id(parsed, root, "trace_id",
											   "traceId");
	parsed->status = message_string(parsed, root, "status", "status");
	parsed->reason = message_reason(parsed, root);
	message_parse_version(parsed, root);
	message_parse_time(record, parsed, json_object_get(root, "timestamp"));
	message_parse_line_use(parsed, root);
	message_parse_attributes(record, parsed);
}

/* ---- Headers ---- */

static void
message_read_headers(Parsed *parsed, List *headers)
{
	static const char *const type_names[] = {"ce_type", "event_type",
											 "eventType"};

	for (int i = 0; i < lengthof(type_names) && parsed->event_type == NULL; i++)
		parsed->event_type = message_id_header(headers, type_names[i]);
	parsed->traceparent = message_id_header(headers, "traceparent");
	if (parsed->traceparent == NULL)
		parsed->traceparent = message_id_header(headers, "ce_traceparent");
	if (parsed->traceparent != NULL &&
		!traceparent_is_valid(parsed->traceparent))
		parsed->traceparent = NULL;
	if (parsed->traceparent != NULL)
		parsed->trace_id = traceparent_trace_id(parsed->traceparent);
}

/* Reads the headers only, of a record whose value may end the process. */
void
message_parse_headers(const Record *record, Parsed *parsed)
{
	List *headers = headers_unpack(record->headers);

	message_read_headers(parsed, headers);
	message_id_assign(record, headers, NULL, parsed);
}

/* ---- The value ---- */

/* What a value is that is not an object, for the dead letter. */
static const char *
message_value_kind(const json_t *value)
{
	json_t *inner;
	bool	twice;

	Assert(!json_is_object(value));
	switch (json_typeof(value))
	{
		case JSON_ARRAY:
			return "the value is a JSON array, not an object";
		case JSON_INTEGER:
		case JSON_REAL:
			return "the value is a JSON number, not an object";
		case JSON_TRUE:
		case JSON_FALSE:
			return "the value is a JSON boolean, not an object";
		case JSON_NULL:
			return "the value is JSON's null, not an object";
		default:
			break;
	}
	inner = json_loadb(json_string_value(value), json_string_length(value), 0,
					   NULL);
	twice = inner != NULL;
	json_decref(inner);
	return twice ? "the value is a JSON string that holds JSON: it was encoded "
				   "twice"
				 : "the value is a JSON string, not an object";
}

/* The value as JSON of any kind; NULL and poison if it is not JSON. */
static json_t *
message_load_value(const Record *record, Parsed *parsed)
{
	const char	*value = VARDATA_ANY(record->value);
	int			 length = VARSIZE_ANY_EXHDR(record->value);
	const char	*nul = memchr(value, 0, length);
	json_error_t error;
	json_t		*root;

	if (length == 0)
	{
		message_set_poison(parsed, "the value is empty");
		return NULL;
	}
	/* jansson overlooks one behind a number and accepts what follows */
	if (nul != NULL)
	{
		message_set_poison(parsed,
						   psprintf("the value is not valid JSON: it holds a "
									"zero byte (byte %d)",
									(int) (nul - value) + 1));
		return NULL;
	}
	root = json_loadb(value, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
					  &error);
	if (root == NULL)
		message_set_poison(parsed,
						   psprintf("the value is not valid JSON: %s (byte %d)",
									message_json_fault(&error),
									error.position));
	return root;
}

/*
 * Parses a record for a built-in handler, which uses its lines as line_use
 * says.  Default_time: when it happened if neither the value nor the record
 * has a time.
 */
void
message_parse(const Record *record, LineUse line_use, TimestampTz default_time,
			  Parsed *parsed)
{
	List   *headers = headers_unpack(record->headers);
	char   *body_id = NULL;
	json_t *root = NULL;

	parsed->line_use = line_use;
	parsed->happened_at = default_time;
	message_read_headers(parsed, headers);
	if (record->value == NULL)
		message_set_poison(parsed, "the message has no value (a tombstone)");
	else
		root = message_load_value(record, parsed);
	if (root != NULL && json_is_object(root))
	{
		body_id = message_optional_id(parsed, root, "event_id", "eventId");
		message_parse_object(record, parsed, root);
	}
	else if (root != NULL)
		message_set_poison(parsed, message_value_kind(root));
	json_decref(root);
	message_id_assign(record, headers, body_id, parsed);
	/* a handler may rely on these */
	Assert(parsed->poison != NULL || parsed->order_id != NULL);
	Assert(parsed->poison != NULL || line_use != LINES_RESERVED ||
		   parsed->lines != NIL);
}

/* A string that can be an id, or an integer; else NULL. */
static char *
message_any_id(json_t *object, const char *snake, const char *camel)
{
	json_t *value = json_object_get(object, snake);
	char   *id = NULL;

	if (value == NULL)
		value = json_object_get(object, camel);
	if (json_is_integer(value))
		id = psprintf("%lld", (long long) json_integer_value(value));
	else if (json_is_string(value))
		id = text_from_utf8(json_string_value(value),
							json_string_length(value));
	return id != NULL && args_id_fault(id) == NULL ? id : NULL;
}

/*
 * Parses a record for a registered handler: its value may be any JSON or a
 * tombstone, and of an object the members known to us are read if they can be.
 */
void
message_parse_any(const Record *record, Parsed *parsed)
{
	List   *headers = headers_unpack(record->headers);
	json_t *root = NULL;
	char   *body_id;

	message_read_headers(parsed, headers);
	if (record->value != NULL)
		root = message_load_value(record, parsed);
	body_id = message_any_id(root, "event_id", "eventId");
	if (parsed->event_type == NULL)
		parsed->event_type = message_any_id(root, "event_type", "eventType");
	if (parsed->trace_id == NULL)
		parsed->trace_id = message_any_id(root, "trace_id", "traceId");
	parsed->order_id = message_any_id(root, "order_id", "orderId");
	json_decref(root);
	message_id_assign(record, headers, body_id, parsed);
}
