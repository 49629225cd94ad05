/*
 * pg_connection.c - one connection to PostgreSQL that never blocks
 *
 * A call is sent in libpq's pipeline mode: for its statement, and one that may
 * precede it, Parse where the session does not know it yet, Bind and Execute;
 * then Sync, all in one packet.  Results are read to the end of the pipeline;
 * the first error among them, or else the last result, is the answer.
 *
 * An attempt to connect tries the servers of conninfo one after another, each
 * for connect_timeout.  One that does not answer in time ends the attempt, and
 * the next attempt begins behind it (common/conninfo.h).
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

#include "common/conninfo.h"
#include "common/log.h"

#define LOG_MODULE "pgconn"

/* The longest attempt to connect, whatever number of servers it tries. */
#define CONNECT_US_MAX (15 * SEC_US)

/*
 * Reads that may find nothing before the loop waits again.  A TLS record that
 * was taken from the socket can hold 16 kB that no poll sees any more; each
 * read takes at least half of that.
 */
#define EMPTY_READS_PLAIN 1
#define EMPTY_READS_TLS	  3

/* Of a call: two statements, each of which may have to be prepared. */
#define RESULTS_MAX 4

typedef enum PgConnectionState
{
	PG_CONNECTION_CLOSED,
	PG_CONNECTION_CONNECTING,
	PG_CONNECTION_IDLE,
	PG_CONNECTION_BUSY, /* a call is under way */
} PgConnectionState;

struct PgConnection
{
	Loop			   *loop;
	int64_t				answer_us_max; /* limit of one call */
	PgConnectionHandler handler;
	void			   *arg;
	PgConnectionState	state;
	PGconn			   *pg; /* NULL while closed */
	LoopIo			   *io;
	LoopTimer		   *timer; /* limit of connecting or of a call */
	ConninfoHosts		hosts; /* their order in the next attempt */
	const char		   *host;  /* the attempt's present one; libpq's */
	int64_t				connect_until;
	bool				failed;		/* a send failed: the timer reports it */
	bool				payload;	/* of the latest notifications */
	uint64_t			prepared;	/* statements that the session knows */
	uint64_t  results[RESULTS_MAX]; /* of a call: what each prepares */
	int		  result_count;
	int		  results_taken;
	PGresult *answer; /* so far */
	Buf		  error;  /* why it is down */
};

static void pg_connection_ready(void *arg, uint32_t events);
static void pg_connection_timeout(void *arg);

PgConnection *
pg_connection_new(Loop *loop, int64_t answer_us_max,
				  PgConnectionHandler handler, void *arg)
{
	PgConnection *conn = xcalloc(1, sizeof(PgConnection));

	conn->loop = loop;
	conn->answer_us_max = answer_us_max;
	conn->handler = handler;
	conn->arg = arg;
	conn->timer = loop_timer_new(loop, pg_connection_timeout, conn);
	return conn;
}

bool
pg_connection_has_payload(const PgConnection *conn)
{
	return conn->payload;
}

void
pg_connection_close(PgConnection *conn)
{
	loop_timer_set(conn->timer, NEVER);
	loop_io_free(conn->io);
	conn->io = NULL;
	if (conn->state == PG_CONNECTION_CONNECTING &&
		PQstatus(conn->pg) != CONNECTION_BAD)
		conninfo_begin_behind(&conn->hosts, conn->pg);
	PQclear(conn->answer);
	conn->answer = NULL;
	PQfinish(conn->pg);
	conn->pg = NULL;
	conn->failed = false;
	conn->result_count = conn->results_taken = 0;
	conn->prepared = 0;
	conn->state = PG_CONNECTION_CLOSED;
}

void
pg_connection_free(PgConnection *conn)
{
	if (conn == NULL)
		return;
	pg_connection_close(conn);
	loop_timer_free(conn->timer);
	conninfo_free_hosts(&conn->hosts);
	buf_free(&conn->error);
	free(conn);
}

const char *
pg_connection_error(const PgConnection *conn)
{
	return conn->error.len > 0 ? conn->error.data : "no error";
}

int
pg_connection_server_version(const PgConnection *conn)
{
	return PQserverVersion(conn->pg);
}

