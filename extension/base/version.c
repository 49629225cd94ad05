/*-------------------------------------------------------------------------
 *
 * base/version.c
 *	  Refuses an extension whose SQL script has another version than this
 *	  library.
 *
 * The two change at different moments.  A package replaces the library's file
 * first, and new sessions load it; ALTER EXTENSION UPDATE runs the script
 * later, in one database after another.  A session keeps the library that it
 * has loaded, and a server that preloads pgstock keeps it for all sessions
 * until it is restarted.  Tables are written without SQL (table.c), so a
 * library of another version could fill columns that it does not know.
 *
 * The version is read from pg_extension once a session, and again when one of
 * our relations or a function of the database has changed, since ALTER
 * EXTENSION UPDATE changes those.  A session that was in use before the update
 * is ended behind the error: nothing but another session can load the other
 * library, and connection pools replace an ended session by themselves.  (FATAL
 * would end it too, but libpq then returns only that the connection is closed.)
 *
 * While an extension's script runs, pg_extension already has the version that
 * the script leads to, and the script may call functions: no check.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/base.h"

/*
 * The script that belongs to this library: extension/Makefile defines it.  It
 * has no third number: releases that differ in that number only have one
 * script, and each one's library works with what it has created.
 */
#ifndef PGSTOCK_SCRIPT_VERSION
#error "PGSTOCK_SCRIPT_VERSION is not defined"
#endif

static bool version_is_checked = false; /* since the last change */
static bool version_was_right = false;	/* at some time in this session */
static bool version_is_preloaded = false;

static void
version_on_function_change(Datum arg, int cache, uint32 hash)
{
	version_is_checked = false;
}

/* The version may have changed. */
void
version_forget(void)
{
	version_is_checked = false;
}

void
version_init(void)
{
	version_is_preloaded = process_shared_preload_libraries_in_progress;
	CacheRegisterSyscacheCallback(PROCOID, version_on_function_change,
								  (Datum) 0);
}

/* The version that pg_extension has; NULL: the extension is not there. */
static char *
version_read(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	char	   *version = NULL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("pgstock"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool  isnull;
		Datum value = heap_getattr(tuple, Anum_pg_extension_extversion,
								   RelationGetDescr(rel), &isnull);

		Assert(!isnull);
		version = TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return version;
}

/* Whether version a is older than b: 1.9 is older than 1.10. */
static bool
version_is_older(const char *a, const char *b)
{
	for (;;)
	{
		char *a_end;
		char *b_end;
		long  a_number = strtol(a, &a_end, 10);
		long  b_number = strtol(b, &b_end, 10);

		if (a_number != b_number)
			return a_number < b_number;
		if (*a_end != '.' || *b_end != '.')
			return *a_end == '\0' && *b_end == '.';
		a = a_end + 1;
		b = b_end + 1;
	}
}

static const char *
version_hint(const char *installed)
{
	if (version_is_older(installed, PGSTOCK_SCRIPT_VERSION))
		return "Run ALTER EXTENSION pgstock UPDATE in this database.";
	if (version_is_preloaded)
		return psprintf("Install the package of version %s if it is not "
						"installed, and restart PostgreSQL, which loads the "
						"library when it starts (shared_preload_libraries).",
						installed);
	return psprintf("Install the package of version %s if it is not installed, "
					"and connect again.",
					installed);
}

static void
version_refuse(const char *installed)
{
	Assert(strcmp(installed, PGSTOCK_SCRIPT_VERSION) != 0);
	/* as pg_terminate_backend(): takes effect when the error has been sent */
	if (version_was_right)
		(void) kill(MyProcPid, SIGTERM);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("extension \"pgstock\" has version %s in this database, "
					"but the loaded library has version %s",
					installed, PGSTOCK_SCRIPT_VERSION),
			 errdetail("A library writes only the tables of its own version."),
			 errhint("%s", version_hint(installed))));
}

/* Raises an error unless the script that was run is this library's. */
void
version_check(void)
{
	char *installed;

	if (likely(version_is_checked) || creating_extension)
		return;
	Assert(IsTransactionState());
	/* first: reading the catalog may notice another change */
	version_is_checked = true;
	installed = version_read();
	if (installed != NULL && strcmp(installed, PGSTOCK_SCRIPT_VERSION) != 0)
	{
		version_is_checked = false;
		version_refuse(installed);
	}
	if (installed != NULL)
	{
		version_was_right = true;
		pfree(installed);
	}
}
