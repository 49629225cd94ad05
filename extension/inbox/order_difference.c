/*-------------------------------------------------------------------------
 *
 * inbox/order_difference.c
 *	  Finds where an incoming message differs from the ledger's order.
 *
 * The ledger is right, and a value that differs is never used.  But a service
 * whose orders differ from ours should be noticed by its first message: each
 * one is marked, counted and logged, and where there is an answer, it lists the
 * differences.  The lines of a message and of an attempt are sorted by the same
 * key.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/json.h"

#include "inbox/inbox.h"

/* The lines listed in an answer, at most: it is no larger than its order. */
#define DIFFERING_LINES_MAX 100

/* The lines of the order's latest attempt. */
static List *
difference_latest_lines(const Order *order)
{
	List	 *lines = NIL;
	ListCell *cell;

	foreach(cell, order->lines)
	{
		if (((Reservation *) lfirst(cell))->attempt == order->attempt)
			lines = lappend(lines, lfirst(cell));
	}
	return lines;
}

/* Whether a message that states lines states others than the order has. */
bool
order_difference_in_lines(const Order *order, List *stated)
{
	ListCell *cell;

	if (stated == NIL)
		return false;
	foreach(cell, stated)
	{
		const Line		  *line = lfirst(cell);
		const Reservation *ours = order_find_line(order, order->attempt,
												  line->product_id,
												  line->location);

		if (ours == NULL || ours->quantity != line->quantity)
			return true;
	}
	return list_length(difference_latest_lines(order)) != list_length(stated);
}

/* ---- As JSON, for the answer ---- */

typedef struct Difference
{
	StringInfoData json;
	int			   count;
} Difference;

static void
difference_add_line(Difference *d, const char *product_id, const char *location,
					int64 given, int64 known)
{
	if (given == known || ++d->count > DIFFERING_LINES_MAX)
		return;
	appendStringInfoString(&d->json, d->count > 1 ? ",{\"product_id\":"
												  : "{\"product_id\":");
	escape_json(&d->json, product_id);
	appendStringInfoString(&d->json, ",\"location\":");
	escape_json(&d->json, location);
	appendStringInfo(&d->json,
					 ",\"given\":" INT64_FORMAT ",\"known\":" INT64_FORMAT "}",
					 given, known);
}

/* The order of two lines of which one may be missing: it sorts last. */
static int
difference_compare(const Line *given, const Reservation *known)
{
	Assert(given != NULL || known != NULL);
	if (given == NULL)
		return 1;
	if (known == NULL)
		return -1;
	return level_key_compare(given->product_id, given->location,
							 known->product_id, known->location);
}

/* Walks both sorted lists at once. */
static void
difference_add_lines(Difference *d, List *given, List *known)
{
	int i = 0;
	int k = 0;

	while (i < list_length(given) || k < list_length(known))
	{
		Line		*a = i < list_length(given) ? list_nth(given, i) : NULL;
		Reservation *b = k < list_length(known) ? list_nth(known, k) : NULL;
		int			 order = difference_compare(a, b);

		Assert(order > 0 || a != NULL);
		Assert(order < 0 || b != NULL);
		difference_add_line(d, order <= 0 ? a->product_id : b->product_id,
							order <= 0 ? a->location : b->location,
							order <= 0 ? a->quantity : 0,
							order >= 0 ? b->quantity : 0);
		i += order <= 0;
		k += order >= 0;
	}
}

static void
difference_add_user(StringInfo json, const char *given, const char *known)
{
	appendStringInfoString(json, "\"user_id\":{\"given\":");
	escape_json(json, given);
	appendStringInfoString(json, ",\"known\":");
	if (known == NULL)
		appendStringInfoString(json, "null");
	else
		escape_json(json, known);
	appendStringInfoChar(json, '}');
}

/*
 * Where an order-created differs from the known order, as a JSON object; NULL:
 * nowhere.  A message without a user does not differ in it.
 */
char *
order_difference_json(const Parsed *parsed, const Order *order)
{
	const char	  *user = order_latest_line(order)->user_id;
	Difference	   lines = {.count = 0};
	StringInfoData json;

	initStringInfo(&lines.json);
	initStringInfo(&json);
	difference_add_lines(&lines, parsed->lines, difference_latest_lines(order));
	appendStringInfoChar(&json, '{');
	if (parsed->user_id != NULL &&
		(user == NULL || strcmp(user, parsed->user_id) != 0))
		difference_add_user(&json, parsed->user_id, user);
	if (lines.count > 0)
		appendStringInfo(&json, "%s\"items\":[%s]", json.len > 1 ? "," : "",
						 lines.json.data);
	if (lines.count > DIFFERING_LINES_MAX)
		appendStringInfo(&json, ",\"more_items\":%d",
						 lines.count - DIFFERING_LINES_MAX);
	appendStringInfoChar(&json, '}');
	return json.len > 2 ? json.data : NULL;
}

/* ---- Selections ---- */

/*
 * The lines that a message selects, as far as the order has them, a List of
 * Line.  *differs: the message selects another product, or more of one than the
 * order has; that is not given back.
 */
List *
order_difference_select(const Order *order, List *stated, bool *differs)
{
	List	 *selection = NIL;
	ListCell *cell;

	*differs = false;
	foreach(cell, stated)
	{
		const Line		  *item = lfirst(cell);
		const Reservation *line = order_find_line(order, order->attempt,
												  item->product_id,
												  item->location);

		if (line == NULL || line->quantity < item->quantity)
			*differs = true;
		if (line != NULL)
			selection = lappend(selection,
								line_new(line->product_id, line->location,
										 Min(item->quantity, line->quantity)));
	}
	Assert(list_length(selection) <= list_length(stated));
	return selection;
}