int
pg_connection_backend_pid(const PgConnection *conn)
{
	return PQbackendPID(conn->pg);
}

void
pg_connection_add_message(const char *message, Buf *to)
{
	size_t len = strlen(message);

	while (len > 0 && message[len - 1] == '\n')
		len--;
	for (size_t i = 0; i < len; i++)
		if (message[i] == '\n')
			buf_add_str(to, "; ");
		else
			buf_add(to, &message[i], 1);
}

/* Closes the connection and reports that. */
static void
pg_connection_down(PgConnection *conn, const char *why)
{
	Buf error = {0};

	Assert(conn->state != PG_CONNECTION_CLOSED);
	pg_connection_add_message(why, &error);
	buf_str(&error);
	buf_free(&conn->error);
	conn->error = error;
	pg_connection_close(conn);
	conn->handler(conn->arg, PG_CONNECTION_DOWN, NULL);
}

static bool
pg_connection_is_error(const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	return status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK;
}

/* For the reason that the server has sent, if any: libpq has only "closed". */
static void
pg_connection_down_libpq(PgConnection *conn)
{
	bool sent = conn->answer != NULL && pg_connection_is_error(conn->answer);

	pg_connection_down(conn, sent ? PQresultErrorMessage(conn->answer)
								  : PQerrorMessage(conn->pg));
}

/* Waits for what libpq needs; a send that failed is reported at once. */
static void
pg_connection_watch(PgConnection *conn)
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

/* The user's own "options", from conninfo or PGOPTIONS, and ours after them. */
static char *
pg_connection_session_options(const char *conninfo,
							  const char *synchronous_commit, int idle_ms)
{
	char *own = conninfo_options(conninfo);
	/* a role that conninfo itself names is meant */
	char *options = xasprintf("-c role=none %s %s -c synchronous_commit=%s"
							  " -c idle_session_timeout=%d",
							  own, SESSION_OPTIONS, synchronous_commit,
							  idle_ms);

	free(own);
	return options;
}

/*
 * libpq's own default, prefer, looks for a Kerberos ticket first, and may wait
 * in our loop for the server that issues them.
 */
static const char *
pg_connection_gssencmode(void)
{
	const char *own = getenv("PGGSSENCMODE");

	return own != NULL ? own : "disable";
}

/*
 * What stands before "dbname" are defaults that conninfo may override; on what
 * stands after it promises rest.
 */
static PGconn *
pg_connection_start(const char *conninfo, const ConninfoHosts *hosts,
					const char *application, const char *synchronous_commit,
					int idle_ms, bool blocking)
{
	char *options = pg_connection_session_options(conninfo, synchronous_commit,
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
		"host",
		"hostaddr",
		"port",
		"options",
		"target_session_attrs",
		NULL,
	};
	const char *values[] = {
		"10",		 "3",
		"2",		 "3",
		"8000",		 pg_connection_gssencmode(),
		application, conninfo,
		hosts->host, hosts->hostaddr,
		hosts->port, options,
		"primary",	 NULL,
	};
	PGconn *pg;

	pg = blocking ? PQconnectdbParams(keywords, values, 1)
				  : PQconnectStartParams(keywords, values, 1);
	free(options);
	return pg;
}

PGconn *
pg_connection_open_blocking(const char *conninfo, const char *application)
{
	const ConninfoHosts as_named = {0};

	return pg_connection_start(conninfo, &as_named, application, "on", 0, true);
}

static void
pg_connection_ignore_notice(void *arg UNUSED, const PGresult *notice)
{
	const char *text = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);

	log_debug("server notice: %s", text != NULL ? text : "");
}

/* Gives the next server its time; libpq keeps a name for each. */
static void
pg_connection_limit_host(PgConnection *conn)
{
	int64_t until = conn->connect_until;
	int64_t host_us;

	if (PQhost(conn->pg) == conn->host)
		return;
	conn->host = PQhost(conn->pg);
	host_us = conninfo_host_us(conn->pg);
	if (host_us > 0)
		until = Min(until, loop_now(conn->loop) + host_us);
	loop_timer_set(conn->timer, until);
}

