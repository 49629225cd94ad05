/*
 * server.c - HTTP for an API: requests with a body, answered now or later
 *
 * libmicrohttpd without a thread of its own: its epoll descriptor is one of the
 * loop's, its next timeout one of the loop's timers.  The relay's pages have a
 * smaller server (common/http_server.c): a connection has one request, and ends
 * with its answer or its time.
 *
 * No client can keep another one out.  Connections are accepted at once and
 * always (common/acceptor.c); where there are CONNECTIONS_MAX, a new one takes
 * the place of another one (http/client_list.c).  Only one whose request waits
 * for its answer keeps its place, and so fewer requests may wait than there are
 * connections.  A request has REQUEST_US from its first line to its last byte,
 * and so has its answer.  With TLS the first request begins with its handshake.
 *
 * An answer that is given while its request waits is sent by the next
 * server_turn(): a batch of answers is one round through libmicrohttpd.
 *
 * Answers that clients do not read are kept up to ANSWERS_BYTES_MAX; then the
 * connections that have been sending for longest are closed.
 *
 * Paths and queries are handed on as they were sent, for a decoded path can
 * hold a "/" that parts nothing, or a NUL byte that hides the rest.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "http/server.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/acceptor.h"
#include "common/log.h"
#include "http/body_length.h"
#include "http/client_list.h"
#include "http/refusal.h"

#define LOG_MODULE "http"

#define CONNECTIONS_MAX		 SERVER_CONNECTIONS_MAX
#define CONNECTION_BYTES_MAX 32768 /* for all headers, and to read and write */
#define BODIES_BYTES_MAX	 67108864 /* of all requests */
#define ANSWERS_BYTES_MAX	 67108864 /* of all that were not sent yet */
#define SEND_BYTES			 65536	  /* what the kernel has of an answer */
#define REQUEST_US			 (10 * SEC_US)
#define IDLE_SECONDS		 60 /* a connection without a request */

struct Server
{
	Loop			   *loop;
	const HttpHandlers *handlers;
	void			   *arg;
	struct MHD_Daemon  *daemon;
	Tls				   *tls;	  /* NULL: not encrypted */
	Acceptor		   *acceptor; /* NULL: draining */
	LoopIo			   *io;
	LoopTimer		   *timer;
	ClientList			clients;
	unsigned			connections;
	int64_t				check_at; /* for slow clients; 0: there is none */
	AddressTable		addresses;
	unsigned			waiting; /* requests, for their answers */
	size_t				body_bytes;
	size_t				answer_bytes; /* not sent yet */
	bool				answered; /* requests that wait, since the last run */
	bool				draining;
};

/* ---- connections ------------------------------------------------------- */

/* libmicrohttpd has a connection, or closes it. */
static void
server_connection(void *arg, struct MHD_Connection *connection, void **context,
				  enum MHD_ConnectionNotificationCode code)
{
	Server *server = arg;
	Client *client = *context;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED)
	{
		Assert(server->connections > 0 && client->request == NULL);
		client_list_remove(&server->clients, client);
		server->connections--;
		client_close(client, &server->addresses);
		return;
	}
	client = client_open(connection, &server->addresses, server->tls,
						 loop_now(server->loop));
	client_list_add(&server->clients, client);
	server->connections++;
	*context = client;
}

/* Makes room where there are too many connections. */
static void
server_make_room(Server *server)
{
	const Client *client = client_list_find_heaviest(&server->clients);

	if (client != NULL)
		client_shut_down(client);
	MHD_run(server->daemon);
}

/* Those that do not read, except the last one: its answer may be a long one. */
static void
server_give_up_slow(Server *server)
{
	while (server->answer_bytes > ANSWERS_BYTES_MAX)
	{
		const Client *client = client_list_find_slowest(&server->clients);

		Assert(client != NULL);
		if (client->request->unread == server->answer_bytes)
			return;
		server->answer_bytes -= client->request->unread;
		client->request->unread = 0;
		client_shut_down(client);
	}
}

/* ---- requests ---------------------------------------------------------- */

/* The path is copied, for libmicrohttpd cuts it at the query. */
static void *
server_first_line(void *arg, const char *uri, struct MHD_Connection *connection)
{
	Server		*server = arg;
	HttpRequest *request = xcalloc(1, sizeof(HttpRequest));

	request->server = server;
	request->connection = connection;
	request->began_at = loop_now(server->loop);
	request->path = xasprintf("%.*s", (int) strcspn(uri, "?"), uri);
	client_of(connection)->request = request;
	return request;
}

