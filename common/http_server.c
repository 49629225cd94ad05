/*
 * http_server.c - a few pages over HTTP, served by the loop
 *
 * libmicrohttpd without a thread of its own: its epoll descriptor is one of
 * the loop's, its next timeout one of the loop's timers.
 *
 * A health page has to answer whatever others do.  So connections are accepted
 * here, at once and always, and given to libmicrohttpd (at its own limit it
 * stops to accept, and its limit of time begins anew with each byte).  A
 * connection has one request and CONNECTION_US for all of it, from accept to
 * the last byte; where there are CONNECTIONS_MAX of them, a new one takes the
 * oldest one's place.  A probe sends its request at once and is answered in the
 * same turn, so only a slow one can lose its place.
 *
 * To end a connection it is shut down: libmicrohttpd sees its end, as if the
 * client had gone, and closes it.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/http_server.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX		 64
#define CONNECTION_BYTES_MAX 16384
#define CONNECTION_US		 (5 * SEC_US)
#define ACCEPTS_MAX			 64 /* in one turn: the pumps have theirs */
#define NO_FILES_US			 (200 * MS_US) /* until accept() is tried again */
#define ANSWER_WAIT_US		 (2 * SEC_US)  /* for what a page waits for */

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

struct Http
{
	Loop			  *loop;
	struct MHD_Daemon *daemon;
	int				   listen_fd;
	LoopIo			  *listen_io;
	int64_t			   accept_at; /* no files were left; 0: there are */
	LoopIo			  *io;
	LoopTimer		  *timer;
	Client			  *oldest;
	Client			  *newest;
	unsigned		   connections;
	HttpHandler		   handler;
	void			  *arg;
};

/* ---- connections ------------------------------------------------------- */

static void
http_forget(Http *http, Client *client)
{
	*(client->older != NULL ? &client->older->newer
							: &http->oldest) = client->newer;
	*(client->newer != NULL ? &client->newer->older
							: &http->newest) = client->older;
	http->connections--;
	free(client);
}

/* libmicrohttpd has a connection, or closes it. */
static void
http_connection(void *arg, struct MHD_Connection *connection, void **context,
				enum MHD_ConnectionNotificationCode code)
{
	Http   *http = arg;
	Client *client = *context;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED)
	{
		http_forget(http, client);
		return;
	}
	client = xcalloc(1, sizeof(Client));
	client->fd = MHD_get_connection_info(connection,
										 MHD_CONNECTION_INFO_CONNECTION_FD)
					 ->connect_fd;
	client->opened_at = loop_now(http->loop);
	client->older = http->newest;
	*(http->newest != NULL ? &http->newest->newer : &http->oldest) = client;
	http->newest = client;
	http->connections++;
	*context = client;
}

static void
http_resume(Client *client)
{
	if (client->waiting != NULL)
		MHD_resume_connection(client->waiting);
	client->waiting = NULL;
}

/* Those whose time is over, and the oldest of too many. */
static void
http_shut_down(Http *http, unsigned too_many)
{
	int64_t now = loop_now(http->loop);

	for (Client *client = http->oldest; client != NULL; client = client->newer)
	{
		if (too_many > 0)
			too_many--;
		else if (client->opened_at + CONNECTION_US > now)
			break;
		http_resume(client);
		(void) shutdown(client->fd, SHUT_RDWR);
	}
}

/* ---- requests ---------------------------------------------------------- */

