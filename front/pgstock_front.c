/*-------------------------------------------------------------------------
 *
 * pgstock_front.c
 *	  The C functions of pgstock_front, the front of several shards.
 *
 * A call that PL/Proxy sends to a shard commits there at once.  Inside a
 * transaction block of the front it would appear to be part of that
 * transaction, but a ROLLBACK would not undo it.  So a call that writes is
 * rejected there, unless the session has set pgstock.front_autonomous = on.
 *
 * The module is independent of pgstock, which is not installed in a front.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(pgstock_front_begin_call);
PG_FUNCTION_INFO_V1(pgstock_front_caller);
PG_FUNCTION_INFO_V1(pgstock_front_raise);

#define SQLSTATE_LENGTH 5

/*
 * Whether the session permits that each call commits by itself.
 *
 * The setting is read by its name, because it may have been set before the
 * module was loaded, and because pgstock, which reserves the prefix, defines it
 * where both are loaded.
 */
static bool
front_is_autonomous(void)
{
	const char *value = GetConfigOption("pgstock.front_autonomous", true,
										false);
	bool		autonomous = false;

	if (value != NULL && !parse_bool(value, &autonomous))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("parameter \"%s\" requires a Boolean value",
							   "pgstock.front_autonomous"),
						errhint("Use on or off.")));
	return autonomous;
}

/*
 * Rejects a call that writes, given its name, where it would appear to be part
 * of the session's transaction: in a transaction block, in a subtransaction,
 * and after the transaction has written something itself.
 */
Datum
pgstock_front_begin_call(PG_FUNCTION_ARGS)
{
	if (!front_is_autonomous() &&
		(IsTransactionBlock() ||
		 TransactionIdIsValid(GetTopTransactionIdIfAny())))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block of the front",
						text_to_cstring(PG_GETARG_TEXT_PP(0))),
				 errdetail("The call commits in its shard at once; a ROLLBACK "
						   "here would not undo it."),
				 errhint("Call it outside a transaction block. If your own "
						 "tables belong to the same commit, connect to the "
						 "shard. To have each call commit by itself, SET "
						 "pgstock.front_autonomous = on.")));
	PG_RETURN_BOOL(true);
}

/*
 * Returns the role that calls a function of the front, although the function
 * runs with its owner's rights: the role of SET ROLE, or else of the session.
 * NULL for a superuser, which does not act as a superuser in the shards.
 */
Datum
pgstock_front_caller(PG_FUNCTION_ARGS)
{
	Oid caller = GetOuterUserId();

	if (superuser_arg(caller))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(GetUserNameFromId(caller, false)));
}

/*
 * Raises the error that a shard returned: SQLSTATE and message, with detail and
 * hint if there are any.
 */
Datum
pgstock_front_raise(PG_FUNCTION_ARGS)
{
	char *sqlstate;
	char *message;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("an error needs a SQLSTATE and a message")));
	sqlstate = text_to_cstring(PG_GETARG_TEXT_PP(0));
	message = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (strlen(sqlstate) != SQLSTATE_LENGTH ||
		strspn(sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") !=
			SQLSTATE_LENGTH)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" is not a SQLSTATE", sqlstate)));
	ereport(ERROR,
			(errcode(MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2],
								   sqlstate[3], sqlstate[4])),
			 errmsg_internal("%s", message),
			 PG_ARGISNULL(2)
				 ? 0
				 : errdetail_internal("%s",
									  text_to_cstring(PG_GETARG_TEXT_PP(2))),
			 PG_ARGISNULL(3)
				 ? 0
				 : errhint("%s", text_to_cstring(PG_GETARG_TEXT_PP(3)))));
	PG_RETURN_VOID();
}