void
http_request_free_body(HttpRequest *request)
{
	if (request->server != NULL)
	{
		Assert(request->server->body_bytes >= request->body.len);
		request->server->body_bytes -= request->body.len;
	}
	buf_free(&request->body);
}

bool
http_request_may_wait(const HttpRequest *request)
{
	if (request->server == NULL) /* a test's */
		return true;
	return request->server->waiting < SERVER_WAITING_MAX &&
		   client_of(request->connection)->address->waiting <
			   SERVER_ADDRESS_WAITING_MAX;
}

static void
server_suspend(HttpRequest *request)
{
	request->suspended = true;
	request->server->waiting++;
	client_of(request->connection)->address->waiting++;
	MHD_suspend_connection(request->connection);
}

/* It has its answer, or the server ends. */
static void
server_stop_waiting(HttpRequest *request)
{
	Address *address = client_of(request->connection)->address;

	Assert(request->suspended);
	Assert(request->server->waiting > 0 && address->waiting > 0);
	request->suspended = false;
	request->server->waiting--;
	address->waiting--;
}

static void
server_free_request(HttpRequest *request)
{
	if (request->suspended)
		server_stop_waiting(request);
	Assert(request->server->answer_bytes >= request->unread);
	request->server->answer_bytes -= request->unread;
	for (int i = 0; i < request->header_count; i++)
		free(request->headers[i].value);
	http_request_free_body(request);
	buf_free(&request->answer);
	free((char *) (uintptr_t) request->path);
	free(request);
}

/* The answer was sent, or the client has gone. */
static void
server_over(void *arg, struct MHD_Connection *connection, void **context,
			enum MHD_RequestTerminationCode code UNUSED)
{
	Server		*server = arg;
	HttpRequest *request = *context;
	Client		*client = client_of(connection);

	if (request == NULL)
		return;
	Assert(client->request == request); /* one after another */
	client->request = NULL;
	client_list_remove(&server->clients, client);
	if (request->running)
		client_serve(client);
	client->since = loop_now(server->loop);
	client_list_add(&server->clients, client);
	server->handlers->over(server->arg, request);
	server_free_request(request);
	*context = NULL;
	if (server->draining)
		client_shut_down(client);
}

/* Whether the answer says itself who may keep it. */
static bool
server_may_cache(const HttpRequest *request)
{
	for (int i = 0; i < request->header_count; i++)
		if (strcmp(request->headers[i].name, "Cache-Control") == 0)
			return true;
	return false;
}

static enum MHD_Result
server_send(HttpRequest *request)
{
	struct MHD_Response *response;
	enum MHD_Result		 result;

	response = MHD_create_response_from_buffer(request->answer.len,
											   request->answer.data,
											   MHD_RESPMEM_MUST_FREE);
	if (response == NULL)
		return MHD_NO;
	request->answer = (Buf){0};
	MHD_add_response_header(response, "Content-Type", request->type);
	if (!server_may_cache(request))
		MHD_add_response_header(response, "Cache-Control", "no-store");
	for (int i = 0; i < request->header_count; i++)
		MHD_add_response_header(response, request->headers[i].name,
								request->headers[i].value);
	if (request->server->draining || request->last)
		MHD_add_response_header(response, "Connection", "close");
	result = MHD_queue_response(request->connection, request->status, response);
	MHD_destroy_response(response);
	return result;
}

static void
server_refuse(HttpRequest *request, const Refusal *refusal)
{
	unsigned status = problems[refusal->problem].status;
	Buf		 body = {0};

	refusal_write(refusal, &body);
	if (status == 503)
		http_answer_header(request, "Retry-After", PROBLEM_RETRY_AFTER);
	http_answer(request, status, PROBLEM_TYPE, &body);
}

/*
 * A part of the body.  It is not kept where the answer is known, or does not
 * depend on it: what bodies may have together is for those that count.
 */
static void
server_add_body(HttpRequest *request, const char *data, size_t len)
{
	if (request->status != 0 || request->bodiless)
		return;
	if (request->body.len + len > HTTP_BODY_MAX)
		server_refuse(request, &refusal_body_too_long);
	else if (request->server->body_bytes + len > BODIES_BYTES_MAX)
		server_refuse(request, &refusal_bodies_too_long);
	else
	{
		request->server->body_bytes += len;
		buf_add(&request->body, data, len);
	}
}