static enum MHD_Result
http_respond(struct MHD_Connection *connection, HttpAnswer *answer)
{
	struct MHD_Response *response;
	enum MHD_Result		 result;

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

/* The answer comes when it is asked for again, after http_wake(). */
static void
http_suspend(Http *http, struct MHD_Connection *connection)
{
	Client *client = MHD_get_connection_info(connection,
											 MHD_CONNECTION_INFO_SOCKET_CONTEXT)
						 ->socket_context;

	client->waiting = connection;
	client->waiting_since = loop_now(http->loop);
	MHD_suspend_connection(connection);
}

static enum MHD_Result
http_request(void *arg, struct MHD_Connection *connection, const char *path,
			 const char *method, const char *version UNUSED,
			 const char *upload UNUSED, size_t *upload_size, void **request)
{
	Http	  *http = arg;
	HttpAnswer answer = {
		.status = MHD_HTTP_NOT_FOUND,
		.type = "text/plain",
		.may_wait = *request == NULL,
	};
	enum MHD_Result result = MHD_YES;

	*request = http; /* the second time it is there */
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
	{
		*upload_size = 0;
		answer.status = MHD_HTTP_METHOD_NOT_ALLOWED;
	}
	else
		http->handler(http->arg, path, &answer);
	if (answer.status == HTTP_LATER)
	{
		Assert(answer.may_wait && answer.body.len == 0);
		http_suspend(http, connection);
		return MHD_YES;
	}
	if (answer.body.len == 0)
		buf_printf(&answer.body, "%u\n", answer.status);
	result = http_respond(connection, &answer);
	buf_free(&answer.body);
	return result;
}

/* ---- the loop ---------------------------------------------------------- */

static int64_t
http_deadline(const Http *http)
{
	MHD_UNSIGNED_LONG_LONG wait_ms;
	int64_t				   at = NEVER;

	if (MHD_get_timeout(http->daemon, &wait_ms) == MHD_YES)
		at = loop_now(http->loop) + (int64_t) Min(wait_ms, 60000) * MS_US;
	if (http->accept_at > 0)
		at = Min(at, http->accept_at);
	if (http->oldest != NULL)
		at = Min(at, http->oldest->opened_at + CONNECTION_US);
	for (const Client *c = http->oldest; c != NULL; c = c->newer)
		if (c->waiting != NULL)
			at = Min(at, c->waiting_since + ANSWER_WAIT_US);
	return at;
}

static void
http_run(void *arg)
{
	Http   *http = arg;
	int64_t now = loop_now(http->loop);

	for (Client *client = http->oldest; client != NULL; client = client->newer)
		if (client->waiting != NULL &&
			client->waiting_since + ANSWER_WAIT_US <= now)
			http_resume(client);
	http_shut_down(http, 0);
	if (http->accept_at > 0 && http->accept_at <= now)
	{
		http->accept_at = 0;
		loop_io_want(http->listen_io, EPOLLIN);
	}
	MHD_run(http->daemon);
	/* libmicrohttpd closes what has ended at the end of its next run */
	if (http->connections > CONNECTIONS_MAX)
		MHD_run(http->daemon);
	loop_timer_set(http->timer, http_deadline(http));
}

static void
http_ready(void *arg, uint32_t events UNUSED)
{
	http_run(arg);
}

static void
http_accept(void *arg, uint32_t events UNUSED)
{
	Http *http = arg;

	for (int i = 0; i < ACCEPTS_MAX; i++)
	{
		struct sockaddr_storage address;
		socklen_t				len = sizeof(address);
		int fd = accept4(http->listen_fd, (struct sockaddr *) &address, &len,
						 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
					   errno == ENOMEM))
		{
			loop_io_want(http->listen_io, 0);
			http->accept_at = loop_now(http->loop) + NO_FILES_US;
			http_shut_down(http, 1);
		}
		/* one that left while it waited is no reason to stop */
		if (fd < 0 && errno != ECONNABORTED && errno != EINTR)
			break;
		if (fd < 0)
			continue;
		/* it closes what it does not take */
		(void) MHD_add_connection(http->daemon, fd,
								  (struct sockaddr *) &address, len);
	}
	MHD_run(http->daemon);
	if (http->connections > CONNECTIONS_MAX)
		http_shut_down(http, http->connections - CONNECTIONS_MAX);
	http_run(http);
}

void
http_wake(Http *http)
{
	bool any = false;

	if (http == NULL)
		return;
	for (Client *client = http->oldest; client != NULL; client = client->newer)
	{
		any = any || client->waiting != NULL;
		http_resume(client);
	}
	if (any)
		loop_timer_set(http->timer, loop_now(http->loop));
}

