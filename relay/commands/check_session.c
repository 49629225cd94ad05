/*
 * check_session.c - a session with the right database, and the extension in it
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "db/connect.h"
#include "db/connect_advice.h"

/* the oldest release, as PQserverVersion() has it */
#define SERVER_VERSION_MIN 150000

/* ---- the server -------------------------------------------------------- */

/* A server that starts is given time. */
static void
check_connect_database(Check *check)
{
	int64_t until = clock_monotonic() + COMMAND_BROKER_MS * MS_US;

	check->pg = db_connect_blocking(check->config);
	while (PQstatus(check->pg) != CONNECTION_OK &&
		   strstr(PQerrorMessage(check->pg), "is starting up") != NULL &&
		   clock_monotonic() < until)
	{
		command_pause("PostgreSQL", until - COMMAND_BROKER_MS * MS_US);
		PQfinish(check->pg);
		check->pg = db_connect_blocking(check->config);
	}
}

/* libpq leaves a standby, as the relay requires (target_session_attrs). */
static bool
check_is_standby(const Check *check)
{
	return strstr(PQerrorMessage(check->pg), "hot standby mode") != NULL;
}

/* The first of all: it connects. */
static void
check_standby(Check *check)
{
	Assert(check->pg == NULL && check->have == 0);
	check_connect_database(check);
	if (!check_is_standby(check))
		return;
	check_advise(check, "List the primary and its standbys in host of "
						"[postgres] conninfo, so that the relay finds the "
						"primary; or promote this server: SELECT "
						"pg_promote()");
	check_find(check, "database: %s", PQerrorMessage(check->pg));
}

/* Never the password: libpq's messages have none. */
static void
check_refused_login(Check *check)
{
	const char *error = PQerrorMessage(check->pg);
	const char *conninfo = check->config->conninfo;
	Buf			what = {0};
	Buf			why = {0};
	Buf			advice = {0};
	Buf			otherwise = {0};

	pg_connection_add_message(error, &what);
	if (!connect_refused_certificate(error) ||
		!check_explain_certificate(check->pg, &why, &advice))
		(void) connect_advise(error, conninfo, &advice);
	check_database_advice(error, conninfo, &otherwise);
	check_advise_phrase(check, buf_str(&advice), buf_str(&otherwise));
	check_find(check, "database: %s%s%s", buf_str(&what),
			   why.len > 0 ? ": " : "", buf_str(&why));
	buf_free(&what);
	buf_free(&why);
	buf_free(&advice);
	buf_free(&otherwise);
}

static void
check_database(Check *check)
{
	const char *reason = PQerrorMessage(check->pg);

	if (PQstatus(check->pg) == CONNECTION_OK)
	{
		check_pass(check, "database: %s on server %d as %s", PQdb(check->pg),
				   PQserverVersion(check->pg), PQuser(check->pg));
		check->have |= HAVE_DATABASE;
	}
	else if (api_pooler_refused(reason))
	{
		check_advise(check, "%s", API_POOLER_HINT);
		check_find(check, "database: %s: %s", API_POOLER, reason);
	}
	else if (!check_is_standby(check))
		check_refused_login(check);
}

/* What other checks look at, too. */
static void
check_read_server(Check *check)
{
	int64_t	  before = clock_wall();
	PGresult *result = check_call(check, API_SERVER, NULL, "server",
								  "See the server's log.");
	int64_t	  after = clock_wall();

	if (result == NULL || !api_read_server(result, &check->server))
		check->have &= ~HAVE_DATABASE;
	PQclear(result);
	check->ahead_us = check->server.clock_us - (before + after) / 2;
	check->about_us = (after - before) / 2;
}

static void
check_server_version(Check *check)
{
	int version = PQserverVersion(check->pg);

	if (version >= SERVER_VERSION_MIN)
	{
		check_read_server(check);
		return;
	}
	check_advise(check, "Upgrade to PostgreSQL 15 or newer (pg_upgrade).");
	check_find(check, "server: version %d of %s:%s is older than 15", version,
			   PQhost(check->pg), PQport(check->pg));
	check->have &= ~HAVE_DATABASE;
}

/* ---- the extension ----------------------------------------------------- */

