/*
 * http.c - a few pages over HTTP, served by the loop
 *
 * libmicrohttpd without a thread of its own: its epoll descriptor is one of
 * the loop's, its next timeout one of the loop's timers.  Connections, their
 * memory and their idle time are limited.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define CONNECTIONS_MAX		 64
#define CONNECTION_BYTES_MAX 16384
#define CONNECTION_IDLE_S	 30
#define RUN_AGAIN_MS		 200

struct Http
{
	Loop			  *loop;
	struct MHD_Daemon *daemon;
	LoopIo			  *io;
	LoopTimer		  *timer;
	unsigned		   connections; /* after the last run */
	HttpHandler		   handler;
	void			  *arg;
};

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
	result = MHD_queue_response(connection, answer->status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result
http_request(void *arg, struct MHD_Connection *connection, const char *path,
			 const char *method, const char *version UNUSED,
			 const char *upload UNUSED, size_t *upload_size,
			 void **request UNUSED)
{
	const Http *http = arg;
	HttpAnswer	answer = {.status = MHD_HTTP_NOT_FOUND, .type = "text/plain"};
	enum MHD_Result result;

	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
	{
		*upload_size = 0;
		answer.status = MHD_HTTP_METHOD_NOT_ALLOWED;
	}
	else
		http->handler(http->arg, path, &answer);
	if (answer.body.len == 0)
		buf_printf(&answer.body, "%u\n", answer.status);
	result = http_respond(connection, &answer);
	buf_free(&answer.body);
	return result;
}

/*
 * At its limit of connections libmicrohttpd (0.9.75) stops to listen, and
 * begins again only in a run that starts with fewer of them, which nothing may
 * bring about.  So while there are connections, and once after the last, it
 * runs by the clock.
 */
static void
http_run(void *arg)
{
	Http				  *http = arg;
	unsigned			   before = http->connections;
	MHD_UNSIGNED_LONG_LONG wait_ms;
	int64_t				   at = NEVER;

	MHD_run(http->daemon);
	http->connections = MHD_get_daemon_info(http->daemon,
											MHD_DAEMON_INFO_CURRENT_CONNECTIONS)
							->num_connections;
	if (MHD_get_timeout(http->daemon, &wait_ms) == MHD_YES)
		at = loop_now(http->loop) + (int64_t) Min(wait_ms, 60000) * MS_US;
	if (http->connections > 0 || before > 0)
		at = Min(at, loop_now(http->loop) + RUN_AGAIN_MS * MS_US);
	loop_timer_set(http->timer, at);
}

static void
http_ready(void *arg, uint32_t events UNUSED)
{
	http_run(arg);
}

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

Http *
http_new(Loop *loop, const char *listen, HttpHandler handler, void *arg,
		 Buf *error)
{
	struct addrinfo			   *address = http_resolve(listen, error);
	Http					   *http;
	unsigned					flags = MHD_USE_EPOLL;
	const union MHD_DaemonInfo *info;

	if (address == NULL)
		return NULL;
	http = xcalloc(1, sizeof(Http));
	http->loop = loop;
	http->handler = handler;
	http->arg = arg;
	if (address->ai_family == AF_INET6)
		flags |= MHD_USE_IPv6;
	errno = 0;
	http->daemon = MHD_start_daemon(flags, 0, NULL, NULL, http_request, http,
									MHD_OPTION_SOCK_ADDR, address->ai_addr,
									MHD_OPTION_CONNECTION_LIMIT,
									(unsigned) CONNECTIONS_MAX,
									MHD_OPTION_CONNECTION_MEMORY_LIMIT,
									(size_t) CONNECTION_BYTES_MAX,
									MHD_OPTION_CONNECTION_TIMEOUT,
									(unsigned) CONNECTION_IDLE_S,
									MHD_OPTION_END);
	freeaddrinfo(address);
	if (http->daemon == NULL)
	{
		buf_printf(error, "could not listen on \"%s\": %s", listen,
				   strerror(errno));
		free(http);
		return NULL;
	}
	info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	Assert(info != NULL);
	http->io = loop_io_new(loop, info->epoll_fd, EPOLLIN, http_ready, http);
	http->timer = loop_timer_new(loop, http_run, http);
	return http;
}

void
http_free(Http *http)
{
	if (http == NULL)
		return;
	loop_io_free(http->io);
	loop_timer_free(http->timer);
	MHD_stop_daemon(http->daemon);
	free(http);
}
