/*
 * destination.h - where alerts may be sent
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_ALERTS_DESTINATION_H
#define PGSTOCK_ALERTS_DESTINATION_H

#include <sys/socket.h>

#include "config/config.h"

/* False and one sentence in *error, which never holds the url, if [webhook]
 * cannot be right. */
bool webhook_check(const Config *config, Buf *error) MUST_CHECK;

/*
 * Whether the address may be connected to: one in the networks of "allow"; if
 * that names none, any that is public.
 */
bool webhook_allows(char *const *allow, const struct sockaddr *address);

#endif