void
pg_connection_connect(PgConnection *conn, const char *conninfo,
					  const char *application, const char *synchronous_commit,
					  int idle_ms)
{
	int64_t now = loop_now(conn->loop);

	Assert(conn->state == PG_CONNECTION_CLOSED && conn->pg == NULL);
	conninfo_look_again(&conn->hosts, conninfo);
	conn->pg = pg_connection_start(conninfo, &conn->hosts, application,
								   synchronous_commit, idle_ms, false);
	conn->state = PG_CONNECTION_CONNECTING;
	if (conn->pg == NULL || PQstatus(conn->pg) == CONNECTION_BAD)
	{
		conn->failed = true;
		loop_timer_set(conn->timer, now);
		return;
	}
	PQsetNoticeReceiver(conn->pg, pg_connection_ignore_notice, NULL);
	conn->io = loop_io_new(conn->loop, PQsocket(conn->pg), EPOLLOUT,
						   pg_connection_ready, conn);
	conn->connect_until = now + CONNECT_US_MAX;
	conn->host = NULL;
	pg_connection_limit_host(conn);
}

static void
pg_connection_continue(PgConnection *conn)
{
	PostgresPollingStatusType status;

	/* libpq may close the socket and open another under the same number. */
	loop_io_free(conn->io);
	conn->io = NULL;
	status = PQconnectPoll(conn->pg);
	if (status == PGRES_POLLING_FAILED)
	{
		pg_connection_down_libpq(conn);
		return;
	}
	conn->io = loop_io_new(conn->loop, PQsocket(conn->pg),
						   status == PGRES_POLLING_WRITING ? EPOLLOUT : EPOLLIN,
						   pg_connection_ready, conn);
	if (status != PGRES_POLLING_OK)
	{
		pg_connection_limit_host(conn);
		return;
	}
	if (PQsetnonblocking(conn->pg, 1) != 0 ||
		PQenterPipelineMode(conn->pg) != 1)
	{
		pg_connection_down_libpq(conn);
		return;
	}
	loop_timer_set(conn->timer, NEVER);
	conn->state = PG_CONNECTION_IDLE;
	conn->handler(conn->arg, PG_CONNECTION_UP, NULL);
}

/* ---- calls ------------------------------------------------------------- */

/* A result will come; statement: what it prepares, or 0. */
static void
pg_connection_expect(PgConnection *conn, uint64_t statement)
{
	Assert(conn->state == PG_CONNECTION_IDLE && conn->answer == NULL);
	Assert(conn->result_count < RESULTS_MAX);
	conn->results[conn->result_count++] = statement;
}

static bool
pg_connection_send(PgConnection *conn, const PgStatement *statement,
				   const PgParam *params)
{
	const char *values[PG_CONNECTION_PARAMS_MAX];
	int			lengths[PG_CONNECTION_PARAMS_MAX];
	int			formats[PG_CONNECTION_PARAMS_MAX];
	uint64_t	bit;

	Assert(statement->id >= 0 && statement->id < PG_CONNECTION_STATEMENTS_MAX);
	Assert(statement->nparams <= PG_CONNECTION_PARAMS_MAX);
	bit = UINT64_C(1) << statement->id;
	for (int i = 0; i < statement->nparams; i++)
	{
		values[i] = params[i].data;
		lengths[i] = params[i].length;
		formats[i] = params[i].binary;
	}
	if ((conn->prepared & bit) == 0)
	{
		pg_connection_expect(conn, bit);
		if (!PQsendPrepare(conn->pg, statement->name, statement->sql, 0, NULL))
			return false;
	}
	pg_connection_expect(conn, 0);
	return PQsendQueryPrepared(conn->pg, statement->name, statement->nparams,
							   values, lengths, formats,
							   statement->binary) == 1;
}

void
pg_connection_add(PgConnection *conn, const PgStatement *statement,
				  const PgParam *params)
{
	Assert(conn->result_count == 0);
	conn->failed = !pg_connection_send(conn, statement, params);
}

void
pg_connection_add_forget(PgConnection *conn)
{
	Assert(conn->result_count == 0);
	pg_connection_expect(conn, 0);
	conn->failed = PQsendQueryParams(conn->pg, "DEALLOCATE ALL", 0, NULL, NULL,
									 NULL, NULL, 0) != 1;
	conn->prepared = 0;
}

