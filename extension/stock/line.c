/*-------------------------------------------------------------------------
 *
 * stock/line.c
 *	  Lines: their states in memory, their rows.
 *
 * A line changes state only while its level is locked: a level's lock covers
 * the lines that count in it.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/timestamp.h"

#include "stock/stock.h"

/* Columns, as sql/stock_tables.sql has them. */
enum
{
	LINE_ORDER = 1,
	LINE_ATTEMPT,
	LINE_PRODUCT,
	LINE_LOCATION,
	LINE_SLOT,
	LINE_QUANTITY,
	LINE_STATE,
	LINE_USER,
	LINE_CREATED_AT,
	LINE_EXPIRES_AT,
	LINE_DUE_AT,
	LINE_ENDED_AT,
	LINE_REASON,
	LINE_PAYMENT,
	LINE_ACTIVITY,
	LINE_RETAKE,
	LINE_CONFIRMED_AT
};

/* Reserved, but past its time: counts as expired everywhere. */
bool
line_is_due(const Call *call, const Reservation *line)
{
	return line->state == LINE_RESERVED && line->expires_at <= call->now;
}

/* Reserved and not due, or confirmed. */
bool
line_is_live(const Call *call, const Reservation *line)
{
	return line->state == LINE_CONFIRMED ||
		   (line->state == LINE_RESERVED && !line_is_due(call, line));
}

/* Whether a payment takes the line's stock again, if it is there. */
bool
line_is_payable(const Call *call, const Reservation *line)
{
	if (line_is_due(call, line) || line->state == LINE_EXPIRED)
		return line->retake != RETAKE_NO;
	return line->state == LINE_RELEASED && line->retake == RETAKE_YES;
}

/* Ends a line.  The caller changes the level. */
void
line_end(Call *call, Reservation *line, LineState state, const char *reason)
{
	Assert(state != LINE_RESERVED && state != LINE_CONFIRMED);
	Assert(line->state != state);
	line->state = state;
	line->ended_at = call->now;
	line->reason = reason ? pstrdup(reason) : NULL;
	line->dirty = true;
}

/* Reserves a line, which is new or has ended, in a level's slot. */
void
line_reserve(Call *call, Reservation *line, const Level *slot, int64 quantity,
			 TimestampTz expires_at)
{
	Assert(slot->locked && quantity > 0);
	line->slot = slot->slot;
	line->quantity = quantity;
	line->state = LINE_RESERVED;
	line->created_at = call->now;
	line->expires_at = expires_at;
	line->ended_at = DT_NOBEGIN;
	line->confirmed_at = DT_NOBEGIN;
	line->reason = NULL;
	line->payment_id = NULL;
	line->retake = RETAKE_BY_STATE;
	line_set_event_owed(line, false);
}

/* The user and the sale that it is bought in; either may be NULL. */
void
line_set_buyer(Reservation *line, char *user_id, char *activity_id)
{
	line->user_id = user_id;
	line->activity_id = activity_id;
	line->dirty = true;
}

/* The line stays reserved until then. */
void
line_extend(Reservation *line, TimestampTz expires_at)
{
	Assert(line->state == LINE_RESERVED);
	line->expires_at = expires_at;
	line->dirty = true;
}

/* A part of the line has ended; the rest keeps its state. */
void
line_reduce(Reservation *line, int64 quantity)
{
	Assert(quantity > 0 && quantity < line->quantity);
	line->quantity -= quantity;
	line->dirty = true;
}

/* Confirms a line: it is reserved, or its stock was taken again. */
void
line_confirm(Call *call, Reservation *line, const char *payment_id)
{
	Assert(line->quantity > 0);
	line->state = LINE_CONFIRMED;
	line->confirmed_at = call->now;
	line->ended_at = DT_NOBEGIN;
	line->reason = NULL;
	line_set_payment(line, payment_id);
}

void
line_set_payment(Reservation *line, const char *payment_id)
{
	line->payment_id = payment_id ? pstrdup(payment_id) : NULL;
	line->dirty = true;
}

void
line_set_retake(Reservation *line, Retake retake)
{
	line->retake = retake;
	line->dirty = true;
}

/* Whether no event reports yet that the line has expired. */
void
line_set_event_owed(Reservation *line, bool owed)
{
	Assert(!owed || line->state == LINE_EXPIRED);
	line->event_owed = owed;
	line->dirty = true;
}

/* The line counts in another slot; the caller changes the levels. */
void
line_move(Reservation *line, int slot)
{
	line->slot = slot;
	line->dirty = true;
}

/* The order id of a row of the table. */
char *
line_order_id(TupleTableSlot *slot)
{
	return row_get_text(slot, LINE_ORDER);
}

