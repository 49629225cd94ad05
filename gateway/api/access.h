/*
 * access.h - who may call the API: tokens, certificates, users of this machine
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_ACCESS_H
#define PGSTOCK_GATEWAY_ACCESS_H

#include "access/tokens.h"
#include "config/config.h"
#include "http/server.h"

typedef struct Access Access;

/*
 * tokens: a file; empty: every client is known.  NULL, and a sentence in
 * *error, if anything is wrong with the file, or with the names of users.
 */
Access *access_load(const char *tokens, char *const *admin_users,
					Buf *error) MUST_CHECK;
void	access_free(Access *access); /* NULL is fine */

/* Whether clients have to say who they are. */
bool access_needs_token(const Access *access);

/*
 * Whether the client of a request is known: its role, and its name, or NULL
 * where everybody is served.
 */
bool access_find(const Access *access, const HttpRequest *request, Role *role,
				 const char **actor) MUST_CHECK;

#endif
