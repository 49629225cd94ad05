/*
 * client_list.c - open connections, by age; which of them may be closed
 *
 * To end a connection it is shut down: libmicrohttpd sees its end, as if the
 * client had closed it, and closes it too.
 *
 * Which connection gives up its place.  One that has sent a whole request is
 * worth more than one that has not, and one with a request under way more than
 * an idle one: so clients of thousands of addresses, with a connection each,
 * cannot take the places of a reverse proxy, which has many.  Among equals it
 * is one of the address that has the most of that kind.  But an address that
 * has more than its share of all connections comes before all others: else it
 * could send a request on each, keep them all, and only new ones would go.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "http/client_list.h"

#include <sys/ioctl.h>

#define SHARES 4 /* one of them is as much as an address may have safely */

void
client_list_add(ClientList *list, Client *client)
{
	Assert((list->oldest == NULL) == (list->newest == NULL));
	client->newer = NULL;
	client->older = list->newest;
	Assert(list->newest == NULL || list->newest->since <= client->since);
	*(list->newest != NULL ? &list->newest->newer : &list->oldest) = client;
	list->newest = client;
	list->count++;
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
	Assert(list->count > 0);
	list->count--;
}

/*
 * Its request has arrived, and has no answer yet.  One that is slow to read its
 * answer is like one that is slow to send its request.
 */
static bool
client_is_waiting(const Client *client)
{
	return client->request != NULL && client->request->running &&
		   client->request->status == 0;
}

static bool
client_list_is_share_exceeded(const ClientList *list, const Address *address)
{
	Assert(address->connections <= list->count);
	return address->connections > list->count / SHARES;
}

/* What a connection is worth. */
static int
client_worth(const Client *client)
{
	return !client->served ? 0 : client->request == NULL ? 1 : 2;
}

/* How many connections its address has that are served, or not, as it is. */
static unsigned
client_weight(const Client *client)
{
	const Address *address = client->address;

	Assert(address->unserved <= address->connections);
	return client->served ? address->connections - address->unserved
						  : address->unserved;
}

/* Whether a gives up its place before b, which is older. */
static bool
client_list_is_heavier(const ClientList *list, const Client *a, const Client *b)
{
	bool exceeds = client_list_is_share_exceeded(list, a->address);

	if (exceeds != client_list_is_share_exceeded(list, b->address))
		return exceeds;
	if (client_worth(a) != client_worth(b))
		return client_worth(a) < client_worth(b);
	return client_weight(a) > client_weight(b);
}

Client *
client_list_find_heaviest(const ClientList *list)
{
	Client *heaviest = NULL;

	for (Client *client = list->oldest; client != NULL; client = client->newer)
		if (!client_is_waiting(client) &&
			(heaviest == NULL ||
			 client_list_is_heavier(list, client, heaviest)))
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

/*
 * A handshake is a part of the first request, and libmicrohttpd does not tell
 * when it ends.
 */
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