/* A row of the table as a line of that order, which may be NULL. */
Reservation *
line_read(TupleTableSlot *slot, Order *order)
{
	Reservation *line = palloc0(sizeof(Reservation));

	line->order = order;
	line->attempt = row_get_int32(slot, LINE_ATTEMPT);
	line->product_id = row_get_text(slot, LINE_PRODUCT);
	line->location = row_get_text(slot, LINE_LOCATION);
	line->slot = row_get_int32(slot, LINE_SLOT);
	line->quantity = row_get_int64(slot, LINE_QUANTITY);
	line->state = DatumGetChar(row_get(slot, LINE_STATE));
	line->user_id = row_get_text(slot, LINE_USER);
	line->created_at = row_get_time(slot, LINE_CREATED_AT, 0);
	line->expires_at = row_get_time(slot, LINE_EXPIRES_AT, DT_NOEND);
	line->ended_at = row_get_time(slot, LINE_ENDED_AT, DT_NOBEGIN);
	line->confirmed_at = row_get_time(slot, LINE_CONFIRMED_AT, DT_NOBEGIN);
	line->event_owed = line->state == LINE_EXPIRED &&
					   !row_is_null(slot, LINE_DUE_AT);
	line->reason = row_get_text(slot, LINE_REASON);
	line->payment_id = row_get_text(slot, LINE_PAYMENT);
	line->activity_id = row_get_text(slot, LINE_ACTIVITY);
	if (!row_is_null(slot, LINE_RETAKE))
		line->retake = DatumGetBool(row_get(slot, LINE_RETAKE)) ? RETAKE_YES
																: RETAKE_NO;
	line->tid = slot->tts_tid;
	Assert(line->attempt > 0 && line->quantity > 0);
	return line;
}

/* Writes a line that is new or has changed. */
void
line_write(Call *call, Reservation *line)
{
	Table		   *table = table_use(call, TABLE_RESERVATION);
	TupleTableSlot *slot;

	Assert(line->dirty && (line->is_new || ItemPointerIsValid(&line->tid)));
	Assert(!line->event_owed || line->state == LINE_EXPIRED);
	Assert(line->order != NULL && line->attempt > 0 && line->quantity > 0);
	Assert((line->state == LINE_RESERVED || line->state == LINE_CONFIRMED) ==
		   (line->ended_at == DT_NOBEGIN));
	Assert(line->state != LINE_CONFIRMED || line->confirmed_at != DT_NOBEGIN);
	if (!line->is_new && IsolationUsesXactSnapshot() &&
		!table_lock_row(table, &line->tid))
		elog(ERROR, "a line of order \"%s\" vanished", line->order->order_id);

	slot = table_new_row(table);
	row_put_text(slot, LINE_ORDER, line->order->order_id);
	row_put(slot, LINE_ATTEMPT, Int32GetDatum(line->attempt));
	row_put_text(slot, LINE_PRODUCT, line->product_id);
	row_put_text(slot, LINE_LOCATION, line->location);
	row_put(slot, LINE_SLOT, Int32GetDatum(line->slot));
	row_put(slot, LINE_QUANTITY, Int64GetDatum(line->quantity));
	row_put(slot, LINE_STATE, CharGetDatum((char) line->state));
	row_put_text(slot, LINE_USER, line->user_id);
	row_put(slot, LINE_CREATED_AT, TimestampTzGetDatum(line->created_at));
	if (line->expires_at != DT_NOEND)
	{
		row_put(slot, LINE_EXPIRES_AT, TimestampTzGetDatum(line->expires_at));
		if (line->state == LINE_RESERVED || line->event_owed)
		{
			row_put(slot, LINE_DUE_AT, TimestampTzGetDatum(line->expires_at));
			due_time_note(line->expires_at);
		}
	}
	if (line->ended_at != DT_NOBEGIN)
		row_put(slot, LINE_ENDED_AT, TimestampTzGetDatum(line->ended_at));
	if (line->confirmed_at != DT_NOBEGIN)
		row_put(slot, LINE_CONFIRMED_AT,
				TimestampTzGetDatum(line->confirmed_at));
	row_put_text(slot, LINE_REASON, line->reason);
	row_put_text(slot, LINE_PAYMENT, line->payment_id);
	row_put_text(slot, LINE_ACTIVITY, line->activity_id);
	if (line->retake != RETAKE_BY_STATE)
		row_put(slot, LINE_RETAKE, BoolGetDatum(line->retake == RETAKE_YES));

	if (line->is_new)
		table_insert(call, table);
	else
		table_update(call, table, &line->tid);
}
