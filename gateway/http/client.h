/*
 * client.h - an open connection, and who is at its other end
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_CLIENT_H
#define PGSTOCK_GATEWAY_CLIENT_H

#include "http/address.h"
#include "http/server.h"
#include "http/tls.h"

/* An open connection, in a list of them. */
typedef struct Client
{
	int			   fd; /* libmicrohttpd's */
	Address		  *address;
	HttpRequest	  *request; /* under way; NULL: none */
	bool		   served;	/* it has sent a whole request */
	int64_t		   since;	/* it was opened, or its last request ended */
	Tls			  *tls;		/* NULL: it is not encrypted */
	char		 **names;	/* of its certificate; NULL: not read yet */
	struct Client *older;
	struct Client *newer;
} Client;

/* tls: NULL, or what the connection is encrypted by. */
Client *client_open(struct MHD_Connection *connection, AddressTable *addresses,
					Tls *tls, int64_t now);
void	client_close(Client *client, AddressTable *addresses);

/* It has sent a whole request. */
void client_serve(Client *client);

/* libmicrohttpd sees its end, as if the client had closed it. */
void client_shut_down(const Client *client);

/* The client of a connection. */
Client *client_of(struct MHD_Connection *connection);

#endif
