/*-------------------------------------------------------------------------
 *
 * orders/supply.c
 *	  Stock on hand: received, adjusted, set, moved; safety stock, back-order
 *	  limit and slots.
 *
 * None of these may leave less on hand than is reserved (SK001): a reservation
 * is a promise.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/statistics.h"
#include "orders/orders.h"

PGSTOCK_COUNTED_FUNCTION(pgstock_receive_stock, CALL_RECEIVE_STOCK);
PGSTOCK_COUNTED_FUNCTION(pgstock_adjust_stock, CALL_ADJUST_STOCK);
PGSTOCK_COUNTED_FUNCTION(pgstock_set_stock, CALL_SET_STOCK);
PGSTOCK_COUNTED_FUNCTION(pgstock_move_stock, CALL_MOVE_STOCK);
PGSTOCK_COUNTED_FUNCTION(pgstock_configure_product, CALL_CONFIGURE_PRODUCT);

/* A change of what is on hand, for the ledger and the event. */
typedef struct Supply
{
	const char *kind;
	const char *reason;	   /* or NULL */
	const char *reference; /* or NULL */
} Supply;

/* What configure_product() sets. */
typedef struct SupplySettings
{
	int64 safety;
	int64 backorder_limit;
	int	  slots;
} SupplySettings;

/*
 * A level that this work has read is made if there is none; its name is
 * locked first, so that of two sessions one makes it and the other finds it.
 */
void
supply_make_level(Work *work, Level *level)
{
	List *siblings;
	Level settings;

	if (level->known)
		return;
	lock_acquire(&work->call, LOCK_NEW_LEVEL,
				 psprintf("%s\t%s", level->product_id, level->location));
	call_refresh_snapshot();
	work_read_levels(work);
	if (level->known)
		return;
	/* no other session can make it now, nor lock it before it is written */
	Assert(!work->levels_locked && level == level->first);
	level_make(level);
	/* A new location begins with the product's settings. */
	siblings = work_product_levels(&work->call, level->product_id, NULL, false);
	if (siblings != NIL)
	{
		settings = level_sum(linitial(siblings));
		level_configure(level, settings.safety, settings.backorder_limit);
		level_make_slots(level, settings.slots);
	}
}

/* Changes the stock on hand of a locked level, and emits the event. */
static void
supply_change(Work *work, Level *level, int64 delta, const Supply *supply)
{
	Level sum = level_sum(level);

	Assert(level->locked && work->levels_locked && supply->kind != NULL);
	if (delta < 0 && sum.on_hand + delta < sum.reserved)
		level_raise_insufficient(
			level->product_id, level->location, -delta,
			Max(0, sum.on_hand - sum.reserved),
			"What is reserved, or set apart for a sale, cannot be "
			"taken away: release or roll back orders, or close "
			"the sale, first.");
	level_change(work, level, delta, 0, supply->kind, NULL, supply->reason,
				 supply->reference);
	event_emit_level(work, level, supply->kind, supply->reference);
}

static char *
supply_location_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? STOCK_MAIN : args_id(fcinfo, n, "location");
}

/*
 * receive_stock(product_id text, quantity bigint, location text,
 *				 reference text) RETURNS bigint
 */
static Datum
pgstock_receive_stock_body(PG_FUNCTION_ARGS)
{
	char  *product_id = args_id(fcinfo, 0, "product_id");
	bool   nothing = !PG_ARGISNULL(1) && PG_GETARG_INT64(1) == 0;
	int64  quantity = nothing ? 0 : args_quantity(fcinfo, 1, "quantity");
	char  *location = supply_location_arg(fcinfo, 2);
	Supply supply = {.kind = "received", .reference = args_reason(fcinfo, 3)};
	Work   work;
	Level *level;
	int64  on_hand;

	work_begin(&work, "receive_stock()");
	level = work_request_all_slots(&work, product_id, location);
	work_read_levels(&work);
	supply_make_level(&work, level);
	/* A product may be sold out when it is added; later 0 is a mistake. */
	if (nothing && !level->is_new)
		(void) args_quantity(fcinfo, 1, "quantity");
	work_lock_levels(&work);
	supply_change(&work, level, quantity, &supply);
	on_hand = level_on_hand(&work, level);
	Assert(on_hand <= STOCK_QUANTITY_MAX);
	work_end(&work);
	PG_RETURN_INT64(on_hand);
}

