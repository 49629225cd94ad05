/*-------------------------------------------------------------------------
 *
 * inbox/order_state.c
 *	  The state of an order's latest attempt, for the built-in handlers.
 *
 * A due line counts as expired, although its row is still "reserved".
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "inbox/inbox.h"

/* Whether a line of the latest attempt is in that state. */
bool
order_has_state(Call *call, const Order *order, LineState state)
{
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt &&
			(line_is_due(call, line) ? LINE_EXPIRED : line->state) == state)
			return true;
	}
	return false;
}

/* A line of the latest attempt, for what all its lines have alike; or NULL. */
Reservation *
order_latest_line(const Order *order)
{
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt)
			return line;
	}
	Assert(order->lines == NIL);
	return NULL;
}

/* The lines of the latest attempt as items of a refusal. */
List *
order_answers(Work *work, const Order *order)
{
	List	 *answers = NIL;
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);
		Answer		*answer;

		if (line->attempt != order->attempt)
			continue;
		answer = answer_of_line(work, line, line->quantity);
		answer->status = ANSWER_REFUSED;
		answers = lappend(answers, answer);
	}
	Assert((answers == NIL) == (order->lines == NIL));
	return answers;
}

/* How an order without live lines has ended. */
const char *
order_end_reason(Call *call, const Order *order)
{
	static const struct
	{
		LineState	 state;
		AnswerStatus end;
	} ends[] = {
		{LINE_SHORTFALL, ANSWER_SHORTFALL},
		{LINE_EXPIRED, ANSWER_EXPIRED},
		{LINE_ROLLED_BACK, ANSWER_ROLLED_BACK},
		{LINE_RETURNED, ANSWER_RETURNED},
		{LINE_RELEASED, ANSWER_RELEASED},
	};

	Assert(order->lines != NIL);
	for (int i = 0; i < lengthof(ends); i++)
	{
		if (order_has_state(call, order, ends[i].state))
			return answer_status_text(ends[i].end);
	}
	elog(ERROR, "a live order has no reason for its end");
	return NULL;
}

static TimestampTz
order_attempt_began_at(const Order *order)
{
	TimestampTz began_at = DT_NOEND;
	ListCell   *cell;

	foreach(cell, order->lines)
	{
		const Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt)
			began_at = Min(began_at, line->created_at);
	}
	Assert(began_at != DT_NOEND);
	return began_at;
}

/*
 * Whether the latest attempt is newer than an event: then the event belongs to
 * an earlier attempt, and would end what was reserved, and perhaps paid, since.
 * The clocks of services differ, so an event that is older by less than
 * pgstock.clock_tolerance counts as one of the latest attempt.  A first attempt
 * cannot be confused with an earlier one, whatever the clocks show, unless the
 * order was refused before.
 */
bool
order_is_newer(Work *work, const Order *order, TimestampTz happened_at)
{
	TimestampTz latest = TimestampTzPlusMilliseconds(happened_at,
													 pgstock_clock_tolerance);

	return latest < order_attempt_began_at(order) &&
		   (order->attempt > 1 || refused_find(work, order->order_id) != NULL);
}
