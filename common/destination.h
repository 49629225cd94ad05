/*
 * destination.h - which hosts and addresses a request may be sent to
 *
 * A list of rules, each a host or a network such as 10.1.0.0/16.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_DESTINATION_H
#define PGSTOCK_COMMON_DESTINATION_H

#include <sys/socket.h>

#include "common/util.h"

/* Whether it is a host or a network. */
bool destination_is_rule(const char *item) MUST_CHECK;

/*
 * A phrase with the fault of the URL, which does not quote it; NULL: it has
 * none.  http: a URL that begins with http:// is accepted as well.
 */
const char *destination_url_fault(const char *text, char *const *allow,
								  bool http) MUST_CHECK;

/*
 * Whether the address may be connected to: one in the networks of the list; if
 * that has none, any that is public.
 */
bool destination_allows(char *const			  *allow,
						const struct sockaddr *address) MUST_CHECK;

#endif
