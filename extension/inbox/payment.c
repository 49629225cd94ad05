/*-------------------------------------------------------------------------
 *
 * inbox/payment.c
 *	  What payment-success does.
 *
 * Money never passes in silence.  A payment confirms what is reserved; takes
 * what has expired, or was declined before, once more if it is all there; and
 * else is reported: nothing was sold for it, so it must be refunded.  Each
 * payment is reported once, however often it arrives and among whichever
 * others (surplus_payment).
 *
 * No payment is stale that has bought nothing yet: one whose order was reserved
 * anew since pays for the new attempt, for to pass it over would be to keep the
 * money.  One that is to be refunded pays for nothing more; nor does one that
 * paid for an earlier attempt, if it is told late.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "inbox/inbox.h"

enum
{
	SURPLUS_ORDER = 1,
	SURPLUS_PAYMENT,
	SURPLUS_REASON,
	SURPLUS_REPORTED_AT
};

static bool
is_paid(const char *status)
{
	static const char *const paid[] = {
		"success",
		"succeeded",
		"paid",
		"completed",
	};

	if (status == NULL)
		return true;
	for (int i = 0; i < lengthof(paid); i++)
	{
		if (pg_strcasecmp(status, paid[i]) == 0)
			return true;
	}
	return false;
}

/* ---- Payments that were reported ---- */

/* A payment without an id is one for each order. */
static const char *
surplus_id(const Message *message)
{
	return message->payment_id ? message->payment_id : "";
}

static bool
surplus_is_known(Work *work, const Message *message, const Order *order)
{
	Table		   *table = table_use(&work->call, TABLE_SURPLUS_PAYMENT);
	const char	   *id = surplus_id(message);
	ScanKeyData		keys[2];
	ItemPointerData tid;

	if (name_map_find(&work->surplus, name_of(order->order_id, id, "")) != NULL)
		return true;
	table_key_text(&keys[0], 1, order->order_id);
	table_key_text(&keys[1], 2, id);
	return table_find(&work->call, table, "surplus_payment_pkey", 2, keys,
					  &tid);
}

static void
surplus_note(Work *work, const Message *message, const Order *order,
			 const char *reason)
{
	Table		   *table = table_use(&work->call, TABLE_SURPLUS_PAYMENT);
	const char	   *id = surplus_id(message);
	TupleTableSlot *slot = table_new_row(table);

	row_put_text(slot, SURPLUS_ORDER, order->order_id);
	row_put_text(slot, SURPLUS_PAYMENT, id);
	row_put_text(slot, SURPLUS_REASON, reason);
	row_put(slot, SURPLUS_REPORTED_AT, TimestampTzGetDatum(work->call.now));
	table_insert(&work->call, table);
	/* the row is not visible to this work yet */
	name_map_put(&work->surplus, name_of(order->order_id, id, ""),
				 (void *) message);
}

/* ---- Payments for which nothing is sold ---- */

/* Paid though there is nothing to sell: no state changes. */
static Outcome
report_shortfall(Work *work, const Message *message, const Order *order,
				 const char *reason)
{
	const Reservation *line = order_any_line(order);
	Event			   event = {.type = "StockShortfall",
								.order_id = order->order_id,
								.reason = reason,
								.payment_id = message->payment_id,
								.user_id = line ? line->user_id : message->user_id,
								.items = order_answers(work, order)};

	event_emit(work, &event);
	surplus_note(work, message, order, reason);
	return outcome_applied();
}

/* A second payment of an order that is sold: the order stays as it is. */
static Outcome
report_paid_twice(Work *work, const Message *message, const Order *order)
{
	Event	event = {.type = "StockConfirmed",
					 .order_id = order->order_id,
					 .reason = "paid_twice",
					 .payment_id = message->payment_id,
					 .user_id = order_any_line(order)->user_id,
					 .replayed = true,
					 .items = order_answers(work, order)};
	Outcome outcome = outcome_applied();

	event_emit(work, &event);
	surplus_note(work, message, order, "paid_twice");
	outcome.reason = "paid_twice";
	outcome.notable = true;
	return outcome;
}

/* ---- What is known of the order ---- */

/* Whether a payment confirms, or takes again, a line of the latest attempt. */
static bool
is_payable(const Call *call, const Order *order)
{
	ListCell *cell;

	foreach(cell, order->lines)
	{
		const Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt &&
			(line_is_payable(call, line) || line->state == LINE_RESERVED) &&
			!(line_is_due(call, line) && line->retake == RETAKE_NO))
			return true;
	}
	return false;
}

