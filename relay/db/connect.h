/*
 * connect.h - the relay's sessions: where to, and under which name
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_DB_CONNECT_H
#define PGSTOCK_DB_CONNECT_H

#include "common/pg_connection.h"
#include "config/config.h"

/* pg_connection_connect() to [postgres] conninfo. */
void db_connect(PgConnection *conn, const Config *config,
				const char *synchronous_commit, int idle_ms);

/* For a command, which may wait.  Never NULL but for lack of memory. */
PGconn *db_connect_blocking(const Config *config);

#endif
