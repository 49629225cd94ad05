/*
 * check_advice.c - what to do about reasons that are known as text only
 *
 * libpq has no code for a connection that was not made: the first row whose
 * text is in the reason counts.  librdkafka has few; kafka/log_text.c reads its
 * texts.  A text that is not recognised gets the general advice.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <string.h>

#include "kafka/log_text.h"

typedef struct CheckAdvice
{
	const char *part; /* of the reason */
	const char *todo;
} CheckAdvice;

static const CheckAdvice database_advice[] = {
	{"could not translate host name",
	 "See host in [postgres] conninfo: the name server of this machine does "
	 "not know it (getent hosts NAME)."},
	{"Connection refused",
	 "See host and port in [postgres] conninfo; the server must run, and its "
	 "listen_addresses must include that address."},
	{"No such file or directory",
	 "See host in [postgres] conninfo: without it, libpq looks for a server "
	 "on this machine, by its Unix socket."},
	{"timeout expired",
	 "See host and port in [postgres] conninfo, and the firewalls between "
	 "this machine and the server."},
	{"no pg_hba.conf entry",
	 "Add a line for this user, database and address to the server's "
	 "pg_hba.conf, and reload the server."},
	{"too many c",
	 "The relay needs two sessions, three with alerts: end sessions that are "
	 "not used, or raise max_connections or the CONNECTION LIMIT."},
	{"remaining connection slots",
	 "The relay needs two sessions, three with alerts: end sessions that are "
	 "not used, or raise max_connections."},
	{"database \"",
	 "See dbname in [postgres] conninfo; psql -l lists the databases."},
	{"role \"",
	 "See user in [postgres] conninfo; CREATE ROLE NAME LOGIN creates a role, "
	 "and SELECT grant_stock_access('NAME', 'relay') grants its rights."},
	{"starting up", "Wait until the server has started, or see its log."},
	{"", "See [postgres] conninfo, pg_hba.conf and the server's log."},
};

const char *
check_database_advice(const char *reason)
{
	const CheckAdvice *advice = database_advice;

	while (strstr(reason, advice->part) == NULL)
		advice++; /* the last row's text is empty */
	return advice->todo;
}

const char *
check_broker_advice(const char *reason)
{
	if (log_text_is_unknown_host(reason))
		return "See [kafka] bootstrap.servers: the name server of this machine "
			   "does not know that host (getent hosts NAME).";
	if (log_text_is_refused_connection(reason))
		return "See [kafka] bootstrap.servers: the broker must run, and its "
			   "listeners must include that address.";
	return "See [kafka] bootstrap.servers and the security settings.";
}
