/*
 * http_server.c - a few pages over HTTP, served by the loop
 *
 * libmicrohttpd without a thread of its own: its epoll descriptor is one of the
 * loop's, its next timeout one of the loop's timers.
 *
 * A health page has to answer whatever other clients do.  So connections are
 * accepted by acceptor.c, at once and always, and passed to libmicrohttpd
 * (which stops accepting at its own limit, and restarts its limit of time with
 * each byte).  A connection has one request and CONNECTION_US for all of it,
 * from accept to the last byte; where there are CONNECTIONS_MAX of them, a new
 * one takes the oldest one's place.  A probe sends its request at once and is
 * answered in the same turn, so only a slow one can lose its place.
 *
 * The gateway has a server of its own (gateway/http/server.c): an API keeps
 * connections alive, takes bodies, speaks TLS, and ends a connection by what
 * its client does.  Here each ends with its answer or its time, which is all
 * that a page for a probe needs; what both have in common is how they accept.
 *
 * To end a connection it is shut down: libmicrohttpd sees its end, as if the
 * client had closed it, and closes it too.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/http_server.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/acceptor.h"
#include "common/listener.h"

#define CONNECTIONS_MAX		 64
#define CONNECTION_BYTES_MAX 16384
#define CONNECTION_US		 (5 * SEC_US)
#define ANSWER_WAIT_US		 (2 * SEC_US) /* for what a page waits for */

/* An open connection; in order of age. */
typedef struct Client
{
	int					   fd; /* libmicrohttpd's */
	int64_t				   opened_at;
	struct MHD_Connection *waiting; /* suspended; NULL: is not */
	int64_t				   waiting_since;
	struct Client		  *older;
	struct Client		  *newer;
} Client;

struct HttpServer
{
	Loop			  *loop;
	struct MHD_Daemon *daemon;
	Acceptor		  *acceptor;
	LoopIo			  *io;
	LoopTimer		  *timer;
	Client			  *oldest;
	Client			  *newest;
	unsigned		   connections;
	HttpServerHandler  handler;
	void			  *arg;
};

/* ---- connections ------------------------------------------------------- */

static void
http_server_forget(HttpServer *server, Client *client)
{
	Assert(client->older != NULL ? client->older->newer == client
								 : server->oldest == client);
	Assert(client->newer != NULL ? client->newer->older == client
								 : server->newest == client);
	*(client->older != NULL ? &client->older->newer
							: &server->oldest) = client->newer;
	*(client->newer != NULL ? &client->newer->older
							: &server->newest) = client->older;
	Assert(server->connections > 0);
	server->connections--;
	free(client);
}

/* libmicrohttpd has a connection, or closes it. */
static void
http_server_connection(void *arg, struct MHD_Connection *connection,
					   void **context, enum MHD_ConnectionNotificationCode code)
{
	HttpServer *server = arg;
	Client	   *client = *context;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED)
	{
		http_server_forget(server, client);
		return;
	}
	client = xcalloc(1, sizeof(Client));
	client->fd = MHD_get_connection_info(connection,
										 MHD_CONNECTION_INFO_CONNECTION_FD)
					 ->connect_fd;
	client->opened_at = loop_now(server->loop);
	client->older = server->newest;
	Assert(client->older == NULL || client->older->newer == NULL);
	*(server->newest != NULL ? &server->newest->newer
							 : &server->oldest) = client;
	server->newest = client;
	server->connections++;
	Assert(server->connections <= CONNECTIONS_MAX + 2 * ACCEPTS_MAX);
	*context = client;
}

static void
http_server_resume(Client *client)
{
	if (client->waiting != NULL)
		MHD_resume_connection(client->waiting);
	client->waiting = NULL;
}

/* Those whose time is over, and the oldest of too many. */
static void
http_server_shut_down(HttpServer *server, unsigned too_many)
{
	int64_t now = loop_now(server->loop);

	for (Client *client = server->oldest; client != NULL;
		 client = client->newer)
	{
		if (too_many > 0)
			too_many--;
		else if (client->opened_at + CONNECTION_US > now)
			break;
		http_server_resume(client);
		(void) shutdown(client->fd, SHUT_RDWR);
	}
}

/* ---- requests ---------------------------------------------------------- */

static enum MHD_Result
http_server_respond(struct MHD_Connection *connection,
					HttpServerResponse	  *answer)
{
	struct MHD_Response *response;
	enum MHD_Result		 result;

	Assert(answer->status >= 200 && answer->status < 600);
	response = MHD_create_response_from_buffer(answer->body.len,
											   answer->body.data,
											   MHD_RESPMEM_MUST_COPY);
	if (response == NULL)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", answer->type);
	MHD_add_response_header(response, "Cache-Control", "no-store");
	MHD_add_response_header(response, "Connection", "close");
	result = MHD_queue_response(connection, answer->status, response);
	MHD_destroy_response(response);
	return result;
}

/* The request waits until http_server_wake() calls the handler again. */
static void
http_server_suspend(HttpServer *server, struct MHD_Connection *connection)
{
	Client *client = MHD_get_connection_info(connection,
											 MHD_CONNECTION_INFO_SOCKET_CONTEXT)
						 ->socket_context;

	Assert(client->waiting == NULL);
	client->waiting = connection;
	client->waiting_since = loop_now(server->loop);
	MHD_suspend_connection(connection);
}

