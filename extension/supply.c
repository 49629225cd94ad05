/*-------------------------------------------------------------------------
 *
 * supply.c
 *	  Stock that comes in.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "pgstock.h"

PG_FUNCTION_INFO_V1(pgstock_receive_stock);

#define LOCK_CLASS_LEVEL 0x7068 /* a level that has no row yet */

/*
 * Locks a level, or makes it if there is none: then its name is locked, so
 * that of two sessions one makes it and the other finds it.
 */
static Level *
level_lock_or_make(Work *work, const char *product_id, const char *location)
{
	Level *level = work_want_level(work, product_id, location);

	work_read_levels(work);
	if (!level->known)
	{
		lock_name(LOCK_CLASS_LEVEL, psprintf("%s\t%s", product_id, location));
		work_refresh_snapshot();
		work_read_levels(work);
	}
	if (!level->known)
	{
		level->known = true;
		level->is_new = true;
		level->locked = true;
		level->slots = 1;
	}
	work_lock_levels(work);
	return level;
}

/*
 * receive_stock(product_id text, quantity bigint, location text,
 *				 reference text) RETURNS bigint
 *
 * Adds pieces to what is on hand; the new on_hand is the answer.
 */
Datum
pgstock_receive_stock(PG_FUNCTION_ARGS)
{
	char  *product_id = args_id(fcinfo, 0, "product_id");
	int64  quantity = args_quantity(fcinfo, 1, "quantity");
	char  *location = PG_ARGISNULL(2) ? STOCK_MAIN
									  : args_id(fcinfo, 2, "location");
	char  *reference = args_text(fcinfo, 3);
	Work   work;
	Level *level;
	int64  on_hand;

	work_begin(&work, "receive_stock()");
	level = level_lock_or_make(&work, product_id, location);
	if (level->on_hand > STOCK_QUANTITY_MAX - quantity)
		ereport(
			ERROR,
			(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
			 errmsg(
				 "on_hand of product \"%s\" at location \"%s\" would exceed " INT64_FORMAT,
				 product_id, location, STOCK_QUANTITY_MAX)));
	level_change(&work, level, quantity, 0, "received", NULL, NULL, reference);
	event_emit_level(&work, level, "received", reference);
	on_hand = level->on_hand;
	work_end(&work);
	PG_RETURN_INT64(on_hand);
}
