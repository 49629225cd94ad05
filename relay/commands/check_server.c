/*
 * check_server.c - the server's settings, versions and clock
 *
 * The relay's own session has the values that it needs
 * (common/pg_connection.c); what is found here concerns the applications.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_SKEW_US		SEC_US
#define CHECK_SESSIONS_FREE 5

/*
 * The minor version of each release from which acknowledged commits are safe:
 * in those before, a commit just after the start did not always wait for the
 * synchronous standby.  Still older ones changed a struct that extensions use
 * (PostgreSQL 15.9, 16.5, 17.1), or could lose an update of a catalog's row in
 * place.
 */
static const int minor_versions_min[] = {150013, 160009, 170005};

int
check_minor_version_min(int version)
{
	for (size_t i = 0; i < Lengthof(minor_versions_min); i++)
		if (version / 10000 == minor_versions_min[i] / 10000)
			return minor_versions_min[i];
	return 0;
}

static void
check_server_update(Check *check)
{
	int version = PQserverVersion(check->pg);
	int min = check_minor_version_min(version);

	if (version >= min)
		return;
	Assert(version / 10000 == min / 10000); /* no other major version */
	check_advise(check,
				 "Install the newest minor version, %d.%d or later, and "
				 "restart the server.",
				 min / 10000, min % 10000);
	check_find(check, "server: version %d.%d", version / 10000,
			   version % 10000);
}

/* Only that it is older than 3.2 can be seen, by the name of its session. */
static void
check_patroni_version(Check *check)
{
	if (check_fact(check, "old_patroni") == NULL)
		return;
	check_advise(check, "Install the version that docs/high-availability.md "
						"names, on one member after the other, and on the "
						"leader last.");
	check_find(check, "server: it is run by a version of Patroni before 3.2");
}

static void
check_encoding(Check *check)
{
	if (strcmp(check->server.encoding, "UTF8") == 0)
		return;
	check_advise(check, "Dump the database and restore it into one made with "
						"CREATE DATABASE ... TEMPLATE template0 ENCODING "
						"'UTF8'.");
	check_find(check, "database: its encoding is %s", check->server.encoding);
}

static void
check_clock(Check *check)
{
	int64_t ahead = check->ahead_us;

	if (llabs(ahead) < CHECK_SKEW_US + check->about_us)
		return;
	check_advise(check, "Synchronize both clocks (NTP, chronyc tracking).");
	check_find(check,
			   "clock: the database server's is %" PRId64 ".%03" PRId64
			   " s %s that of this host",
			   (int64_t) llabs(ahead) / SEC_US,
			   (int64_t) llabs(ahead) % SEC_US / MS_US,
			   ahead > 0 ? "ahead of" : "behind");
}

/* ---- durability -------------------------------------------------------- */

static void
check_fsync(Check *check)
{
	if (check->server.fsync)
		return;
	check_advise(check, "ALTER SYSTEM SET fsync = on; SELECT "
						"pg_reload_conf()");
	check_find(check, "server: fsync = off");
}

static void
check_disk(Check *check)
{
	const char *found = check_fact(check, "disk");

	if (found == NULL)
		return;
	check_advise(check, "Enlarge the file system, or delete what is not "
						"needed: replication slots that nothing reads keep "
						"WAL (SELECT * FROM pg_replication_slots).");
	check_find(check, "server: the disk of %s", found);
}

static void
check_full_page_writes(Check *check)
{
	if (check->server.full_page_writes)
		return;
	check_advise(check, "ALTER SYSTEM SET full_page_writes = on; SELECT "
						"pg_reload_conf()");
	check_find(check, "server: full_page_writes = off");
}

static void
check_synchronous_commit(Check *check)
{
	const char *found = check_fact(check, "synchronous_commit");

	if (found == NULL)
		return;
	check_advise(check, "Set synchronous_commit = on there; pgstock's early "
						"lock release keeps hot rows fast without it.");
	check_find(check, "server: %s", found);
}

static void
check_publish_after(Check *check)
{
	if (check->config->publish_after != PUBLISH_REMOTE_FLUSH ||
		check_fact(check, "no_standby") == NULL)
		return;
	check_advise(check, "Set synchronous_standby_names on the server, or "
						"[outbox] publish_after = auto.");
	check_find(check, "server: synchronous_standby_names is empty, and "
					  "[outbox] publish_after = remote_flush");
}

