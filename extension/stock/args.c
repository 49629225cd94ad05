/*-------------------------------------------------------------------------
 *
 * stock/args.c
 *	  Arguments about stock, and lines: checked, sorted, merged.
 *
 * Everything that can be wrong with a request is found here, before a lock is
 * taken or a row is read.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "stock/stock.h"

static int64
args_check_quantity(int64 quantity, const char *name)
{
	if (quantity < 1 || quantity > STOCK_QUANTITY_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s must be between 1 and " INT64_FORMAT, name,
							   STOCK_QUANTITY_MAX),
						errdetail("It is " INT64_FORMAT ".", quantity)));
	return quantity;
}

int64
args_quantity(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s must not be null", name)));
	return args_check_quantity(PG_GETARG_INT64(n), name);
}

/*
 * The strategy by its name.  All give the same answers; they differ in who
 * waits (see level_lock.c).
 */
Strategy
args_strategy(FunctionCallInfo fcinfo, int n)
{
	char *strategy = args_text(fcinfo, n);

	if (strategy == NULL || strcmp(strategy, "auto") == 0 ||
		strcmp(strategy, "pessimistic") == 0)
		return STRATEGY_WAIT;
	if (strcmp(strategy, "optimistic") == 0)
		return STRATEGY_OPTIMISTIC;
	if (strcmp(strategy, "advisory") == 0)
		return STRATEGY_ADVISORY;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no strategy \"%s\"", strategy),
			 errhint("The strategies are auto, pessimistic, optimistic and "
					 "advisory.")));
	return STRATEGY_WAIT;
}

/* When a reservation made now ends that names no ttl. */
TimestampTz
args_default_expiry(void)
{
	if (pgstock_reservation_ttl == 0)
		return DT_NOEND;
	return GetCurrentTimestamp() +
		   (int64) pgstock_reservation_ttl * USECS_PER_SEC;
}

/* When a reservation made now ends that has this ttl, an interval. */
TimestampTz
args_expiry_of(Datum ttl)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz end;

	end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												  TimestampTzGetDatum(now),
												  ttl));
	if (end < now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ttl must not be negative"),
				 errhint("Give an interval such as '15 minutes', or '0' for a "
						 "reservation that never expires.")));
	return end == now ? DT_NOEND : end;
}

/* When a reservation made now ends: argument ttl, else the setting. */
TimestampTz
args_expiry(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? args_default_expiry()
						   : args_expiry_of(PG_GETARG_DATUM(n));
}

Line *
line_new(char *product_id, char *location, int64 quantity)
{
	return line_new_in_slot(product_id, location, SLOT_MAIN, quantity);
}

/* A line of one slot: the quota of a sale. */
Line *
line_new_in_slot(char *product_id, char *location, int slot, int64 quantity)
{
	Line *line = palloc(sizeof(Line));

	line->product_id = product_id;
	line->location = location;
	line->slot = slot;
	Assert(product_id != NULL && location != NULL && quantity > 0);
	line->quantity = quantity;
	return line;
}

/* The order in which levels are locked, byte by byte. */
int
level_key_compare(const char *product_a, const char *location_a,
				  const char *product_b, const char *location_b)
{
	int difference = strcmp(product_a, product_b);

	return difference != 0 ? difference : strcmp(location_a, location_b);
}

static int
args_compare_lines(const ListCell *a, const ListCell *b)
{
	const Line *x = lfirst(a);
	const Line *y = lfirst(b);

	return level_key_compare(x->product_id, x->location, y->product_id,
							 y->location);
}

/* Sorts lines and adds up those of the same product and location. */
List *
lines_merge(List *lines)
{
	List	 *merged = NIL;
	ListCell *cell;

	list_sort(lines, args_compare_lines);
	foreach(cell, lines)
	{
		Line *line = lfirst(cell);
		Line *last = merged == NIL ? NULL : llast(merged);

		if (last != NULL &&
			level_key_compare(last->product_id, last->location,
							  line->product_id, line->location) == 0)
			last->quantity = args_check_quantity(last->quantity +
													 line->quantity,
												 "quantity");
		else
			merged = lappend(merged, line);
	}
	Assert((merged == NIL) == (lines == NIL));
	return merged;
}