/*
 * Whether this may be the payment that the lines speak of.  One without an id
 * may be any; lines without one, confirmed by hand, may be paid by any.
 */
static bool
may_be_theirs(const Message *message, const Order *order)
{
	bool	  any = false;
	ListCell *cell;

	foreach(cell, order->lines)
	{
		const Reservation *line = lfirst(cell);

		if (line->attempt != order->attempt)
			continue;
		if (line->payment_id == NULL)
		{
			if (line->state == LINE_CONFIRMED || line->state == LINE_SHORTFALL)
				return true;
			continue;
		}
		any = true;
		if (message->payment_id != NULL &&
			strcmp(line->payment_id, message->payment_id) == 0)
			return true;
	}
	return any && message->payment_id == NULL;
}

/* Why nothing can be sold for it. */
static const char *
surplus_reason(Call *call, const Order *order)
{
	ListCell *cell;

	if (order_has(call, order, LINE_SHORTFALL))
		return order_any_line(order)->reason;
	foreach(cell, order->lines)
	{
		const Reservation *line = lfirst(cell);

		/* cancelled after it had ended by itself */
		if (line->attempt == order->attempt && line->retake == RETAKE_NO)
			return "released";
	}
	return order_end_reason(call, order);
}

/*
 * What became of a payment in an earlier attempt of the order, if that is its
 * end; else NULL.
 */
static const char *
ended_before(Work *work, const Message *message, const Order *order)
{
	bool	  paid = false;
	ListCell *cell;

	if (message->payment_id == NULL)
		return NULL;
	foreach(cell, order->lines)
	{
		const Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt || line->payment_id == NULL ||
			strcmp(line->payment_id, message->payment_id) != 0)
			continue;
		if (line->state == LINE_SHORTFALL)
			return "shortfall";
		paid = true;
	}
	return paid && message_is_stale(work, message, order) ? "stale" : NULL;
}

/* Whether lines that have no payment's id are paid by this one now. */
static bool
is_new_to_lines(const Message *message, const Order *order)
{
	ListCell *cell;

	if (message->payment_id == NULL)
		return false;
	foreach(cell, order->lines)
	{
		const Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt && line->payment_id != NULL &&
			strcmp(line->payment_id, message->payment_id) == 0)
			return false;
	}
	return true;
}

/*
 * Nothing to do: it is the payment that was dealt with.  Lines that do not know
 * theirs keep it, so that the next one is another.
 */
static Outcome
seen_before(Call *call, const Message *message, Order *order)
{
	bool	  is_new = is_new_to_lines(message, order);
	ListCell *cell;

	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		if (!is_new || line->attempt != order->attempt ||
			line->payment_id != NULL ||
			(line->state != LINE_CONFIRMED && line->state != LINE_SHORTFALL))
			continue;
		line->payment_id = pstrdup(message->payment_id);
		line->dirty = true;
	}
	commit_fence_answer();
	return outcome_skipped(order_has(call, order, LINE_SHORTFALL) ? "shortfall"
																  : "already");
}

Outcome
payment_success(Work *work, Message *message, Order *order)
{
	Settle		confirm = {.verb = SETTLE_CONFIRM,
						   .payment_id = message->payment_id,
						   .pays = true};
	const char *refused;
	const char *ended;

	if (!is_paid(message->status))
		return outcome_skipped("not_paid");
	if (surplus_is_known(work, message, order))
	{
		commit_fence_answer();
		return outcome_skipped(order_has(&work->call, order, LINE_CONFIRMED)
								   ? "already"
								   : "shortfall");
	}
	if (order->lines == NIL)
	{
		refused = refused_find(work, order->order_id);
		return refused ? report_shortfall(work, message, order, refused)
					   : outcome_wait_for_order();
	}
	ended = ended_before(work, message, order);
	if (ended != NULL)
	{
		commit_fence_answer();
		return outcome_skipped(ended);
	}
	if (is_payable(&work->call, order))
	{
		(void) settle_apply(work, &confirm, order);
		return outcome_applied();
	}
	if (may_be_theirs(message, order))
		return seen_before(&work->call, message, order);
	if (order_has(&work->call, order, LINE_CONFIRMED))
		return report_paid_twice(work, message, order);
	return report_shortfall(work, message, order,
							surplus_reason(&work->call, order));
}
