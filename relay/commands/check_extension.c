/*
 * check_extension.c - what the relay needs of the extension, and its state
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The sessions of one relay: outbox, inbox, alerts. */
#define CHECK_SESSIONS_MAX 3

/* ---- rights and tables ------------------------------------------------- */

static void
check_rights(Check *check)
{
	PGresult   *facts = api_exec_check(check->pg, check->config->topics);
	char	   *text = api_failure(&facts);
	const char *missing;

	Assert(check->facts == NULL); /* all checks look at the same */
	check->facts = facts;
	missing = facts != NULL ? api_find_value(facts, "rights_missing") : text;
	if (missing != NULL)
	{
		check_advise(check,
					 "Run in database %s: SELECT %s.grant_stock_access('%s', "
					 "'relay')",
					 PQdb(check->pg), check->server.schema, PQuser(check->pg));
		check_find(check, "extension: role %s lacks rights: %s",
				   PQuser(check->pg), missing);
	}
	free(text);
}

static void
check_superuser(Check *check)
{
	if (!check->server.superuser)
		return;
	check_advise(check,
				 "CREATE ROLE pgstock_relay LOGIN; SELECT "
				 "%s.grant_stock_access('pgstock_relay', 'relay'); then set "
				 "user=pgstock_relay in [postgres] conninfo.",
				 check->server.schema);
	check_find(check, "database: role %s is a superuser", PQuser(check->pg));
}

/* "public" is in the search_path of every session by default. */
static void
check_extension_schema(Check *check)
{
	const char *schema = check->server.schema;

	if (strcmp(schema, "public") == 0)
		return;
	check_advise(check,
				 "Write %s.reserve_stock(...), or ALTER DATABASE \"%s\" SET "
				 "search_path = \"$user\", public, %s.",
				 schema, PQdb(check->pg), schema);
	check_find(check, "extension: its functions are in schema %s", schema);
}

static void
check_publication(Check *check)
{
	const char *found = check_fact(check, "publications");

	if (found == NULL)
		return;
	check_advise(check,
				 "ALTER PUBLICATION ... DROP TABLES IN SCHEMA "
				 "pgstock_internal, or SET TABLE with a list of your own "
				 "tables. pgstock_internal.outbox alone may be published, for "
				 "Debezium.");
	check_find(check, "database: tables of pgstock are in publication %s",
			   found);
}

/* The guard is a slot's WAL: the outbox itself is emptied by time. */
static void
check_other_publisher(Check *check)
{
	const char *found = check_fact(check, "other_publisher");

	if (found == NULL)
		return;
	check_advise(check,
				 "To have a relay publish it: SELECT "
				 "%s.set_outbox_retention(NULL).  Otherwise run no relay here.",
				 check->server.schema);
	check_find(check, "outbox: another program publishes it: %s", found);
}

/* ---- upkeep ------------------------------------------------------------ */

static void
check_preload(Check *check)
{
	if (check->hello.preloaded)
		return;
	check_advise(check, "Add pgstock to shared_preload_libraries and restart "
						"the server, if that matters.");
	check_find(check, "extension: pgstock is not in shared_preload_libraries");
}

static void
check_keeper(Check *check)
{
	if (check_fact(check, "keeper_is_missing") == NULL)
		return;
	check_advise(check, "Raise max_worker_processes (pgstock needs up to 4) "
						"and restart the server; see its log.");
	check_find(check, "extension: pgstock is preloaded, and its process "
					  "\"pgstock keeper\" does not run");
}

static void
check_upkeep(Check *check)
{
	PGresult   *status = check_call(check, API_STATUS, NULL, "status",
									"See the server's log.");
	const char *trouble = NULL;

	for (int row = 0; status != NULL && row < PQntuples(status); row++)
		if (strcmp(PQgetvalue(status, row, 0), "upkeep_trouble") == 0)
			trouble = api_text(status, row, 2);
	if (trouble != NULL)
	{
		check_advise(check, "See the server's log.");
		check_find(check, "upkeep: it fails in %s", trouble);
	}
	else if (status != NULL)
		check_pass(check, "upkeep: no step fails");
	PQclear(status);
}

/* ---- the session ------------------------------------------------------- */

