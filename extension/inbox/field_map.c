/*-------------------------------------------------------------------------
 *
 * inbox/field_map.c
 *	  The fields that the built-in handlers read: their names in a message, and
 *	  where a binding says that they are.
 *
 * A field that a binding maps is at its path only.  One that it does not map
 * has its own names, in snake_case and in camelCase.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "inbox/inbox.h"

#define JSON_PATH_HINT                                                         \
	"A path has members and indexes only, such as $.data.lines[0]['unit id'];" \
	" those of an item begin at the item."

typedef struct FieldNames
{
	const char *snake;
	const char *camel;
	const char *label; /* in errors */
} FieldNames;

#define FIELD_NAMES(snake, camel)     \
	{                                 \
		snake, camel, "\"" snake "\"" \
	}

static const FieldNames field_names[FIELDS] = {
	[FIELD_ORDER_ID] = FIELD_NAMES("order_id", "orderId"),
	[FIELD_USER_ID] = FIELD_NAMES("user_id", "userId"),
	[FIELD_PAYMENT_ID] = FIELD_NAMES("payment_id", "paymentId"),
	[FIELD_STATUS] = FIELD_NAMES("status", "status"),
	[FIELD_REASON] = FIELD_NAMES("reason", "reason"),
	[FIELD_EVENT_ID] = FIELD_NAMES("event_id", "eventId"),
	[FIELD_TIMESTAMP] = FIELD_NAMES("timestamp", "timestamp"),
	[FIELD_ITEMS] = FIELD_NAMES("items", "items"),
	[FIELD_PRODUCT_ID] = FIELD_NAMES("product_id", "productId"),
	[FIELD_QUANTITY] = FIELD_NAMES("quantity", "quantity"),
	[FIELD_LOCATION] = FIELD_NAMES("location", "location"),
};

/*
 * Further members that are read, with the field that replaces them if it is
 * mapped, or FIELDS.
 */
static const struct
{
	const char *name;
	FieldId		field;
} field_other_names[] = {
	{"failed_reason", FIELD_REASON},
	{"failedReason", FIELD_REASON},
	{"product_quantity_map", FIELD_ITEMS},
	{"productQuantityMap", FIELD_ITEMS},
	{"event_type", FIELDS},
	{"eventType", FIELDS},
	{"trace_id", FIELDS},
	{"traceId", FIELDS},
};

/* They are read only where nothing is mapped (message_parse_version). */
static const char *const field_version_names[] = {"event_version",
												  "eventVersion"};

/* ---- A binding's argument "fields" ---- */

static FieldId
field_find_name(const char *name)
{
	FieldId id = 0;

	while (id < FIELDS && strcmp(field_names[id].snake, name) != 0)
		id++;
	return id;
}

static char *
field_list_names(void)
{
	StringInfoData list;

	initStringInfo(&list);
	for (FieldId id = 0; id < FIELDS; id++)
		appendStringInfo(&list, "%s%s", id > 0 ? ", " : "",
						 field_names[id].snake);
	return list.data;
}

static void
field_map_add(FieldMap *map, const char *name, const JsonbValue *value)
{
	FieldId		id = field_find_name(name);
	const char *fault;
	char	   *string;

	if (id == FIELDS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("there is no field \"%s\" to map", name),
						errhint("The fields are %s.", field_list_names())));
	if (value->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the path of field \"%s\" is not a string", name),
				 errhint(JSON_PATH_HINT)));
	string = pnstrdup(value->val.string.val, value->val.string.len);
	map->paths[id] = json_path_parse(string, &fault);
	if (fault != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the path \"%s\" of field \"%s\" %s", string,
							   name, fault),
						errhint(JSON_PATH_HINT)));
	map->paths[id]->label = psprintf("%s (%s)", field_names[id].label, string);
}

/* The paths of a JSON object by field; NULL if it has none. */
FieldMap *
field_map_from_jsonb(Jsonb *object)
{
	FieldMap		  *map = palloc0(sizeof(FieldMap));
	JsonbIterator	  *it;
	JsonbValue		   key;
	JsonbValue		   value;
	JsonbIteratorToken token;

	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("fields must be a JSON object"),
						errhint(JSON_PATH_HINT)));
	if (JB_ROOT_COUNT(object) == 0)
		return NULL;
	it = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		field_map_add(map, pnstrdup(key.val.string.val, key.val.string.len),
					  &value);
	}
	return map;
}

/* A mapped field that a message's handler does not read, or NULL. */
const char *
field_map_unused(const FieldMap *map, bool ids_only)
{
	for (FieldId id = 0; map != NULL && ids_only && id < FIELDS; id++)
	{
		if (map->paths[id] != NULL && id != FIELD_ORDER_ID &&
			id != FIELD_EVENT_ID)
			return field_names[id].snake;
	}
	return NULL;
}

/* ---- A message's fields ---- */

/* The field's own names; they may be the same. */
void
field_get_names(FieldId id, const char **snake, const char **camel)
{
	Assert(id < FIELDS);
	*snake = field_names[id].snake;
	*camel = field_names[id].camel;
}

/* What to call a field in an error. */
const char *
field_label(const FieldMap *map, FieldId id)
{
	return field_is_mapped(map, id) ? map->paths[id]->label
									: field_names[id].label;
}

/* The last field that is read in the message itself, not in its items. */
FieldId
field_last(const FieldMap *map)
{
	return field_is_mapped(map, FIELD_ITEMS) && map->paths[FIELD_ITEMS]->n == 0
			   ? FIELDS - 1
			   : FIELD_ITEMS;
}

/* Whether a member of the message is one that pgstock reads by its name. */
bool
field_is_known(const FieldMap *map, const char *name, int length)
{
	for (FieldId id = 0; id <= field_last(map); id++)
	{
		if (!field_is_mapped(map, id) &&
			(field_name_is(field_names[id].snake, name, length) ||
			 field_name_is(field_names[id].camel, name, length)))
			return true;
	}
	for (int i = 0; i < lengthof(field_other_names); i++)
	{
		FieldId replaced_by = field_other_names[i].field;

		if (field_name_is(field_other_names[i].name, name, length))
			return replaced_by == FIELDS || !field_is_mapped(map, replaced_by);
	}
	for (int i = 0; map == NULL && i < lengthof(field_version_names); i++)
	{
		if (field_name_is(field_version_names[i], name, length))
			return true;
	}
	return false;
}
