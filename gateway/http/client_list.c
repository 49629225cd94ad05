/*
 * client_list.c - open connections, by age; which of them may be closed
 *
 * To end a connection it is shut down: libmicrohttpd sees its end, as if the
 * client had closed it, and closes it too.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "http/client_list.h"

#include <sys/ioctl.h>

void
client_list_add(ClientList *list, Client *client)
{
	Assert((list->oldest == NULL) == (list->newest == NULL));
	client->newer = NULL;
	client->older = list->newest;
	Assert(list->newest == NULL || list->newest->since <= client->since);
	*(list->newest != NULL ? &list->newest->newer : &list->oldest) = client;
	list->newest = client;
}

void
client_list_remove(ClientList *list, Client *client)
{
	Assert(client->older != NULL ? client->older->newer == client
								 : list->oldest == client);
	Assert(client->newer != NULL ? client->newer->older == client
								 : list->newest == client);
	*(client->older != NULL ? &client->older->newer
							: &list->oldest) = client->newer;
	*(client->newer != NULL ? &client->newer->older
							: &list->newest) = client->older;
}

/* Its request has arrived, and has no answer yet.  One that is slow to read its
 * answer is like one that is slow to send its request. */
static bool
client_is_waiting(const Client *client)
{
	return client->request != NULL && client->request->running &&
		   client->request->status == 0;
}

/* Whether a gives up its place before b, which is older. */
static bool
client_is_heavier(const Client *a, const Client *b)
{
	if (a->address->connections != b->address->connections)
		return a->address->connections > b->address->connections;
	return !a->served && b->served;
}

Client *
client_list_find_heaviest(const ClientList *list)
{
	Client *heaviest = NULL;

	for (Client *client = list->oldest; client != NULL; client = client->newer)
		if (!client_is_waiting(client) &&
			(heaviest == NULL || client_is_heavier(client, heaviest)))
			heaviest = client;
	return heaviest;
}

Client *
client_list_find_slowest(const ClientList *list)
{
	Client *slowest = NULL;

	for (Client *client = list->oldest; client != NULL; client = client->newer)
		if (client->request != NULL && client->request->unread > 0 &&
			(slowest == NULL ||
			 client->request->answered_at < slowest->request->answered_at))
			slowest = client;
	return slowest;
}

/* A handshake is a part of the first request, and libmicrohttpd does not tell
 * when it ends. */
static bool
client_is_slow(const Client *client, int64_t before)
{
	const HttpRequest *request = client->request;

	if (request == NULL)
		return client->tls != NULL && !client->served &&
			   client->since <= before;
	return !client_is_waiting(client) &&
		   Max(request->began_at, request->answered_at) <= before;
}

void
client_list_end_slow(const ClientList *list, int64_t before)
{
	for (Client *client = list->oldest; client != NULL; client = client->newer)
		if (client_is_slow(client, before))
			client_shut_down(client);
}

void
client_list_end_idle(const ClientList *list)
{
	for (Client *client = list->oldest; client != NULL; client = client->newer)
	{
		int unread = 0;

		if (client->request == NULL &&
			(ioctl(client->fd, FIONREAD, &unread) != 0 || unread == 0))
			client_shut_down(client);
	}
}
