/*
 * field.c - the fields of a request: where each stands, and what it may be
 *
 * What a function of the database would refuse for its form is refused here,
 * so that one bad request cannot fail the others of a batch.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/field.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/decode.h"
#include "common/json.h"
#include "common/rfc3339.h"

#define ID_BYTES_MAX   255
#define TEXT_BYTES_MAX 1000
#define QUANTITY_MAX   (INT64_C(1) << 53)
#define TTL_MAX		   INT64_C(315360000) /* ten years of seconds */
#define ITEMS_MAX	   1000				  /* pgstock.max_lines, by default */

typedef struct FieldRange
{
	int64_t min;
	int64_t max;
} FieldRange;

/* Of those that are integers. */
static const FieldRange ranges[] = {
	[FIELD_QUANTITY] = {1, QUANTITY_MAX},
	[FIELD_AMOUNT] = {0, QUANTITY_MAX},
	[FIELD_DELTA] = {-QUANTITY_MAX, QUANTITY_MAX},
	[FIELD_TTL] = {0, TTL_MAX},
};

void
values_free(Values *values)
{
	for (int i = 0; i < FIELDS_MAX; i++)
		free(values->text[i]);
	*values = (Values){0};
}

/* ---- one value --------------------------------------------------------- */

static bool
field_fault(const char *name, Buf *error, const char *what)
{
	buf_printf(error, "\"%s\" %s", name, what);
	return false;
}

static bool
field_set_text(const char *name, const char *text, size_t max, char **value,
			   Buf *error)
{
	size_t len = strlen(text);

	if (len == 0)
		return field_fault(name, error, "is empty");
	if (len > max)
	{
		buf_printf(error, "\"%s\" is longer than %zu bytes", name, max);
		return false;
	}
	*value = xstrdup(text);
	return true;
}

static bool
field_set_integer(const char *name, FieldType type, int64_t number,
				  char **value, Buf *error)
{
	const FieldRange *range = &ranges[type];

	if (number < range->min || number > range->max)
	{
		buf_printf(error,
				   "\"%s\" must be an integer from %" PRId64 " to %" PRId64,
				   name, range->min, range->max);
		return false;
	}
	*value = type == FIELD_TTL ? xasprintf("%" PRId64 " s", number)
							   : xasprintf("%" PRId64, number);
	return true;
}

static bool
field_set_time(const char *name, const char *text, char **value, Buf *error)
{
	int64_t us;

	if (rfc3339_parse(text, &us) != RFC3339_VALID)
		return field_fault(name, error,
						   "must be a time such as 2026-01-31T12:00:00Z");
	*value = xstrdup(text);
	return true;
}

/* An entity tag that the API has given: "7"; or * for any. */
static bool
field_set_version(const char *name, const char *text, char **value, Buf *error)
{
	size_t	len = strlen(text);
	char   *digits;
	int64_t version;
	bool	good;

	if (strcmp(text, "*") == 0)
		return true;
	digits = len > 2 && text[0] == '"' && text[len - 1] == '"'
				 ? xasprintf("%.*s", (int) len - 2, text + 1)
				 : xstrdup("");
	good = parse_number(digits, &version);
	if (good)
		*value = digits;
	else
	{
		free(digits);
		(void) field_fault(name, error,
						   "must be * or an ETag that was given for the stock, "
						   "such as \"7\" with its quotation marks");
	}
	return good;
}

static bool
field_set_uuid(const char *name, const char *text, char **value, Buf *error)
{
	static const char form[] = "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";
	size_t			  at = 0;

	while (form[at] != '\0' &&
		   (form[at] == 'h' ? isxdigit((unsigned char) text[at])
							: text[at] == '-'))
		at++;
	if (form[at] != '\0' || text[at] != '\0')
		return field_fault(name, error, "must be a UUID");
	*value = xstrdup(text);
	return true;
}

/* ---- items ------------------------------------------------------------- */

static const Field item_fields[] = {
	{"product_id", IN_BODY, FIELD_ID, true, NULL},
	{"quantity", IN_BODY, FIELD_QUANTITY, true, NULL},
	{"location", IN_BODY, FIELD_ID, false, NULL},
	{0},
};

static bool field_read_object(const Field *fields, const json_t *object,
							  Values *values, Buf *error) MUST_CHECK;

