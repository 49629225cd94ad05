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
	Client *oldest;
	Client *newest;
} ClientList;

void client_list_add(ClientList *list, Client *client); /* as the newest */
void client_list_remove(ClientList *list, Client *client);

/* Shuts down the oldest that waits for no answer; false: there is none. */
bool client_list_evict(const ClientList *list);

/* Shuts down those whose request began to arrive before, or whose answer began
 * to be sent before, and that are not done yet; with TLS, those that were
 * opened before and have not begun a request. */
void client_list_end_slow(const ClientList *list, int64_t before);

/* Shuts down those without a request, unless one was sent and not read. */
void client_list_end_idle(const ClientList *list);

#endif