/* ---- life -------------------------------------------------------------- */

/* The last colon parts host and port; brackets around an IPv6 address go. */
static struct addrinfo *
http_resolve(const char *listen, Buf *error)
{
	const struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *found = NULL;
	const char		*colon = strrchr(listen, ':');
	char			*host;
	size_t			 len;

	if (colon == NULL)
	{
		buf_printf(error, "\"%s\" is not an address and port", listen);
		return NULL;
	}
	len = (size_t) (colon - listen);
	if (len >= 2 && listen[0] == '[' && listen[len - 1] == ']')
		host = xasprintf("%.*s", (int) len - 2, listen + 1);
	else
		host = xasprintf("%.*s", (int) len, listen);
	if (!is_port(colon + 1))
	{
		buf_printf(error, "\"%s\" is not a port between 1 and 65535",
				   colon + 1);
		free(host);
		return NULL;
	}
	if (getaddrinfo(host[0] != '\0' ? host : NULL, colon + 1, &hints, &found) !=
		0)
	{
		found = NULL;
		buf_printf(error, "\"%s\" is not a numeric address and port", listen);
	}
	free(host);
	return found;
}

bool
http_check_listen(const char *listen, Buf *error)
{
	struct addrinfo *address = http_resolve(listen, error);

	if (address == NULL)
		return false;
	freeaddrinfo(address);
	return true;
}

/* -1, and errno, if that fails. */
static int
http_bind(const struct addrinfo *address)
{
	const int yes = 1;
	int		  fd = socket(address->ai_family,
						  SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int		  reason;

	if (fd >= 0 &&
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
		bind(fd, address->ai_addr, address->ai_addrlen) == 0 &&
		listen(fd, SOMAXCONN) == 0)
		return fd;
	reason = errno;
	if (fd >= 0)
		close(fd);
	errno = reason;
	return -1;
}

Http *
http_new(Loop *loop, const char *listen, HttpHandler handler, void *arg,
		 Buf *error)
{
	struct addrinfo			   *address = http_resolve(listen, error);
	Http					   *http;
	const union MHD_DaemonInfo *info;

	if (address == NULL)
		return NULL;
	http = xcalloc(1, sizeof(Http));
	http->loop = loop;
	http->handler = handler;
	http->arg = arg;
	http->listen_fd = http_bind(address);
	freeaddrinfo(address);
	if (http->listen_fd < 0)
	{
		buf_printf(error, "could not listen on \"%s\": %s", listen,
				   strerror(errno));
		free(http);
		return NULL;
	}
	/* its own limit is never reached: one turn accepts no more than that */
	http->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET |
										MHD_ALLOW_SUSPEND_RESUME,
									0, NULL, NULL, http_request, http,
									MHD_OPTION_CONNECTION_LIMIT,
									(unsigned) CONNECTIONS_MAX +
										2 * ACCEPTS_MAX,
									MHD_OPTION_CONNECTION_MEMORY_LIMIT,
									(size_t) CONNECTION_BYTES_MAX,
									MHD_OPTION_NOTIFY_CONNECTION,
									http_connection, http, MHD_OPTION_END);
	if (http->daemon == NULL)
	{
		buf_add_str(error, "could not start the HTTP server");
		close(http->listen_fd);
		free(http);
		return NULL;
	}
	info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	Assert(info != NULL);
	http->io = loop_io_new(loop, info->epoll_fd, EPOLLIN, http_ready, http);
	http->listen_io = loop_io_new(loop, http->listen_fd, EPOLLIN, http_accept,
								  http);
	http->timer = loop_timer_new(loop, http_run, http);
	return http;
}

void
http_free(Http *http)
{
	if (http == NULL)
		return;
	loop_io_free(http->listen_io);
	close(http->listen_fd);
	loop_io_free(http->io);
	loop_timer_free(http->timer);
	for (Client *client = http->oldest; client != NULL; client = client->newer)
		http_resume(client);
	MHD_stop_daemon(http->daemon);
	Assert(http->oldest == NULL);
	free(http);
}