/* Appends the item as the functions of the database take it. */
static bool
field_add_item(const json_t *element, size_t n, Buf *items, Buf *error)
{
	Values values = {0};
	Buf	   fault = {0};
	bool   good = json_is_object(element);

	if (!good)
		buf_add_str(&fault, "it is not an object");
	else
		good = field_read_object(item_fields, element, &values, &fault);
	if (good)
	{
		buf_add_str(items, n > 1 ? ",{\"product_id\":" : "{\"product_id\":");
		json_add_string(items, values.text[0]);
		buf_printf(items, ",\"quantity\":%s", values.text[1]);
		if (values.text[2] != NULL)
		{
			buf_add_str(items, ",\"location\":");
			json_add_string(items, values.text[2]);
		}
		buf_add_str(items, "}");
	}
	else
		buf_printf(error, "\"items\", number %zu: %s", n, buf_str(&fault));
	values_free(&values);
	buf_free(&fault);
	return good;
}

static bool
field_set_items(const char *name, const json_t *array, char **value, Buf *error)
{
	Buf	   items = {0};
	size_t count = json_array_size(array);

	if (count < 1 || count > ITEMS_MAX)
	{
		buf_printf(error, "\"%s\" must be an array of 1 to %d items", name,
				   ITEMS_MAX);
		return false;
	}
	buf_add_str(&items, "[");
	for (size_t i = 0; i < count; i++)
		if (!field_add_item(json_array_get(array, i), i + 1, &items, error))
		{
			buf_free(&items);
			return false;
		}
	buf_add_str(&items, "]");
	*value = xstrdup(buf_str(&items));
	buf_free(&items);
	return true;
}

/* ---- members of JSON --------------------------------------------------- */

static bool
field_set_id(const char *name, const json_t *member, char **value, Buf *error)
{
	if (json_is_integer(member))
	{
		*value = xasprintf("%" JSON_INTEGER_FORMAT, json_integer_value(member));
		return true;
	}
	if (!json_is_string(member))
		return field_fault(name, error, "must be a string or an integer");
	return field_set_text(name, json_string_value(member), ID_BYTES_MAX, value,
						  error);
}

static bool
field_set_member(const Field *field, const json_t *member, char **value,
				 Buf *error)
{
	const char *name = field->name;

	if (json_is_null(member))
		return true;
	switch (field->type)
	{
		case FIELD_ID:
			return field_set_id(name, member, value, error);
		case FIELD_TEXT:
			if (!json_is_string(member))
				return field_fault(name, error, "must be a string");
			return field_set_text(name, json_string_value(member),
								  TEXT_BYTES_MAX, value, error);
		case FIELD_QUANTITY:
		case FIELD_AMOUNT:
		case FIELD_DELTA:
		case FIELD_TTL:
			if (!json_is_integer(member))
				return field_fault(name, error, "must be an integer");
			return field_set_integer(name, field->type,
									 json_integer_value(member), value, error);
		case FIELD_BOOLEAN:
			if (!json_is_boolean(member))
				return field_fault(name, error, "must be true or false");
			*value = xstrdup(json_is_true(member) ? "true" : "false");
			return true;
		case FIELD_TIME:
			if (!json_is_string(member))
				return field_fault(name, error, "must be a string");
			return field_set_time(name, json_string_value(member), value,
								  error);
		case FIELD_ITEMS:
			return field_set_items(name, member, value, error);
		case FIELD_VERSION:
		case FIELD_UUID:
			break;
	}
	Assert(!"a field of no body");
	return false;
}

/* The index of the field of the body that has the name, or -1. */
static int
field_find(const Field *fields, const char *name)
{
	for (int i = 0; fields[i].name != NULL; i++)
		if (fields[i].place == IN_BODY && strcmp(fields[i].name, name) == 0)
			return i;
	return -1;
}

static bool
field_read_object(const Field *fields, const json_t *object, Values *values,
				  Buf *error)
{
	const char *name;
	json_t	   *member;

	json_object_foreach((json_t *) (uintptr_t) object, name, member)
	{
		int i = field_find(fields, name);

		if (i < 0)
		{
			buf_printf(error, "there is no field \"%.64s\"", name);
			return false;
		}
		if (!field_set_member(&fields[i], member, &values->text[i], error))
			return false;
	}
	for (int i = 0; fields[i].name != NULL; i++)
		if (fields[i].required && values->text[i] == NULL &&
			fields[i].place == IN_BODY)
			return field_fault(fields[i].name, error, "is missing");
	return true;
}

bool
fields_read_members(const Field *fields, const Buf *body, Values *values,
					Buf *error)
{
	json_error_t fault = {0};
	json_t		*object;
	bool		 good;

	object = body->len == 0 ? json_object()
							: json_loadb(body->data, body->len,
										 JSON_REJECT_DUPLICATES, &fault);
	if (object == NULL)
	{
		buf_printf(error, "the body is not JSON: line %d, column %d: %s",
				   fault.line, fault.column, fault.text);
		return false;
	}
	good = json_is_object(object);
	if (good)
		good = field_read_object(fields, object, values, error);
	else
		buf_add_str(error, "the body is not a JSON object");
	json_decref(object);
	return good;
}

