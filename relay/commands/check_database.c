/*
 * check_database.c - the database's part of "check"
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <string.h>

#include "db/connect.h"

bool
check_database(Check *check)
{
	Assert(check->pg == NULL && check->code == EXIT_CLEAN);
	check->pg = db_connect_blocking(check->config);
	if (PQstatus(check->pg) != CONNECTION_OK)
	{
		if (api_pooler_refused(PQerrorMessage(check->pg)))
			check_fail(check, API_POOLER_HINT, "database: %s", API_POOLER);
		check_fail(check,
				   "See [postgres] conninfo, pg_hba.conf and the server's log.",
				   "database: %s", PQerrorMessage(check->pg));
		return false;
	}
	check_pass("database: %s on server %d as %s", PQdb(check->pg),
			   PQserverVersion(check->pg), PQuser(check->pg));
	return true;
}

bool
check_extension(Check *check)
{
	PGresult *result;
	bool	  sound;

	Assert(check->pg != NULL);
	result =
		check_call(check, API_HELLO, NULL, "extension",
				   "Run CREATE EXTENSION pgstock in this database, and SELECT "
				   "grant_stock_access('<this role>', 'relay').");
	if (result == NULL)
		return false;
	sound = api_read_hello(result, &check->hello);
	PQclear(result);
	if (!sound || check->hello.relay_api != API_VERSION)
	{
		check_fail(check, "Install matching versions of extension and relay.",
				   "extension: it speaks relay_api %d, this relay %d",
				   check->hello.relay_api, API_VERSION);
		check->code = EXIT_INCOMPATIBLE;
		return false;
	}
	if (api_is_pooled(&check->hello, PQbackendPID(check->pg)))
	{
		check_fail(check, API_POOLER_HINT, "database: %s", API_POOLER);
		return false;
	}
	check_pass("extension: pgstock %s, relay_api %d%s",
			   check->hello.extension_version, check->hello.relay_api,
			   check->hello.preloaded ? ", preloaded" : "");
	return true;
}

void
check_notifications(Check *check)
{
	PGresult *listen = check_call(check, API_LISTEN, NULL, "listen",
								  "See above.");
	PGresult *echo = NULL;
	PGnotify *notify = NULL;

	if (listen != NULL)
		echo = check_call(check, API_ECHO, NULL, "notify", "See above.");
	if (echo != NULL)
	{
		PQconsumeInput(check->pg);
		notify = PQnotifies(check->pg);
		if (notify != NULL)
			check_pass("notifications: they arrive");
		else
			check_fail(check,
					   "Connect to PostgreSQL itself, not through a "
					   "transaction pooler.",
					   "notifications: none arrived");
	}
	PQfreemem(notify);
	PQclear(listen);
	PQclear(echo);
}

/* kafka: the position topic's, data NULL: none */
void
check_position(Check *check, Slice kafka)
{
	const PgParam params[] = {api_bytes(kafka)};
	PGresult *result = check_call(check, API_POSITION_OF, params, "position",
								  "Run \"pgstock-relay adopt\", or mend the "
								  "position topic.");
	PGresult *metrics;

	if (result == NULL)
		return;
	PQclear(result);
	metrics = check_call(check, API_METRICS, NULL, "metrics",
						 "See the server's log.");
	for (int row = 0; metrics != NULL && row < PQntuples(metrics); row++)
		if (strcmp(PQgetvalue(metrics, row, 0), "outbox_pending_events") == 0)
			check_pass("position: valid, %s events to publish",
					   PQgetvalue(metrics, row, 2));
	PQclear(metrics);
}

void
check_upkeep(Check *check)
{
	PGresult   *status = check_call(check, API_STATUS, NULL, "status",
									"See the server's log.");
	const char *trouble = NULL;

	for (int row = 0; status != NULL && row < PQntuples(status); row++)
		if (strcmp(PQgetvalue(status, row, 0), "upkeep_trouble") == 0)
			trouble = api_text(status, row, 2);
	if (trouble != NULL)
		check_fail(check,
				   "The steps that are not named go on. See the server's log.",
				   "upkeep: it fails in %s", trouble);
	else if (status != NULL)
		check_pass("upkeep: no step fails");
	PQclear(status);
}
