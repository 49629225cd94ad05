/*-------------------------------------------------------------------------
 *
 * inbox/order_difference.c
 *	  What an incoming message says of an order otherwise than the ledger.
 *
 * The ledger is right, and what differs is never used: but a service whose
 * orders differ from ours should be found by its first message, so each one is
 * marked, counted, logged, and, where it is answered, answered with what
 * differs.  Lines of a message and of an attempt are sorted by the same key.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/json.h"

#include "inbox/inbox.h"

/* So many lines at most stand in an answer: it is no larger than its order. */
#define DIFFERING_LINES_MAX 100

/* The lines of the order's latest attempt. */
static List *
latest_lines(const Order *order)
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

/* Whether a message names other lines than the ledger has of the order. */
bool
differs_lines(const Order *order, List *told)
{
	ListCell *cell;

	if (told == NIL)
		return false;
	foreach(cell, told)
	{
		const Line		  *line = lfirst(cell);
		const Reservation *ours = order_line(order, order->attempt,
											 line->product_id, line->location);

		if (ours == NULL || ours->quantity != line->quantity)
			return true;
	}
	return list_length(latest_lines(order)) != list_length(told);
}

/* ---- As JSON, for the answer ---- */

typedef struct Differing
{
	StringInfoData json;
	int			   count;
} Differing;

static void
differing_line(Differing *d, const char *product_id, const char *location,
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

/* Walks both sorted lists at once. */
static void
differing_lines(Differing *d, List *given, List *known)
{
	int i = 0;
	int k = 0;

	while (i < list_length(given) || k < list_length(known))
	{
		Line		*a = i < list_length(given) ? list_nth(given, i) : NULL;
		Reservation *b = k < list_length(known) ? list_nth(known, k) : NULL;
		int			 order = a == NULL	 ? 1
							 : b == NULL ? -1
										 : key_compare(a->product_id, a->location,
													   b->product_id, b->location);

		Assert(order > 0 || a != NULL);
		Assert(order < 0 || b != NULL);
		differing_line(d, order <= 0 ? a->product_id : b->product_id,
					   order <= 0 ? a->location : b->location,
					   order <= 0 ? a->quantity : 0,
					   order >= 0 ? b->quantity : 0);
		i += order <= 0;
		k += order >= 0;
	}
}

static void
append_user(StringInfo json, const char *given, const char *known)
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
 * What an order-created says otherwise than the order that is known, as a JSON
 * object; NULL if nothing.  A message without a user says nothing of it.
 */
char *
differs_json(const Message *message, const Order *order)
{
	const char	  *user = order_any_line(order)->user_id;
	Differing	   lines = {.count = 0};
	StringInfoData json;

	initStringInfo(&lines.json);
	initStringInfo(&json);
	differing_lines(&lines, message->lines, latest_lines(order));
	appendStringInfoChar(&json, '{');
	if (message->user_id != NULL &&
		(user == NULL || strcmp(user, message->user_id) != 0))
		append_user(&json, message->user_id, user);
	if (lines.count > 0)
		appendStringInfo(&json, "%s\"items\":[%s]", json.len > 1 ? "," : "",
						 lines.json.data);
	if (lines.count > DIFFERING_LINES_MAX)
		appendStringInfo(&json, ",\"more_items\":%d",
						 lines.count - DIFFERING_LINES_MAX);
	appendStringInfoChar(&json, '}');
	return json.len > 2 ? json.data : NULL;
}

/* ---- Parts ---- */

/*
 * What of the lines that a message names the order has.  Another product, or
 * more of one than there is: that differs, and is not given back.
 */
List *
differs_part(Call *call, const Order *order, List *told, bool *differs)
{
	List	 *part = NIL;
	ListCell *cell;

	*differs = false;
	foreach(cell, told)
	{
		const Line		  *named = lfirst(cell);
		const Reservation *line = order_line(order, order->attempt,
											 named->product_id,
											 named->location);

		if (line == NULL || line->quantity < named->quantity)
			*differs = true;
		if (line != NULL)
			part = lappend(part,
						   line_new(line->product_id, line->location,
									Min(named->quantity, line->quantity)));
	}
	return part;
}