/*
 * The head has arrived.  A proxy may see the end of a body by chunks elsewhere
 * than libmicrohttpd, which takes a line that ends with LF alone: what follows
 * it is no request.
 */
static enum MHD_Result
server_begin(Server *server, HttpRequest *request, const char *version)
{
	const Refusal *refusal = refusal_of_head(request->connection, version);

	request->last = refusal != NULL ||
					body_length_is_chunked(request->connection);
	if (refusal != NULL)
		server_refuse(request, refusal);
	else
		server->handlers->head(server->arg, request);
	if (refusal != NULL ||
		(request->status != 0 && body_length_is_long(request->connection)))
		return server_send(request);
	return MHD_YES;
}

/*
 * libmicrohttpd calls this for the head, for each part of the body, at its end,
 * and again when a request that waited has its answer.  An answer before the
 * end of the body closes the connection.
 */
static enum MHD_Result
server_request(void *arg, struct MHD_Connection *connection UNUSED,
			   const char *path UNUSED, const char *method, const char *version,
			   const char *data, size_t *data_size, void **context)
{
	Server		*server = arg;
	HttpRequest *request = *context;

	if (request->method == NULL)
	{
		request->method = method;
		return server_begin(server, request, version);
	}
	if (*data_size > 0)
	{
		server_add_body(request, data, *data_size);
		*data_size = 0;
		return MHD_YES;
	}
	if (request->status == 0 && !request->running)
	{
		request->running = true;
		server->handlers->run(server->arg, request);
	}
	request->running = true;
	if (request->status != 0)
		return server_send(request);
	server_suspend(request);
	return MHD_YES;
}

void
http_answer_header(HttpRequest *request, const char *name, const char *value)
{
	HttpHeader *header = &request->headers[request->header_count++];

	Assert(request->header_count <= HTTP_HEADERS_MAX && request->status == 0);
	header->name = name;
	header->value = xstrdup(value);
}

void
http_answer(HttpRequest *request, unsigned status, const char *type, Buf *body)
{
	Assert(request->status == 0 && status >= 200 && status < 600);
	request->status = status;
	request->type = type;
	request->answer = *body;
	*body = (Buf){0};
	if (request->server == NULL) /* a test's */
		return;
	request->answered_at = loop_now(request->server->loop);
	request->unread = request->answer.len;
	request->server->answer_bytes += request->unread;
	if (!request->suspended)
		return;
	server_stop_waiting(request);
	request->server->answered = true;
	MHD_resume_connection(request->connection);
}

/* libmicrohttpd decodes nothing; api/decode.c does. */
static size_t
server_leave_encoded(void *arg UNUSED, struct MHD_Connection *connection UNUSED,
					 char *text)
{
	return strlen(text);
}

/* ---- the loop ---------------------------------------------------------- */

static void
server_set_timer(Server *server)
{
	MHD_UNSIGNED_LONG_LONG wait_ms;
	int64_t				   now = loop_now(server->loop);
	int64_t				   at = NEVER;

	/* not put off by what other clients send */
	if (server->connections > 0 && server->check_at == 0)
		server->check_at = now + SEC_US;
	if (server->check_at > 0)
		at = server->check_at;
	if (MHD_get_timeout(server->daemon, &wait_ms) == MHD_YES)
		at = Min(at, now + (int64_t) Min(wait_ms, 60000) * MS_US);
	loop_timer_set(server->timer, at);
}

static void
server_run(Server *server)
{
	server->answered = false;
	MHD_run(server->daemon);
	server_give_up_slow(server);
	server_set_timer(server);
}

static void
server_on_ready(void *arg, uint32_t events UNUSED)
{
	server_run(arg);
}

static void
server_on_timer(void *arg)
{
	Server *server = arg;
	int64_t now = loop_now(server->loop);

	if (server->check_at > 0 && server->check_at <= now)
	{
		server->check_at = 0;
		client_list_end_slow(&server->clients, now - REQUEST_US);
	}
	server_run(server);
}

static void
server_take(void *arg, int fd, const struct sockaddr *address, socklen_t len)
{
	const int buffer = SEND_BYTES;
	Server	 *server = arg;

	if (server->connections >= CONNECTIONS_MAX)
		server_make_room(server);
	(void) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	/* it closes what it does not take */
	(void) MHD_add_connection(server->daemon, fd, address, len);
}

