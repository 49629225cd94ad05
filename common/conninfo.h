/*
 * conninfo.h - what libpq's connection strings hold
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_CONNINFO_H
#define PGSTOCK_COMMON_CONNINFO_H

#include <libpq-fe.h>

#include "common/util.h"

/* PQconninfoFree() that leaves no password behind. */
void conninfo_free(PQconninfoOption *parsed);

/* Whether it does: on a command line every user of the machine can read it. */
bool conninfo_holds_password(const char *conninfo) MUST_CHECK;

/* Its "options", or those of PGOPTIONS, as a copy; "": none. */
char *conninfo_options(const char *conninfo);

/*
 * Whether two connection strings lead to one server and database with the same
 * options; how they log in may differ, but for the user where no database is
 * named.
 */
bool conninfo_is_same_database(const char *conninfo, const char *other);

/*
 * The servers of a connection string in another order; NULL: as it has them.
 *
 * libpq tries the servers one after another, and within PQconnectPoll() it has
 * no limit of time for one of them: of a machine that is frozen, or cut off by
 * a firewall, it waits for an answer and tries no other.  So an attempt that
 * took too long is ended, and the next one begins behind that server.
 */
typedef struct ConninfoHosts
{
	char *host;
	char *hostaddr;
	char *port;
	char *named; /* the order that was there before, as one text */
} ConninfoHosts;

typedef struct ConninfoLists
{
	const char *host; /* any may be empty */
	const char *hostaddr;
	const char *port;
} ConninfoLists;

/*
 * The attempt does not get on at its present server.  Nothing changes if it is
 * the only one.
 */
void conninfo_begin_behind(ConninfoHosts *hosts, PGconn *attempt);

/*
 * Before an attempt: forgets that order if other servers are named meanwhile,
 * by an edit of pg_service.conf.
 */
void conninfo_look_again(ConninfoHosts *hosts, const char *conninfo);

/*
 * The same as conninfo_begin_behind(), of lists, and the present server's name
 * (or address) and port.
 */
void conninfo_rotate(ConninfoHosts *hosts, const ConninfoLists *lists,
					 const char *host, const char *port);

void conninfo_free_hosts(ConninfoHosts *hosts);

/* How long one server may take: connect_timeout, in us; 0: no limit. */
int64_t conninfo_host_us(PGconn *attempt);

#endif
