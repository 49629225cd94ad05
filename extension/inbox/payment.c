/*-------------------------------------------------------------------------
 *
 * inbox/payment.c
 *	  The handler of payment-success.
 *
 * Every payment is reported.  A payment confirms what is reserved; it reserves
 * stock again that has expired, or whose payment was declined before, if all of
 * it is still available; any other payment is reported, since nothing was sold
 * for it and it must be refunded.  Each payment is reported once, however often
 * and in whatever order payments arrive (table surplus_payment).
 *
 * A payment that has bought nothing yet is never stale: if its order was
 * reserved again since, it pays for the new attempt, for skipping it would keep
 * the customer's money.  A payment that is to be refunded pays for nothing
 * more, nor does one that paid for an earlier attempt and arrives late.
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

bool
payment_is_paid(const char *status)
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

/* ---- Surplus payments: those that were reported ---- */

/* A payment without an id counts as one payment of its order. */
static const char *
payment_surplus_id(const Parsed *parsed)
{
	return parsed->payment_id ? parsed->payment_id : "";
}

/* Whether it was reported, and is to be refunded. */
bool
payment_is_surplus(Work *work, const Parsed *parsed, const Order *order)
{
	Table		   *table = table_use(&work->call, TABLE_SURPLUS_PAYMENT);
	const char	   *id = payment_surplus_id(parsed);
	ScanKeyData		keys[2];
	ItemPointerData tid;

	if (name_map_find(&work->surplus, name_map_key(order->order_id, id, "")) !=
		NULL)
		return true;
	table_key_text(&keys[0], 1, order->order_id);
	table_key_text(&keys[1], 2, id);
	return table_find(&work->call, table, "surplus_payment_pkey", 2, keys,
					  &tid);
}

static void
payment_note_surplus(Work *work, const Parsed *parsed, const Order *order,
					 const char *reason)
{
	Table		   *table = table_use(&work->call, TABLE_SURPLUS_PAYMENT);
	const char	   *id = payment_surplus_id(parsed);
	TupleTableSlot *slot;

	/* each payment is reported once */
	Assert(reason != NULL && !payment_is_surplus(work, parsed, order));
	slot = table_new_row(table);
	row_put_text(slot, SURPLUS_ORDER, order->order_id);
	row_put_text(slot, SURPLUS_PAYMENT, id);
	row_put_text(slot, SURPLUS_REASON, reason);
	row_put(slot, SURPLUS_REPORTED_AT, TimestampTzGetDatum(work->call.now));
	table_insert(&work->call, table);
	/* the row is not visible to this work yet */
	name_map_put(&work->surplus, name_map_key(order->order_id, id, ""),
				 (void *) parsed);
}

/* ---- Payments for which there is nothing to sell ---- */

/* Paid, but there is nothing to sell: no state changes. */
static Outcome
payment_report_shortfall(Work *work, const Parsed *parsed, const Order *order,
						 const char *reason)
{
	const Reservation *line = order_latest_line(order);
	const char		  *user_id = line ? line->user_id : parsed->user_id;
	Event			   event = {.type = "StockShortfall",
								.order_id = order->order_id,
								.reason = reason,
								.payment_id = parsed->payment_id,
								.user_id = user_id,
								.items = order_answers(work, order)};

	event_emit(work, &event);
	payment_note_surplus(work, parsed, order, reason);
	return outcome_applied();
}

/* A second payment of a confirmed order: the order stays as it is. */
static Outcome
payment_report_second(Work *work, const Parsed *parsed, const Order *order)
{
	const char *reason = outcome_reason_text(REASON_PAID_TWICE);
	Event		event = {.type = "StockConfirmed",
						 .order_id = order->order_id,
						 .reason = reason,
						 .payment_id = parsed->payment_id,
						 .user_id = order_latest_line(order)->user_id,
						 .replayed = true,
						 .items = order_answers(work, order)};
	Outcome		outcome = outcome_applied();

	Assert(order_has_state(&work->call, order, LINE_CONFIRMED));
	event_emit(work, &event);
	payment_note_surplus(work, parsed, order, reason);
	outcome_note(&outcome, REASON_PAID_TWICE);
	return outcome;
}

/*
 * Reports, once, a payment that bought nothing of an order whose stock is in
 * other databases.
 */
void
payment_report(Work *work, const Parsed *parsed, const Order *order,
			   const Event *event)
{
	Assert(event->reason != NULL);
	if (payment_is_surplus(work, parsed, order))
		return;
	event_emit(work, event);
	payment_note_surplus(work, parsed, order, event->reason);
}

/* ---- The payment and the order's lines ---- */

/* Whether the latest attempt has a line to confirm or to reserve again. */
static bool
payment_finds_lines(const Work *work, const Order *order)
{
	ListCell *cell;

	foreach(cell, order->lines)
	{
		const Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt &&
			(line_is_payable(&work->call, line) ||
			 line->state == LINE_RESERVED) &&
			!(line_is_due(&work->call, line) && line->retake == RETAKE_NO))
			return true;
	}
	return false;
}

