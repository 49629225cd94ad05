/*-------------------------------------------------------------------------
 *
 * orders/settle_call.c
 *	  The SQL functions that settle an order: settle.c has the states.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/statistics.h"
#include "orders/orders.h"

PGSTOCK_COUNTED_FUNCTION(pgstock_confirm_stock, CALL_CONFIRM_STOCK);
PGSTOCK_COUNTED_FUNCTION(pgstock_release_stock, CALL_RELEASE_STOCK);
PGSTOCK_COUNTED_FUNCTION(pgstock_rollback_stock, CALL_ROLLBACK_STOCK);
PGSTOCK_COUNTED_FUNCTION(pgstock_return_stock, CALL_RETURN_STOCK);
PGSTOCK_COUNTED_FUNCTION(pgstock_extend_reservation, CALL_EXTEND_RESERVATION);

/* Why an order that was confirmed once may be unknown. */
static int
settle_detail_retention(void)
{
	if (pgstock_confirmed_retention == 0)
		return 0;
	return errdetail("Confirmed orders are kept for %s "
					 "(pgstock.confirmed_retention).",
					 GetConfigOptionByName("pgstock.confirmed_retention", NULL,
										   false));
}

static List *
settle_unknown_order(SettleVerb verb, const char *order_id)
{
	Answer *answer;

	if (settle_verbs[verb].must_know)
		ereport(ERROR,
				(errcode(ERRCODE_SK_UNKNOWN_ORDER),
				 errmsg("there is no order \"%s\"", order_id),
				 settle_detail_retention(),
				 errhint("Check the order id.  If a payment was made for it, "
						 "refund the payment.")));
	answer = answer_new(order_id, NULL, NULL, 0);
	answer->status = ANSWER_UNKNOWN_ORDER;
	return list_make1(answer);
}

static List *
settle_locked(Work *work, const Settle *settle, const char *order_id)
{
	Order *order;

	order = work_request_order(work, order_id);
	order_request_lines(order, settle->items, false);
	order_request_history(order);
	work_lock_orders(work);
	order = work_find_order(work, order_id);
	Assert(order != NULL && order->loaded);
	if (order->lines == NIL)
		return settle_unknown_order(settle->verb, order_id);
	settle_request_levels(work, order);
	work_read_levels(work);
	work_lock_levels(work);
	return settle_apply(work, settle, order);
}

static Datum
settle_order(FunctionCallInfo fcinfo, const Settle *settle, int key_arg)
{
	char *order_id = args_id(fcinfo, 0, "order_id");
	Keyed keyed = idempotency_arg(fcinfo, key_arg);
	Work  work;
	List *answers = NIL;

	Assert(settle->payment_id == NULL || settle->verb == SETTLE_CONFIRM);
	Assert(!settle->scrap || settle->verb == SETTLE_RETURN);
	Assert(!settle->pays && !settle->declined); /* messages are */
	keyed.verb = settle_verbs[settle->verb].name;
	keyed.detail = settle->scrap ? "scrap" : settle->payment_id;
	keyed.raise = true;
	work_begin(&work, settle_verbs[settle->verb].function);
	if (keyed.key != NULL)
		answers = idempotency_find(&work, &keyed, order_id, settle->items);
	if (answers == NIL)
	{
		answers = settle_locked(&work, settle, order_id);
		if (keyed.key != NULL)
			idempotency_store(&work.call, &keyed, order_id, settle->items,
							  answers);
	}
	Assert(answers != NIL);
	work_end(&work);
	return answer_return_set(fcinfo, answers);
}

static List *
settle_items_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NIL : args_items(PG_GETARG_JSONB_P(n));
}

/* confirm_stock(order_id text, payment_id text, idempotency_key) */
static Datum
pgstock_confirm_stock_body(PG_FUNCTION_ARGS)
{
	Settle settle = {.verb = SETTLE_CONFIRM,
					 .payment_id = PG_ARGISNULL(1)
									   ? NULL
									   : args_id(fcinfo, 1, "payment_id")};

	return settle_order(fcinfo, &settle, 2);
}

/* The two verbs with a reason, which have the same arguments. */
static Datum
settle_with_reason(FunctionCallInfo fcinfo, SettleVerb verb)
{
	Settle settle = {.verb = verb,
					 .reason = args_reason(fcinfo, 1),
					 .items = settle_items_arg(fcinfo, 2)};

	return settle_order(fcinfo, &settle, 3);
}

/* release_stock(order_id text, reason text, items jsonb, idempotency_key) */
static Datum
pgstock_release_stock_body(PG_FUNCTION_ARGS)
{
	return settle_with_reason(fcinfo, SETTLE_RELEASE);
}

/* rollback_stock(order_id text, reason text, items jsonb, idempotency_key) */
static Datum
pgstock_rollback_stock_body(PG_FUNCTION_ARGS)
{
	return settle_with_reason(fcinfo, SETTLE_ROLLBACK);
}

/* return_stock(order_id text, items jsonb, restock boolean, idempotency_key) */
static Datum
pgstock_return_stock_body(PG_FUNCTION_ARGS)
{
	Settle settle = {.verb = SETTLE_RETURN,
					 .items = settle_items_arg(fcinfo, 1),
					 .scrap = !PG_ARGISNULL(2) && !PG_GETARG_BOOL(2)};

	return settle_order(fcinfo, &settle, 3);
}

/* extend_reservation(order_id text, ttl interval, idempotency_key) */
static Datum
pgstock_extend_reservation_body(PG_FUNCTION_ARGS)
{
	Settle settle = {.verb = SETTLE_EXTEND,
					 .expires_at = args_expiry(fcinfo, 1)};

	return settle_order(fcinfo, &settle, 2);
}
