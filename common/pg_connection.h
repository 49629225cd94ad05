/*
 * pg_connection.h - one connection to PostgreSQL that never blocks
 *
 * libpq driven by the loop.  One call is under way at a time; its end is
 * reported by exactly one event.  A connection that breaks, or an answer that
 * takes longer than it may, is reported by PGCONN_DOWN and leaves the
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

typedef enum PgConnEvent
{
	PGCONN_UP,	   /* connected */
	PGCONN_DOWN,   /* not, or no more: pgconn_error() */
	PGCONN_RESULT, /* result: owned by the handler from now on */
	PGCONN_NOTIFY, /* a notification has arrived */
} PgConnEvent;

typedef struct PgConn PgConn;
typedef void (*PgConnHandler)(void *arg, PgConnEvent event, PGresult *result);

/* A statement, prepared in the session when it is first used. */
typedef struct PgStatement
{
	const char *name;
	const char *sql;
	int			nparams;
	int			id;		/* its bit in PgConn */
	int			binary; /* 1: the answer comes in binary */
} PgStatement;

typedef struct PgParam
{
	const char *data;	/* NULL: null */
	int			length; /* used if binary */
	int			binary;
} PgParam;

#define PGCONN_PARAMS_MAX	  10
#define PGCONN_STATEMENTS_MAX 64

PgConn *pgconn_new(Loop *loop, int64_t answer_us_max, PgConnHandler handler,
				   void *arg);
void	pgconn_free(PgConn *conn);

/* Waits for the connection.  application: what application_name is unless the
 * user sets it.  Never NULL but for lack of memory. */
PGconn *pgconn_open_blocking(const char *conninfo, const char *application);

/* PQconninfoFree() that leaves no password behind. */
void pgconn_free_parsed(PQconninfoOption *parsed);

/* The end is PGCONN_UP or PGCONN_DOWN, never before this returns.
 * synchronous_commit: local where a standby that is away shall not matter.
 * idle_ms: the server ends a session that is idle for so long; 0: never.
 */
void pgconn_connect(PgConn *conn, const char *conninfo, const char *application,
					const char *synchronous_commit, int idle_ms);
void pgconn_close(PgConn *conn); /* no event */

/* The end is PGCONN_RESULT or PGCONN_DOWN, never before this returns.  The
 * parameters need not outlive the call. */
void pgconn_call(PgConn *conn, const PgStatement *statement,
				 const PgParam *params);

const char *pgconn_error(const PgConn *conn);
int			pgconn_server_version(const PgConn *conn);
int			pgconn_backend_pid(const PgConn *conn);

#endif
