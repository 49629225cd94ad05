/*
 * test_conninfo.c - the order in which servers are tried
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/conninfo.h"

static void
expect_text(const char *is, const char *expected)
{
	if (expected == NULL)
		assert_null(is);
	else
		assert_string_equal(is, expected);
}

/* Rotates the lists behind a server, and compares. */
static void
expect_behind(const ConninfoLists *lists, const char *host, const char *port,
			  const ConninfoLists *expected)
{
	ConninfoHosts hosts = {0};

	conninfo_rotate(&hosts, lists, host, port);
	expect_text(hosts.host, expected->host);
	expect_text(hosts.hostaddr, expected->hostaddr);
	expect_text(hosts.port, expected->port);
	conninfo_free_hosts(&hosts);
}

static void
names_with_a_port_each(void **state UNUSED)
{
	const ConninfoLists lists = {"a,b,c", "", "1,2,3"};

	expect_behind(&lists, "a", "1", &(ConninfoLists){"b,c,a", NULL, "2,3,1"});
	expect_behind(&lists, "b", "2", &(ConninfoLists){"c,a,b", NULL, "3,1,2"});
	expect_behind(&lists, "c", "3", &(ConninfoLists){"a,b,c", NULL, "1,2,3"});
}

static void
one_name_and_several_ports(void **state UNUSED)
{
	const ConninfoLists lists = {"a,a,a", "", "1,2,3"};

	expect_behind(&lists, "a", "2", &(ConninfoLists){"a,a,a", NULL, "3,1,2"});
}

static void
one_port_for_all(void **state UNUSED)
{
	const ConninfoLists lists = {"db-1,db-2", "", "5433"};

	expect_behind(&lists, "db-1", "5433",
				  &(ConninfoLists){"db-2,db-1", NULL, NULL});
}

static void
the_default_port(void **state UNUSED)
{
	const ConninfoLists lists = {"db-1,db-2", "", ""};
	const ConninfoLists empty = {"db-1,db-2,db-3", "", ",,7"};

	expect_behind(&lists, "db-2", "5432",
				  &(ConninfoLists){"db-1,db-2", NULL, NULL});
	expect_behind(&empty, "db-2", "5432",
				  &(ConninfoLists){"db-3,db-1,db-2", NULL, "7,,"});
}

static void
addresses(void **state UNUSED)
{
	const ConninfoLists only = {"", "10.0.0.1,10.0.0.2", ""};
	const ConninfoLists both = {"a,b", "10.0.0.1,10.0.0.2", "1,2"};

	expect_behind(&only, "10.0.0.1", "5432",
				  &(ConninfoLists){NULL, "10.0.0.2,10.0.0.1", NULL});
	expect_behind(&both, "a", "1",
				  &(ConninfoLists){"b,a", "10.0.0.2,10.0.0.1", "2,1"});
}

/* A name that begins like another one, and one that is not in the list. */
static void
other_names(void **state UNUSED)
{
	const ConninfoLists lists = {"db-10,db-1,db-2", "", ""};

	expect_behind(&lists, "db-1", "5432",
				  &(ConninfoLists){"db-2,db-10,db-1", NULL, NULL});
	expect_behind(&lists, "/var/run/postgresql", "5432",
				  &(ConninfoLists){"db-1,db-2,db-10", NULL, NULL});
}

static void
a_server_that_is_alone(void **state UNUSED)
{
	const ConninfoLists none = {"", "", ""};
	const ConninfoLists one = {"db-1", "10.0.0.1", "5433"};

	expect_behind(&none, "/tmp", "5432", &(ConninfoLists){0});
	expect_behind(&one, "db-1", "5433", &(ConninfoLists){0});
}

/* A server that accepts connections, and does not answer. */
static int
listen_somewhere(unsigned *port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(address);
	int		  fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *) &address, len), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &len), 0);
	*port = ntohs(address.sin_port);
	return fd;
}

static void
name_servers(const char *path, const char *hosts, const char *ports)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fprintf(file, "[shop]\nhost=%s\nport=%s\n", hosts, ports);
	fclose(file);
}

/*
 * The story: after the first server that did not answer, the order was kept for
 * the life of the process, and with it servers that were named no more.
 */
static void
an_edit_of_the_service_s_file_counts(void **state UNUSED)
{
	static const char conninfo[] = "service=shop";
	char			  path[] = "/tmp/test_conninfo_XXXXXX";
	int				  file = mkstemp(path);
	unsigned		  first;
	unsigned		  second;
	int				  one = listen_somewhere(&first);
	int				  other = listen_somewhere(&second);
	char			 *ports = xasprintf("%u,%u", first, second);
	char			 *turned = xasprintf("%u,%u", second, first);
	ConninfoHosts	  hosts = {0};
	PGconn			 *attempt;

	assert_true(file >= 0);
	setenv("PGSERVICEFILE", path, 1);
	name_servers(path, "127.0.0.1,127.0.0.1", ports);
	attempt = PQconnectStart(conninfo);
	conninfo_look_again(&hosts, conninfo); /* there is no order yet */
	conninfo_begin_behind(&hosts, attempt);
	expect_text(hosts.port, turned);
	conninfo_look_again(&hosts, conninfo);
	expect_text(hosts.port, turned);
	name_servers(path, "db-9", "5433");
	conninfo_look_again(&hosts, conninfo);
	expect_text(hosts.host, NULL);
	expect_text(hosts.port, NULL);
	PQfinish(attempt);
	unsetenv("PGSERVICEFILE");
	unlink(path);
	close(file);
	close(one);
	close(other);
	free(ports);
	free(turned);
	conninfo_free_hosts(&hosts);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_with_a_port_each),
		cmocka_unit_test(one_name_and_several_ports),
		cmocka_unit_test(one_port_for_all),
		cmocka_unit_test(the_default_port),
		cmocka_unit_test(addresses),
		cmocka_unit_test(other_names),
		cmocka_unit_test(a_server_that_is_alone),
		cmocka_unit_test(an_edit_of_the_service_s_file_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
