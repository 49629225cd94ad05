/*-------------------------------------------------------------------------
 *
 * inbox/message_lines.c
 *	  Parses the lines of an order in an incoming message.
 *
 * They are an array of items, or a map of product ids to quantities.  Where a
 * binding maps "items", an array there has the items, and an object is one
 * item if the binding maps "product_id" too, and a map otherwise.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <jansson.h>

#include "inbox/inbox.h"

/* The lines of a message while they are parsed. */
typedef struct LineParser
{
	Parsed		   *parsed;
	const FieldMap *map;
	int64			total; /* of the quantities */
} LineParser;

static void
lines_add(LineParser *parser, char *product_id, char *location,
		  const json_t *quantity)
{
	Parsed	   *parsed = parser->parsed;
	const char *fault = NULL;
	int64 n = json_is_integer(quantity) ? (int64) json_integer_value(quantity)
										: 0;

	Assert(parsed->poison != NULL || parser->total <= STOCK_QUANTITY_MAX);
	if (quantity == NULL)
		fault = "is missing";
	else if (!json_is_integer(quantity))
		fault = "is not an integer";
	else if (n < 1 || n > STOCK_QUANTITY_MAX)
		fault = "is not between 1 and 2^53";
	if (fault != NULL)
		message_set_poison(parsed,
						   psprintf("a %s %s",
									field_label(parser->map, FIELD_QUANTITY),
									fault));
	else if ((parser->total += n) > STOCK_QUANTITY_MAX)
		message_set_poison(parsed, "the quantities add up to more than 2^53");
	if (parsed->poison == NULL)
		parsed->lines = lappend(parsed->lines,
								line_new(product_id, location, n));
}

static json_t *
lines_get_quantity(LineParser *parser, json_t *item)
{
	return field_is_mapped(parser->map, FIELD_QUANTITY)
			   ? field_get(parser->map, FIELD_QUANTITY, parser->parsed, item)
			   : json_object_get(item, "quantity");
}

static char *
lines_get_location(LineParser *parser, json_t *item)
{
	char *location = field_get_optional_id(parser->map, FIELD_LOCATION,
										   parser->parsed, item);

	return location ? location : STOCK_MAIN;
}

static void
lines_parse_item(LineParser *parser, json_t *item)
{
	Parsed *parsed = parser->parsed;
	char   *product_id;

	if (!json_is_object(item))
	{
		message_set_poison(parsed, "an item is not an object");
		return;
	}
	product_id = field_get_id(parser->map, FIELD_PRODUCT_ID, parsed, item);
	if (product_id == NULL)
		message_set_poison(parsed, psprintf("a %s is missing",
											field_label(parser->map,
														FIELD_PRODUCT_ID)));
	lines_add(parser, product_id, lines_get_location(parser, item),
			  lines_get_quantity(parser, item));
}

/* A map of product ids to quantities, or to objects that have them. */
static void
lines_parse_map(LineParser *parser, json_t *map)
{
	Parsed	   *parsed = parser->parsed;
	bool		mapped = field_is_mapped(parser->map, FIELD_ITEMS);
	const char *label = mapped ? field_label(parser->map, FIELD_ITEMS)
							   : "\"productQuantityMap\"";
	const char *key;
	json_t	   *value;

	json_object_foreach(map, key, value)
	{
		char *product_id = message_text(parsed, key, label);
		bool  is_item = mapped && json_is_object(value);

		if (product_id == NULL)
			return;
		if (args_id_fault(product_id) != NULL)
			message_set_poison(parsed, psprintf("a product id %s",
												args_id_fault(product_id)));
		lines_add(parser, product_id,
				  is_item ? lines_get_location(parser, value) : STOCK_MAIN,
				  is_item ? lines_get_quantity(parser, value) : value);
	}
}

