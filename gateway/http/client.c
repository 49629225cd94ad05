/*
 * client.c - an open connection, and who is at its other end
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "http/client.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <sys/socket.h>

static struct gnutls_session_int *
client_session(struct MHD_Connection *connection)
{
	return MHD_get_connection_info(connection,
								   MHD_CONNECTION_INFO_GNUTLS_SESSION)
		->tls_session;
}

Client *
client_open(struct MHD_Connection *connection, AddressTable *addresses,
			Tls *tls, int64_t now)
{
	Client *client = xcalloc(1, sizeof(Client));

	client->fd = MHD_get_connection_info(connection,
										 MHD_CONNECTION_INFO_CONNECTION_FD)
					 ->connect_fd;
	Assert(client->fd >= 0);
	client->address =
		address_open(addresses,
					 MHD_get_connection_info(connection,
											 MHD_CONNECTION_INFO_CLIENT_ADDRESS)
						 ->client_addr);
	client->address->unserved++;
	client->since = now;
	if (tls != NULL)
	{
		client->tls = tls_share(tls);
		tls_use(tls, client_session(connection));
	}
	return client;
}

void
client_close(Client *client, AddressTable *addresses)
{
	Assert(client->request == NULL);
	client_serve(client);
	address_close(addresses, client->address);
	tls_release(client->tls);
	strings_free(client->names);
	free(client);
}

void
client_serve(Client *client)
{
	if (client->served)
		return;
	Assert(client->address->unserved > 0);
	client->address->unserved--;
	client->served = true;
}

void
client_shut_down(const Client *client)
{
	(void) shutdown(client->fd, SHUT_RDWR);
}

Client *
client_of(struct MHD_Connection *connection)
{
	return MHD_get_connection_info(connection,
								   MHD_CONNECTION_INFO_SOCKET_CONTEXT)
		->socket_context;
}

char *const *
http_request_names(const HttpRequest *request)
{
	Client *client = client_of(request->connection);

	if (client->tls == NULL)
		return NULL;
	if (client->names == NULL)
		client->names = tls_client_names(client_session(request->connection));
	return client->names;
}

bool
http_request_is_gone(const HttpRequest *request)
{
	char	byte;
	ssize_t len;

	if (request->connection == NULL) /* a test's */
		return false;
	len = recv(client_of(request->connection)->fd, &byte, 1,
			   MSG_PEEK | MSG_DONTWAIT);
	return len == 0 || (len < 0 && errno != EAGAIN && errno != EINTR);
}

bool
http_request_peer(const HttpRequest *request, uid_t *user)
{
	const Client   *client = client_of(request->connection);
	struct ucred	peer;
	struct sockaddr address = {0};
	socklen_t		len = sizeof(address);

	if (getsockname(client->fd, &address, &len) != 0 ||
		address.sa_family != AF_UNIX)
		return false;
	len = sizeof(peer);
	if (getsockopt(client->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
		return false;
	*user = peer.uid;
	return true;
}
