/*-------------------------------------------------------------------------
 *
 * base/admin_action.c
 *	  Records what an administrator does: a row of stock_admin_actions.
 *
 * For functions in C; those in SQL call pgstock_internal.audit().
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/base.h"

/* The columns of admin_action, as sql/admin_actions.sql has them. */
enum
{
	ACTION_AT = 1,
	ACTION_ACTOR,
	ACTION_ACTION,
	ACTION_TARGET,
	ACTION_REASON
};

/* Records an action of this call's actor; reason may be NULL. */
void
admin_action_write(Call *call, const char *action, const char *target,
				   const char *reason)
{
	Table		   *table = table_use(call, TABLE_ADMIN_ACTION);
	TupleTableSlot *slot = table_new_row(table);

	Assert(action != NULL && target != NULL);
	row_put(slot, ACTION_AT, TimestampTzGetDatum(call->now));
	row_put_text(slot, ACTION_ACTOR, call->actor);
	row_put_text(slot, ACTION_ACTION, action);
	row_put_text(slot, ACTION_TARGET, target);
	row_put_text(slot, ACTION_REASON, reason);
	table_insert(call, table);
}
