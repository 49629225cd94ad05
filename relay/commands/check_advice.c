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

#include "db/connect_advice.h"
#include "kafka/log_text.h"

typedef struct CheckAdvice
{
	const char *part;	 /* of the reason */
	const char *keyword; /* of conninfo, which to see first; NULL: none */
	const char *todo;
} CheckAdvice;

static const CheckAdvice database_advice[] = {
	{"could not translate host name", "host",
	 ": the name server of this machine does not know it (getent hosts "
	 "NAME)."},
	{"Connection refused", "host",
	 ", and port; the server must run, and its listen_addresses must include "
	 "that address."},
	{"No such file or directory", "host",
	 ": without it, libpq looks for a server on this machine, by its Unix "
	 "socket."},
	{"timeout expired", "host",
	 ", and port, and the firewalls between this machine and the server."},
	{"no pg_hba.conf entry", NULL,
	 "Add a line for this user, database and address to the server's "
	 "pg_hba.conf, and reload the server."},
	{"too many c", NULL,
	 "The relay needs two sessions, three with alerts: end sessions that are "
	 "not used, or raise max_connections or the CONNECTION LIMIT."},
	{"remaining connection slots", NULL,
	 "The relay needs two sessions, three with alerts: end sessions that are "
	 "not used, or raise max_connections."},
	{"database \"", "dbname", "; psql -l lists the databases."},
	{"role \"", "user",
	 "; CREATE ROLE NAME LOGIN creates a role, and SELECT "
	 "grant_stock_access('NAME', 'relay') grants its rights."},
	{"starting up", NULL, "Wait until the server has started, or see its log."},
	{"", NULL, "See [postgres] conninfo, pg_hba.conf and the server's log."},
};

void
check_database_advice(const char *reason, const char *conninfo, Buf *to)
{
	const CheckAdvice *advice = database_advice;

	while (strstr(reason, advice->part) == NULL)
		advice++; /* the last row's text is empty */
	Assert(advice < database_advice + Lengthof(database_advice));
	if (advice->keyword != NULL)
	{
		buf_add_str(to, "See ");
		connect_name_place(conninfo, advice->keyword, to);
	}
	buf_add_str(to, advice->todo);
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
