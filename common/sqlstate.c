/*
 * sqlstate.c - what an SQL error means for the call that got it
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/sqlstate.h"

#include "extension/protocol/sqlstate.h"

SqlClass
sqlstate_class(const char *sqlstate)
{
	/* NULL: the connection broke */
	return sqlstate == NULL || sqlstate_is_transient(sqlstate) ? SQL_TRANSIENT
															   : SQL_PERMANENT;
}