static void
check_synchronous_standby(Check *check)
{
	const char *names = check_fact(check, "standby_away");

	if (names == NULL || check->config->publish_after == PUBLISH_LOCAL)
		return;
	check_advise(check, "Start the standby, or find out why it does not "
						"connect: its log; SELECT * FROM pg_stat_replication; "
						"with Patroni, patronictl list.");
	check_find(check,
			   "server: synchronous_standby_names is %s, and no such standby "
			   "is connected",
			   names);
}

/* ---- sessions ---------------------------------------------------------- */

static void
check_read_only(Check *check)
{
	const char *found = check_fact(check, "read_only");

	if (found == NULL)
		return;
	check_advise(check, "Set default_transaction_read_only = off there.");
	check_find(check, "server: %s", found);
}

static void
check_overridden(Check *check)
{
	const char *found = check_fact(check, "overridden");

	if (found == NULL)
		return;
	check_advise(check, "Nothing need be done; ALTER ROLE ... RESET ALL "
						"removes them.");
	check_find(check, "server: role %s has %s", PQuser(check->pg), found);
}

static void
check_connections(Check *check)
{
	int64_t unused = check_fact_number(check, "connections_free", INT64_MAX);

	if (unused >= CHECK_SESSIONS_FREE)
		return;
	check_advise(check, "Raise max_connections and restart the server, or put "
						"the applications, not the relay, behind a pooler.");
	check_find(check, "server: %" PRId64 " of its max_connections are unused",
			   Max(unused, 0));
}

static void
check_connection_limit(Check *check)
{
	int64_t limit = check_fact_number(check, "connection_limit", INT64_MAX);
	int64_t needs = check->config->webhook_url[0] != '\0' ? 3 : 2;

	if (limit >= needs)
		return;
	check_advise(check,
				 "ALTER ROLE %s CONNECTION LIMIT -1; and the same of "
				 "ALTER DATABASE \"%s\".",
				 PQuser(check->pg), PQdb(check->pg));
	check_find(check,
			   "server: CONNECTION LIMIT %" PRId64 " of role %s or database "
			   "%s, and this relay needs %" PRId64,
			   limit, PQuser(check->pg), PQdb(check->pg), needs);
}

static const CheckRow rows[] = {
	{"server_update", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION,
	 check_server_update,
	 "This minor version has known faults that extensions and synchronous "
	 "replication meet."},
	{"patroni_version", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION,
	 check_patroni_version,
	 "Patroni 3.0.2 with etcd3 has taken the lock of a leader that was alive: "
	 "two servers then accept writes, and those of one are lost."},
	{"encoding", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION, check_encoding,
	 "A message with a character that the encoding lacks is dead-lettered."},
	{"clock", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION, check_clock,
	 "Times in messages are compared with the server's, within "
	 "pgstock.clock_tolerance: a cancellation may be taken for stale."},
	{"fsync", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION, check_fsync,
	 "A crash of the operating system can destroy the database."},
	{"disk", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION, check_disk,
	 "A server that cannot write WAL stops."},
	{"full_page_writes", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION,
	 check_full_page_writes,
	 "A crash of the operating system can destroy pages that were written in "
	 "part."},
	{"synchronous_commit", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION,
	 check_synchronous_commit,
	 "A crash of the server loses reservations and payments that were "
	 "acknowledged."},
	{"publish_after", CHECK_ERROR, EXIT_RUNTIME, HAVE_EXTENSION,
	 check_publish_after,
	 "Without a synchronous standby nothing is published in this mode."},
	{"synchronous_standby", CHECK_ERROR, EXIT_RUNTIME, HAVE_EXTENSION,
	 check_synchronous_standby,
	 "Commits wait for it, and no event is published meanwhile."},
	{"read_only", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION, check_read_only,
	 "Calls of applications fail with 25006; the relay's own session is not "
	 "read only."},
	{"overridden", CHECK_NOTE, EXIT_CLEAN, HAVE_EXTENSION, check_overridden,
	 "The relay's session has values of its own, so these have no effect."},
	{"connections", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION,
	 check_connections,
	 "The relay cannot connect again after a network failure if other clients "
	 "take the rest."},
	{"connection_limit", CHECK_ERROR, EXIT_RUNTIME, HAVE_EXTENSION,
	 check_connection_limit,
	 "Outbox and inbox have a session each, and alerts a third."},
};

const CheckGroup check_server_group = {rows, Lengthof(rows)};