/* Of as many as may be accepted in the next turn. */
static void
server_on_no_files(void *arg)
{
	for (int i = 0; i < ACCEPTS_MAX; i++)
		server_make_room(arg);
}

static void
server_on_taken(void *arg)
{
	server_run(arg);
}

static const AcceptorHandlers server_acceptor_handlers = {
	.take = server_take,
	.make_room = server_on_no_files,
	.taken = server_on_taken,
};

void
server_turn(Server *server)
{
	if (server->answered)
		server_run(server);
}

/* ---- life -------------------------------------------------------------- */

static void server_log(void *arg, const char *format, va_list args)
	PRINTF_LIKE(2, 0);

static void
server_log(void *arg UNUSED, const char *format, va_list args)
{
	Buf line = {0};

	buf_vline(&line, format, args);
	log_debug("%s", buf_str(&line));
	buf_free(&line);
}

static struct MHD_Daemon *
server_start(Server *server)
{
	unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET |
					 MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
					 (server->tls != NULL ? MHD_USE_TLS : 0);

	/* its own limit is never reached */
	return MHD_start_daemon(flags, 0, NULL, NULL, server_request, server,
							MHD_OPTION_EXTERNAL_LOGGER, server_log, NULL,
							MHD_OPTION_CONNECTION_LIMIT,
							(unsigned) CONNECTIONS_MAX + 2 * ACCEPTS_MAX,
							MHD_OPTION_CONNECTION_MEMORY_LIMIT,
							(size_t) CONNECTION_BYTES_MAX,
							MHD_OPTION_CONNECTION_TIMEOUT,
							(unsigned) IDLE_SECONDS,
							MHD_OPTION_STRICT_FOR_CLIENT, 1,
							MHD_OPTION_UNESCAPE_CALLBACK, server_leave_encoded,
							NULL, MHD_OPTION_URI_LOG_CALLBACK,
							server_first_line, server,
							MHD_OPTION_NOTIFY_COMPLETED, server_over, server,
							MHD_OPTION_NOTIFY_CONNECTION, server_connection,
							server, MHD_OPTION_ARRAY, tls_options(server->tls),
							MHD_OPTION_END);
}

bool
server_has_tls(const Server *server)
{
	return server->tls != NULL;
}

void
server_set_tls(Server *server, Tls *tls)
{
	Assert(server->tls != NULL);
	tls_share(tls);
	tls_release(server->tls);
	server->tls = tls;
}

Server *
server_new(Loop *loop, int fd, Tls *tls, const HttpHandlers *handlers,
		   void *arg, Buf *error)
{
	Server					   *server = xcalloc(1, sizeof(Server));
	const union MHD_DaemonInfo *info;

	server->loop = loop;
	server->handlers = handlers;
	server->arg = arg;
	server->tls = tls != NULL ? tls_share(tls) : NULL;
	server->daemon = server_start(server);
	if (server->daemon == NULL)
	{
		buf_add_str(error, "could not start the HTTP server");
		tls_release(server->tls);
		free(server);
		return NULL;
	}
	info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	Assert(info != NULL);
	server->io = loop_io_new(loop, info->epoll_fd, EPOLLIN, server_on_ready,
							 server);
	server->acceptor = acceptor_new(loop, fd, &server_acceptor_handlers,
									server);
	server->timer = loop_timer_new(loop, server_on_timer, server);
	return server;
}

void
server_drain(Server *server)
{
	Assert(!server->draining);
	server->draining = true;
	acceptor_accept(server->acceptor, CONNECTIONS_MAX);
	acceptor_free(server->acceptor);
	server->acceptor = NULL;
	server_run(server); /* reads what has arrived */
	client_list_end_idle(&server->clients);
	server_run(server);
}

bool
server_is_drained(const Server *server)
{
	return server->draining && server->connections == 0;
}

unsigned
server_connections(const Server *server)
{
	return server->connections;
}

void
server_free(Server *server)
{
	if (server == NULL)
		return;
	acceptor_free(server->acceptor);
	loop_io_free(server->io);
	loop_timer_free(server->timer);
	/* an answer is built in one run, and sent in the next */
	for (int i = 0; i < 4; i++)
		MHD_run(server->daemon);
	MHD_stop_daemon(server->daemon);
	Assert(server->connections + server->waiting == 0 && !server->body_bytes);
	tls_release(server->tls);
	free(server);
}
