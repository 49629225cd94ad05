/*-------------------------------------------------------------------------
 *
 * inbox/message.c
 *	  An incoming message, parsed: bytes in, fields or the reason out.
 *
 * Nothing here raises an error for what a message holds: a message that can
 * never be applied is poison, and message->poison says why in words that help
 * the person who finds it in the dead letters.  jansson rather than jsonb,
 * since it tells 3 from 3.0 and 1e6, refuses duplicate keys, \u0000, invalid
 * UTF-8 and deep nesting, and does all that by a return code.  Its trees are
 * malloc'd and live in message_parse only.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <jansson.h>

#include "mb/pg_wchar.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "inbox/inbox.h"

#define EVENT_VERSION_MAX 1

/* Names that we know, in both spellings; the rest comes back as attributes. */
static const char *const known_names[] = {
	"event_id",
	"eventId",
	"event_type",
	"eventType",
	"event_version",
	"eventVersion",
	"timestamp",
	"order_id",
	"orderId",
	"user_id",
	"userId",
	"payment_id",
	"paymentId",
	"status",
	"reason",
	"failed_reason",
	"failedReason",
	"trace_id",
	"traceId",
	"items",
	"product_quantity_map",
	"productQuantityMap",
};

/* Notes the first thing that is wrong. */
static void
poison(Message *message, const char *reason)
{
	if (message->poison == NULL)
		message->poison = pstrdup(reason);
}

/*
 * jansson's strings are UTF-8; NULL and poison if ours cannot hold them: every
 * encoding but UTF8 and SQL_ASCII lacks most characters.
 */
static char *
from_utf8(Message *message, const char *utf8, const char *name)
{
	char *converted = text_from_utf8(utf8, strlen(utf8));

	if (converted == NULL)
		poison(message, psprintf("\"%s\" holds a character that the database's "
								 "encoding, %s, lacks",
								 name, GetDatabaseEncodingName()));
	return converted;
}

/* Why jansson refused, without a piece of the payload. */
static const char *
json_fault(const json_error_t *error)
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
member(Message *message, json_t *object, const char *snake, const char *camel)
{
	json_t *one = json_object_get(object, snake);
	json_t *other = json_object_get(object, camel);

	if (one != NULL && other != NULL && !json_equal(one, other))
		poison(message, psprintf("\"%s\" and \"%s\" have different values",
								 snake, camel));
	if (one == NULL)
		one = other;
	return json_is_null(one) ? NULL : one;
}

/* An id: a string, or an integer as it is written. */
static char *
id_value(Message *message, const json_t *value, const char *name)
{
	char *id;

	if (value == NULL)
		return NULL;
	if (json_is_integer(value))
		id = psprintf("%lld", (long long) json_integer_value(value));
	else if (json_is_string(value))
		id = from_utf8(message, json_string_value(value), name);
	else
	{
		poison(message,
			   psprintf("\"%s\" is neither a string nor an integer", name));
		return NULL;
	}
	if (id == NULL)
		return NULL;
	if (args_id_fault(id) != NULL)
	{
		poison(message, psprintf("\"%s\" %s", name, args_id_fault(id)));
		return NULL;
	}
	return id;
}

/* An id that need not be there: producers write "" for none. */
static char *
optional_id(Message *message, const json_t *value, const char *name)
{
	if (json_is_string(value) && json_string_length(value) == 0)
		return NULL;
	return id_value(message, value, name);
}

static char *
text_value(Message *message, const json_t *value, const char *name)
{
	if (value == NULL)
		return NULL;
	if (!json_is_string(value))
	{
		poison(message, psprintf("\"%s\" is not a string", name));
		return NULL;
	}
	return from_utf8(message, json_string_value(value), name);
}

/*
 * Why it happened.  It is for people and often a stack trace: whatever it holds
 * must not keep an order from being given back.
 */
static char *
reason_value(Message *message, const json_t *value)
{
	const char *utf8 = json_string_value(value);
	char	   *reason;

	if (value == NULL)
		return NULL;
	if (utf8 == NULL)
	{
		poison(message, "\"reason\" is not a string");
		return NULL;
	}
	reason = text_from_utf8(utf8, strlen(utf8));
	return text_for_people(reason ? reason : text_as_ascii(utf8));
}

/* ---- The lines of an order ---- */

