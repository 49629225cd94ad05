/*-------------------------------------------------------------------------
 *
 * orders/availability.c
 *	  Whether lines could be reserved, without reserving them.
 *
 * For a cart page: it locks no row, writes nothing, and so works on a hot
 * standby too.  The answer is that of reserve_order() at the moment of the
 * statement's snapshot, and is a promise of nothing: it is not fenced, as the
 * answers are that a client may act on.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "orders/orders.h"

#define AVAILABILITY_COLUMNS 5

PG_FUNCTION_INFO_V1(pgstock_check_availability);

/* Due lines count as expired, as they do when stock is reserved. */
static int64
availability_of(Work *work, const Line *line)
{
	Level *level = level_peek(&work->call, line->product_id, line->location);

	if (!level->known)
		return 0;
	/* carts are full of what sells: the next look needs no index */
	row_version_hint_note(&work->call, level);
	return expire_reachable(work, level, line->quantity);
}

static void
availability_put(ReturnSetInfo *info, const Line *line, int64 available)
{
	Datum values[AVAILABILITY_COLUMNS] = {
		CStringGetTextDatum(line->product_id),
		CStringGetTextDatum(line->location),
		Int64GetDatum(line->quantity),
		Int64GetDatum(available),
		BoolGetDatum(available >= line->quantity),
	};
	bool nulls[AVAILABILITY_COLUMNS] = {0};

	Assert(available >= 0 && line->quantity > 0);
	Assert(info->setDesc->natts == AVAILABILITY_COLUMNS);
	tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
}

/* check_availability(items jsonb) RETURNS SETOF availability */
Datum
pgstock_check_availability(PG_FUNCTION_ARGS)
{
	Work	  work;
	List	 *lines;
	ListCell *cell;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("items must not be null")));
	lines = args_items(PG_GETARG_JSONB_P(0));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	memset(&work, 0, sizeof(work));
	call_begin_reading(&work.call);
	foreach(cell, lines)
	{
		const Line *line = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		availability_put((ReturnSetInfo *) fcinfo->resultinfo, line,
						 availability_of(&work, line));
	}
	call_end_reading(&work.call);
	return (Datum) 0;
}
