/*
 * acceptor.c - accepts connections, at once and always
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/acceptor.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "common/listener.h"

#define NO_FILES_US (200 * MS_US) /* until accept() is tried again */

struct Acceptor
{
	Loop				   *loop;
	const AcceptorHandlers *handlers;
	void				   *arg;
	int						fd;
	LoopIo				   *io;
	LoopTimer			   *timer; /* set while no files are left */
};

static void
acceptor_wait_for_files(Acceptor *acceptor)
{
	loop_io_want(acceptor->io, 0);
	loop_timer_set(acceptor->timer, loop_now(acceptor->loop) + NO_FILES_US);
	acceptor->handlers->make_room(acceptor->arg);
}

void
acceptor_accept(Acceptor *acceptor, int max)
{
	for (int i = 0; i < max; i++)
	{
		struct sockaddr_storage address;
		socklen_t				len = sizeof(address);
		int fd = accept4(acceptor->fd, (struct sockaddr *) &address, &len,
						 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0)
			acceptor->handlers->take(acceptor->arg, fd,
									 (struct sockaddr *) &address, len);
		else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
				 errno == ENOMEM)
		{
			acceptor_wait_for_files(acceptor);
			return;
		}
		/* one that left while it waited is no reason to stop */
		else if (errno != ECONNABORTED && errno != EINTR)
			return;
	}
}

static void
acceptor_on_ready(void *arg, uint32_t events UNUSED)
{
	Acceptor *acceptor = arg;

	acceptor_accept(acceptor, ACCEPTS_MAX);
	acceptor->handlers->taken(acceptor->arg);
}

static void
acceptor_on_timer(void *arg)
{
	Acceptor *acceptor = arg;

	loop_io_want(acceptor->io, EPOLLIN);
}

Acceptor *
acceptor_new(Loop *loop, int fd, const AcceptorHandlers *handlers, void *arg)
{
	Acceptor *acceptor = xcalloc(1, sizeof(Acceptor));

	Assert(fd >= 0);
	acceptor->loop = loop;
	acceptor->handlers = handlers;
	acceptor->arg = arg;
	acceptor->fd = fd;
	acceptor->io = loop_io_new(loop, fd, EPOLLIN, acceptor_on_ready, acceptor);
	acceptor->timer = loop_timer_new(loop, acceptor_on_timer, acceptor);
	return acceptor;
}

void
acceptor_free(Acceptor *acceptor)
{
	if (acceptor == NULL)
		return;
	loop_io_free(acceptor->io);
	loop_timer_free(acceptor->timer);
	listener_close(acceptor->fd);
	free(acceptor);
}
