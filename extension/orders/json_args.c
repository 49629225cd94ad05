/*-------------------------------------------------------------------------
 *
 * orders/json_args.c
 *	  The arguments "items" and "orders", JSON arrays, and "attributes".
 *
 * Everything that can be wrong with one is found before a lock is taken or a
 * row is read, and the error names the element.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/numeric.h"

#include "base/compat.h"
#include "orders/orders.h"

#define ITEMS_SAMPLE  "[{\"product_id\": \"SKU-1\", \"quantity\": 2}]"
#define ORDERS_SAMPLE "[{\"order_id\": \"1001\", \"items\": " ITEMS_SAMPLE "}]"

/* What is being read, for errors: an item, or an order with its items. */
typedef struct Place
{
	const char *array; /* items or orders */
	const char *sample;
	const char *outer; /* "Order 3, " before the item, or "" */
	int			n;	   /* of the element, from 1 */
} Place;

pg_noreturn static void json_args_raise(const Place *place, const char *what);

static void
json_args_raise(const Place *place, const char *what)
{
	bool order = strcmp(place->array, "orders") == 0 && place->outer[0] == '\0';

	Assert(place->n > 0);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("%s are not valid", place->array),
			 order ? errdetail("Order %d: %s.", place->n, what)
				   : errdetail("%sItem %d: %s.", place->outer, place->n, what),
			 errhint("Give a JSON array such as %s.", place->sample)));
}

/* An id in an item: a string, or a number as it is written. */
static char *
json_item_id(JsonbValue *object, const char *name, const Place *place)
{
	JsonbValue *value = getKeyJsonValueFromContainer(object->val.binary.data,
													 name, strlen(name), NULL);
	char	   *id;

	if (value == NULL || value->type == jbvNull)
		return NULL;
	if (value->type == jbvString)
		id = pnstrdup(value->val.string.val, value->val.string.len);
	else if (value->type == jbvNumeric)
		id = numeric_normalize(value->val.numeric);
	else
	{
		json_args_raise(place,
						psprintf("\"%s\" is neither a string nor a number",
								 name));
		return NULL;
	}
	if (args_id_fault(id) != NULL)
		json_args_raise(place, psprintf("\"%s\" %s", name, args_id_fault(id)));
	return id;
}

/* A quantity in an item: a JSON integer. */
static int64
json_item_quantity(JsonbValue *object, const Place *place)
{
	JsonbValue *value = getKeyJsonValueFromContainer(object->val.binary.data,
													 "quantity", 8, NULL);
	char	   *digits;
	int64		quantity;

	if (value == NULL)
		json_args_raise(place, "\"quantity\" is missing");
	if (value->type != jbvNumeric)
		json_args_raise(place, "\"quantity\" is not a number");
	/* Its own text, since 1.0 is no integer in JSON. */
	digits = DatumGetCString(
		DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	if (strspn(digits, "-0123456789") != strlen(digits) || strlen(digits) > 17)
		json_args_raise(
			place,
			psprintf(
				"\"quantity\" is %.40s, which is not an integer up to 2^53",
				digits));
	quantity = strtoll(digits, NULL, 10);
	if (quantity < 1 || quantity > STOCK_QUANTITY_MAX)
		json_args_raise(
			place,
			psprintf("\"quantity\" is %s, but must be between 1 and 2^53",
					 digits));
	return quantity;
}

static Line *
json_item_line(JsonbValue *item, const Place *place)
{
	char *product_id;
	char *location;

	if (item->type != jbvBinary ||
		!JsonContainerIsObject(item->val.binary.data))
		json_args_raise(place, "it is not an object");
	product_id = json_item_id(item, "product_id", place);
	if (product_id == NULL)
		json_args_raise(place, "\"product_id\" is missing");
	location = json_item_id(item, "location", place);
	return line_new(product_id, location ? location : STOCK_MAIN,
					json_item_quantity(item, place));
}

/* What must be an array of 1 to pgstock.max_lines elements. */
static void
json_check_array(JsonbContainer *array, const char *name, const char *sample)
{
	if (!JsonContainerIsArray(array) || JsonContainerIsScalar(array))
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("%s must be a JSON array", name),
						errhint("Give a JSON array such as %s.", sample)));
	if (JsonContainerSize(array) < 1 ||
		JsonContainerSize(array) > pgstock_max_lines)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must have between 1 and %d elements", name,
						pgstock_max_lines),
				 errdetail("There are %d.", JsonContainerSize(array)),
				 errhint("The limit is the setting pgstock.max_lines.")));
}

static List *
json_item_lines(JsonbContainer *items, const Place *from)
{
	JsonbIterator	  *it = JsonbIteratorInit(items);
	JsonbValue		   value;
	JsonbIteratorToken token;
	Place			   place = *from;
	List			  *lines = NIL;

	json_check_array(items, "items", place.sample);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token != WJB_ELEM)
			continue;
		place.n = list_length(lines) + 1;
		lines = lappend(lines, json_item_line(&value, &place));
	}
	Assert(lines != NIL && list_length(lines) == JsonContainerSize(items));
	return lines_merge(lines);
}

