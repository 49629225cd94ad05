/*
 * pool.h - sessions of one role, and what runs in them
 *
 * A session that is free asks the pool's sources, in turn, for work; so nothing
 * is ever held back to wait for company, and what has gathered meanwhile goes
 * together.  A session that breaks is opened again by itself.  While none is
 * open, or the database does not answer, a circuit breaker is open.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_POOL_H
#define PGSTOCK_GATEWAY_POOL_H

#include "common/pg_connection.h"

#define POOL_SOURCES_MAX 5

/* Statements of the routes have the numbers below the first (api/route.c). */
#define POOL_STATEMENT_BEGIN	(PG_CONNECTION_STATEMENTS_MAX - 1)
#define POOL_STATEMENT_SOLD_OUT (PG_CONNECTION_STATEMENTS_MAX - 2)
#define POOL_STATEMENT_LOOK		(PG_CONNECTION_STATEMENTS_MAX - 3)
#define POOL_STATEMENT_WAIT		(PG_CONNECTION_STATEMENTS_MAX - 4)
#define POOL_STATEMENT_SETTINGS (PG_CONNECTION_STATEMENTS_MAX - 5)
#define POOL_STATEMENTS_FIRST	POOL_STATEMENT_SETTINGS

/* A statement waits for a lock that long. */
#define POOL_LOCK_WAIT "2s"

/* What reads, or what an administrator does, may take some time more. */
#define POOL_PATIENCE_US (10 * SEC_US)

/* What became of a work. */
typedef struct PoolAnswer
{
	const PGresult *result;	  /* NULL if the session broke: whether the work
							   * took effect is not known then */
	const char	   *sqlstate; /* of a statement that failed, or NULL */
	const char	   *error;	  /* why the session broke, or NULL */
	void		   *source;	  /* argument of the work's source, if it has a
							   * result */
	bool			stale;	  /* it took no effect, for what the session had
							   * prepared is not valid any more: the work may be
							   * given again */
} PoolAnswer;

typedef void (*PoolDone)(void *arg, const PoolAnswer *answer);

/* One statement, a transaction of its own. */
typedef struct PoolWork
{
	const PgStatement *statement;
	const PgParam	  *params; /* until the source is asked again */
	const char		  *actor;  /* pgstock.actor, or NULL */
	const char		  *trace;  /* pgstock.trace_id, or NULL */
	const char *lock_wait;	   /* how long for a lock; NULL: POOL_LOCK_WAIT */
	int64_t		patience_us;   /* more than that of a short one (db/pool.c) */
	PoolDone	done;
	void	   *arg;
} PoolWork;

typedef enum PoolBreaker
{
	BREAKER_CLOSED,	   /* a session is open */
	BREAKER_HALF_OPEN, /* one is being opened */
	BREAKER_OPEN,	   /* until the next attempt */
} PoolBreaker;

/* False if there is nothing to do. */
typedef bool (*PoolSource)(void *arg, PoolWork *work);

typedef struct Pool Pool;

/* conninfo: read at each connection, for a reload may change it. */
Pool *pool_new(Loop *loop, char *const *conninfo, int size);
/* sessions: how many of them its work may have at once. */
void pool_add_source(Pool *pool, PoolSource source, void *arg, int sessions);
void pool_free(Pool *pool); /* its work ends as if the sessions broke */

/* Gives work to the sessions that are free; once in each turn of the loop. */
void pool_turn(Pool *pool);

/* Whether any session is open. */
bool		pool_is_up(const Pool *pool);
int			pool_open_count(const Pool *pool);
int			pool_busy_count(const Pool *pool);
PoolBreaker pool_breaker(const Pool *pool);

#endif
