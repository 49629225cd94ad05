/*
 * pool.c - sessions of one role, and what runs in them
 *
 * A session begins with the name of the extension's schema, which becomes its
 * search_path.  Each statement names its functions without a schema, and gives
 * every argument with its type: no function of another signature can be taken
 * in place of pgstock's.  Times are printed as ISO 8601 has them, in UTC.
 *
 * A statement waits for a lock no longer than a client for its answer: another
 * session that holds a product would else hold every session here.  It may wait
 * for several, one behind the other, or have much to read: the database ends it
 * (statement_timeout) STATEMENT_US after its begin, and later by its patience.
 *
 * What a session has prepared can become stale: the extension is updated, or
 * dropped and created, and a result has other columns; or a pooler between us
 * and the server has reset the session.  The statement fails then, and with it
 * all of its transaction.  All sessions prepare anew, and look for the
 * extension again, before their next work; so the same work can be given again.
 * The same errors have lasting causes too: a function that an administrator has
 * replaced, a damaged index.  Then each try of each request would have all
 * sessions prepare anew, to no end.  So a statement that failed, and has not
 * succeeded since, is a suspect: it causes the next renewal RENEW_US after the
 * last one, and its error is the answer meanwhile.  Other statements are not
 * affected, and no time limits those that succeed in between: an extension can
 * be created twice in a second.
 *
 * The circuit breaker.  It is open while no session is: requests are refused at
 * once then.  It opens where all sessions break, and where the database is
 * silent: a session has waited for an answer for SILENT_US, and no session had
 * one meanwhile.  No statement takes that long, so the database is frozen or
 * cut off then, and all sessions are closed.  While it is open, one session
 * tries to connect (half-open), for PROBE_US at most; the first that can be
 * used closes the breaker, and the others follow.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "db/pool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/backoff.h"
#include "common/log.h"

#define LOG_MODULE "pool"

#define ANSWER_US	 (30 * SEC_US) /* one statement, waits for locks included */
#define RETRY_US_MIN (100 * MS_US) /* before a session is opened again */
#define RETRY_US_MAX SEC_US
#define STATEMENT	 "2500ms"
#define STATEMENT_US (2500 * MS_US)
#define SILENT_US	 (3 * SEC_US)
#define PROBE_US	 (3 * SEC_US)  /* to connect and look for the extension */
#define CHECK_US	 (200 * MS_US) /* how often silence is looked for */
#define RENEW_US	 (5 * SEC_US)
#define APPLICATION	 "pgstock-gateway"

_Static_assert(PG_CONNECTION_STATEMENTS_MAX <= 64,
			   "each statement has a bit in suspects");
_Static_assert(STATEMENT_US + 400 * MS_US < SILENT_US,
			   "the answer of a statement that was ended arrives in time");

typedef enum SessionState
{
	SESSION_DOWN, /* until retry_at */
	SESSION_CONNECTING,
	SESSION_PREPARING, /* looks for the extension */
	SESSION_IDLE,
	SESSION_BUSY,
	SESSION_RENEWING, /* open; looks for the extension again */
} SessionState;

typedef struct Source
{
	PoolSource next;
	void	  *arg;
	int		   sessions; /* that it may have */
	int		   busy;	 /* that it has */
} Source;

typedef struct Session
{
	Pool		 *pool;
	PgConnection *conn;
	SessionState  state;
	Backoff		  backoff;
	LoopTimer	 *timer;	   /* opens it again; ends an attempt to */
	bool		  waits;	   /* to be opened, for the breaker to close */
	bool		  stale;	   /* what it has prepared may be */
	int64_t		  since;	   /* it is busy */
	int64_t		  patience_us; /* beyond SILENT_US */
	uint64_t	  statement;   /* while busy: the bit of the work's one */
	Source		 *source;	   /* while busy */
	PoolDone	  done;
	void		 *arg;
} Session;

struct Pool
{
	Loop		*loop;
	char *const *conninfo;
	Session		*sessions;
	int			 size;
	Source		 sources[POOL_SOURCES_MAX];
	int			 source_count;
	int			 next_source; /* the one that is asked first */
	int64_t		 answered_at; /* the last answer of any session */
	int64_t		 renewed_at;  /* all sessions were marked as stale */
	uint64_t	 suspects;	  /* statements that caused it, and fail still */
	LoopTimer	*check;		  /* for silence, while one is busy */
	bool		 checks;	  /* it is set */
	LogThrottle	 throttle;
};