/* The lines of an argument "items", sorted and merged. */
List *
args_items(Jsonb *items)
{
	Place place = {.array = "items", .sample = ITEMS_SAMPLE, .outer = ""};

	return json_item_lines(&items->root, &place);
}

/* A member of an order; NULL if it is missing or null. */
static JsonbValue *
json_order_member(JsonbValue *order, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(order->val.binary.data,
													 name, strlen(name), NULL);

	return value != NULL && value->type != jbvNull ? value : NULL;
}

/* When the order expires: its own "ttl", or else as all of them. */
static TimestampTz
json_order_expiry(JsonbValue *order, const Place *place, TimestampTz expires_at)
{
	JsonbValue *ttl = json_order_member(order, "ttl");
	char	   *interval;

	if (ttl == NULL)
		return expires_at;
	if (ttl->type != jbvString)
		json_args_raise(place, "\"ttl\" is not a string");
	interval = pnstrdup(ttl->val.string.val, ttl->val.string.len);
	return args_expiry_of(
		DirectFunctionCall3(interval_in, CStringGetDatum(interval),
							ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/* Whether the items are the whole order (so by default), or one line more. */
static bool
json_order_is_whole(JsonbValue *order, const Place *place)
{
	JsonbValue *whole = json_order_member(order, "whole");

	if (whole != NULL && whole->type != jbvBool)
		json_args_raise(place, "\"whole\" is neither true nor false");
	return whole == NULL || whole->val.boolean;
}

static BatchRequest *
json_order_request(JsonbValue *order, const Place *place,
				   TimestampTz expires_at)
{
	Place		  inner = *place;
	BatchRequest *one = palloc0(sizeof(BatchRequest));
	Request		 *request = &one->request;
	JsonbValue	 *items;

	if (order->type != jbvBinary ||
		!JsonContainerIsObject(order->val.binary.data))
		json_args_raise(place, "it is not an object");
	request->order_id = json_item_id(order, "order_id", place);
	if (request->order_id == NULL)
		json_args_raise(place, "\"order_id\" is missing");
	request->user_id = json_item_id(order, "user_id", place);
	items = json_order_member(order, "items");
	if (items == NULL || items->type != jbvBinary)
		json_args_raise(place, "\"items\" is not an array");
	inner.outer = psprintf("Order %d, ", place->n);
	request->lines = json_item_lines(items->val.binary.data, &inner);
	Assert(list_length(request->lines) <= pgstock_max_lines);
	request->whole_order = json_order_is_whole(order, place);
	if (!request->whole_order && list_length(request->lines) > 1)
		json_args_raise(place, "\"whole\" is false, but it has several lines");
	request->expires_at = json_order_expiry(order, place, expires_at);
	one->keyed.key = json_item_id(order, "idempotency_key", place);
	one->keyed.detail = request->user_id;
	one->trace_id = json_item_id(order, "trace_id", place);
	return one;
}

/*
 * The BatchRequests of an argument "orders", in the order given; those without
 * a ttl end at expires_at.
 */
List *
args_orders(Jsonb *orders, TimestampTz expires_at)
{
	JsonbIterator	  *it = JsonbIteratorInit(&orders->root);
	JsonbValue		   value;
	JsonbIteratorToken token;
	Place place = {.array = "orders", .sample = ORDERS_SAMPLE, .outer = ""};
	List *requests = NIL;

	json_check_array(&orders->root, "orders", ORDERS_SAMPLE);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token != WJB_ELEM)
			continue;
		place.n = list_length(requests) + 1;
		requests = lappend(requests,
						   json_order_request(&value, &place, expires_at));
	}
	Assert(list_length(requests) == JsonContainerSize(&orders->root));
	return requests;
}

/* ---- Attributes ---- */

/* Appends a member, unless it looks like a card number or a secret. */
static void
json_attribute_append(StringInfo json, const char *name, JsonbValue *value)
{
	Jsonb *one = JsonbValueToJsonb(value);
	int	   before = json->len;
	int	   begin;

	appendStringInfoChar(json, before == 0 ? '{' : ',');
	begin = json->len;
	escape_json(json, name);
	appendStringInfoChar(json, ':');
	JsonbToCString(json, &one->root, VARSIZE(one));
	if (!sensitive_json(json->data + begin, json->len - begin))
		return;
	json->len = before;
	json->data[before] = '\0';
}

/*
 * A JSON object that an event is to have as its attributes, as text; NULL if
 * no member is left of it.  Members that look like card numbers or secrets are
 * left out.
 */
char *
args_attributes(FunctionCallInfo fcinfo, int n)
{
	StringInfoData	   json;
	JsonbIterator	  *iterator;
	JsonbIteratorToken token;
	JsonbValue		   value;
	char			  *name = NULL;
	Jsonb			  *object;

	if (PG_ARGISNULL(n))
		return NULL;
	object = PG_GETARG_JSONB_P(n);
	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("attributes must be a JSON object"),
						errhint("Give an object such as {\"price\": 9.90}.")));
	initStringInfo(&json);
	iterator = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&iterator, &value, name != NULL)) !=
		   WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
			json_attribute_append(&json, name, &value);
	}
	if (json.len == 0)
		return NULL;
	appendStringInfoChar(&json, '}');
	return json.data;
}