static enum MHD_Result
http_server_request(void *arg, struct MHD_Connection *connection,
					const char *path, const char *method,
					const char *version UNUSED, const char *upload UNUSED,
					size_t *upload_size, void **request)
{
	HttpServer		  *server = arg;
	HttpServerResponse answer = {
		.status = MHD_HTTP_NOT_FOUND,
		.type = "text/plain",
		.may_wait = *request == NULL,
	};
	enum MHD_Result result = MHD_YES;

	*request = server; /* the second time it is there */
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
	{
		*upload_size = 0;
		answer.status = MHD_HTTP_METHOD_NOT_ALLOWED;
	}
	else
		server->handler(server->arg, path, &answer);
	if (answer.status == HTTP_SERVER_LATER)
	{
		Assert(answer.may_wait && answer.body.len == 0);
		http_server_suspend(server, connection);
		return MHD_YES;
	}
	if (answer.body.len == 0)
		buf_printf(&answer.body, "%u\n", answer.status);
	result = http_server_respond(connection, &answer);
	buf_free(&answer.body);
	return result;
}

/* ---- the loop ---------------------------------------------------------- */

static int64_t
http_server_deadline(const HttpServer *server)
{
	MHD_UNSIGNED_LONG_LONG wait_ms;
	int64_t				   at = NEVER;

	if (MHD_get_timeout(server->daemon, &wait_ms) == MHD_YES)
		at = loop_now(server->loop) + (int64_t) Min(wait_ms, 60000) * MS_US;
	if (server->oldest != NULL)
		at = Min(at, server->oldest->opened_at + CONNECTION_US);
	for (const Client *c = server->oldest; c != NULL; c = c->newer)
		if (c->waiting != NULL)
			at = Min(at, c->waiting_since + ANSWER_WAIT_US);
	return at;
}

static void
http_server_run(void *arg)
{
	HttpServer *server = arg;
	int64_t		now = loop_now(server->loop);

	for (Client *client = server->oldest; client != NULL;
		 client = client->newer)
		if (client->waiting != NULL &&
			client->waiting_since + ANSWER_WAIT_US <= now)
			http_server_resume(client);
	http_server_shut_down(server, 0);
	MHD_run(server->daemon);
	/* libmicrohttpd closes what has ended at the end of its next run */
	if (server->connections > CONNECTIONS_MAX)
		MHD_run(server->daemon);
	Assert(server->connections <= CONNECTIONS_MAX + ACCEPTS_MAX);
	loop_timer_set(server->timer, http_server_deadline(server));
}

static void
http_server_ready(void *arg, uint32_t events UNUSED)
{
	http_server_run(arg);
}

static void
http_server_take(void *arg, int fd, const struct sockaddr *address,
				 socklen_t len)
{
	HttpServer *server = arg;

	/* it closes what it does not take */
	(void) MHD_add_connection(server->daemon, fd, address, len);
}

static void
http_server_make_room(void *arg)
{
	http_server_shut_down(arg, 1);
}

static void
http_server_taken(void *arg)
{
	HttpServer *server = arg;

	MHD_run(server->daemon);
	if (server->connections > CONNECTIONS_MAX)
		http_server_shut_down(server, server->connections - CONNECTIONS_MAX);
	http_server_run(server);
}

static const AcceptorHandlers http_server_handlers = {
	.take = http_server_take,
	.make_room = http_server_make_room,
	.taken = http_server_taken,
};

void
http_server_wake(HttpServer *server)
{
	bool any = false;

	if (server == NULL)
		return;
	for (Client *client = server->oldest; client != NULL;
		 client = client->newer)
	{
		any = any || client->waiting != NULL;
		http_server_resume(client);
	}
	if (any)
		loop_timer_set(server->timer, loop_now(server->loop));
}

/* ---- life -------------------------------------------------------------- */

HttpServer *
http_server_new(Loop *loop, const char *listen, HttpServerHandler handler,
				void *arg, Buf *error)
{
	int							fd = listener_open(listen, error);
	HttpServer				   *server;
	const union MHD_DaemonInfo *info;

	if (fd < 0)
		return NULL;
	server = xcalloc(1, sizeof(HttpServer));
	server->loop = loop;
	server->handler = handler;
	server->arg = arg;
	/* its own limit is never reached: one turn accepts no more than that */
	server->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET |
										  MHD_ALLOW_SUSPEND_RESUME,
									  0, NULL, NULL, http_server_request,
									  server, MHD_OPTION_CONNECTION_LIMIT,
									  (unsigned) CONNECTIONS_MAX +
										  2 * ACCEPTS_MAX,
									  MHD_OPTION_CONNECTION_MEMORY_LIMIT,
									  (size_t) CONNECTION_BYTES_MAX,
									  MHD_OPTION_NOTIFY_CONNECTION,
									  http_server_connection, server,
									  MHD_OPTION_END);
	if (server->daemon == NULL)
	{
		int reason = errno;

		buf_printf(error, "could not start the HTTP server: %s",
				   strerror(reason));
		listener_close(fd);
		free(server);
		errno = reason != 0 ? reason : ENOMEM;
		return NULL;
	}
	info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	Assert(info != NULL);
	server->io = loop_io_new(loop, info->epoll_fd, EPOLLIN, http_server_ready,
							 server);
	server->acceptor = acceptor_new(loop, fd, &http_server_handlers, server);
	server->timer = loop_timer_new(loop, http_server_run, server);
	return server;
}

void
http_server_free(HttpServer *server)
{
	if (server == NULL)
		return;
	acceptor_free(server->acceptor);
	loop_io_free(server->io);
	loop_timer_free(server->timer);
	for (Client *client = server->oldest; client != NULL;
		 client = client->newer)
		http_server_resume(client);
	MHD_stop_daemon(server->daemon);
	Assert(server->oldest == NULL && server->connections == 0);
	free(server);
}
