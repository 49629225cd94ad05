/*
 * access.c - who may call the API: tokens, certificates, users of this machine
 *
 * A request that has a token is judged by it alone: a program that was given a
 * token of few rights has no more of them for its certificate or its user.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/access.h"

#include <stdlib.h>

#include "access/local_users.h"

struct Access
{
	Tokens	   *tokens; /* NULL: no client needs one */
	LocalUsers *users;
};

Access *
access_load(const char *tokens, char *const *admin_users, Buf *error)
{
	Access *access = xcalloc(1, sizeof(Access));

	access->users = local_users_new(admin_users, error);
	if (access->users != NULL && tokens[0] != '\0')
		access->tokens = tokens_load(tokens, error);
	if (error->len == 0)
	{
		Assert(access->users != NULL);
		Assert((access->tokens != NULL) == (tokens[0] != '\0'));
		return access;
	}
	access_free(access);
	return NULL;
}

void
access_free(Access *access)
{
	if (access == NULL)
		return;
	tokens_free(access->tokens);
	local_users_free(access->users);
	free(access);
}

bool
access_needs_token(const Access *access)
{
	return access->tokens != NULL;
}

static const char *
access_certificate(const Access *access, const HttpRequest *request, Role *role)
{
	char *const *names = access->tokens != NULL ? http_request_names(request)
												: NULL;

	return names != NULL ? tokens_find_certificate(access->tokens, names, role)
						 : NULL;
}

/*
 * The administrators among the users of this machine.  What a proxy or a page
 * of a browser sends has other rights than its process.
 */
static const char *
access_user(const Access *access, const HttpRequest *request, Role *role)
{
	static const char *const foreign[] = {"Origin",			 "Sec-Fetch-Site",
										  "Forwarded",		 "Via",
										  "X-Forwarded-For", "X-Real-IP"};
	const char				*name;
	uid_t					 user;

	for (size_t i = 0; i < Lengthof(foreign); i++)
		if (http_request_header(request, foreign[i]) != NULL)
			return NULL;
	if (!http_request_peer(request, &user))
		return NULL;
	name = local_users_find(access->users, user);
	if (name != NULL)
		*role = ROLE_ADMIN;
	return name;
}

bool
access_find(const Access *access, const HttpRequest *request, Role *role,
			const char **actor)
{
	const char *token = http_request_header(request, "Authorization");

	*role = ROLE_APP;
	if (token != NULL && access->tokens != NULL)
	{
		*actor = tokens_find(access->tokens, token, role);
		return *actor != NULL;
	}
	*actor = access_certificate(access, request, role);
	if (*actor == NULL)
		*actor = access_user(access, request, role);
	return *actor != NULL || access->tokens == NULL;
}