static void
add_line(Message *message, char *product_id, char *location,
		 const json_t *quantity, int64 *total)
{
	int64 n = json_is_integer(quantity) ? (int64) json_integer_value(quantity)
										: 0;

	if (quantity == NULL)
		poison(message, "a \"quantity\" is missing");
	else if (!json_is_integer(quantity))
		poison(message, "a \"quantity\" is not an integer");
	else if (n < 1 || n > STOCK_QUANTITY_MAX)
		poison(message, "a \"quantity\" is not between 1 and 2^53");
	else if ((*total += n) > STOCK_QUANTITY_MAX)
		poison(message, "the quantities add up to more than 2^53");
	if (message->poison == NULL)
		message->lines = lappend(message->lines,
								 line_new(product_id, location, n));
}

static void
parse_item(Message *message, json_t *item, int64 *total)
{
	char *product_id;
	char *location;

	if (!json_is_object(item))
	{
		poison(message, "an item is not an object");
		return;
	}
	product_id = id_value(message,
						  member(message, item, "product_id", "productId"),
						  "product_id");
	location = optional_id(message,
						   member(message, item, "location", "location"),
						   "location");
	if (product_id == NULL)
		poison(message, "a \"product_id\" is missing");
	add_line(message, product_id, location ? location : STOCK_MAIN,
			 json_object_get(item, "quantity"), total);
}

static void
parse_quantity_map(Message *message, json_t *map, int64 *total)
{
	const char *key;
	json_t	   *quantity;

	if (!json_is_object(map))
	{
		poison(message, "\"productQuantityMap\" is not an object");
		return;
	}
	json_object_foreach(map, key, quantity)
	{
		char *product_id = from_utf8(message, key, "productQuantityMap");

		if (product_id == NULL)
			return;
		if (args_id_fault(product_id) != NULL)
			poison(message,
				   psprintf("a product id %s", args_id_fault(product_id)));
		add_line(message, product_id, STOCK_MAIN, quantity, total);
	}
}

static void
parse_lines(Message *message, json_t *root)
{
	json_t *items = json_object_get(root, "items");
	json_t *map = member(message, root, "product_quantity_map",
						 "productQuantityMap");
	json_t *item;
	size_t	i;
	size_t	n = json_is_array(items) ? json_array_size(items)
									 : json_object_size(map);
	int64	total = 0;

	if (items != NULL && map != NULL)
		poison(message, "there are both \"items\" and \"productQuantityMap\"");
	else if (items == NULL && map == NULL)
		poison(message, "\"items\" is missing");
	else if (items != NULL && !json_is_array(items))
		poison(message, "\"items\" is not an array");
	else if (n > (size_t) pgstock_max_lines)
		poison(message,
			   psprintf("there are more than %d lines", pgstock_max_lines));
	if (message->poison != NULL)
		return;
	if (map != NULL)
		parse_quantity_map(message, map, &total);
	json_array_foreach(items, i, item) parse_item(message, item, &total);
	if (message->lines == NIL)
		poison(message, "there is no line in it");
	if (message->poison == NULL)
		message->lines = lines_merge(message->lines);
}

/* The lines that are told and not needed; NIL if they are none. */
static List *
told_lines(json_t *root)
{
	Message told = {0};

	parse_lines(&told, root);
	return told.poison == NULL ? told.lines : NIL;
}

/* The lines that say which part of the order is meant, if any do. */
static void
parse_part(Message *message, json_t *root)
{
	if (member(message, root, "items", "items") == NULL &&
		member(message, root, "product_quantity_map", "productQuantityMap") ==
			NULL)
		return;
	parse_lines(message, root);
	message->told_lines = message->lines;
	message->lines = NIL;
}

/* ---- Time ---- */

/* One of the characters, then so many digits, of a number up to max. */
static bool
take_number(const char **at, const char *before, int digits, int max, int *n)
{
	if (before[0] != '\0' && (**at == '\0' || strchr(before, *(*at)++) == NULL))
		return false;
	for (*n = 0; digits > 0; digits--, (*at)++)
	{
		if (**at < '0' || **at > '9')
			return false;
		*n = *n * 10 + (**at - '0');
	}
	return *n <= max;
}

/* What stands behind the seconds: digits below the microsecond do not count. */
static bool
take_fraction(const char **at, fsec_t *fsec)
{
	int unit = USECS_PER_SEC / 10;

	*fsec = 0;
	if (**at != '.')
		return true;
	if (strspn(++*at, "0123456789") == 0)
		return false;
	for (; **at >= '0' && **at <= '9'; (*at)++, unit /= 10)
		*fsec += (**at - '0') * unit;
	return true;
}

