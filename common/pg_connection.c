/*
 * pg_connection.c - one connection to PostgreSQL that never blocks
 *
 * A call is sent in libpq's pipeline mode: Parse where the session does not
 * know the statement yet, Bind and Execute, Sync, all in one packet.  Results
 * are read to the end of the pipeline; the first error among them, or else the
 * last result, is the answer.
 *
 * Events are delivered from the loop's handlers only, so that no caller is
 * entered while it is calling.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/pg_connection.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "common/log.h"

#define LOG_MODULE "pgconn"

/*
 * Reads that may find nothing before the loop waits again.  A TLS record that
 * was taken from the socket can hold 16 kB that no poll sees any more; each
 * read takes at least half of that.
 */
#define EMPTY_READS_PLAIN 1
#define EMPTY_READS_TLS	  3

typedef enum PgConnState
{
	PGC_CLOSED,
	PGC_CONNECTING,
	PGC_IDLE,
	PGC_BUSY, /* a call is under way */
} PgConnState;

struct PgConn
{
	Loop		 *loop;
	int64_t		  answer_us_max; /* limit of one call */
	PgConnHandler handler;
	void		 *arg;
	PgConnState	  state;
	PGconn		 *pg; /* NULL while closed */
	LoopIo		 *io;
	LoopTimer	 *timer;	 /* limit of connecting or of a call */
	bool		  failed;	 /* a send failed: the timer reports it */
	uint64_t	  prepared;	 /* statements that the session knows */
	uint64_t	  preparing; /* the one that is being prepared */
	PGresult	 *answer;	 /* so far */
	Buf			  error;	 /* why it is down */
};

static void pgconn_ready(void *arg, uint32_t events);
static void pgconn_timeout(void *arg);

PgConn *
pgconn_new(Loop *loop, int64_t answer_us_max, PgConnHandler handler, void *arg)
{
	PgConn *conn = xcalloc(1, sizeof(PgConn));

	conn->loop = loop;
	conn->answer_us_max = answer_us_max;
	conn->handler = handler;
	conn->arg = arg;
	conn->timer = loop_timer_new(loop, pgconn_timeout, conn);
	return conn;
}

void
pgconn_close(PgConn *conn)
{
	loop_timer_set(conn->timer, NEVER);
	loop_io_free(conn->io);
	conn->io = NULL;
	PQclear(conn->answer);
	conn->answer = NULL;
	PQfinish(conn->pg);
	conn->pg = NULL;
	conn->failed = false;
	conn->prepared = conn->preparing = 0;
	conn->state = PGC_CLOSED;
}

void
pgconn_free(PgConn *conn)
{
	if (conn == NULL)
		return;
	pgconn_close(conn);
	loop_timer_free(conn->timer);
	buf_free(&conn->error);
	free(conn);
}

const char *
pgconn_error(const PgConn *conn)
{
	return conn->error.len > 0 ? conn->error.data : "no error";
}

int
pgconn_server_version(const PgConn *conn)
{
	return PQserverVersion(conn->pg);
}

int
pgconn_backend_pid(const PgConn *conn)
{
	return PQbackendPID(conn->pg);
}

/* Closes the connection and reports that. */
static void
pgconn_down(PgConn *conn, const char *why)
{
	Buf error = {0};

	buf_add_str(&error, why);
	buf_str(&error);
	buf_free(&conn->error);
	conn->error = error;
	pgconn_close(conn);
	conn->handler(conn->arg, PGCONN_DOWN, NULL);
}

static bool
pgconn_is_error(const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	return status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK;
}

/* For the reason that the server has sent, if it has: libpq's own is only that
 * the connection is closed. */
static void
pgconn_down_libpq(PgConn *conn)
{
	bool sent = conn->answer != NULL && pgconn_is_error(conn->answer);

	pgconn_down(conn, sent ? PQresultErrorMessage(conn->answer)
						   : PQerrorMessage(conn->pg));
}

