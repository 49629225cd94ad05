/*
 * connect.c - the relay's sessions: where to, and under which name
 *
 * application_name is the program and [relay] name, so that pg_stat_activity
 * distinguishes the sessions of two relays.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "db/connect.h"

#include <stdlib.h>

#include "db/connect_advice.h"

static char *
db_application_name(const Config *config)
{
	Assert(config->name[0] != '\0');
	return xasprintf("pgstock-relay %s", config->name);
}

void
db_connect(PgConnection *conn, const Config *config,
		   const char *synchronous_commit, int idle_ms)
{
	char *application = db_application_name(config);

	Assert(idle_ms >= 0);
	pg_connection_connect(conn, config->conninfo, application,
						  synchronous_commit, idle_ms);
	free(application);
}

PGconn *
db_connect_blocking(const Config *config)
{
	char   *application = db_application_name(config);
	PGconn *pg = pg_connection_open_blocking(config->conninfo, application);

	free(application);
	return pg;
}

void
db_log_failure(DbThrottle *throttle, int64_t now, const char *module,
			   const Config *config, const char *why)
{
	Buf	 advice = {0};
	bool refused = connect_advise(why, config->conninfo, &advice);

	log_throttled(refused ? &throttle->refused : &throttle->lost, now,
				  LEVEL_WARNING, module, "could not use the database: %s%s%s",
				  why, refused ? "; " : "", buf_str(&advice));
	buf_free(&advice);
}

void
db_log_recovered(DbThrottle *throttle)
{
	log_recovered(&throttle->lost);
	log_recovered(&throttle->refused);
}
