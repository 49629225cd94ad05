/*
 * field.c - the fields of a request: where each stands, and what it may be
 *
 * What a function of the database would refuse for its form is refused here,
 * so that one bad request cannot fail the others of a batch.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/field.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/decode.h"
#include "api/form.h"
#include "common/json.h"
#include "common/safe_text.h"

void
values_free(Values *values)
{
	for (int i = 0; i < FIELDS_MAX; i++)
		free(values->text[i]);
	*values = (Values){0};
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

	Assert(n >= 1 && n <= FORM_ITEMS_MAX);
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

	if (count < 1 || count > FORM_ITEMS_MAX)
	{
		buf_printf(error, "\"%s\" must be an array of 1 to %d items", name,
				   FORM_ITEMS_MAX);
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

/* In JSON, 2.0 and 2e0 are the integer that 2 is. */
static bool
field_integer(const json_t *member, int64_t *number)
{
	double real = json_real_value(member);

	*number = json_integer_value(member);
	if (!json_is_real(member))
		return json_is_integer(member);
	if (!(fabs(real) < 0x1p63))
		return false;
	*number = (int64_t) real;
	return (double) *number == real;
}

static bool
field_set_id(const Field *field, const json_t *member, char **value, Buf *error)
{
	int64_t number;

	if (field_integer(member, &number))
	{
		*value = xasprintf("%" PRId64, number);
		return true;
	}
	if (!json_is_string(member))
		return form_fault(field->name, error, "must be a string or an integer");
	return form_set_text(field, json_string_value(member), value, error);
}

static bool
field_set_member(const Field *field, const json_t *member, char **value,
				 Buf *error)
{
	const char *name = field->name;
	int64_t		number;

	if (json_is_null(member))
		return true;
	switch (field->type)
	{
		case FIELD_ID:
			return field_set_id(field, member, value, error);
		case FIELD_TEXT:
		case FIELD_TIME:
			if (!json_is_string(member))
				return form_fault(name, error, "must be a string");
			return form_set_text(field, json_string_value(member), value,
								 error);
		case FIELD_QUANTITY:
		case FIELD_AMOUNT:
		case FIELD_DELTA:
		case FIELD_TTL:
			if (!field_integer(member, &number))
				return form_fault(name, error, "must be an integer");
			return form_set_integer(field, number, value, error);
		case FIELD_BOOLEAN:
			if (!json_is_boolean(member))
				return form_fault(name, error, "must be true or false");
			*value = xstrdup(json_is_true(member) ? "true" : "false");
			return true;
		case FIELD_ITEMS:
			return field_set_items(name, member, value, error);
		case FIELD_OBJECT:
			if (!json_is_object(member))
				return form_fault(name, error, "must be an object");
			*value = xstrdup("{}"); /* until field_set_objects() */
			return true;
		case FIELD_KEY:
		case FIELD_VERSION:
		case FIELD_UUID:
		case FIELD_LIMIT:
		case FIELD_FAILURE:
		case FIELD_ORDER_STATE:
		case FIELD_WAIT:
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
		Assert(i < FIELDS_MAX && values->text[i] == NULL);
		if (!field_set_member(&fields[i], member, &values->text[i], error))
			return false;
	}
	for (int i = 0; fields[i].name != NULL; i++)
		if (fields[i].required && values->text[i] == NULL &&
			fields[i].place == IN_BODY)
			return form_fault(fields[i].name, error, "is missing");
	return true;
}

/*
 * Written again, a price of 9.90 would be 9.9000000000000004.  So the database
 * gets the body as it was sent, and takes the member out of it.
 */
static void
field_set_objects(const Field *fields, const Buf *body, Values *values)
{
	for (int i = 0; fields[i].name != NULL; i++)
		if (fields[i].type == FIELD_OBJECT && values->text[i] != NULL)
		{
			free(values->text[i]);
			values->text[i] = xasprintf("%.*s", (int) body->len, body->data);
		}
}

bool
fields_read_members(const Field *fields, const Buf *body, Values *values,
					Buf *error)
{
	json_error_t fault = {0};
	json_t		*object;
	bool		 good;

	Assert(error->len == 0);
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
	if (good)
		field_set_objects(fields, body, values);
	json_decref(object);
	return good;
}

/* ---- texts: of path, query and headers --------------------------------- */

bool
field_set_path(const Field *field, const char *text, size_t len, char **value,
			   Buf *error)
{
	char *decoded = decode_segment(text, len);
	bool  good;

	Assert(field->place == IN_PATH);
	if (decoded == NULL)
		return form_fault(field->name, error,
						  "is not text in UTF-8, percent-encoded");
	good = form_set_text(field, decoded, value, error);
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
		return form_fault(field->name, error,
						  "is not text in UTF-8, percent-encoded");
	good = form_set_text(field, decoded, value, error);
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
		return form_fault(field->name, error, "is not text in UTF-8");
	return form_set_text(field, text, value, error);
}

/* What is found to be wrong with a query. */
typedef struct QueryCheck
{
	const Field *fields;
	unsigned	 seen; /* those, by index */
	Buf			*error;
} QueryCheck;

_Static_assert(FIELDS_MAX <= 32, "a bit for each");

static bool
field_query_fault(const QueryCheck *check, const char *before, const char *name,
				  const char *after)
{
	buf_add_str(check->error, before);
	safe_add(check->error, name, strnlen(name, 64));
	buf_add_str(check->error, after);
	return false;
}

static bool
field_check_parameter(void *arg, const char *name, const char *value)
{
	QueryCheck *check = arg;
	int			i = 0;

	while (check->fields[i].name != NULL &&
		   (check->fields[i].place != IN_QUERY ||
			strcmp(check->fields[i].name, name) != 0))
		i++;
	if (check->fields[i].name == NULL)
		return field_query_fault(check, "there is no parameter \"", name,
								 "\" in the query");
	if (value == NULL)
		return field_query_fault(check, "\"", name, "\" has no value");
	if ((check->seen & 1u << i) != 0)
		return field_query_fault(check, "\"", name, "\" is there twice");
	check->seen |= 1u << i;
	return true;
}

/* A filter that is misspelt, or without a value, would choose everything. */
static bool
fields_check_query(const Field *fields, const HttpRequest *request, Buf *error)
{
	QueryCheck check = {.fields = fields, .error = error};

	http_request_visit_query(request, field_check_parameter, &check);
	return error->len == 0;
}

bool
fields_have_body(const Field *fields)
{
	while (fields->name != NULL && fields->place != IN_BODY)
		fields++;
	return fields->name != NULL;
}

bool
fields_read(const Field *fields, const HttpRequest *request, Values *values,
			Buf *error)
{
	if (!fields_check_query(fields, request, error))
		return false;
	for (int i = 0; fields[i].name != NULL; i++)
	{
		bool good = true;

		Assert(i < FIELDS_MAX);
		Assert(fields[i].place == IN_PATH || values->text[i] == NULL);
		if (fields[i].place == IN_QUERY)
			good = field_read_query(&fields[i], request, &values->text[i],
									error);
		else if (fields[i].place == IN_HEADER)
			good = field_read_header(&fields[i], request, &values->text[i],
									 error);
		if (!good)
			return false;
	}
	return !fields_have_body(fields) ||
		   fields_read_members(fields, &request->body, values, error);
}
