/*
 * sqlstate.c - what an SQL error means for the call that got it
 *
 * The transient codes are those of extension/inbox/failure.c, which says why
 * 40002 and 40003 are not among them: two lists that differ would have one side
 * repeat what the other side takes for a failure of the message.
 * dev/check-errors compares the two lists; test_sqlstate tests this one, the
 * regression test user_handler the other.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/sqlstate.h"

#include <stddef.h>
#include <string.h>

#include "common/util.h"

#define SQLSTATE_CLASS_LEN 2
#define SQLSTATE_LEN	   5

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
	{
		size_t len = strlen(transient[i]);

		Assert(len == SQLSTATE_CLASS_LEN || len == SQLSTATE_LEN);
		if (strncmp(sqlstate, transient[i], len) == 0)
			return SQL_TRANSIENT;
	}
	return SQL_PERMANENT;
}
