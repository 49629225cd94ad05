/*-------------------------------------------------------------------------
 *
 * orders/idempotency.c
 *	  Explicit idempotency keys: the same request again gets the same answer.
 *
 * The request is the order, the user and the merged lines; the order of lines,
 * the ttl and the strategy do not count.  Of a verb that settles an order it is
 * the verb, the order, the lines, the payment, and whether returned goods can
 * be sold again; the reason does not count.  Only its 64-bit hash is stored.
 *
 * The stored answer is returned as it was.  But "granted" is a statement about
 * what the caller holds: for a reservation that has ended it would be false,
 * and a caller that trusts it ships goods that are not reserved.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "orders/orders.h"

enum
{
	KEY_KEY = 1,
	KEY_REQUEST,
	KEY_ANSWER,
	KEY_CREATED_AT
};

/* The argument, and the row type in which its answer is stored. */
Keyed
idempotency_arg(FunctionCallInfo fcinfo, int n)
{
	Keyed keyed = {0};

	if (PG_ARGISNULL(n))
		return keyed;
	keyed.key = args_id(fcinfo, n, "idempotency_key");
	if (get_call_result_type(fcinfo, NULL, &keyed.desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	BlessTupleDesc(keyed.desc);
	return keyed;
}

static void
idempotency_hash_part(StringInfo buffer, const char *part)
{
	/* Length first: no two different requests give the same bytes. */
	if (part == NULL)
		appendStringInfoString(buffer, "-;");
	else
		appendStringInfo(buffer, "%zu:%s;", strlen(part), part);
}

static int64
idempotency_request_hash(const Keyed *keyed, const char *order_id, List *lines)
{
	StringInfoData buffer;
	ListCell	  *cell;

	initStringInfo(&buffer);
	if (keyed->verb != NULL)
		idempotency_hash_part(&buffer, keyed->verb);
	idempotency_hash_part(&buffer, order_id);
	idempotency_hash_part(&buffer, keyed->detail);
	foreach(cell, lines)
	{
		Line *line = lfirst(cell);

		idempotency_hash_part(&buffer, line->product_id);
		idempotency_hash_part(&buffer, line->location);
		appendStringInfo(&buffer, INT64_FORMAT ";", line->quantity);
	}
	return (int64) DatumGetUInt64(
		hash_any_extended((unsigned char *) buffer.data, buffer.len, 0));
}

static List *
idempotency_answer_read(Datum answer, TupleDesc desc)
{
	Datum *rows;
	int	   n;
	List  *answers = NIL;

	deconstruct_array(DatumGetArrayTypeP(answer), TEXTOID, -1, false,
					  TYPALIGN_INT, &rows, NULL, &n);
	Assert(n > 0);
	for (int i = 0; i < n; i++)
	{
		Datum row = OidInputFunctionCall(F_RECORD_IN,
										 TextDatumGetCString(rows[i]),
										 desc->tdtypeid, -1);

		CHECK_FOR_INTERRUPTS();
		answers = lappend(answers, answer_from_datum(row, desc));
	}
	return answers;
}

/* ---- Reservations that have ended ---- */

/* ANSWER_NONE: the line has not ended. */
static AnswerStatus
idempotency_end_status(const Call *call, const Reservation *line)
{
	if (line_is_due(call, line))
		return ANSWER_EXPIRED;
	switch (line->state)
	{
		case LINE_RELEASED:
			return ANSWER_RELEASED;
		case LINE_ROLLED_BACK:
			return ANSWER_ROLLED_BACK;
		case LINE_RETURNED:
			return ANSWER_RETURNED;
		case LINE_EXPIRED:
			return ANSWER_EXPIRED;
		case LINE_SHORTFALL:
			return ANSWER_SHORTFALL;
		case LINE_RESERVED:
		case LINE_CONFIRMED:
			break;
	}
	return ANSWER_NONE;
}

/*
 * The line that an answer speaks of; NULL if it is no more there.  One that is
 * younger than the answer is of another reservation.
 */
static const Reservation *
idempotency_answer_line(const Order *order, const Answer *answer,
						TimestampTz answered_at)
{
	for (int attempt = order->attempt; attempt > 0; attempt--)
	{
		const Reservation *line = order_find_line(order, attempt,
												  answer->product_id,
												  answer->location);

		if (line != NULL && line->created_at <= answered_at)
			return line;
	}
	return NULL;
}

static void
idempotency_raise_end(const Keyed *keyed, const Answer *answer,
					  AnswerStatus end)
{
	Assert(keyed->raise && end != ANSWER_NONE);
	durability_fence_error();
	ereport(ERROR,
			(errcode(end == ANSWER_EXPIRED ? ERRCODE_SK_EXPIRED
										   : ERRCODE_SK_WRONG_STATE),
			 errmsg("the reservation under idempotency key \"%s\" has ended",
					keyed->key),
			 errdetail("Product \"%s\" of order \"%s\" is %s.",
					   answer->product_id, answer->order_id,
					   answer_status_text(end)),
			 errhint("To reserve again, use a new key.")));
}

/* Of one answer: makes of "granted" what has become of it. */
static void
idempotency_update_answer(const Call *call, const Keyed *keyed,
						  const Order *order, Answer *answer)
{
	const Reservation *line;
	AnswerStatus	   end;

	if (answer->status != ANSWER_GRANTED &&
		answer->status != ANSWER_BACKORDERED)
		return;
	line = idempotency_answer_line(order, answer, keyed->stored_at);
	/* what is no more there has ended long ago */
	end = line != NULL ? idempotency_end_status(call, line) : ANSWER_RELEASED;
	if (end == ANSWER_NONE)
	{
		/* a part of it may have been given back */
		answer->granted = Min(answer->granted, line->quantity);
		return;
	}
	if (keyed->raise)
		idempotency_raise_end(keyed, answer, end);
	answer->status = end;
	answer->granted = 0;
}

/*
 * The answer that idempotency_look() has found, true for now.  The order must
 * be locked.
 */
List *
idempotency_answers(Work *work, const Keyed *keyed, const char *order_id)
{
	const Order *order = work_find_order(work, order_id);
	ListCell	*cell;

	Assert(keyed->stored != NIL && work->orders_locked);
	foreach(cell, keyed->stored)
		idempotency_update_answer(&work->call, keyed, order, lfirst(cell));
	return keyed->stored;
}

/*
 * Finds the answer given before: false if there is none, SK007 if the request
 * was another.  Locks the key, so that of two sessions the second sees the
 * first's answer, and requests the order that the answer speaks of.
 */
bool
idempotency_look(Work *work, Keyed *keyed, const char *order_id, List *lines)
{
	Table		   *table = table_use(&work->call, TABLE_IDEMPOTENCY);
	ItemPointerData tid;

	Assert(keyed->key != NULL && !work->orders_locked);
	Assert(keyed->desc != NULL && keyed->stored == NIL);
	lock_acquire(&work->call, LOCK_IDEMPOTENCY_KEY, keyed->key);
	call_refresh_snapshot();
	if (!table_find_text(&work->call, table, "idempotency_pkey", keyed->key,
						 &tid))
		return false;
	if (row_get_int64(table->slot, KEY_REQUEST) !=
		idempotency_request_hash(keyed, order_id, lines))
	{
		durability_fence_error();
		ereport(ERROR,
				(errcode(ERRCODE_SK_KEY_REUSED),
				 errmsg("idempotency key \"%s\" was used for another request",
						keyed->key),
				 errhint("Repeat the same request, or use a new key.")));
	}
	keyed->stored = idempotency_answer_read(row_get(table->slot, KEY_ANSWER),
											keyed->desc);
	keyed->stored_at = DatumGetTimestampTz(
		row_get(table->slot, KEY_CREATED_AT));
	/* This rests on another transaction's commit: it must be durable first. */
	durability_fence_answer();
	order_request_history(work_request_order(work, order_id));
	return true;
}

/*
 * The answer given before, true for now, or NIL.  An answer has locked the
 * order too.
 */
List *
idempotency_find(Work *work, Keyed *keyed, const char *order_id, List *lines)
{
	if (!idempotency_look(work, keyed, order_id, lines))
		return NIL;
	work_lock_orders(work);
	return idempotency_answers(work, keyed, order_id);
}

/*
 * The rows in their text form, the same whatever the session's settings: ISO
 * dates with their zone are read alike everywhere.
 */
static void
idempotency_answer_write(List *answers, TupleDesc desc, Datum *rows)
{
	int		  level = NewGUCNestLevel();
	ListCell *cell;

	(void) set_config_option("datestyle", "ISO", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("timezone", "UTC", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	foreach(cell, answers)
	{
		Datum row = answer_datum(lfirst(cell), desc);

		CHECK_FOR_INTERRUPTS();
		rows[foreach_current_index(cell)] = CStringGetTextDatum(
			OidOutputFunctionCall(F_RECORD_OUT, row));
	}
	AtEOXact_GUC(true, level);
}

/* Stores the answer under the request's key, which is locked. */
void
idempotency_store(Call *call, const Keyed *keyed, const char *order_id,
				  List *lines, List *answers)
{
	Table		   *table = table_use(call, TABLE_IDEMPOTENCY);
	Datum		   *rows = palloc(sizeof(Datum) * list_length(answers));
	TupleTableSlot *slot;

	Assert(call->lock_class >= LOCK_IDEMPOTENCY_KEY);
	Assert(keyed->key != NULL && answers != NIL);
	idempotency_answer_write(answers, keyed->desc, rows);
	slot = table_new_row(table);
	row_put_text(slot, KEY_KEY, keyed->key);
	row_put(slot, KEY_REQUEST,
			Int64GetDatum(idempotency_request_hash(keyed, order_id, lines)));
	row_put(slot, KEY_ANSWER,
			PointerGetDatum(construct_array(rows, list_length(answers), TEXTOID,
											-1, false, TYPALIGN_INT)));
	row_put(slot, KEY_CREATED_AT, TimestampTzGetDatum(call->now));
	table_insert(call, table);
}