/* ---- texts: of path, query and headers --------------------------------- */

static bool
field_set(const Field *field, const char *text, char **value, Buf *error)
{
	switch (field->type)
	{
		case FIELD_ID:
			return field_set_text(field->name, text, ID_BYTES_MAX, value,
								  error);
		case FIELD_VERSION:
			return field_set_version(field->name, text, value, error);
		case FIELD_UUID:
			return field_set_uuid(field->name, text, value, error);
		case FIELD_TEXT:
		case FIELD_QUANTITY:
		case FIELD_AMOUNT:
		case FIELD_DELTA:
		case FIELD_BOOLEAN:
		case FIELD_TTL:
		case FIELD_TIME:
		case FIELD_ITEMS:
			break;
	}
	Assert(!"a field of a body");
	return false;
}

bool
field_set_path(const Field *field, const char *text, size_t len, char **value,
			   Buf *error)
{
	char *decoded = decode_segment(text, len);
	bool  good;

	if (decoded == NULL)
		return field_fault(field->name, error,
						   "is not text in UTF-8, percent-encoded");
	good = field_set(field, decoded, value, error);
	free(decoded);
	return good;
}

static bool
field_read_query(const Field *field, const HttpRequest *request, char **value,
				 Buf *error)
{
	const char *encoded = http_request_query(request, field->name);
	char	   *decoded;
	bool		good;

	if (encoded == NULL)
		return true;
	decoded = decode_query(encoded);
	if (decoded == NULL)
		return field_fault(field->name, error,
						   "is not text in UTF-8, percent-encoded");
	good = field_set(field, decoded, value, error);
	free(decoded);
	return good;
}

static bool
field_read_header(const Field *field, const HttpRequest *request, char **value,
				  Buf *error)
{
	const char *text = http_request_header(request, field->name);

	if (text == NULL)
		return true;
	if (!decode_is_text(text, strlen(text)))
		return field_fault(field->name, error, "is not text in UTF-8");
	return field_set(field, text, value, error);
}

bool
fields_read(const Field *fields, const HttpRequest *request, Values *values,
			Buf *error)
{
	bool body = false;

	for (int i = 0; fields[i].name != NULL; i++)
	{
		bool good = true;

		body = body || fields[i].place == IN_BODY;
		if (fields[i].place == IN_QUERY)
			good = field_read_query(&fields[i], request, &values->text[i],
									error);
		else if (fields[i].place == IN_HEADER)
			good = field_read_header(&fields[i], request, &values->text[i],
									 error);
		if (!good)
			return false;
	}
	return !body || fields_read_members(fields, &request->body, values, error);
}

/* ---- description ------------------------------------------------------- */

void
field_add_schema(const Field *field, Buf *json)
{
	switch (field->type)
	{
		case FIELD_ID:
			buf_printf(json,
					   field->place == IN_BODY
						   ? "{\"type\":[\"string\",\"integer\"],"
							 "\"minLength\":1,\"maxLength\":%d}"
						   : "{\"type\":\"string\",\"minLength\":1,"
							 "\"maxLength\":%d}",
					   ID_BYTES_MAX);
			break;
		case FIELD_TEXT:
			buf_printf(json,
					   "{\"type\":\"string\",\"minLength\":1,"
					   "\"maxLength\":%d}",
					   TEXT_BYTES_MAX);
			break;
		case FIELD_QUANTITY:
		case FIELD_AMOUNT:
		case FIELD_DELTA:
		case FIELD_TTL:
			buf_printf(json,
					   "{\"type\":\"integer\",\"minimum\":%" PRId64
					   ",\"maximum\":%" PRId64 "}",
					   ranges[field->type].min, ranges[field->type].max);
			break;
		case FIELD_BOOLEAN:
			buf_add_str(json, "{\"type\":\"boolean\"}");
			break;
		case FIELD_TIME:
			buf_add_str(json, "{\"type\":\"string\",\"format\":\"date-time\"}");
			break;
		case FIELD_ITEMS:
			buf_add_str(json, "{\"$ref\":\"#/components/schemas/Items\"}");
			break;
		case FIELD_UUID:
			buf_add_str(json, "{\"type\":\"string\",\"format\":\"uuid\"}");
			break;
		case FIELD_VERSION:
			buf_add_str(json, "{\"type\":\"string\","
							  "\"pattern\":\"^(\\\\*|\\\"[0-9]+\\\")$\"}");
			break;
	}
}
