/*
 * sqlstate.c - what an SQL error means for the call that got it
 *
 * Of class 40 only the codes that PostgreSQL itself raises.  A user's function
 * raises 40002 and 40003: a call that fails with one fails again, and is cut
 * into smaller ones until the message that causes it is the only one.  Then the
 * extension decides, where all of class 40 is transient
 * (failed_is_transient()), since it counts the tries of that message.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/sqlstate.h"

#include <stddef.h>
#include <string.h>

#include "common/util.h"

SqlClass
sqlstate_class(const char *sqlstate)
{
	/* a whole class, or one code */
	static const char *const transient[] = {
		"08",	 /* connection exception */
		"53",	 /* insufficient resources */
		"57",	 /* operator intervention: cancel, shutdown, crash */
		"40001", /* serialization failure */
		"40P01", /* deadlock detected */
		"55P03", /* lock not available */
	};

	if (sqlstate == NULL)
		return SQL_TRANSIENT;
	for (size_t i = 0; i < Lengthof(transient); i++)
		if (strncmp(sqlstate, transient[i], strlen(transient[i])) == 0)
			return SQL_TRANSIENT;
	return SQL_PERMANENT;
}
