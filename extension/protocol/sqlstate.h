/*-------------------------------------------------------------------------
 *
 * protocol/sqlstate.h
 *	  The SQLSTATEs after which the same call may succeed.
 *
 * Extension, relay and gateway have one list: of two that differ, one side
 * would repeat what the other side takes for a failure of the message.  40002
 * and 40003 are not in it: a constraint that fails at COMMIT fails again, and a
 * statement whose completion is unknown must not be repeated blindly.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef PROTOCOL_SQLSTATE_H
#define PROTOCOL_SQLSTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Of two characters: classes.  NULL ends each list. */
static const char *const sqlstate_transient_classes[] = {
	"08", /* connection exception */
	"53", /* insufficient resources */
	"57", /* operator intervention: cancel, shutdown, crash */
	NULL,
};

/* Conflicts with another session: transient too. */
static const char *const sqlstate_conflicts[] = {
	"40001", /* serialization failure */
	"40P01", /* deadlock detected */
	"55P03", /* lock not available */
	NULL,
};

/* Whether a list has the state or its class. */
static inline bool
sqlstate_is_listed(const char *sqlstate, const char *const *list)
{
	for (; *list != NULL; list++)
	{
		if (strncmp(sqlstate, *list, strlen(*list)) == 0)
			return true;
	}
	return false;
}

static inline bool
sqlstate_is_transient(const char *sqlstate)
{
	return sqlstate_is_listed(sqlstate, sqlstate_conflicts) ||
		   sqlstate_is_listed(sqlstate, sqlstate_transient_classes);
}

#endif /* PROTOCOL_SQLSTATE_H */
