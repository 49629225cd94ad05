/*-------------------------------------------------------------------------
 *
 * orders/sale_move.c
 *	  Moves pieces of a flash sale out of this database, and into it.
 *
 * A flash sale may be spread over several databases (the shards of
 * front/shard_sale.sql): each has a quota of its own.  Pieces that one lacks
 * are moved from another in two transactions.  The first takes them out of a
 * quota here, the second puts them into the quota there; between the two they
 * are in no database.  Who sees to it that the second follows, and once, is no
 * matter of this file.
 *
 * What remains of a sale after its end is ordinary stock, and moves likewise.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "orders/orders.h"

PG_FUNCTION_INFO_V1(pgstock_move_out);
PG_FUNCTION_INFO_V1(pgstock_move_in);

/* A move, for the ledger and the event. */
typedef struct Move
{
	char *activity_id; /* NULL: of ordinary stock */
	char *product_id;
	char *location;
	char *reason;	 /* names the other database */
	char *reference; /* the move's id */
} Move;

static Move
move_args(FunctionCallInfo fcinfo)
{
	Move move = {
		.activity_id = PG_ARGISNULL(0) ? NULL
									   : args_id(fcinfo, 0, "activity_id"),
		.product_id = args_id(fcinfo, 1, "product_id"),
		.location = args_id(fcinfo, 2, "location"),
		.reason = args_reason(fcinfo, 3),
		.reference = args_reason(fcinfo, 4),
	};

	return move;
}

/* The sale that the move is of, if it is still open; or NULL. */
static Sale *
move_open_sale(Call *call, const Move *move)
{
	Sale *sale = move->activity_id == NULL ? NULL
										   : sale_find(call, move->activity_id);

	/* one of another product has been given the same name */
	if (sale == NULL || sale->closed ||
		strcmp(sale->product_id, move->product_id) != 0 ||
		strcmp(sale->location, move->location) != 0)
		return NULL;
	return sale;
}

/*
 * Changes the level that gives or takes, a sale's quota or the ordinary stock,
 * and reports the level of the product.
 */
static void
move_change(Work *work, const Move *move, Level *home, Level *level,
			int64 delta)
{
	Assert(level->locked && home->locked);
	level_change(work, level, delta, 0, "moved", NULL, move->reason,
				 move->reference);
	if (level != home)
		level_raise_version(home);
	event_emit_level(work, home, "moved", move->reference);
}

/*
 * How much of the wanted quantity a locked level can give: never a back-order,
 * but all that is due, and the safety stock, which is kept for no one here.
 */
static int64
move_free(Work *work, Level *level, int64 wanted)
{
	Level sum = level_sum(level);
	int64 free = sum.on_hand - sum.reserved;

	if (free < wanted)
		free += work_due_quantity(work, level);
	return Min(wanted, Max(0, free));
}

/*
 * The level of the sale, if one is open, or of the ordinary stock, which is the
 * home of both.
 */
static Level *
move_request_levels(Work *work, const Move *move, const Sale *sale,
					Level **home)
{
	*home = work_request_all_slots(work, move->product_id, move->location);
	return sale == NULL ? *home
						: work_request_level(work, sale->product_id,
											 sale->location, sale->slot);
}

/*
 * move_out(activity_id text, product_id text, location text, reason text,
 *			reference text, wanted bigint) RETURNS bigint
 *
 * Takes at most the wanted quantity out of a sale that is open, or (NULL) out
 * of the ordinary stock; the number that it has taken.
 */
Datum
pgstock_move_out(PG_FUNCTION_ARGS)
{
	Move   move = move_args(fcinfo);
	int64  wanted = args_quantity(fcinfo, 5, "wanted");
	int64  quantity = 0;
	Work   work;
	Sale  *sale;
	Level *home;
	Level *level;

	work_begin(&work, "move_out()");
	work_lock_orders(&work);
	sale = move_open_sale(&work.call, &move);
	level = move_request_levels(&work, &move, sale, &home);
	work_read_levels(&work);
	work_lock_levels(&work);
	/* a sale that has closed since gives nothing */
	if (level->known && (sale != NULL) == (move.activity_id != NULL))
		quantity = move_free(&work, level, wanted);
	if (quantity > 0)
	{
		expire_make_room(&work, level,
						 quantity + level_sum(level).backorder_limit);
		move_change(&work, &move, home, level, -quantity);
		if (sale != NULL)
			sale_change_quantity(&work.call, sale->activity_id, -quantity);
	}
	Assert(quantity >= 0 && quantity <= wanted);
	work_end(&work);
	PG_RETURN_INT64(quantity);
}

/* The sale as another database has it, without a quota. */
static Sale *
move_new_sale(FunctionCallInfo fcinfo, const Move *move)
{
	Sale *sale = palloc0(sizeof(Sale));

	sale->activity_id = move->activity_id;
	sale->product_id = move->product_id;
	sale->location = move->location;
	sale->slot = sale_new_slot();
	sale->per_user_limit = args_quantity(fcinfo, 6, "per_user_limit");
	sale->starts_at = PG_GETARG_TIMESTAMPTZ(7);
	sale->ends_at = PG_ARGISNULL(8) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(8);
	return sale;
}

/*
 * move_in(activity_id text, product_id text, location text, reason text,
 *		   reference text, quantity bigint, per_user_limit bigint,
 *		   starts_at timestamptz, ends_at timestamptz) RETURNS boolean
 *
 * Adds pieces to a sale, which is opened here if it is unknown; or to the
 * ordinary stock, if the sale has closed or there is none (NULL).  Whether the
 * sale has them.  The quantity may be 0: then it only opens the sale.
 */
Datum
pgstock_move_in(PG_FUNCTION_ARGS)
{
	Move   move = move_args(fcinfo);
	int64  quantity = PG_GETARG_INT64(5) == 0
						  ? 0
						  : args_quantity(fcinfo, 5, "quantity");
	Sale  *opened = NULL;
	Sale  *sale = NULL;
	Work   work;
	Level *home;
	Level *level;

	work_begin(&work, "move_in()");
	if (move.activity_id != NULL)
		lock_acquire(&work.call, LOCK_NEW_SALE, move.activity_id);
	work_lock_orders(&work);
	if (move.activity_id != NULL &&
		sale_find(&work.call, move.activity_id) == NULL)
		sale = opened = move_new_sale(fcinfo, &move);
	else
		sale = move_open_sale(&work.call, &move);
	level = move_request_levels(&work, &move, sale, &home);
	work_read_levels(&work);
	supply_make_level(&work, home);
	work_lock_levels(&work);
	if (opened != NULL)
	{
		level_make(level);
		level_raise_version(level); /* it is written without pieces too */
		level_raise_version(home);
		opened->quantity = quantity;
		sale_insert(&work.call, opened);
		if (opened->ends_at != DT_NOEND)
			due_time_note(opened->ends_at);
	}
	else if (!level->known)
		level = home; /* it has closed while this session waited */
	else if (level != home && quantity > 0)
		sale_change_quantity(&work.call, sale->activity_id, quantity);
	if (quantity > 0)
		move_change(&work, &move, home, level, quantity);
	work_end(&work);
	PG_RETURN_BOOL(level != home);
}