/* Waits for what libpq needs; a send that failed is reported at once. */
static void
pgconn_watch(PgConn *conn)
{
	int unsent = conn->failed ? -1 : PQflush(conn->pg);

	if (unsent < 0)
	{
		conn->failed = true;
		loop_timer_set(conn->timer, loop_now(conn->loop));
		return;
	}
	Assert(conn->io != NULL);
	loop_io_want(conn->io, unsent > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* ---- connecting -------------------------------------------------------- */

/*
 * What every session has, whatever its role or database may set.  keepalives
 * and tcp_user_timeout on the server's side too: a client that vanished must
 * not keep its locks.
 */
#define SESSION_OPTIONS                                       \
	"-c search_path=pg_catalog,pg_temp"                       \
	" -c tcp_keepalives_idle=3"                               \
	" -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3" \
	" -c tcp_user_timeout=8000 -c client_encoding=UTF8"       \
	" -c default_transaction_isolation=read\\ committed"      \
	" -c default_transaction_read_only=off"                   \
	" -c client_connection_check_interval=2000"               \
	" -c statement_timeout=0 -c lock_timeout=0"               \
	" -c idle_in_transaction_session_timeout=0"

void
pgconn_free_parsed(PQconninfoOption *parsed)
{
	for (PQconninfoOption *o = parsed; o != NULL && o->keyword != NULL; o++)
		if (o->val != NULL && strstr(o->keyword, "password") != NULL)
			explicit_bzero(o->val, strlen(o->val));
	PQconninfoFree(parsed);
}

/* The user's own "options", from conninfo or PGOPTIONS, and ours after them. */
static char *
pgconn_session_options(const char *conninfo, const char *synchronous_commit,
					   int idle_ms)
{
	PQconninfoOption *parsed = PQconninfoParse(conninfo, NULL);
	const char		 *own = getenv("PGOPTIONS");
	char			 *options;

	for (PQconninfoOption *o = parsed; o != NULL && o->keyword != NULL; o++)
		if (strcmp(o->keyword, "options") == 0 && o->val != NULL)
			own = o->val;
	/* a role that conninfo itself names is meant */
	options = xasprintf("-c role=none %s %s -c synchronous_commit=%s"
						" -c idle_session_timeout=%d",
						own != NULL ? own : "", SESSION_OPTIONS,
						synchronous_commit, idle_ms);
	pgconn_free_parsed(parsed);
	return options;
}

/* libpq's own default, prefer, looks for a Kerberos ticket first, and may wait
 * in our loop for the server that issues them. */
static const char *
pgconn_gssencmode(void)
{
	const char *own = getenv("PGGSSENCMODE");

	return own != NULL ? own : "disable";
}

/*
 * What stands before "dbname" are defaults that conninfo may override; on what
 * stands after it promises rest.
 */
static PGconn *
pgconn_start(const char *conninfo, const char *application,
			 const char *synchronous_commit, int idle_ms, bool blocking)
{
	char	   *options = pgconn_session_options(conninfo, synchronous_commit,
												 idle_ms);
	const char *keywords[] = {
		"connect_timeout",
		"keepalives_idle",
		"keepalives_interval",
		"keepalives_count",
		"tcp_user_timeout",
		"gssencmode",
		"fallback_application_name",
		"dbname",
		"options",
		"target_session_attrs",
		NULL,
	};
	const char *values[] = {
		"10",		 "3",	   "2",		"3",	   "8000", pgconn_gssencmode(),
		application, conninfo, options, "primary", NULL,
	};
	PGconn *pg;

	pg = blocking ? PQconnectdbParams(keywords, values, 1)
				  : PQconnectStartParams(keywords, values, 1);
	free(options);
	return pg;
}

PGconn *
pgconn_open_blocking(const char *conninfo, const char *application)
{
	return pgconn_start(conninfo, application, "on", 0, true);
}

static void
pgconn_ignore_notice(void *arg UNUSED, const PGresult *notice)
{
	const char *text = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);

	log_debug("server notice: %s", text != NULL ? text : "");
}

void
pgconn_connect(PgConn *conn, const char *conninfo, const char *application,
			   const char *synchronous_commit, int idle_ms)
{
	int64_t now = loop_now(conn->loop);

	Assert(conn->state == PGC_CLOSED && conn->pg == NULL);
	conn->pg = pgconn_start(conninfo, application, synchronous_commit, idle_ms,
							false);
	conn->state = PGC_CONNECTING;
	if (conn->pg == NULL || PQstatus(conn->pg) == CONNECTION_BAD)
	{
		conn->failed = true;
		loop_timer_set(conn->timer, now);
		return;
	}
	PQsetNoticeReceiver(conn->pg, pgconn_ignore_notice, NULL);
	conn->io = loop_io_new(conn->loop, PQsocket(conn->pg), EPOLLOUT,
						   pgconn_ready, conn);
	loop_timer_set(conn->timer, now + 15 * SEC_US);
}

static void
pgconn_go_on_connecting(PgConn *conn)
{
	PostgresPollingStatusType status;

	/* libpq may close the socket and open another under the same number. */
	loop_io_free(conn->io);
	conn->io = NULL;
	status = PQconnectPoll(conn->pg);
	if (status == PGRES_POLLING_FAILED)
	{
		pgconn_down_libpq(conn);
		return;
	}
	conn->io = loop_io_new(conn->loop, PQsocket(conn->pg),
						   status == PGRES_POLLING_WRITING ? EPOLLOUT : EPOLLIN,
						   pgconn_ready, conn);
	if (status != PGRES_POLLING_OK)
		return;
	if (PQsetnonblocking(conn->pg, 1) != 0 ||
		PQenterPipelineMode(conn->pg) != 1)
	{
		pgconn_down_libpq(conn);
		return;
	}
	loop_timer_set(conn->timer, NEVER);
	conn->state = PGC_IDLE;
	conn->handler(conn->arg, PGCONN_UP, NULL);
}

/* ---- calls ------------------------------------------------------------- */

static bool
pgconn_send(PgConn *conn, const PgStatement *statement, const PgParam *params)
{
	const char *values[PGCONN_PARAMS_MAX];
	int			lengths[PGCONN_PARAMS_MAX];
	int			formats[PGCONN_PARAMS_MAX];
	uint64_t	bit = UINT64_C(1) << statement->id;

	Assert(statement->nparams <= PGCONN_PARAMS_MAX);
	for (int i = 0; i < statement->nparams; i++)
	{
		values[i] = params[i].data;
		lengths[i] = params[i].length;
		formats[i] = params[i].binary;
	}
	conn->preparing = conn->prepared & bit ? 0 : bit;
	if (conn->preparing != 0 &&
		PQsendPrepare(conn->pg, statement->name, statement->sql, 0, NULL) != 1)
		return false;
	return PQsendQueryPrepared(conn->pg, statement->name, statement->nparams,
							   values, lengths, formats,
							   statement->binary) == 1 &&
		   PQpipelineSync(conn->pg) == 1;
}

void
pgconn_call(PgConn *conn, const PgStatement *statement, const PgParam *params)
{
	Assert(conn->state == PGC_IDLE);
	Assert(conn->answer == NULL);
	Assert(statement->id >= 0 && statement->id < PGCONN_STATEMENTS_MAX);

	conn->state = PGC_BUSY;
	conn->failed = !pgconn_send(conn, statement, params);
	loop_timer_set(conn->timer, loop_now(conn->loop) + conn->answer_us_max);
	pgconn_watch(conn);
}

/* Takes the next result of the pipeline; true at its end. */
static bool
pgconn_take(PgConn *conn, PGresult *result)
{
	Assert(conn->state == PGC_BUSY);
	if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
	{
		PQclear(result);
		return true;
	}
	if (conn->answer != NULL && pgconn_is_error(conn->answer))
		PQclear(result);
	else
	{
		if (conn->preparing != 0 && !pgconn_is_error(result))
		{
			conn->prepared |= conn->preparing;
			conn->preparing = 0;
		}
		PQclear(conn->answer);
		conn->answer = result;
	}
	return false;
}

/* True when the call is over. */
static bool
pgconn_collect(PgConn *conn)
{
	while (!PQisBusy(conn->pg))
	{
		PGresult *result = PQgetResult(conn->pg);

		if (result != NULL && pgconn_take(conn, result))
			return true;
		if (PQstatus(conn->pg) == CONNECTION_BAD)
			return false;
	}
	return false;
}

static void
pgconn_deliver_notifies(PgConn *conn)
{
	PGnotify *notify;
	bool	  notified = false;

	while ((notify = PQnotifies(conn->pg)) != NULL)
	{
		PQfreemem(notify);
		notified = true;
	}
	if (notified)
		conn->handler(conn->arg, PGCONN_NOTIFY, NULL);
}

/* Returns false if the handler closed the connection. */
static bool
pgconn_deliver(PgConn *conn)
{
	const PGconn *pg = conn->pg;
	bool		  over = conn->state == PGC_BUSY && pgconn_collect(conn);

	pgconn_deliver_notifies(conn);
	if (over)
	{
		PGresult *answer = conn->answer;

		Assert(answer != NULL);
		conn->answer = NULL;
		conn->state = PGC_IDLE;
		loop_timer_set(conn->timer, NEVER);
		conn->handler(conn->arg, PGCONN_RESULT, answer);
	}
	return conn->pg == pg;
}

static void
pgconn_ready(void *arg, uint32_t events UNUSED)
{
	PgConn *conn = arg;
	int		empty_max;

	if (conn->state == PGC_CONNECTING)
	{
		pgconn_go_on_connecting(conn);
		return;
	}
	empty_max = PQsslInUse(conn->pg) ? EMPTY_READS_TLS : EMPTY_READS_PLAIN;
	for (int empty = 0; empty < empty_max;)
	{
		int unread = 0;

		if (PQconsumeInput(conn->pg) != 1)
		{
			pgconn_down_libpq(conn);
			return;
		}
		if (!pgconn_deliver(conn))
			return;
		if (ioctl(PQsocket(conn->pg), FIONREAD, &unread) < 0 || unread == 0)
			empty++;
		else
			empty = 0;
	}
	pgconn_watch(conn);
}

static void
pgconn_timeout(void *arg)
{
	PgConn *conn = arg;

	Assert(conn->state != PGC_CLOSED);
	if (conn->pg == NULL)
		pgconn_down(conn, "out of memory");
	else if (conn->failed)
		pgconn_down_libpq(conn);
	else if (conn->state == PGC_CONNECTING)
		pgconn_down(conn, "the server did not answer in time");
	else
		pgconn_down(conn, "a call was not answered in time");
}
