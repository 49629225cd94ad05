/*
 * client_list.h - open connections, by age; which of them may be closed
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_CLIENT_LIST_H
#define PGSTOCK_GATEWAY_CLIENT_LIST_H

#include "http/client.h"

typedef struct ClientList
{
	Client	*oldest;
	Client	*newest;
	unsigned count;
} ClientList;

void client_list_add(ClientList *list, Client *client); /* as the newest */
void client_list_remove(ClientList *list, Client *client);

/*
 * Of those that wait for no answer, the one that gives up its place first; or
 * NULL.
 */
Client *client_list_find_heaviest(const ClientList *list);

/* The one whose answer began to be sent first, and is not sent yet; or NULL. */
Client *client_list_find_slowest(const ClientList *list);

/*
 * Shuts down those whose request began to arrive before, or whose answer began
 * to be sent before, and that are not done yet; with TLS, those that were
 * opened before and have not begun a request.
 */
void client_list_end_slow(const ClientList *list, int64_t before);

/* Shuts down those without a request, unless one was sent and not read. */
void client_list_end_idle(const ClientList *list);

#endif
