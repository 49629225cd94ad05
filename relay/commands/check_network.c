/*
 * check_network.c - addresses and clocks, as "check" sees them from its host
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHECK_CONNECT_MS 2000
#define CHECK_ANSWER_MS	 5000 /* a relay may be busy */
#define CHECK_PAGE_BYTES 8192

/* ---- connections ------------------------------------------------------- */

/* 0, or the errno of a connection that was not made. */
static int
check_finish_connecting(int fd)
{
	struct pollfd wait = {.fd = fd, .events = POLLOUT};
	int			  reason = 0;
	socklen_t	  len = sizeof(reason);
	int			  ready;

	ready = poll(&wait, 1, CHECK_CONNECT_MS);
	if (ready == 0)
		return ETIMEDOUT;
	if (ready < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &reason, &len) != 0)
		return errno;
	return reason;
}

/* A connection that does not block, or -1 and errno. */
static int
check_connect_to(const struct addrinfo *address)
{
	int fd = socket(address->ai_family,
					SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int reason = 0;

	if (fd < 0)
		return -1;
	if (connect(fd, address->ai_addr, address->ai_addrlen) != 0)
		reason = errno == EINPROGRESS ? check_finish_connecting(fd) : errno;
	if (reason == 0)
		return fd;
	close(fd);
	errno = reason;
	return -1;
}

/*
 * The first address that answers counts; -1, and *why, if none does.  An empty
 * host is this machine, as where the relay listens on all addresses.
 */
static int
check_connect(const char *host, const char *port, Buf *why)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo		 *addresses;
	int					  fd = -1;
	int failure = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints,
							  &addresses);

	if (failure != 0)
	{
		buf_printf(why, "the name \"%s\" cannot be resolved: %s", host,
				   gai_strerror(failure));
		return -1;
	}
	for (struct addrinfo *a = addresses; a != NULL && fd < 0; a = a->ai_next)
		fd = check_connect_to(a);
	if (fd < 0)
		buf_add_str(why, strerror(errno));
	freeaddrinfo(addresses);
	return fd;
}

bool
check_connects(const char *host, int port, Buf *why)
{
	char *service = xasprintf("%d", port);
	int	  fd = check_connect(host, service, why);

	free(service);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* ---- a page ------------------------------------------------------------ */

/* Until the server ends the connection, or rests. */
static void
check_receive(int fd, Buf *page)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	char		  text[1024];
	ssize_t		  len;

	while (page->len < CHECK_PAGE_BYTES && poll(&wait, 1, CHECK_ANSWER_MS) == 1)
	{
		len = recv(fd, text, sizeof(text), 0);
		if (len <= 0)
			return;
		buf_add(page, text, (size_t) len);
	}
}

bool
check_read_page(const char *listen, const char *path, Buf *page)
{
	const char *colon = strrchr(listen, ':');
	bool		bracketed = listen[0] == '[';
	char	   *request = xasprintf("GET %s HTTP/1.0\r\n\r\n", path);
	char	   *host;
	Buf			why = {0};
	int			fd;

	Assert(colon != NULL && page->len == 0);
	host = xasprintf("%.*s", (int) (colon - listen) - 2 * bracketed,
					 listen + bracketed);
	fd = check_connect(host, colon + 1, &why);
	if (fd >= 0)
	{
		if (send(fd, request, strlen(request), MSG_NOSIGNAL) > 0)
			check_receive(fd, page);
		close(fd);
	}
	free(host);
	free(request);
	buf_free(&why);
	buf_str(page);
	return page->len > 0;
}
