/*-------------------------------------------------------------------------
 *
 * stock/ledger.c
 *	  The one way to change a level, and the ledger of all changes.
 *
 * level_change() keeps the invariant of a slot (never negative, never
 * oversold), raises the version and notes the movement.  So a level and its
 * ledger cannot diverge.  Its callers have checked before: an invariant that
 * does not hold means that the tables were written to directly (SK010).
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/sequence.h"
#include "miscadmin.h"

#include "stock/stock.h"

/* Columns, as sql/stock_tables.sql has them. */
enum
{
	MOVEMENT_ID = 1,
	MOVEMENT_AT,
	MOVEMENT_KIND,
	MOVEMENT_PRODUCT,
	MOVEMENT_LOCATION,
	MOVEMENT_ON_HAND,
	MOVEMENT_RESERVED,
	MOVEMENT_ORDER,
	MOVEMENT_ACTOR,
	MOVEMENT_REASON,
	MOVEMENT_REFERENCE,
	MOVEMENT_EVENT,
	MOVEMENT_PART
};

/* The callers check before they change a level, so this is not their fault. */
static void
ledger_raise_drift(const Level *level)
{
	ereport(ERROR,
			(errcode(ERRCODE_SK_LEDGER_DRIFT),
			 errmsg("level of product \"%s\" at location \"%s\" contradicts "
					"its ledger",
					level->product_id, level->location),
			 errdetail("It would have " INT64_FORMAT
					   " on hand and " INT64_FORMAT " reserved.",
					   level->on_hand, level->reserved),
			 errhint("Run verify_stock to see where, and repair_stock to "
					 "correct it.")));
}

/* Whatever brings goods in: sums stay exact in any JSON. */
static void
ledger_raise_overflow(const Level *level)
{
	ereport(ERROR,
			(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
			 errmsg("on_hand of product \"%s\" at location \"%s\" would "
					"exceed " INT64_FORMAT,
					level->product_id, level->location, STOCK_QUANTITY_MAX)));
}

/* Changes a locked level and notes the movement. */
void
level_change(Work *work, Level *level, int64 on_hand_delta,
			 int64 reserved_delta, const char *kind, const char *order_id,
			 const char *reason, const char *reference)
{
	Movement *movement = palloc0(sizeof(Movement));

	Assert(level->locked && level->known && !level->deleted);
	Assert(work->levels_locked && kind != NULL);
	CHECK_FOR_INTERRUPTS();
	level->on_hand += on_hand_delta;
	level->reserved += reserved_delta;
	level->version++;
	level->dirty = true;
	if (on_hand_delta > 0 && level_on_hand(work, level) > STOCK_QUANTITY_MAX)
		ledger_raise_overflow(level);
	level_even_out(level);
	if (level->reserved < 0 || level->on_hand < -level->backorder_limit)
		ledger_raise_drift(level);
	Assert(level->on_hand <= STOCK_QUANTITY_MAX);
	/* What takes must leave the promise standing. */
	if ((on_hand_delta < reserved_delta) &&
		level->on_hand - level->reserved < -level->backorder_limit)
		ledger_raise_drift(level);

	movement->kind = kind;
	movement->level = level;
	movement->on_hand_delta = on_hand_delta;
	movement->reserved_delta = reserved_delta;
	movement->order_id = order_id;
	movement->reason = reason;
	movement->reference = reference;
	work->movements = lappend(work->movements, movement);
}

/* The event that reports the movement. */
void
movement_set_event(Movement *movement, const pg_uuid_t *event_id)
{
	Assert(!movement->has_event && !movement->no_event);
	movement->event_id = *event_id;
	movement->has_event = true;
}

/*
 * Whether a movement from the given one on has no event yet.  They are all of
 * that order.
 */
bool
ledger_has_unlinked(Work *work, int first_movement, const char *order_id)
{
	ListCell *cell;

	for_each_from(cell, work->movements, first_movement)
	{
		Movement *movement = lfirst(cell);

		if (movement->has_event || movement->no_event)
			continue;
		Assert(movement->order_id != NULL &&
			   strcmp(movement->order_id, order_id) == 0);
		return true;
	}
	return false;
}

/* Links the movements from the given one on to the event that reports them. */
void
ledger_link_event(Work *work, int first_movement, const pg_uuid_t *event_id)
{
	ListCell *cell;

	Assert(first_movement >= 0 &&
		   first_movement <= list_length(work->movements));
	for_each_from(cell, work->movements, first_movement)
	{
		Movement *movement = lfirst(cell);

		if (!movement->has_event && !movement->no_event)
			movement_set_event(movement, event_id);
	}
}

/* No event of this work reports them: it is owed. */
void
ledger_link_no_event(Work *work, int first_movement)
{
	ListCell *cell;

	for_each_from(cell, work->movements, first_movement)
	{
		Movement *movement = lfirst(cell);

		movement->no_event = true;
	}
}

static void
ledger_write_movement(Call *call, const Movement *movement, Oid sequence)
{
	Table		   *table = rotation_use(call, TABLE_MOVEMENT);
	TupleTableSlot *slot = table_new_row(table);

	Assert(movement->level->locked);
	Assert(!(movement->has_event && movement->no_event));
	row_put(slot, MOVEMENT_ID,
			Int64GetDatum(nextval_internal(sequence, false)));
	row_put(slot, MOVEMENT_AT, TimestampTzGetDatum(call->now));
	row_put_text(slot, MOVEMENT_KIND, movement->kind);
	row_put_text(slot, MOVEMENT_PRODUCT, movement->level->product_id);
	row_put_text(slot, MOVEMENT_LOCATION, movement->level->location);
	row_put(slot, MOVEMENT_ON_HAND, Int64GetDatum(movement->on_hand_delta));
	row_put(slot, MOVEMENT_RESERVED, Int64GetDatum(movement->reserved_delta));
	row_put_text(slot, MOVEMENT_ORDER, movement->order_id);
	row_put_text(slot, MOVEMENT_ACTOR, call->actor);
	row_put_text(slot, MOVEMENT_REASON, movement->reason);
	row_put_text(slot, MOVEMENT_REFERENCE, movement->reference);
	if (movement->has_event)
		row_put(slot, MOVEMENT_EVENT, UUIDPGetDatum(&movement->event_id));
	row_put(slot, MOVEMENT_PART, Int16GetDatum(table->part));
	table_insert(call, table);
}

/* Writes the movements of the work. */
void
ledger_write(Work *work)
{
	ListCell *cell;
	Oid		  sequence;

	if (work->movements == NIL)
		return;
	Assert(work->levels_locked);
	sequence = relation_sequence("movement_id");
	foreach(cell, work->movements)
		ledger_write_movement(&work->call, lfirst(cell), sequence);
}