/*
 * adjust_stock(product_id text, delta bigint, reason text, location text)
 *				RETURNS bigint
 */
static Datum
pgstock_adjust_stock_body(PG_FUNCTION_ARGS)
{
	char  *product_id = args_id(fcinfo, 0, "product_id");
	int64  delta = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1);
	Supply supply = {.kind = "adjusted", .reason = args_reason(fcinfo, 2)};
	char  *location = supply_location_arg(fcinfo, 3);
	Work   work;
	Level *level;
	int64  on_hand;

	if (delta == 0 || delta < -STOCK_QUANTITY_MAX || delta > STOCK_QUANTITY_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("delta must be a difference other than 0, "
							   "of at most " INT64_FORMAT,
							   STOCK_QUANTITY_MAX)));
	if (supply.reason == NULL || supply.reason[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("reason must not be empty"),
						errhint("The ledger keeps the reason of each "
								"adjustment.")));
	work_begin(&work, "adjust_stock()");
	level = work_request_all_slots(&work, product_id, location);
	work_read_levels(&work);
	level_must_exist(level);
	work_lock_levels(&work);
	supply_change(&work, level, delta, &supply);
	on_hand = level_on_hand(&work, level);
	work_end(&work);
	PG_RETURN_INT64(on_hand);
}

static void
supply_raise_stale_version(const Level *level, int64 present, int64 expected)
{
	durability_fence_error();
	ereport(ERROR,
			(errcode(ERRCODE_SK_STALE_VERSION),
			 errmsg("product \"%s\" at location \"%s\" has changed",
					level->product_id, level->location),
			 errdetail("Expected version " INT64_FORMAT ", found " INT64_FORMAT
					   " with on_hand " INT64_FORMAT ".",
					   expected, level->version, present),
			 errhint("Read stock_levels again and decide anew.")));
}

/*
 * set_stock(product_id text, on_hand bigint, expected_version bigint,
 *			 location text) RETURNS bigint
 *
 * Compare-and-set: expected_version 0 stands for a level that is not there.
 */
static Datum
pgstock_set_stock_body(PG_FUNCTION_ARGS)
{
	char  *product_id = args_id(fcinfo, 0, "product_id");
	int64  on_hand = PG_ARGISNULL(1) ? -1 : PG_GETARG_INT64(1);
	char  *location = supply_location_arg(fcinfo, 3);
	Supply supply = {.kind = "set"};
	Work   work;
	Level *level;
	Level  sum;
	int64  present;

	if (on_hand < 0 || on_hand > STOCK_QUANTITY_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("on_hand must be between 0 and " INT64_FORMAT,
							   STOCK_QUANTITY_MAX)));
	work_begin(&work, "set_stock()");
	level = work_request_all_slots(&work, product_id, location);
	work_read_levels(&work);
	supply_make_level(&work, level);
	work_lock_levels(&work);
	sum = level_sum(level);
	present = level_on_hand(&work, level);
	if (!PG_ARGISNULL(2) && sum.version != PG_GETARG_INT64(2))
		supply_raise_stale_version(&sum, present, PG_GETARG_INT64(2));
	supply_change(&work, level, on_hand - present, &supply);
	Assert(level_on_hand(&work, level) == on_hand);
	work_end(&work);
	PG_RETURN_INT64(on_hand);
}

/*
 * move_stock(product_id text, quantity bigint, from_location text,
 *			  to_location text) RETURNS void
 */
static Datum
pgstock_move_stock_body(PG_FUNCTION_ARGS)
{
	char  *product_id = args_id(fcinfo, 0, "product_id");
	int64  quantity = args_quantity(fcinfo, 1, "quantity");
	char  *from = args_id(fcinfo, 2, "from_location");
	char  *to = args_id(fcinfo, 3, "to_location");
	Supply supply = {.kind = "moved", .reason = psprintf("%s to %s", from, to)};
	Work   work;
	Level *source;
	Level *target;

	if (strcmp(from, to) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("from_location and to_location must differ")));
	work_begin(&work, "move_stock()");
	source = work_request_all_slots(&work, product_id, from);
	target = work_request_all_slots(&work, product_id, to);
	work_read_levels(&work);
	level_must_exist(source);
	supply_make_level(&work, target);
	Assert(source != target);
	work_lock_levels(&work);
	supply_change(&work, source, -quantity, &supply);
	supply_change(&work, target, quantity, &supply);
	work_end(&work);
	PG_RETURN_VOID();
}

