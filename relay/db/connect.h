/*
 * connect.h - the relay's sessions: where to, and under which name
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_DB_CONNECT_H
#define PGSTOCK_DB_CONNECT_H

#include "common/log.h"
#include "common/pg_connection.h"
#include "config/config.h"

/* pg_connection_connect() to [postgres] conninfo. */
void db_connect(PgConnection *conn, const Config *config,
				const char *synchronous_commit, int idle_ms);

/* For a command, which may wait.  Never NULL but for lack of memory. */
PGconn *db_connect_blocking(const Config *config);

/*
 * A refused login that follows a lost connection is another failure, and is
 * logged at once.
 */
typedef struct DbThrottle
{
	LogThrottle lost;
	LogThrottle refused;
} DbThrottle;

/* Logs why the database cannot be used, and the next step if one is known. */
void db_log_failure(DbThrottle *throttle, int64_t now, const char *module,
					const Config *config, const char *why);
void db_log_recovered(DbThrottle *throttle);

#endif
