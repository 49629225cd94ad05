/*
 * pg_connection.h - one connection to PostgreSQL that never blocks
 *
 * libpq driven by the loop.  One call is under way at a time; its end is
 * reported by exactly one event.  A connection that breaks, or an answer that
 * takes longer than it may, is reported by PG_CONNECTION_DOWN and leaves the
 * connection closed; its owner connects again when it likes.
 *
 * The one thing that can block is the resolver: libpq looks host names up
 * synchronously.  Where that matters, give hostaddr.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_PG_CONNECTION_H
#define PGSTOCK_COMMON_PG_CONNECTION_H

#include <libpq-fe.h>

#include "common/loop.h"

typedef enum PgConnectionEvent
{
	PG_CONNECTION_UP,	  /* connected */
	PG_CONNECTION_DOWN,	  /* not, or no more: pg_connection_error() */
	PG_CONNECTION_RESULT, /* result: owned by the handler from now on */
	PG_CONNECTION_NOTIFY, /* notifications: pg_connection_has_payload() */
} PgConnectionEvent;

typedef struct PgConnection PgConnection;
typedef void (*PgConnectionHandler)(void *arg, PgConnectionEvent event,
									PGresult *result);

/* A statement, prepared in the session when it is first used. */
typedef struct PgStatement
{
	const char *name;
	const char *sql;
	int			nparams;
	int			id;		/* its bit in PgConnection */
	int			binary; /* 1: the answer comes in binary */
} PgStatement;

typedef struct PgParam
{
	const char *data;	/* NULL: null */
	int			length; /* used if binary */
	int			binary;
} PgParam;

#define PG_CONNECTION_PARAMS_MAX	 10
#define PG_CONNECTION_STATEMENTS_MAX 64

PgConnection *pg_connection_new(Loop *loop, int64_t answer_us_max,
								PgConnectionHandler handler, void *arg);
void		  pg_connection_free(PgConnection *conn);

/*
 * Waits for the connection.  application: what application_name is unless the
 * user sets it.  Never NULL but for lack of memory.
 */
PGconn *pg_connection_open_blocking(const char *conninfo,
									const char *application);

/* A message of libpq's, of one line or several, as one. */
void pg_connection_add_message(const char *message, Buf *to);

/*
 * The end is PG_CONNECTION_UP or PG_CONNECTION_DOWN, never before this returns.
 * synchronous_commit: local where a standby that is away shall not matter.
 * idle_ms: the server ends a session that is idle for so long; 0: never.
 */
void pg_connection_connect(PgConnection *conn, const char *conninfo,
						   const char *application,
						   const char *synchronous_commit, int idle_ms);
void pg_connection_close(PgConnection *conn); /* no event */

/*
 * Adds a statement to the next call, before its own and in its transaction; it
 * must be called at once.  One for each call.
 */
void pg_connection_add(PgConnection *conn, const PgStatement *statement,
					   const PgParam *params);

/*
 * The same: the session forgets the statements that it has prepared, and each
 * is prepared anew when it is next used.
 */
void pg_connection_add_forget(PgConnection *conn);

/*
 * The end is PG_CONNECTION_RESULT or PG_CONNECTION_DOWN, never before this
 * returns.  The parameters need not outlive the call.
 */
void pg_connection_call(PgConnection *conn, const PgStatement *statement,
						const PgParam *params);

/* Within PG_CONNECTION_NOTIFY: whether one of them has a payload. */
bool pg_connection_has_payload(const PgConnection *conn);

const char *pg_connection_error(const PgConnection *conn);
int			pg_connection_server_version(const PgConnection *conn);
int			pg_connection_backend_pid(const PgConnection *conn);

#endif
