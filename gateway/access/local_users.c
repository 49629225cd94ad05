/*
 * local_users.c - who a client on this machine is, by its user
 *
 * The kernel tells the user of a process that connects to a Unix socket
 * (SO_PEERCRED).  Names are looked up when the configuration is read, and not
 * when a client connects: a lookup may wait for a directory server.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "access/local_users.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct LocalUser
{
	uid_t id;
	char *name;
} LocalUser;

struct LocalUsers
{
	size_t	  count;
	LocalUser users[];
};

static void
local_users_add(LocalUsers *users, uid_t id, const char *name)
{
	if (local_users_find(users, id) == NULL)
		users->users[users->count++] = (LocalUser){id, xstrdup(name)};
}

static bool
local_users_add_name(LocalUsers *users, const char *name, Buf *error)
{
	const struct passwd *user;

	errno = 0;
	user = getpwnam(name);
	if (user != NULL)
	{
		local_users_add(users, user->pw_uid, name);
		return true;
	}
	buf_printf(error, "\"admin_users\": could not find the user \"%s\"%s%s",
			   name, errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
	return false;
}

LocalUsers *
local_users_new(char *const *names, Buf *error)
{
	LocalUsers			*users = xcalloc(1, sizeof(LocalUsers) +
												(strings_count(names) + 1) *
													sizeof(LocalUser));
	const struct passwd *own;

	for (int i = 0; names[i] != NULL; i++)
		if (!local_users_add_name(users, names[i], error))
		{
			local_users_free(users);
			return NULL;
		}
	Assert(users->count <= strings_count(names)); /* room for our own */
	own = users->count > 0 ? getpwuid(geteuid()) : NULL;
	if (users->count > 0)
		local_users_add(users, geteuid(),
						own != NULL ? own->pw_name : "gateway");
	return users;
}

void
local_users_free(LocalUsers *users)
{
	if (users == NULL)
		return;
	for (size_t i = 0; i < users->count; i++)
		free(users->users[i].name);
	free(users);
}

const char *
local_users_find(const LocalUsers *users, uid_t user)
{
	for (size_t i = 0; i < users->count; i++)
		if (users->users[i].id == user)
			return users->users[i].name;
	return NULL;
}
