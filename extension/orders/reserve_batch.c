/*-------------------------------------------------------------------------
 *
 * orders/reserve_batch.c
 *	  reserve_orders(): many orders in one call, each with its own answer.
 *
 * The locks of all orders are taken at once, class by class, so a batch cannot
 * deadlock with another; a refusal touches no other order.  The orders are
 * applied in the order given: of two that want the last piece the first has it.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"

#include "base/statistics.h"
#include "orders/orders.h"

PGSTOCK_COUNTED_FUNCTION(pgstock_reserve_orders, CALL_RESERVE_ORDERS);

static int
reserve_batch_compare_keys(const ListCell *a, const ListCell *b)
{
	const BatchRequest *x = lfirst(a);
	const BatchRequest *y = lfirst(b);

	return strcmp(x->keyed.key, y->keyed.key);
}

/* The requests with an idempotency key, in the order of their keys. */
static List *
reserve_batch_keyed(List *requests, TupleDesc desc)
{
	List	   *keyed = NIL;
	ListCell   *cell;
	const char *last = NULL;

	foreach(cell, requests)
	{
		BatchRequest *one = lfirst(cell);

		if (one->keyed.key == NULL)
			continue;
		one->keyed.desc = desc;
		keyed = lappend(keyed, one);
	}
	list_sort(keyed, reserve_batch_compare_keys);
	foreach(cell, keyed)
	{
		const BatchRequest *one = lfirst(cell);

		if (last != NULL && strcmp(last, one->keyed.key) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("idempotency key \"%s\" is given twice", last),
					 errhint("Draw a key for each order.")));
		last = one->keyed.key;
	}
	return keyed;
}

/* Requests what the batch needs, and locks it. */
static void
reserve_batch_lock(Work *work, List *requests, TupleDesc desc)
{
	ListCell *cell;

	foreach(cell, reserve_batch_keyed(requests, desc))
	{
		BatchRequest *one = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		(void) idempotency_look(work, &one->keyed, one->request.order_id,
								one->request.lines);
	}
	foreach(cell, requests)
	{
		const Request *request = &((BatchRequest *) lfirst(cell))->request;
		Order		  *order = work_request_order(work, request->order_id);

		order_request_lines(order, request->whole_order ? NIL : request->lines,
							true);
	}
	work_lock_orders(work);
	foreach(cell, requests)
	{
		const Request *request = &((BatchRequest *) lfirst(cell))->request;

		reserve_request_levels(work, request);
		expire_request_own_levels(work,
								  work_find_order(work, request->order_id));
	}
	work_read_levels(work);
	work_lock_levels(work);
}

/* Of an order that lives with other lines: "already" for each line. */
static List *
reserve_batch_already(Work *work, const Request *request)
{
	List	 *answers;
	ListCell *cell;

	durability_fence_answer();
	answers = reserve_refuse(work, request, ANSWER_ALREADY);
	Assert(list_length(answers) == list_length(request->lines));
	foreach(cell, answers)
		((Answer *) lfirst(cell))->status = ANSWER_ALREADY;
	return answers;
}

/* Each order's answer. */
static List *
reserve_batch_one(Work *work, BatchRequest *one)
{
	const Request *request = &one->request;
	bool		   granted;
	List		  *answers;

	if (one->keyed.stored != NIL)
		return idempotency_answers(work, &one->keyed, request->order_id);
	if (reserve_standing(work, request) == STANDING_ANOTHER)
		return reserve_batch_already(work, request);
	if (one->trace_id != NULL)
		call_set_trace(&work->call, one->trace_id);
	answers = reserve_apply(work, request, &granted);
	call_reset_trace(&work->call);
	if (one->keyed.key != NULL)
		idempotency_store(&work->call, &one->keyed, request->order_id,
						  request->lines, answers);
	return answers;
}

/*
 * reserve_orders(orders jsonb, ttl interval) RETURNS SETOF stock_result
 */
static Datum
pgstock_reserve_orders_body(PG_FUNCTION_ARGS)
{
	List	 *requests;
	List	 *answers = NIL;
	ListCell *cell;
	TupleDesc desc;
	Work	  work;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("orders must not be null")));
	requests = args_orders(PG_GETARG_JSONB_P(0), args_expiry(fcinfo, 1));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	BlessTupleDesc(desc);
	work_begin(&work, "reserve_orders()");
	reserve_batch_lock(&work, requests, desc);
	/* no order waits for a lock that a later one would have to take first */
	Assert(work.levels_locked);
	foreach(cell, requests)
		answers = list_concat(answers, reserve_batch_one(&work, lfirst(cell)));
	work_end(&work);
	return answer_return_set(fcinfo, answers);
}