/* One row: the extension's version; none: it is not installed. */
static const PgStatement statement_begin = {
	.name = "begin",
	.sql = "SELECT e.extversion, pg_catalog.set_config('search_path', "
		   "'pg_catalog, ' || pg_catalog.quote_ident(n.nspname) "
		   "|| ', pg_temp', false), "
		   "pg_catalog.set_config('datestyle', 'ISO', false), "
		   "pg_catalog.set_config('timezone', 'UTC', false), "
		   "pg_catalog.set_config('lock_timeout', '" POOL_LOCK_WAIT
		   "', false), "
		   "pg_catalog.set_config('statement_timeout', '" STATEMENT "', false) "
		   "FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n "
		   "ON n.oid OPERATOR(pg_catalog.=) e.extnamespace "
		   "WHERE e.extname OPERATOR(pg_catalog.=) 'pgstock'",
	.id = POOL_STATEMENT_BEGIN,
};

/* What holds for one work, in its transaction. */
static const PgStatement statement_settings = {
	.name = "settings",
	.sql = "SELECT pg_catalog.set_config('pgstock.actor', $1, true), "
		   "pg_catalog.set_config('pgstock.trace_id', $2, true), "
		   "pg_catalog.set_config('lock_timeout', $3, true), "
		   "pg_catalog.set_config('statement_timeout', $4, true)",
	.nparams = 4,
	.id = POOL_STATEMENT_SETTINGS,
};

/* ---- states ------------------------------------------------------------ */

static int
pool_count(const Pool *pool, SessionState from)
{
	int count = 0;

	for (int i = 0; i < pool->size; i++)
		count += pool->sessions[i].state >= from;
	return count;
}

bool
pool_is_up(const Pool *pool)
{
	return pool_open_count(pool) > 0;
}

int
pool_open_count(const Pool *pool)
{
	return pool_count(pool, SESSION_IDLE);
}

int
pool_busy_count(const Pool *pool)
{
	return pool_count(pool, SESSION_BUSY);
}

/* Whether a session is being opened. */
static bool
pool_is_opening(const Pool *pool)
{
	return pool_count(pool, SESSION_CONNECTING) > pool_open_count(pool);
}

PoolBreaker
pool_breaker(const Pool *pool)
{
	if (pool_is_up(pool))
		return BREAKER_CLOSED;
	return pool_is_opening(pool) ? BREAKER_HALF_OPEN : BREAKER_OPEN;
}

/* ---- sessions ---------------------------------------------------------- */

static void
pool_session_retry(Session *session, const char *why)
{
	Pool *pool = session->pool;

	log_throttled(&pool->throttle, loop_now(pool->loop), LEVEL_ERROR,
				  LOG_MODULE, "no session: %s", why);
	Assert(session->done == NULL); /* its work is over */
	session->state = SESSION_DOWN;
	loop_timer_set(session->timer,
				   loop_now(pool->loop) + backoff_failed(&session->backoff));
}

/* Its work is over; what is to be called for that. */
static PoolDone
pool_session_release(Session *session)
{
	PoolDone done = session->done;

	Assert((done != NULL) == (session->state == SESSION_BUSY));
	if (done != NULL)
	{
		Assert(session->source->busy > 0);
		session->source->busy--;
	}
	session->done = NULL;
	return done;
}

static void
pool_session_down(Session *session)
{
	PoolDone done = pool_session_release(session);
	char	*why = xstrdup(pg_connection_error(session->conn));

	pool_session_retry(session, why);
	if (done != NULL)
		done(session->arg, &(PoolAnswer){.error = why});
	free(why);
}

/*
 * Opens it, unless another one tries that the breaker may close; or ends an
 * attempt that has taken too long.
 */
static void
pool_session_on_timer(void *arg)
{
	Session *session = arg;
	Pool	*pool = session->pool;

	if (session->state != SESSION_DOWN)
	{
		Assert(session->state < SESSION_IDLE ||
			   session->state == SESSION_RENEWING);
		pg_connection_close(session->conn);
		pool_session_retry(session, "the server does not answer");
		return;
	}
	session->waits = !pool_is_up(pool) && pool_is_opening(pool);
	if (session->waits)
		return;
	session->state = SESSION_CONNECTING;
	loop_timer_set(session->timer, loop_now(pool->loop) + PROBE_US);
	pg_connection_connect(session->conn, *pool->conninfo, APPLICATION, "on", 0);
}

/* The breaker has closed. */
static void
pool_open_others(Pool *pool)
{
	Assert(pool_is_up(pool));
	for (int i = 0; i < pool->size; i++)
	{
		Session *session = &pool->sessions[i];

		Assert(!session->waits || session->state == SESSION_DOWN);
		if (session->waits)
			loop_timer_set(session->timer, loop_now(pool->loop));
		session->waits = false;
	}
}

/* The first two numbers of a release's version are those of the script. */
static bool
pool_version_fits(const char *script)
{
	size_t len = strlen(script);

	return strncmp(PGSTOCK_VERSION, script, len) == 0 &&
		   (PGSTOCK_VERSION[len] == '\0' || PGSTOCK_VERSION[len] == '.');
}