void
pg_connection_call(PgConnection *conn, const PgStatement *statement,
				   const PgParam *params)
{
	bool failed = conn->result_count > 0 && conn->failed;

	conn->failed = failed || !pg_connection_send(conn, statement, params) ||
				   PQpipelineSync(conn->pg) != 1;
	conn->state = PG_CONNECTION_BUSY;
	loop_timer_set(conn->timer, loop_now(conn->loop) + conn->answer_us_max);
	pg_connection_watch(conn);
}

/* Takes the next result of the pipeline; true at its end. */
static bool
pg_connection_take(PgConnection *conn, PGresult *result)
{
	Assert(conn->state == PG_CONNECTION_BUSY);
	if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
	{
		PQclear(result);
		return true;
	}
	if (conn->answer != NULL && pg_connection_is_error(conn->answer))
	{
		PQclear(result);
		return false;
	}
	if (!pg_connection_is_error(result))
	{
		Assert(conn->results_taken < conn->result_count);
		conn->prepared |= conn->results[conn->results_taken++];
	}
	PQclear(conn->answer);
	conn->answer = result;
	return false;
}

/* True when the call is over. */
static bool
pg_connection_collect(PgConnection *conn)
{
	while (!PQisBusy(conn->pg))
	{
		PGresult *result = PQgetResult(conn->pg);

		if (result != NULL && pg_connection_take(conn, result))
			return true;
		if (PQstatus(conn->pg) == CONNECTION_BAD)
			return false;
	}
	return false;
}

static void
pg_connection_deliver_notifies(PgConnection *conn)
{
	PGnotify *notify;
	bool	  notified = false;

	conn->payload = false;
	while ((notify = PQnotifies(conn->pg)) != NULL)
	{
		if (notify->extra != NULL && notify->extra[0] != '\0')
			conn->payload = true;
		PQfreemem(notify);
		notified = true;
	}
	if (notified)
		conn->handler(conn->arg, PG_CONNECTION_NOTIFY, NULL);
}

/* Returns false if the handler closed the connection. */
static bool
pg_connection_deliver(PgConnection *conn)
{
	const PGconn *pg = conn->pg;
	bool		  over = conn->state == PG_CONNECTION_BUSY &&
				pg_connection_collect(conn);

	pg_connection_deliver_notifies(conn);
	if (over)
	{
		PGresult *answer = conn->answer;

		Assert(answer != NULL);
		Assert(conn->results_taken == conn->result_count ||
			   pg_connection_is_error(answer));
		conn->answer = NULL;
		conn->result_count = conn->results_taken = 0;
		conn->state = PG_CONNECTION_IDLE;
		loop_timer_set(conn->timer, NEVER);
		conn->handler(conn->arg, PG_CONNECTION_RESULT, answer);
	}
	return conn->pg == pg;
}

static void
pg_connection_ready(void *arg, uint32_t events UNUSED)
{
	PgConnection *conn = arg;
	int			  empty_max;

	if (conn->state == PG_CONNECTION_CONNECTING)
	{
		pg_connection_continue(conn);
		return;
	}
	empty_max = PQsslInUse(conn->pg) ? EMPTY_READS_TLS : EMPTY_READS_PLAIN;
	for (int empty = 0; empty < empty_max;)
	{
		int unread = 0;

		if (PQconsumeInput(conn->pg) != 1)
		{
			pg_connection_down_libpq(conn);
			return;
		}
		if (!pg_connection_deliver(conn))
			return;
		if (ioctl(PQsocket(conn->pg), FIONREAD, &unread) < 0 || unread == 0)
			empty++;
		else
			empty = 0;
	}
	pg_connection_watch(conn);
}

static void
pg_connection_timeout(void *arg)
{
	PgConnection *conn = arg;

	Assert(conn->state != PG_CONNECTION_CLOSED);
	if (conn->pg == NULL)
		pg_connection_down(conn, "out of memory");
	else if (conn->failed)
		pg_connection_down_libpq(conn);
	else if (conn->state == PG_CONNECTION_CONNECTING)
	{
		char *why = xasprintf("the server %s, port %s, did not answer in time",
							  PQhost(conn->pg), PQport(conn->pg));

		pg_connection_down(conn, why);
		free(why);
	}
	else
		pg_connection_down(conn, "a call was not answered in time");
}
