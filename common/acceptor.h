/*
 * acceptor.h - accepts connections, at once and always
 *
 * What a server does about too many of them is its own; that it goes on
 * accepting is not: where it stopped, slow clients would keep all others out.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_ACCEPTOR_H
#define PGSTOCK_COMMON_ACCEPTOR_H

#include <sys/socket.h>

#include "common/loop.h"

#define ACCEPTS_MAX 64 /* in one turn of the loop */

typedef struct AcceptorHandlers
{
	/* A connection, which the server owns from now on. */
	void (*take)(void *arg, int fd, const struct sockaddr *address,
				 socklen_t len);
	/* No files are left: a connection is to give up its own. */
	void (*make_room)(void *arg);
	/* Those of this turn were taken. */
	void (*taken)(void *arg);
} AcceptorHandlers;

typedef struct Acceptor Acceptor;

/* fd: of listener.h, closed by acceptor_free(). */
Acceptor *acceptor_new(Loop *loop, int fd, const AcceptorHandlers *handlers,
					   void *arg);
void	  acceptor_free(Acceptor *acceptor); /* NULL is fine */

/* Accepts what waits, up to so many, without a call of taken(). */
void acceptor_accept(Acceptor *acceptor, int max);

#endif
