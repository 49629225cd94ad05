/*-------------------------------------------------------------------------
 *
 * orders/order_lock.c
 *	  SQL functions that lock orders, for the upkeep and for forget_user.
 *
 * These change rows of lines by SQL.  The lock of an order keeps the calls
 * that settle it away, which otherwise write their copy of a line over such a
 * change.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "orders/orders.h"

PG_FUNCTION_INFO_V1(pgstock_try_lock_order);
PG_FUNCTION_INFO_V1(pgstock_lock_orders);

static int
order_lock_compare(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* try_lock_order(order_id text) RETURNS boolean */
Datum
pgstock_try_lock_order(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(work_try_lock_order(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

/* lock_orders(order_ids text[]) RETURNS void: waits, in the order of ids. */
Datum
pgstock_lock_orders(PG_FUNCTION_ARGS)
{
	List	 *ids = NIL;
	Datum	 *values;
	int		  n;
	Call	  call;
	ListCell *cell;

	call_begin(&call, "lock_orders()");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false,
					  TYPALIGN_INT, &values, NULL, &n);
	for (int i = 0; i < n; i++)
		ids = lappend(ids, TextDatumGetCString(values[i]));
	list_sort(ids, order_lock_compare);
	foreach(cell, ids)
		lock_acquire(&call, LOCK_ORDER, lfirst(cell));
	Assert(list_length(ids) == n);
	call_end(&call);
	PG_RETURN_VOID();
}