/* The value that has the lines, or NULL and poison. */
static json_t *
lines_find(LineParser *parser, json_t *message)
{
	Parsed *parsed = parser->parsed;
	json_t *items = NULL;
	json_t *map = NULL;

	if (field_is_mapped(parser->map, FIELD_ITEMS))
		items = field_get(parser->map, FIELD_ITEMS, parsed, message);
	else
	{
		items = json_object_get(message, "items");
		map = message_member(parsed, message, "product_quantity_map",
							 "productQuantityMap");
		if (items != NULL && map != NULL)
			message_set_poison(parsed, "there are both \"items\" and "
									   "\"productQuantityMap\"");
		else if (items != NULL && !json_is_array(items))
			message_set_poison(parsed, "\"items\" is not an array");
		else if (map != NULL && !json_is_object(map))
			message_set_poison(parsed,
							   "\"productQuantityMap\" is not an object");
	}
	if (items == NULL && map == NULL)
		message_set_poison(parsed,
						   psprintf("%s is missing",
									field_label(parser->map, FIELD_ITEMS)));
	else if (items != NULL && !json_is_array(items) && !json_is_object(items))
		message_set_poison(parsed,
						   psprintf("%s is neither an array nor an object",
									field_label(parser->map, FIELD_ITEMS)));
	return items ? items : map;
}

/* Sets the lines of a message, sorted and merged; poison if there are none. */
static void
lines_parse(Parsed *parsed, const FieldMap *map, json_t *message)
{
	LineParser parser = {.parsed = parsed, .map = map};
	json_t	  *lines = lines_find(&parser, message);
	json_t	  *item;
	size_t	   i;
	bool is_item = json_is_object(lines) && field_is_mapped(map, FIELD_ITEMS) &&
				   field_is_mapped(map, FIELD_PRODUCT_ID);
	size_t n = json_is_array(lines) ? json_array_size(lines)
									: json_object_size(lines);

	if (parsed->poison == NULL && !is_item && n > (size_t) pgstock_max_lines)
		message_set_poison(parsed, psprintf("there are more than %d lines",
											pgstock_max_lines));
	if (parsed->poison != NULL)
		return;
	if (is_item)
		lines_parse_item(&parser, lines);
	else if (json_is_object(lines))
		lines_parse_map(&parser, lines);
	json_array_foreach(lines, i, item) lines_parse_item(&parser, item);
	if (parsed->lines == NIL)
		message_set_poison(parsed, "there is no line in it");
	if (parsed->poison == NULL)
		parsed->lines = lines_merge(parsed->lines);
	Assert(parsed->poison != NULL ||
		   list_length(parsed->lines) <= pgstock_max_lines);
}

/* The lines of a message that needs none; NIL if they cannot be read. */
static List *
lines_read_stated(const FieldMap *map, json_t *message)
{
	Parsed stated = {0};

	lines_parse(&stated, map, message);
	return stated.poison == NULL ? stated.lines : NIL;
}

/* Whether a message has lines at all. */
static bool
lines_are_there(Parsed *parsed, const FieldMap *map, json_t *message)
{
	return field_get(map, FIELD_ITEMS, parsed, message) != NULL ||
		   (!field_is_mapped(map, FIELD_ITEMS) &&
			message_member(parsed, message, "product_quantity_map",
						   "productQuantityMap") != NULL);
}

/* Parses the lines as the message's handler uses them: parsed->line_use. */
void
message_parse_line_use(Parsed *parsed, const FieldMap *map, json_t *message)
{
	switch (parsed->line_use)
	{
		case LINES_UNUSED:
			break;
		case LINES_RESERVED:
			lines_parse(parsed, map, message);
			break;
		case LINES_COMPARED:
			parsed->stated_lines = lines_read_stated(map, message);
			break;
		case LINES_SELECT: /* a part of the order, if there are any */
			if (!lines_are_there(parsed, map, message))
				break;
			lines_parse(parsed, map, message);
			parsed->stated_lines = parsed->lines;
			parsed->lines = NIL;
			break;
	}
	Assert(parsed->lines == NIL || parsed->line_use == LINES_RESERVED);
}
