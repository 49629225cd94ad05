/*-------------------------------------------------------------------------
 *
 * stock/refused_order.c
 *	  Incoming orders that were refused.
 *
 * They have no line, but they are known: the same order again gets the same
 * answer, a failure of it is no surprise, and a payment for it is a shortfall
 * that must be reported.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "stock/stock.h"

enum
{
	REFUSED_ORDER = 1,
	REFUSED_REASON,
	REFUSED_AT
};

/* A refusal of this work, to be written at its end. */
typedef struct Refusal
{
	const char *order_id;
	const char *reason;
} Refusal;

/* Why an incoming order was refused; NULL if it was not. */
const char *
refused_find(Work *work, const char *order_id)
{
	Table		   *table = table_use(&work->call, TABLE_REFUSED_ORDER);
	Refusal		   *noted = name_map_find(&work->refused_names, order_id);
	ItemPointerData tid;

	Assert(noted == NULL || strcmp(noted->order_id, order_id) == 0);
	if (noted != NULL)
		return noted->reason;
	if (!table_find_text(&work->call, table, "refused_order_pkey", order_id,
						 &tid))
		return NULL;
	return row_get_text(table->slot, REFUSED_REASON);
}

/* Notes a refusal, or another reason for one. */
void
refused_store(Work *work, const char *order_id, const char *reason)
{
	Refusal *noted = name_map_find(&work->refused_names, order_id);

	Assert(reason != NULL && work_find_order(work, order_id) != NULL);
	if (noted == NULL)
	{
		noted = palloc(sizeof(Refusal));
		noted->order_id = order_id;
		work->refused = lappend(work->refused, noted);
		name_map_put(&work->refused_names, order_id, noted);
	}
	noted->reason = reason;
}

/* Writes what was noted; each order once. */
void
refused_write(Work *work)
{
	Table	 *table = table_use(&work->call, TABLE_REFUSED_ORDER);
	ListCell *cell;

	foreach(cell, work->refused)
	{
		Refusal		   *refusal = lfirst(cell);
		ItemPointerData tid;
		bool found = table_find_text(&work->call, table, "refused_order_pkey",
									 refusal->order_id, &tid);
		TupleTableSlot *slot = table_new_row(table);

		Assert(name_map_find(&work->refused_names, refusal->order_id) ==
			   refusal);
		row_put_text(slot, REFUSED_ORDER, refusal->order_id);
		row_put_text(slot, REFUSED_REASON, refusal->reason);
		row_put(slot, REFUSED_AT, TimestampTzGetDatum(work->call.now));
		if (found)
			table_update(&work->call, table, &tid);
		else
			table_insert(&work->call, table);
	}
}