/* The schema is known, or the session is of no use. */
static void
pool_session_begun(Session *session, const PGresult *result)
{
	Pool *pool = session->pool;
	Buf	  why = {0};

	Assert(session->state == SESSION_PREPARING ||
		   session->state == SESSION_RENEWING);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		pg_connection_add_message(PQresultErrorMessage(result), &why);
	else if (PQntuples(result) == 0)
		buf_add_str(&why, "the extension pgstock is not installed in this "
						  "database: CREATE EXTENSION pgstock");
	else if (!pool_version_fits(PQgetvalue(result, 0, 0)))
		buf_printf(&why,
				   "the extension pgstock is of version %s, this gateway of "
				   "%s: update the older one",
				   PQgetvalue(result, 0, 0), PGSTOCK_VERSION);
	if (why.len > 0)
	{
		pg_connection_close(session->conn);
		pool_session_retry(session, buf_str(&why));
	}
	else
	{
		session->state = SESSION_IDLE;
		session->stale = false;
		loop_timer_set(session->timer, NEVER);
		backoff_succeeded(&session->backoff);
		log_recovered(&pool->throttle);
		pool_open_others(pool);
	}
	buf_free(&why);
}

/*
 * Whether the error is one of a statement that was prepared before something
 * was replaced: another result type, no such statement, function, table, type
 * or schema; and where that happened while it waited for a lock, an internal
 * one.
 */
static bool
pool_is_stale(const char *sqlstate)
{
	static const char *const states[] = {"0A000", "26000", "42883", "42P01",
										 "42704", "3F000", "XX000"};

	for (size_t i = 0; sqlstate != NULL && i < Lengthof(states); i++)
		if (strcmp(sqlstate, states[i]) == 0)
			return true;
	return false;
}

/* Has all sessions renewed; false if that has just not helped. */
static bool
pool_renew(Pool *pool, uint64_t statement)
{
	int64_t now = loop_now(pool->loop);

	Assert(statement != 0);
	if ((pool->suspects & statement) != 0 && now < pool->renewed_at + RENEW_US)
		return false;
	pool->suspects |= statement;
	pool->renewed_at = now;
	for (int i = 0; i < pool->size; i++)
		pool->sessions[i].stale = true;
	return true;
}

static void
pool_session_answered(Session *session, const PGresult *result)
{
	Pool	   *pool = session->pool;
	PoolDone	done = pool_session_release(session);
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	/* it may have begun before another session met the same */
	bool stale = pool_is_stale(sqlstate) &&
				 (session->stale || pool_renew(pool, session->statement));

	Assert(session->state == SESSION_BUSY);
	session->state = SESSION_IDLE;
	pool->answered_at = loop_now(pool->loop);
	if (sqlstate == NULL)
		pool->suspects &= ~session->statement;
	done(session->arg, &(PoolAnswer){
						   .result = result,
						   .sqlstate = sqlstate,
						   .source = session->source->arg,
						   .stale = stale,
					   });
}

static void
pool_session_event(void *arg, PgConnectionEvent event, PGresult *result)
{
	Session *session = arg;

	switch (event)
	{
		case PG_CONNECTION_UP:
			Assert(session->state == SESSION_CONNECTING);
			session->state = SESSION_PREPARING;
			pg_connection_call(session->conn, &statement_begin, NULL);
			break;
		case PG_CONNECTION_DOWN:
			pool_session_down(session);
			break;
		case PG_CONNECTION_RESULT:
			if (session->state == SESSION_PREPARING ||
				session->state == SESSION_RENEWING)
				pool_session_begun(session, result);
			else
				pool_session_answered(session, result);
			PQclear(result);
			break;
		case PG_CONNECTION_NOTIFY:
			break;
	}
}

/* ---- the breaker ------------------------------------------------------- */

/*
 * How long the session has waited while no other one had an answer, its
 * patience deducted.
 */
static int64_t
pool_session_silence(const Session *session, int64_t now)
{
	if (session->state != SESSION_BUSY)
		return 0;
	return now - Max(session->since, session->pool->answered_at) -
		   session->patience_us;
}

/* Whether what was under way took effect is not known. */
static void
pool_close_all(Pool *pool)
{
	static const char why[] = "the database does not answer";

	for (int i = 0; i < pool->size; i++)
	{
		Session *session = &pool->sessions[i];
		PoolDone done = pool_session_release(session);

		if (session->state == SESSION_DOWN)
			continue;
		pg_connection_close(session->conn);
		pool_session_retry(session, why);
		if (done != NULL)
			done(session->arg, &(PoolAnswer){.error = why});
	}
	Assert(!pool_is_up(pool));
}