static void
check_extension(Check *check)
{
	const ApiServer *server = &check->server;
	const char		*database = PQdb(check->pg);

	if (server->installed[0] != '\0')
		return;
	if (server->available[0] == '\0')
		check_advise(check,
					 "Install pgstock's package for this version of "
					 "PostgreSQL (or make install) on the server %s, then run "
					 "CREATE EXTENSION pgstock in the database %s.",
					 PQhost(check->pg), database);
	else
		check_advise(check,
					 "Connect to the database %s as a superuser and run "
					 "CREATE EXTENSION pgstock; SELECT grant_stock_access('%s',"
					 " 'relay'); or set dbname in [postgres] conninfo to the "
					 "database that has it.",
					 database, PQuser(check->pg));
	check_find(check, "extension: pgstock is not installed in database %s%s",
			   database,
			   server->available[0] == '\0' ? ", nor available on its server"
											: "");
	check->have &= ~HAVE_DATABASE;
}

static void
check_extension_update(Check *check)
{
	const ApiServer *server = &check->server;

	if (server->available[0] == '\0' ||
		strcmp(server->available, server->installed) == 0)
		return;
	check_advise(check,
				 "Run ALTER EXTENSION pgstock UPDATE in the database %s.",
				 PQdb(check->pg));
	check_find(check,
			   "extension: version %s is installed in database %s, the "
			   "server's files are version %s",
			   server->installed, PQdb(check->pg), server->available);
}

static void
check_access(Check *check)
{
	if (check->server.may_use)
		return;
	check_advise(check,
				 "Run as a superuser in database %s: SELECT "
				 "%s.grant_stock_access('%s', 'relay')",
				 PQdb(check->pg), check->server.schema, PQuser(check->pg));
	check_find(
		check,
		"extension: role %s may not call the functions for the relay, in "
		"schema pgstock_internal",
		PQuser(check->pg));
	check->have &= ~HAVE_DATABASE;
}

static void
check_extension_api(Check *check)
{
	PGresult *result = check_call(
		check, API_HELLO, NULL, "extension",
		"See the server's log; if the function is missing, run ALTER "
		"EXTENSION pgstock UPDATE.");
	bool sound = result != NULL && api_read_hello(result, &check->hello);

	PQclear(result);
	if (result == NULL)
		return;
	if (!sound)
	{
		check_advise(check,
					 "Install the extension and the relay of one "
					 "version; this relay is version " PGSTOCK_VERSION ".");
		check_find(check, "extension: unexpected result of relay_hello()");
		return;
	}
	if (check->hello.relay_api != API_VERSION)
	{
		char *why = api_mismatch(&check->hello);

		check_advise(check, "%s", api_mismatch_hint(&check->hello));
		check_find(check, "extension: %s", why);
		free(why);
		return;
	}
	check_pass(check, "extension: pgstock %s, relay_api %d%s",
			   check->hello.extension_version, check->hello.relay_api,
			   check->hello.preloaded ? ", preloaded" : "");
	check->have |= HAVE_EXTENSION;
}

/* One that lets the session begin. */
static void
check_pooler(Check *check)
{
	if (!api_is_behind_pooler(&check->hello, PQbackendPID(check->pg)))
		return;
	check_advise(check, "%s", API_POOLER_HINT);
	check_find(check, "database: %s (%s:%s)", API_POOLER, PQhost(check->pg),
			   PQport(check->pg));
	check->have &= ~(HAVE_DATABASE | HAVE_EXTENSION);
}

static const CheckRow rows[] = {
	{"standby", CHECK_ERROR, EXIT_RUNTIME, 0, check_standby,
	 "A standby cannot be written to; a relay that runs waits until the server "
	 "is promoted."},
	{"database", CHECK_ERROR, EXIT_RUNTIME, 0, check_database,
	 "Without a session nothing is published or consumed."},
	{"server_version", CHECK_ERROR, EXIT_INCOMPATIBLE, HAVE_DATABASE,
	 check_server_version, "The extension uses what older versions lack."},
	{"extension", CHECK_ERROR, EXIT_RUNTIME, HAVE_DATABASE, check_extension,
	 "The relay uses the database through functions of the extension only."},
	{"extension_update", CHECK_WARNING, EXIT_CLEAN, HAVE_DATABASE,
	 check_extension_update,
	 "The new library does not work with the old version's tables and "
	 "functions."},
	{"access", CHECK_ERROR, EXIT_RUNTIME, HAVE_DATABASE, check_access,
	 "The relay's role must be granted the level relay, or admin."},
	{"extension_api", CHECK_ERROR, EXIT_INCOMPATIBLE, HAVE_DATABASE,
	 check_extension_api,
	 "Relay and extension must agree on the calls between them."},
	{"pooler", CHECK_ERROR, EXIT_USAGE, HAVE_EXTENSION, check_pooler,
	 "The right to publish is a lock that the session holds, and a pooler "
	 "passes sessions on."},
};

const CheckGroup check_session_group = {rows, Lengthof(rows)};
