/*
 * listener.h - a socket that accepts connections
 *
 * Its address is host:port or [host]:port, numeric; an empty host stands for
 * every address of the machine.  Or it is unix:/path, a socket of the file
 * system.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_LISTENER_H
#define PGSTOCK_COMMON_LISTENER_H

#include "common/util.h"

/* False, and a phrase in *error, if that is no such address. */
bool listener_check(const char *listen, Buf *error) MUST_CHECK;

/*
 * The descriptor; -1 if it cannot listen there: the reason is in *error and in
 * errno (EINVAL: that is no address).
 */
int listener_open(const char *listen, Buf *error) MUST_CHECK;

/* Closes it, and removes a socket of the file system. */
void listener_close(int fd);

/* 0, or the errno why it cannot listen there, such as EADDRINUSE. */
int listener_probe(const char *listen) MUST_CHECK;

/*
 * Whether such an errno may pass without an administrator: the address may be
 * assigned later, by DHCP or a failover.  A port in use, one that is not
 * permitted and an address that is none (EINVAL) remain what they are.
 */
bool listener_may_pass(int reason) MUST_CHECK;

/* Whether it is a socket of the file system. */
bool listener_is_path(const char *listen) MUST_CHECK;

/* Whether only this machine can reach the address. */
bool listener_is_local(const char *listen) MUST_CHECK;

#endif
