/*-------------------------------------------------------------------------
 *
 * base/session.c
 *	  What the worker's and the relay's sessions rest on.
 *
 * ALTER ROLE and ALTER DATABASE ... SET reach every session, ours too.  The
 * settings below are those that our functions, or the relay's reading of their
 * answers, rest on; each is what the server has by default.  What serves the
 * installation (memory, tablespaces, logging, synchronous_commit) and what a
 * registered handler may rest on (TimeZone) stays as it was set.
 *
 * What must hold before a session's first statement (role, search_path,
 * timeouts) the relay sets when it connects: SESSION_OPTIONS in
 * common/pg_connection.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/inval.h"

#include "base/base.h"

PG_FUNCTION_INFO_V1(pgstock_pin_settings);

/* Of names that a server version does not know none is set. */
static const char *const pinned[][2] = {
	/* what a call may do, and how long it may take */
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"session_replication_role", "origin"},
	{"row_security", "on"},
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"transaction_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	/* how a function's text is read */
	{"standard_conforming_strings", "on"},
	{"transform_null_equals", "off"},
	{"array_nulls", "on"},
	{"plpgsql.variable_conflict", "error"},
	{"plpgsql.extra_errors", "none"},
	{"plpgsql.extra_warnings", "none"},
	/* how an answer is written, and an argument is read */
	{"bytea_output", "hex"},
	{"extra_float_digits", "1"},
	{"DateStyle", "ISO, MDY"},
	{"IntervalStyle", "postgres"},
	{"quote_all_identifiers", "off"},
	/* how the walk along an index is found: the rest is set where it matters */
	{"enable_indexscan", "on"},
	{"enable_indexonlyscan", "on"},
	{"enable_nestloop", "on"},
	{"plan_cache_mode", "auto"},
	{"jit", "off"},
	/* what the ledger and the events would contain */
	{"pgstock.trace_id", ""},
};

/* Sets them for the session, whatever its role may set. */
void
session_pin_settings(void)
{
	for (int i = 0; i < lengthof(pinned); i++)
	{
		const char *name = pinned[i][0];

		if (GetConfigOption(name, true, false) == NULL)
			continue;
		SetConfigOption(name, pinned[i][1], PGC_SUSET, PGC_S_SESSION);
		Assert(strcmp(GetConfigOption(name, false, false), pinned[i][1]) == 0);
	}
}

/* pin_settings() RETURNS void */
Datum
pgstock_pin_settings(PG_FUNCTION_ARGS)
{
	version_check();
	session_pin_settings();
	PG_RETURN_VOID();
}

/*
 * Locks the extension until the transaction ends, if it exists.  DROP EXTENSION
 * locks it before anything that belongs to it; a session that locked tables
 * first could deadlock with it.  Does not wait: while DROP EXTENSION runs, the
 * answer is EXTENSION_BUSY.
 */
ExtensionHold
session_hold_extension(void)
{
	Oid		oid = get_extension_oid("pgstock", true);
	LOCKTAG tag;

	Assert(IsTransactionState());
	Assert(OidIsValid(MyDatabaseId));
	if (!OidIsValid(oid))
		return EXTENSION_ABSENT;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, oid, 0);
	if (LockAcquire(&tag, AccessShareLock, false, true) ==
		LOCKACQUIRE_NOT_AVAIL)
		return EXTENSION_BUSY;
	AcceptInvalidationMessages();
	return get_extension_oid("pgstock", true) == oid ? EXTENSION_HELD
													 : EXTENSION_ABSENT;
}
