/*
 * tokens.h - who a client is, by its bearer token (RFC 6750) or certificate
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_TOKENS_H
#define PGSTOCK_GATEWAY_TOKENS_H

#include "common/util.h"

/* Each may do what those before it may. */
typedef enum Role
{
	ROLE_READER, /* reads stock, orders, failed messages, status */
	ROLE_APP,	 /* reserves and settles */
	ROLE_ADMIN,	 /* changes stock on hand, sales, failed messages */
	ROLES,
} Role;

extern const char *const role_names[];

typedef struct Tokens Tokens;

/* NULL, and one sentence in *error that names the line, if anything is wrong in
 * the file. */
Tokens *tokens_load(const char *path, Buf *error) MUST_CHECK;
void	tokens_free(Tokens *tokens); /* NULL is fine */

/*
 * The name that belongs to the token of an Authorization header, and its role;
 * NULL if the header (NULL: missing) has none that the file knows.  The time
 * that it takes does not depend on which tokens there are.
 */
const char *tokens_find(const Tokens *tokens, const char *authorization,
						Role *role) MUST_CHECK;

/* The same for a valid certificate, by the names that it is for; NULL at their
 * end.  The first line of the file that has one of them counts. */
const char *tokens_find_certificate(const Tokens *tokens, char *const *names,
									Role *role) MUST_CHECK;

#endif