/* A setting: NULL leaves it, -1 takes it away. */
static void
supply_setting_arg(FunctionCallInfo fcinfo, int n, const char *name,
				   int64 *setting)
{
	int64 value;

	if (PG_ARGISNULL(n))
		return;
	value = PG_GETARG_INT64(n);
	if (value < -1 || value > STOCK_QUANTITY_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s must be between 0 and " INT64_FORMAT
							   ", or -1 to take it away",
							   name, STOCK_QUANTITY_MAX)));
	*setting = Max(0, value);
}

static int
supply_slots_arg(FunctionCallInfo fcinfo, int n, int slots)
{
	int value = PG_ARGISNULL(n) ? slots : PG_GETARG_INT32(n);

	if (value != -1 && (value < 1 || value > STOCK_SLOTS_MAX))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("slots must be between 1 and %d, or -1 to take "
							   "them away",
							   STOCK_SLOTS_MAX)));
	return Max(1, value);
}

/* Settles what a level's slots share; the first row gets it all before. */
static void
supply_configure_level(Level *first, const SupplySettings *settings)
{
	level_configure(first, settings->safety, settings->backorder_limit);
	level_raise_version(first);
	level_make_slots(first, settings->slots);
	level_even_out(first);
}

/* The settings that were given, as stock_admin_actions shows them. */
static const char *
supply_settings_text(FunctionCallInfo fcinfo)
{
	static const char *const names[] = {"safety", "backorder_limit", "slots"};
	StringInfoData			 settings;

	initStringInfo(&settings);
	for (int i = 0; i < lengthof(names); i++)
	{
		int n = i + 1;

		if (!PG_ARGISNULL(n))
			appendStringInfo(&settings, "%s%s " INT64_FORMAT,
							 settings.len ? ", " : "", names[i],
							 n == 3 ? (int64) PG_GETARG_INT32(n)
									: PG_GETARG_INT64(n));
	}
	return settings.data;
}

/*
 * configure_product(product_id text, safety bigint, backorder_limit bigint,
 *					 slots int) RETURNS void
 *
 * A back-order limit cannot be below the quantity already back-ordered.
 * Slots that are taken away keep their rows, for the lines that count in them.
 */
static Datum
pgstock_configure_product_body(PG_FUNCTION_ARGS)
{
	char	 *product_id = args_id(fcinfo, 0, "product_id");
	Work	  work;
	ListCell *cell;

	work_begin(&work, "configure_product()");
	foreach(cell, work_product_levels(&work.call, product_id, NULL, false))
		work_request_all_slots(&work, product_id,
							   ((Level *) lfirst(cell))->location);
	if (work.levels == NIL)
		level_must_exist(work_request_all_slots(&work, product_id, STOCK_MAIN));
	work_read_levels(&work);
	work_lock_levels(&work);
	foreach(cell, work.levels)
	{
		Level		  *level = lfirst(cell);
		Level		   sum = level_sum(level);
		SupplySettings settings = {sum.safety, sum.backorder_limit, sum.slots};

		supply_setting_arg(fcinfo, 1, "safety", &settings.safety);
		supply_setting_arg(fcinfo, 2, "backorder_limit",
						   &settings.backorder_limit);
		settings.slots = supply_slots_arg(fcinfo, 3, settings.slots);
		if (sum.on_hand - sum.reserved < -settings.backorder_limit)
			ereport(ERROR,
					(errcode(ERRCODE_SK_INSUFFICIENT),
					 errmsg("back-order limit of product \"%s\" at location "
							"\"%s\" is below the quantity already back-ordered",
							product_id, level->location),
					 errdetail("Product \"%s\": wanted " INT64_FORMAT
							   ", taken " INT64_FORMAT ".",
							   product_id, settings.backorder_limit,
							   sum.reserved - sum.on_hand),
					 errhint("Receive stock first.")));
		supply_configure_level(level, &settings);
		event_emit_level(&work, level, "configured", NULL);
	}
	admin_action_write(&work.call, "configure_product", product_id,
					   supply_settings_text(fcinfo));
	work_end(&work);
	PG_RETURN_VOID();
}
