/*-------------------------------------------------------------------------
 *
 * inbox/alert.c
 *	  Stores the alert for a message that was given up.
 *
 * The alert is a row of the transaction that gives the message up, so that
 * neither exists without the other.  The relay sends it afterwards, as often as
 * it takes (sql/alerts.sql).
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/sequence.h"
#include "utils/timestamp.h"

#include "inbox/inbox.h"

enum
{
	ALERT_ID = 1,
	ALERT_FAILED_ID,
	ALERT_MADE_AT,
	ALERT_ATTEMPTS,
	ALERT_NEXT_TRY_AT
};

void
alert_store(Call *call, int64 failed_id)
{
	Table		   *table = table_use(call, TABLE_ALERT);
	TupleTableSlot *slot = table_new_row(table);

	Assert(failed_id != 0);
	row_put(slot, ALERT_ID,
			Int64GetDatum(
				nextval_internal(relation_sequence("alert_id"), false)));
	row_put(slot, ALERT_FAILED_ID, Int64GetDatum(failed_id));
	row_put(slot, ALERT_MADE_AT, TimestampTzGetDatum(call->now));
	row_put(slot, ALERT_ATTEMPTS, Int32GetDatum(0));
	row_put(slot, ALERT_NEXT_TRY_AT, TimestampTzGetDatum(call->now));
	table_insert(call, table);
}