/*
 * The zone, as seconds to the west, and the end.  Many producers leave it out;
 * what they mean by that is, as a rule, UTC.
 */
static bool
take_zone(const char *at, int *tz, bool *missing)
{
	bool east = *at == '+';
	int	 hours;
	int	 minutes;

	*tz = 0;
	*missing = *at == '\0';
	if (*missing || pg_strcasecmp(at, "Z") == 0)
		return true;
	if (!take_number(&at, "+-", 2, 23, &hours) ||
		!take_number(&at, ":", 2, 59, &minutes))
		return false;
	*tz = (hours * SECS_PER_HOUR + minutes * SECS_PER_MINUTE) * (east ? -1 : 1);
	return *at == '\0';
}

/* RFC 3339, to the letter, or without its zone; false if it is neither. */
static bool
parse_rfc3339(const char *at, TimestampTz *to, bool *no_zone)
{
	struct pg_tm tm = {0};
	fsec_t		 fsec;
	int			 tz;

	return take_number(&at, "", 4, 9999, &tm.tm_year) &&
		   take_number(&at, "-", 2, MONTHS_PER_YEAR, &tm.tm_mon) &&
		   take_number(&at, "-", 2, 31, &tm.tm_mday) &&
		   take_number(&at, "Tt ", 2, 23, &tm.tm_hour) &&
		   take_number(&at, ":", 2, 59, &tm.tm_min) &&
		   take_number(&at, ":", 2, 60, &tm.tm_sec) &&
		   take_fraction(&at, &fsec) && take_zone(at, &tz, no_zone) &&
		   ValidateDate(DTK_DATE_M, false, false, false, &tm) == 0 &&
		   tm2timestamp(&tm, fsec, &tz, to) == 0;
}