static void
pool_on_check(void *arg)
{
	Pool   *pool = arg;
	int64_t now = loop_now(pool->loop);

	for (int i = 0; i < pool->size; i++)
		if (pool_session_silence(&pool->sessions[i], now) >= SILENT_US)
		{
			pool_close_all(pool);
			break;
		}
	pool->checks = pool_busy_count(pool) > 0;
	if (pool->checks)
		loop_timer_set(pool->check, now + CHECK_US);
}

/* ---- work -------------------------------------------------------------- */

static void
pool_session_start(Session *session, Source *source, const PoolWork *work)
{
	const char	 *lock_wait = work->lock_wait != NULL ? work->lock_wait
													  : POOL_LOCK_WAIT;
	char		  limit_ms[24];
	const PgParam settings[] = {{.data = work->actor},
								{.data = work->trace},
								{.data = lock_wait},
								{.data = limit_ms}};

	Assert(session->state == SESSION_IDLE && session->done == NULL);
	Assert(!session->stale); /* it is renewed before its next work */
	Assert(work->done != NULL && source->busy < source->sessions);
	session->state = SESSION_BUSY;
	session->since = loop_now(session->pool->loop);
	session->patience_us = work->patience_us;
	session->statement = UINT64_C(1) << work->statement->id;
	if (!session->pool->checks)
		loop_timer_set(session->pool->check, session->since + CHECK_US);
	session->pool->checks = true;
	session->source = source;
	source->busy++;
	session->done = work->done;
	session->arg = work->arg;
	snprintf(limit_ms, sizeof(limit_ms), "%" PRId64,
			 (STATEMENT_US + work->patience_us) / MS_US);
	if (work->actor != NULL || work->trace != NULL || work->lock_wait != NULL ||
		work->patience_us > 0)
		pg_connection_add(session->conn, &statement_settings, settings);
	pg_connection_call(session->conn, work->statement, work->params);
}

static void
pool_session_renew(Session *session)
{
	Assert(session->state == SESSION_IDLE && session->stale);
	session->state = SESSION_RENEWING;
	loop_timer_set(session->timer, loop_now(session->pool->loop) + PROBE_US);
	pg_connection_add_forget(session->conn);
	pg_connection_call(session->conn, &statement_begin, NULL);
}

/* The source that has work.  They take turns: none waits for a whole queue. */
static Source *
pool_find_work(Pool *pool, PoolWork *work)
{
	for (int i = 0; i < pool->source_count; i++)
	{
		Source *source = &pool->sources[pool->next_source];

		Assert(source->busy <= source->sessions);
		pool->next_source = (pool->next_source + 1) % pool->source_count;
		if (source->busy < source->sessions && source->next(source->arg, work))
			return source;
	}
	return NULL;
}

void
pool_turn(Pool *pool)
{
	for (int i = 0; i < pool->size; i++)
	{
		PoolWork work = {0};
		Source	*source;

		if (pool->sessions[i].state != SESSION_IDLE)
			continue;
		if (pool->sessions[i].stale)
		{
			pool_session_renew(&pool->sessions[i]);
			continue;
		}
		source = pool_find_work(pool, &work);
		if (source == NULL)
			return;
		pool_session_start(&pool->sessions[i], source, &work);
	}
}

/* ---- life -------------------------------------------------------------- */

Pool *
pool_new(Loop *loop, char *const *conninfo, int size)
{
	Pool *pool = xcalloc(1, sizeof(Pool));

	Assert(size > 0);
	pool->loop = loop;
	pool->conninfo = conninfo;
	pool->size = size;
	pool->check = loop_timer_new(loop, pool_on_check, pool);
	pool->sessions = xcalloc((size_t) size, sizeof(Session));
	for (int i = 0; i < size; i++)
	{
		Session *session = &pool->sessions[i];

		session->pool = pool;
		session->conn = pg_connection_new(loop, ANSWER_US, pool_session_event,
										  session);
		session->timer = loop_timer_new(loop, pool_session_on_timer, session);
		backoff_init(&session->backoff, RETRY_US_MIN, RETRY_US_MAX,
					 (uint64_t) getpid() + (uint64_t) i);
		loop_timer_set(session->timer, loop_now(loop));
	}
	return pool;
}

void
pool_add_source(Pool *pool, PoolSource source, void *arg, int sessions)
{
	Assert(pool->source_count < POOL_SOURCES_MAX && sessions > 0);
	pool->sources[pool->source_count++] = (Source){
		.next = source,
		.arg = arg,
		.sessions = sessions,
	};
}

void
pool_free(Pool *pool)
{
	if (pool == NULL)
		return;
	for (int i = 0; i < pool->size; i++)
	{
		Session *session = &pool->sessions[i];

		if (session->done != NULL)
			session->done(session->arg,
						  &(PoolAnswer){.error = "the gateway has ended"});
		pg_connection_free(session->conn);
		loop_timer_free(session->timer);
	}
	loop_timer_free(pool->check);
	free(pool->sessions);
	free(pool);
}
