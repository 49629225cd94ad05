/*-------------------------------------------------------------------------
 *
 * inbox/message_field.c
 *	  Reads the fields of a message: ids, texts, and what is wrong with them.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <jansson.h>

#include "mb/pg_wchar.h"

#include "inbox/inbox.h"

/* Notes a fault; of several the first one counts. */
void
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
char *
message_text(Parsed *parsed, const char *utf8, const char *label)
{
	char *converted = text_from_utf8(utf8, strlen(utf8));

	if (converted == NULL)
		message_set_poison(parsed, psprintf("%s holds a character that the "
											"database's encoding, %s, lacks",
											label, GetDatabaseEncodingName()));
	return converted;
}

/* A member by either of its names; two different values are poison. */
json_t *
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

/* The field's value in a message, or in an item of it; NULL: none. */
json_t *
field_get(const FieldMap *map, FieldId id, Parsed *parsed, json_t *object)
{
	const char *snake;
	const char *camel;
	json_t	   *value;

	if (field_is_mapped(map, id))
	{
		value = json_path_find(map->paths[id], object);
		return json_is_null(value) ? NULL : value;
	}
	field_get_names(id, &snake, &camel);
	return message_member(parsed, object, snake, camel);
}

/*
 * A value that is an id: a string, or an integer as it is written; NULL: there
 * is none, or poison.
 */
static char *
message_value_id(Parsed *parsed, const json_t *value, const char *label)
{
	char *id;

	if (json_is_integer(value))
		id = psprintf("%lld", (long long) json_integer_value(value));
	else if (json_is_string(value))
		id = message_text(parsed, json_string_value(value), label);
	else
	{
		message_set_poison(parsed,
						   psprintf("%s is neither a string nor an integer",
									label));
		return NULL;
	}
	if (id == NULL)
		return NULL;
	if (args_id_fault(id) != NULL)
	{
		message_set_poison(parsed, psprintf("%s %s", label, args_id_fault(id)));
		return NULL;
	}
	return id;
}

char *
field_get_id(const FieldMap *map, FieldId id, Parsed *parsed, json_t *object)
{
	const json_t *value = field_get(map, id, parsed, object);

	return value == NULL
			   ? NULL
			   : message_value_id(parsed, value, field_label(map, id));
}

/* The same where producers write "" for none. */
char *
field_get_optional_id(const FieldMap *map, FieldId id, Parsed *parsed,
					  json_t *object)
{
	const json_t *value = field_get(map, id, parsed, object);

	if (value == NULL ||
		(json_is_string(value) && json_string_length(value) == 0))
		return NULL;
	return message_value_id(parsed, value, field_label(map, id));
}

/* The id of a member that no field has, where producers write "" for none. */
char *
message_optional_id(Parsed *parsed, json_t *object, const char *snake,
					const char *camel, const char *label)
{
	const json_t *value = message_member(parsed, object, snake, camel);

	if (value == NULL ||
		(json_is_string(value) && json_string_length(value) == 0))
		return NULL;
	return message_value_id(parsed, value, label);
}

/* A string; any other value is poison. */
char *
message_string(Parsed *parsed, const json_t *value, const char *label)
{
	if (value == NULL)
		return NULL;
	if (!json_is_string(value))
	{
		message_set_poison(parsed, psprintf("%s is not a string", label));
		return NULL;
	}
	return message_text(parsed, json_string_value(value), label);
}

/* A value that can be an id, or NULL. */
static char *
message_any_id(const json_t *value)
{
	char *id = NULL;

	if (json_is_integer(value))
		id = psprintf("%lld", (long long) json_integer_value(value));
	else if (json_is_string(value))
		id = text_from_utf8(json_string_value(value),
							json_string_length(value));
	return id != NULL && args_id_fault(id) == NULL ? id : NULL;
}

/* An id of a message that need not have any: NULL for all that is none. */
char *
message_find_id(json_t *object, const char *snake, const char *camel)
{
	const json_t *value = json_object_get(object, snake);

	return message_any_id(value ? value : json_object_get(object, camel));
}

/* The same for a field. */
char *
field_find_id(const FieldMap *map, FieldId id, json_t *object)
{
	const char *snake;
	const char *camel;

	if (field_is_mapped(map, id))
		return message_any_id(json_path_find(map->paths[id], object));
	field_get_names(id, &snake, &camel);
	return message_find_id(object, snake, camel);
}