/* Kafka's time, epoch milliseconds, as ours. */
TimestampTz
message_time(int64 ms)
{
	return (ms - (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
					 SECS_PER_DAY * 1000) *
		   1000;
}

/* From 1970 to 9999: a producer may write anything into a record's time. */
bool
message_time_is_sane(int64 ms)
{
	return ms >= 0 && ms < INT64CONST(253402300800000);
}

int64
message_time_ms(TimestampTz at)
{
	return at / 1000 + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
						   SECS_PER_DAY * 1000;
}

static void
parse_time(Message *message, const json_t *value)
{
	int64 ms = message->sent_at_ms;
	bool  no_zone = false;

	if (ms >= 0)
		message->happened_at = message_time(ms);
	if (value == NULL || json_is_null(value))
		return;
	if (json_is_integer(value))
	{
		ms = (int64) json_integer_value(value);
		if (message_time_is_sane(ms))
		{
			message->happened_at = message_time(ms);
			return;
		}
	}
	if (!json_is_string(value) ||
		!parse_rfc3339(json_string_value(value), &message->happened_at,
					   &no_zone))
		poison(message,
			   "\"timestamp\" is neither RFC 3339 nor epoch milliseconds");
	if (no_zone)
		message->remark = "timestamp_without_zone";
}

/* ---- The whole ---- */

/* What we do not know comes back as it was written, or as can be written. */
static void
parse_attributes(Message *message)
{
	const char *value = VARDATA_ANY(message->value);
	int			length = VARSIZE_ANY_EXHDR(message->value);
	char	   *json = text_from_utf8(value, length);

	if (json == NULL)
		json = json_as_ascii(value, length);
	message->attributes = attributes_cut(json, strlen(json), known_names,
										 lengthof(known_names));
}

static void
parse_version(Message *message, const json_t *value)
{
	if (value == NULL)
		return;
	if (!json_is_integer(value) || json_integer_value(value) < 1)
		poison(message, "\"event_version\" is not a positive integer");
	else if (json_integer_value(value) > EVENT_VERSION_MAX)
		poison(message,
			   psprintf("event_version %lld is newer than the newest known, %d",
						(long long) json_integer_value(value),
						EVENT_VERSION_MAX));
}

static void
parse_object(Message *message, json_t *root)
{
	json_t *reason = member(message, root, "failed_reason", "failedReason");
	char   *event_type;

	message->order_id = id_value(message,
								 member(message, root, "order_id", "orderId"),
								 "order_id");
	if (message->order_id == NULL)
		poison(message, "\"order_id\" is missing");
	message->user_id = optional_id(message,
								   member(message, root, "user_id", "userId"),
								   "user_id");
	message->payment_id = optional_id(message,
									  member(message, root, "payment_id",
											 "paymentId"),
									  "payment_id");
	event_type = text_value(message,
							member(message, root, "event_type", "eventType"),
							"event_type");
	if (message->event_type == NULL)
		message->event_type = event_type;
	if (message->trace_id == NULL)
		message->trace_id = optional_id(message,
										member(message, root, "trace_id",
											   "traceId"),
										"trace_id");
	message->status = text_value(message,
								 member(message, root, "status", "status"),
								 "status");
	if (reason == NULL)
		reason = member(message, root, "reason", "reason");
	message->reason = reason_value(message, reason);
	parse_version(message,
				  member(message, root, "event_version", "eventVersion"));
	parse_time(message, json_object_get(root, "timestamp"));
	if (message->wants_lines)
		parse_lines(message, root);
	if (message->compares_lines)
		message->told_lines = told_lines(root);
	if (message->names_part)
		parse_part(message, root);
	parse_attributes(message);
}

static void
parse_headers(Message *message, List *headers)
{
	static const char *const type_names[] = {"ce_type", "event_type",
											 "eventType"};

	for (int i = 0; i < lengthof(type_names) && message->event_type == NULL;
		 i++)
		message->event_type = name_header(headers, type_names[i]);
	message->traceparent = name_header(headers, "traceparent");
	if (message->traceparent == NULL)
		message->traceparent = name_header(headers, "ce_traceparent");
	if (message->traceparent != NULL &&
		!traceparent_is_valid(message->traceparent))
		message->traceparent = NULL;
	if (message->traceparent != NULL)
		message->trace_id = traceparent_trace_id(message->traceparent);
}

/* Only what names the message: its value may be what ends the process. */
void
message_parse_headers(Message *message)
{
	List *headers = headers_unpack(message->headers);

	parse_headers(message, headers);
	name_message(message, headers, NULL);
}

/* What a value is that is no object. */
static const char *
value_kind(const json_t *value)
{
	json_t *inner;
	bool	twice;

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

/* The value as JSON of any kind, or NULL and poison. */
static json_t *
load_value(Message *message)
{
	const char	*value = VARDATA_ANY(message->value);
	int			 length = VARSIZE_ANY_EXHDR(message->value);
	const char	*nul = memchr(value, 0, length);
	json_error_t error;
	json_t		*root;

	if (length == 0)
	{
		poison(message, "the value is empty");
		return NULL;
	}
	/* jansson does not see one behind a number, and takes what follows. */
	if (nul != NULL)
	{
		poison(message, psprintf("the value is not valid JSON: it holds a zero "
								 "byte (byte %d)",
								 (int) (nul - value) + 1));
		return NULL;
	}
	root = json_loadb(value, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
					  &error);
	if (root == NULL)
		poison(message, psprintf("the value is not valid JSON: %s (byte %d)",
								 json_fault(&error), error.position));
	return root;
}

/* Reads the message's value and headers into its fields. */
void
message_parse(Message *message)
{
	List   *headers = headers_unpack(message->headers);
	char   *body_id = NULL;
	json_t *root = NULL;

	parse_headers(message, headers);
	/* else Kafka's time, else its own: see parse_time */
	message->happened_at = message->failed_id != 0 ? message->first_failed_at
												   : GetCurrentTimestamp();
	if (message->value == NULL)
		poison(message, "the message has no value (a tombstone)");
	else
		root = load_value(message);
	if (root != NULL && json_is_object(root))
	{
		body_id = optional_id(message,
							  member(message, root, "event_id", "eventId"),
							  "event_id");
		parse_object(message, root);
	}
	else if (root != NULL)
		poison(message, value_kind(root));
	json_decref(root);
	name_message(message, headers, body_id);
}

/* A string that can serve as an id, or an integer; else NULL. */
static char *
any_id(json_t *object, const char *snake, const char *camel)
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
 * The same for a handler of a user's: the value may be any JSON, or none at
 * all, and the names that we know are only looked at.
 */
void
message_parse_any(Message *message)
{
	List   *headers = headers_unpack(message->headers);
	json_t *root = NULL;
	char   *body_id;

	parse_headers(message, headers);
	if (message->value != NULL)
		root = load_value(message);
	body_id = any_id(root, "event_id", "eventId");
	if (message->event_type == NULL)
		message->event_type = any_id(root, "event_type", "eventType");
	if (message->trace_id == NULL)
		message->trace_id = any_id(root, "trace_id", "traceId");
	message->order_id = any_id(root, "order_id", "orderId");
	json_decref(root);
	name_message(message, headers, body_id);
}