/*
 * Whether this may be the payment that the lines have already.  A payment
 * without an id may be any one; lines without a payment's id were confirmed by
 * hand and may have any payment.
 */
static bool
payment_may_be_known(const Parsed *parsed, const Order *order)
{
	bool	  has_ids = false;
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
		has_ids = true;
		if (parsed->payment_id != NULL &&
			strcmp(line->payment_id, parsed->payment_id) == 0)
			return true;
	}
	return has_ids && parsed->payment_id == NULL;
}

/* Why nothing can be sold for a payment. */
static const char *
payment_surplus_reason(Work *work, const Order *order)
{
	ListCell *cell;

	if (order_has_state(&work->call, order, LINE_SHORTFALL))
		return order_latest_line(order)->reason;
	foreach(cell, order->lines)
	{
		const Reservation *line = lfirst(cell);

		/* cancelled after it had expired */
		if (line->attempt == order->attempt && line->retake == RETAKE_NO)
			return answer_status_text(ANSWER_RELEASED);
	}
	return order_end_reason(&work->call, order);
}

/*
 * What became of a payment in an earlier attempt of the order, if that is
 * final; else REASON_NONE.
 */
static OutcomeReason
payment_earlier_end(Work *work, const Parsed *parsed, const Order *order)
{
	bool	  paid = false;
	ListCell *cell;

	if (parsed->payment_id == NULL)
		return REASON_NONE;
	foreach(cell, order->lines)
	{
		const Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt || line->payment_id == NULL ||
			strcmp(line->payment_id, parsed->payment_id) != 0)
			continue;
		if (line->state == LINE_SHORTFALL)
			return REASON_SHORTFALL;
		paid = true;
	}
	return paid && order_is_newer(work, order, parsed->happened_at)
			   ? REASON_STALE
			   : REASON_NONE;
}

/* Whether the payment has an id that no line of the attempt has. */
static bool
payment_is_new_to_lines(const Parsed *parsed, const Order *order)
{
	ListCell *cell;

	if (parsed->payment_id == NULL)
		return false;
	foreach(cell, order->lines)
	{
		const Reservation *line = lfirst(cell);

		if (line->attempt == order->attempt && line->payment_id != NULL &&
			strcmp(line->payment_id, parsed->payment_id) == 0)
			return false;
	}
	return true;
}

/*
 * Skips a payment that was applied before.  Lines without a payment's id get
 * this one's, so that a payment with another id is a second one.
 */
static Outcome
payment_repeated(Work *work, const Parsed *parsed, Order *order)
{
	bool	  is_new = payment_is_new_to_lines(parsed, order);
	ListCell *cell;

	Assert(order->lines != NIL && payment_may_be_known(parsed, order));
	foreach(cell, order->lines)
	{
		Reservation *line = lfirst(cell);

		if (!is_new || line->attempt != order->attempt ||
			line->payment_id != NULL ||
			(line->state != LINE_CONFIRMED && line->state != LINE_SHORTFALL))
			continue;
		line_set_payment(line, parsed->payment_id);
	}
	durability_fence_answer();
	return outcome_skipped(order_has_state(&work->call, order, LINE_SHORTFALL)
							   ? REASON_SHORTFALL
							   : REASON_ALREADY);
}

Outcome
payment_success(Work *work, const Parsed *parsed, Order *order)
{
	Settle		  confirm = {.verb = SETTLE_CONFIRM,
							 .payment_id = parsed->payment_id,
							 .pays = true};
	const char	 *refused;
	OutcomeReason ended;

	if (!payment_is_paid(parsed->status))
		return outcome_skipped(REASON_NOT_PAID);
	if (payment_is_surplus(work, parsed, order))
	{
		durability_fence_answer();
		return outcome_skipped(
			order_has_state(&work->call, order, LINE_CONFIRMED)
				? REASON_ALREADY
				: REASON_SHORTFALL);
	}
	if (order->lines == NIL)
	{
		refused = refused_find(work, order->order_id);
		return refused ? payment_report_shortfall(work, parsed, order, refused)
					   : outcome_waiting_for_order();
	}
	ended = payment_earlier_end(work, parsed, order);
	if (ended != REASON_NONE)
	{
		durability_fence_answer();
		return outcome_skipped(ended);
	}
	if (payment_finds_lines(work, order))
	{
		(void) settle_apply(work, &confirm, order);
		return outcome_applied();
	}
	if (payment_may_be_known(parsed, order))
		return payment_repeated(work, parsed, order);
	if (order_has_state(&work->call, order, LINE_CONFIRMED))
		return payment_report_second(work, parsed, order);
	return payment_report_shortfall(work, parsed, order,
									payment_surplus_reason(work, order));
}
