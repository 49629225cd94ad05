/*
 * tokens.h - who a client is, by its bearer token (RFC 6750) or certificate
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_TOKENS_H
#define PGSTOCK_GATEWAY_TOKENS_H

#include "common/util.h"

/*
 * As the levels of grant_stock_access: an app may not read what is for people,
 * such as the payloads of failed messages.
 */
typedef enum Role
{
	ROLE_READER, /* reads all */
	ROLE_APP,	 /* reserves and settles; reads stock, orders, events */
	ROLE_ADMIN,	 /* the same as both; changes stock on hand, sales, messages */
	ROLES,
} Role;

/* Sets of roles. */
#define ROLE_BIT(role) (1U << (role))
#define ROLES_ADMIN	   ROLE_BIT(ROLE_ADMIN)
#define ROLES_READ	   (ROLE_BIT(ROLE_READER) | ROLES_ADMIN)
#define ROLES_APP	   (ROLE_BIT(ROLE_APP) | ROLES_ADMIN)
#define ROLES_ALL	   (ROLES_READ | ROLES_APP)

extern const char *const role_names[];

typedef struct Tokens Tokens;

/*
 * NULL, and one sentence in *error that names the line, if anything is wrong in
 * the file.
 */
Tokens *tokens_load(const char *path, Buf *error) MUST_CHECK;
void	tokens_free(Tokens *tokens); /* NULL is fine */

/*
 * The name that belongs to the token of an Authorization header, and its role;
 * NULL if the header (NULL: missing) has none that the file knows.  The time
 * that it takes does not depend on which tokens there are.
 */
const char *tokens_find(const Tokens *tokens, const char *authorization,
						Role *role) MUST_CHECK;

/*
 * The same for a valid certificate, by the names that it is for; NULL at their
 * end.  The first line of the file that has one of them counts.
 */
const char *tokens_find_certificate(const Tokens *tokens, char *const *names,
									Role *role) MUST_CHECK;

#endif
