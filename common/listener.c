/*
 * listener.c - a socket that accepts connections
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define UNIX_PREFIX	  "unix:"
#define LOCK_TRIES	  100 /* of a directory */
#define LOCK_PAUSE_US 10000

/* The path of a socket of the file system, or NULL. */
static const char *
listener_path(const char *listen)
{
	size_t len = strlen(UNIX_PREFIX);

	return strncmp(listen, UNIX_PREFIX, len) == 0 ? listen + len : NULL;
}

static bool
listener_path_is_good(const char *path, Buf *error)
{
	const size_t max = sizeof(((struct sockaddr_un *) NULL)->sun_path);

	if (path[0] == '/' && strlen(path) < max)
		return true;
	buf_printf(error, "\"%s\" is not an absolute path of less than %zu bytes",
			   path, max);
	return false;
}

/* The last colon parts host and port; brackets around an IPv6 address go. */
static struct addrinfo *
listener_resolve(const char *listen, Buf *error)
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
listener_check(const char *listen, Buf *error)
{
	struct addrinfo *address;

	if (listener_path(listen) != NULL)
		return listener_path_is_good(listener_path(listen), error);
	address = listener_resolve(listen, error);
	if (address == NULL)
		return false;
	freeaddrinfo(address);
	return true;
}

bool
listener_is_path(const char *listen)
{
	return listener_path(listen) != NULL;
}

bool
listener_is_local(const char *listen)
{
	return listener_path(listen) != NULL || strncmp(listen, "127.", 4) == 0 ||
		   strncmp(listen, "[::1]:", 6) == 0;
}

/* -1, and errno, if that fails. */
static int
listener_bind(const struct sockaddr *address, socklen_t len)
{
	const int yes = 1;
	int		  fd = socket(address->sa_family,
						  SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int		  reason;

	if (fd >= 0 &&
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
		bind(fd, address, len) == 0 && listen(fd, SOMAXCONN) == 0)
		return fd;
	reason = errno;
	if (fd >= 0)
		close(fd);
	errno = reason;
	return -1;
}

/*
 * Whether a process that has ended left the socket behind.  A file of another
 * kind refuses a connection too, and is not ours to remove.
 */
static bool
listener_is_left_behind(const struct sockaddr_un *address)
{
	struct stat file;
	int			fd;
	bool		left;

	if (lstat(address->sun_path, &file) != 0 || !S_ISSOCK(file.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	left = fd >= 0 &&
		   connect(fd, (const struct sockaddr *) address, sizeof(*address)) !=
			   0 &&
		   errno == ECONNREFUSED;

	if (fd >= 0)
		close(fd);
	return left;
}

static struct sockaddr_un
listener_address(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	Assert(strlen(path) < sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path) + 1);
	return address;
}

/*
 * Between bind() and listen() a socket looks as if it was left behind, and
 * between a look at it and unlink() another process may have replaced it.  So
 * processes that listen in one directory do this one after another.  -1: it
 * cannot be locked, or another user holds the lock for too long; the race is
 * the smaller evil then.
 */
static int
listener_lock_directory(const char *path)
{
	size_t len = (size_t) (strrchr(path, '/') - path);
	char  *directory = xasprintf("%.*s", (int) Max(len, 1), path);
	int	   fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	Assert(path[0] == '/');
	free(directory);
	for (int i = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0; i++)
		if (i == LOCK_TRIES || usleep(LOCK_PAUSE_US) != 0)
		{
			close(fd);
			fd = -1;
		}
	return fd;
}

/* -1, and errno, if that fails. */
static int
listener_bind_unlinked(const struct sockaddr_un *address)
{
	const struct sockaddr *any = (const struct sockaddr *) address;
	int					   fd = listener_bind(any, sizeof(*address));

	if (fd >= 0 || errno != EADDRINUSE)
		return fd;
	if (listener_is_left_behind(address) && unlink(address->sun_path) == 0)
		return listener_bind(any, sizeof(*address));
	errno = EADDRINUSE;
	return -1;
}

/* The socket's group may connect to it, and no others. */
static int
listener_bind_path(const char *path)
{
	struct sockaddr_un address = listener_address(path);
	int				   lock = listener_lock_directory(path);
	int				   fd = listener_bind_unlinked(&address);
	int				   reason = errno;

	if (fd >= 0)
		(void) chmod(path, 0660);
	if (lock >= 0)
		close(lock);
	errno = reason;
	return fd;
}

static int
listener_try(const char *listen, Buf *error)
{
	const char		*path = listener_path(listen);
	struct addrinfo *address;
	int				 fd;
	int				 reason;

	errno = EINVAL;
	if (path != NULL)
		return listener_path_is_good(path, error) ? listener_bind_path(path)
												  : -1;
	address = listener_resolve(listen, error);
	errno = EINVAL;
	if (address == NULL)
		return -1;
	fd = listener_bind(address->ai_addr, address->ai_addrlen);
	reason = errno;
	freeaddrinfo(address);
	errno = reason;
	return fd;
}

int
listener_open(const char *listen, Buf *error)
{
	int fd = listener_try(listen, error);
	int reason = errno;

	if (fd < 0 && error->len == 0)
		buf_printf(error, "could not listen on \"%s\": %s", listen,
				   strerror(reason));
	Assert(fd >= 0 || reason != 0); /* for listener_may_pass() */
	errno = reason;
	return fd;
}

void
listener_close(int fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNSPEC};
	socklen_t		   len = sizeof(address) - 1;

	Assert(fd >= 0);
	if (getsockname(fd, (struct sockaddr *) &address, &len) == 0 &&
		address.sun_family == AF_UNIX && address.sun_path[0] == '/')
		(void) unlink(address.sun_path);
	close(fd);
}

int
listener_probe(const char *listen)
{
	const char *path = listener_path(listen);
	Buf			error = {0};
	int			fd = -1;
	int			reason = 0;

	if (path != NULL && listener_path_is_good(path, &error))
	{
		struct sockaddr_un address = listener_address(path);

		/* it would be replaced, but not by a look at it */
		if (listener_is_left_behind(&address))
			return 0;
	}
	buf_clear(&error);
	fd = listener_open(listen, &error);
	if (fd < 0)
		reason = errno;
	else
		listener_close(fd);
	buf_free(&error);
	return reason;
}

bool
listener_may_pass(int reason)
{
	Assert(reason != 0);
	return reason != EADDRINUSE && reason != EACCES && reason != EINVAL;
}
