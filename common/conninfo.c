/*
 * conninfo.c - what libpq's connection strings hold
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/conninfo.h"

#include <stdlib.h>
#include <string.h>

#define HOST_S_MIN 2 /* as libpq has it, for whole seconds are coarse */

void
conninfo_free(PQconninfoOption *parsed)
{
	for (PQconninfoOption *o = parsed; o != NULL && o->keyword != NULL; o++)
		if (o->val != NULL && strstr(o->keyword, "password") != NULL)
			explicit_bzero(o->val, strlen(o->val));
	PQconninfoFree(parsed);
}

bool
conninfo_holds_password(const char *conninfo)
{
	PQconninfoOption *parsed = PQconninfoParse(conninfo, NULL);
	bool			  found = false;

	for (PQconninfoOption *o = parsed; o != NULL && o->keyword != NULL; o++)
		if (strstr(o->keyword, "password") != NULL && o->val != NULL)
			found = true;
	conninfo_free(parsed);
	return found;
}

static const char *
conninfo_value(const PQconninfoOption *parsed, const char *keyword)
{
	for (const PQconninfoOption *o = parsed; o->keyword != NULL; o++)
		if (strcmp(o->keyword, keyword) == 0)
			return o->val != NULL ? o->val : "";
	return "";
}

/*
 * libpq's default for it is the user's name, and that of a service's file is
 * not read here.
 */
static bool
conninfo_names_database(const PQconninfoOption *parsed)
{
	return conninfo_value(parsed, "dbname")[0] != '\0';
}

bool
conninfo_is_same_database(const char *conninfo, const char *other)
{
	static const char *const identity[] = {
		"host", "hostaddr", "port", "dbname", "service", "options",
	};
	PQconninfoOption *a = PQconninfoParse(conninfo, NULL);
	PQconninfoOption *b = PQconninfoParse(other, NULL);
	bool			  same = a != NULL && b != NULL;

	for (size_t i = 0; same && i < Lengthof(identity); i++)
		same = strcmp(conninfo_value(a, identity[i]),
					  conninfo_value(b, identity[i])) == 0;
	if (same && !conninfo_names_database(a))
		same = strcmp(conninfo_value(a, "user"), conninfo_value(b, "user")) ==
			   0;
	conninfo_free(a);
	conninfo_free(b);
	return same;
}

char *
conninfo_options(const char *conninfo)
{
	PQconninfoOption *parsed = PQconninfoParse(conninfo, NULL);
	const char		 *options = getenv("PGOPTIONS");
	char			 *copy;

	for (PQconninfoOption *o = parsed; o != NULL && o->keyword != NULL; o++)
		if (strcmp(o->keyword, "options") == 0 && o->val != NULL)
			options = o->val;
	copy = xstrdup(options != NULL ? options : "");
	conninfo_free(parsed);
	return copy;
}

/* ---- several servers --------------------------------------------------- */

static int
conninfo_count(const char *list)
{
	int count = 1;

	for (; *list != '\0'; list++)
		count += *list == ',';
	return count;
}

/* The part of a list with this number; of a list with one part that one. */
static const char *
conninfo_part(const char *list, int number, size_t *len)
{
	if (conninfo_count(list) == 1)
		number = 0;
	Assert(number >= 0 && number < conninfo_count(list));
	for (; number > 0; number--)
		list = strchr(list, ',') + 1;
	*len = strcspn(list, ",");
	return list;
}

static bool
conninfo_part_is(const char *list, int number, const char *text)
{
	size_t		len;
	const char *part = conninfo_part(list, number, &len);

	return strlen(text) == len && strncmp(part, text, len) == 0;
}

/* The number of a server; that of the first if none is this one. */
static int
conninfo_find(const ConninfoLists *lists, int count, const char *host,
			  const char *port)
{
	for (int i = 0; i < count; i++)
		if ((conninfo_part_is(lists->host, i, host) ||
			 conninfo_part_is(lists->hostaddr, i, host)) &&
			(conninfo_part_is(lists->port, i, port) ||
			 conninfo_part_is(lists->port, i, "")))
			return i;
	return 0;
}

