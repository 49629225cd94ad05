/*
 * local_users.h - who a client on this machine is, by its user
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_LOCAL_USERS_H
#define PGSTOCK_GATEWAY_LOCAL_USERS_H

#include <sys/types.h>

#include "common/util.h"

typedef struct LocalUsers LocalUsers;

/*
 * The users of these names, and that of this process, as administrators; no
 * name: none at all.  NULL, and a sentence in *error, if one is not known.
 */
LocalUsers *local_users_new(char *const *names, Buf *error) MUST_CHECK;
void		local_users_free(LocalUsers *users); /* NULL is fine */

/* The name of an administrator; NULL if the user is none. */
const char *local_users_find(const LocalUsers *users, uid_t user);

#endif