static void
check_notifications(Check *check)
{
	PGresult *listen = check_call(check, API_LISTEN, NULL, "listen",
								  "See the server's log.");
	PGresult *echo = NULL;
	PGnotify *notify = NULL;

	if (listen != NULL)
		echo = check_call(check, API_ECHO, NULL, "notify",
						  "See the server's log.");
	if (echo != NULL)
	{
		PQconsumeInput(check->pg);
		notify = PQnotifies(check->pg);
		if (notify != NULL)
			check_pass(check, "notifications: they arrive");
		else
		{
			check_advise(check, "%s", API_POOLER_HINT);
			check_find(check, "notifications: none arrived");
		}
	}
	PQfreemem(notify);
	PQclear(listen);
	PQclear(echo);
}

/* Those of the relay itself, while it runs, and of another one. */
static void
check_relay_name(Check *check)
{
	int64_t sessions = check_fact_number(check, "own_sessions", 0);
	int64_t hosts = check_fact_number(check, "own_hosts", 0);

	if (sessions <= CHECK_SESSIONS_MAX && hosts <= 1)
		return;
	check_advise(check, "Give each relay its own [relay] name.");
	check_find(check,
			   "database: %" PRId64 " sessions from %" PRId64 " hosts have "
			   "application_name \"pgstock-relay %s\", more than one relay has",
			   sessions, hosts, check->config->name);
}

void
check_position(Check *check, Slice kafka)
{
	const PgParam params[] = {api_bytes(kafka)};
	PGresult *result = check_call(check, API_POSITION_OF, params, "position",
								  "Run \"pgstock-relay adopt\", or mend the "
								  "position topic.");
	PGresult *metrics;

	/* in the other mode Kafka has no position */
	Assert(kafka.data == NULL || check->config->mode == MODE_TRANSACTIONAL);
	if (result == NULL)
		return;
	PQclear(result);
	metrics = check_call(check, API_METRICS, NULL, "metrics",
						 "See the server's log.");
	for (int row = 0; metrics != NULL && row < PQntuples(metrics); row++)
		if (strcmp(PQgetvalue(metrics, row, 0), "outbox_pending_events") == 0)
			check_pass(check, "position: valid, %s events to publish",
					   PQgetvalue(metrics, row, 2));
	PQclear(metrics);
}

/* In transactional mode Kafka has a position, too: check_transactions.c. */
static void
check_stored_position(Check *check)
{
	if (check->config->mode != MODE_TRANSACTIONAL)
		check_position(check, (Slice){NULL, 0});
}

static const CheckRow rows[] = {
	{"rights", CHECK_ERROR, EXIT_RUNTIME, HAVE_EXTENSION, check_rights,
	 "Each of these calls would fail while the relay runs."},
	{"superuser", CHECK_NOTE, EXIT_CLEAN, HAVE_EXTENSION, check_superuser,
	 "The relay needs the level relay only, which cannot change stock by "
	 "itself."},
	{"extension_schema", CHECK_NOTE, EXIT_CLEAN, HAVE_EXTENSION,
	 check_extension_schema,
	 "An application finds them only with that schema in its search_path; the "
	 "relay does not need it."},
	{"publication", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION,
	 check_publication,
	 "A subscriber receives stock that its own pgstock changes, too; this is "
	 "intended only while a database moves by logical replication."},
	{"other_publisher", CHECK_ERROR, EXIT_RUNTIME, HAVE_EXTENSION,
	 check_other_publisher,
	 "The relay refuses to lead: it would publish each event a second time.  "
	 "An event that is removed is kept only by the WAL of its reader's slot."},
	{"preload", CHECK_NOTE, EXIT_CLEAN, HAVE_EXTENSION, check_preload,
	 "Reservations expire in time only while a relay runs."},
	{"keeper", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION, check_keeper,
	 "Reservations expire, and history is deleted, only while a relay runs."},
	{"notifications", CHECK_ERROR, EXIT_RUNTIME, HAVE_EXTENSION,
	 check_notifications, "An event would wait for poll_interval."},
	{"upkeep", CHECK_ERROR, EXIT_RUNTIME, HAVE_EXTENSION, check_upkeep,
	 "The steps that are not named go on; what the others would delete or "
	 "expire stays."},
	{"relay_name", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION, check_relay_name,
	 "Nothing distinguishes the relays in pg_stat_activity, status and Kafka's "
	 "log."},
	{"position", CHECK_ERROR, EXIT_RUNTIME, HAVE_EXTENSION,
	 check_stored_position,
	 "The relay publishes nothing from a position that is not valid."},
};

const CheckGroup check_extension_group = {rows, Lengthof(rows)};