/*
 * The list from that part on, and then what stands before it; NULL if all
 * servers share its one part.
 */
static char *
conninfo_list_from(const char *list, int first)
{
	size_t		len;
	const char *from = conninfo_part(list, first, &len);

	if (conninfo_count(list) == 1)
		return NULL;
	if (from == list)
		return xstrdup(list);
	return xasprintf("%s,%.*s", from, (int) (from - list - 1), list);
}

void
conninfo_free_hosts(ConninfoHosts *hosts)
{
	free(hosts->host);
	free(hosts->hostaddr);
	free(hosts->port);
	free(hosts->named);
	*hosts = (ConninfoHosts){0};
}

void
conninfo_rotate(ConninfoHosts *hosts, const ConninfoLists *lists,
				const char *host, const char *port)
{
	int count = Max(conninfo_count(lists->host),
					conninfo_count(lists->hostaddr));
	int first = (conninfo_find(lists, count, host, port) + 1) % count;

	Assert(first >= 0 && first < count);
	conninfo_free_hosts(hosts);
	if (count == 1)
		return;
	*hosts = (ConninfoHosts){
		.host = conninfo_list_from(lists->host, first),
		.hostaddr = conninfo_list_from(lists->hostaddr, first),
		.port = conninfo_list_from(lists->port, first),
	};
}

static char *
conninfo_named(const PQconninfoOption *used)
{
	return xasprintf("%s\n%s\n%s", conninfo_value(used, "host"),
					 conninfo_value(used, "hostaddr"),
					 conninfo_value(used, "port"));
}

void
conninfo_begin_behind(ConninfoHosts *hosts, PGconn *attempt)
{
	PQconninfoOption *used = PQconninfo(attempt);
	const char		 *host = PQhost(attempt);
	const char		 *port = PQport(attempt);
	char			 *named = hosts->named;

	if (used == NULL || host == NULL || port == NULL)
		return;
	hosts->named = NULL;
	if (named == NULL)
		named = conninfo_named(used);
	conninfo_rotate(hosts,
					&(ConninfoLists){
						.host = conninfo_value(used, "host"),
						.hostaddr = conninfo_value(used, "hostaddr"),
						.port = conninfo_value(used, "port"),
					},
					host, port);
	hosts->named = named;
	conninfo_free(used);
}

/*
 * libpq reads the service's file for an attempt only.  This one it refuses
 * before it opens a socket.
 */
static PQconninfoOption *
conninfo_read(const char *conninfo)
{
	const char *const keywords[] = {"dbname", "sslmode", NULL};
	const char *const values[] = {conninfo, "none such", NULL};
	PGconn			 *refused = PQconnectStartParams(keywords, values, 1);
	PQconninfoOption *read = PQconninfo(refused);

	Assert(refused == NULL || PQstatus(refused) == CONNECTION_BAD);
	PQfinish(refused);
	return read;
}

void
conninfo_look_again(ConninfoHosts *hosts, const char *conninfo)
{
	PQconninfoOption *read;
	char			 *named;

	if (hosts->named == NULL)
		return;
	read = conninfo_read(conninfo);
	if (read == NULL)
		return;
	named = conninfo_named(read);
	if (strcmp(named, hosts->named) != 0)
		conninfo_free_hosts(hosts);
	free(named);
	conninfo_free(read);
}

int64_t
conninfo_host_us(PGconn *attempt)
{
	PQconninfoOption *used = PQconninfo(attempt);
	long			  seconds;

	if (used == NULL)
		return 0;
	seconds = strtol(conninfo_value(used, "connect_timeout"), NULL, 10);
	conninfo_free(used);
	return seconds > 0 ? Max(seconds, HOST_S_MIN) * SEC_US : 0;
}
