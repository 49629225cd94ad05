/*
 * test_connect_advice.c - libpq's texts about TLS and the login, as it writes
 * them
 *
 * A new version of libpq gets its lines here, beside the old ones.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "db/connect_advice.h"

#define REFUSED AT "FATAL:  password authentication failed for user \"relay\"\n"
#define MISSING AT "fe_sendauth: no password supplied"

#define AT "connection to server at \"10.1.2.3\", port 5432 failed: "

static void
expect(const char *error, const char *conninfo, const char *part)
{
	Buf advice = {0};

	assert_true(connect_advise(error, conninfo, &advice));
	if (strstr(buf_str(&advice), part) == NULL)
		fail_msg("%s: %s", error, buf_str(&advice));
	buf_free(&advice);
}

static void
expect_none(const char *error)
{
	Buf advice = {0};

	assert_false(connect_advise(error, "", &advice));
	assert_true(advice.len == 0);
	buf_free(&advice);
}

static void
each_refusal_has_its_own_advice(void **state UNUSED)
{
	static const char *const lines[][2] = {
		{AT "SSL error: certificate verify failed", "pgstock-relay check"},
		{AT
		 "server certificate for \"other\" (and 1 other name) does not match "
		 "host name \"10.1.2.3\"",
		 "connect by a name"},
		{AT "root certificate file \"/ca.pem\" does not exist", "sslrootcert"},
		{AT
		 "could not read root certificate file \"/ca.pem\": no certificate or "
		 "crl found",
		 "sslrootcert"},
		{AT "certificate present, but not private key file \"/relay.key\"",
		 "sslkey"},
		{AT "private key file \"/relay.key\" has group or world access",
		 "group of the relay's user (chmod 640)"},
		{AT "could not open certificate file \"/relay.crt\": No such file or "
			"directory",
		 "sslcert"},
		{AT "FATAL:  connection requires a valid client certificate",
		 "sslcert"},
		{AT "FATAL:  certificate authentication failed for user \"relay\"",
		 "pg_ident.conf"},
		{AT "SSL error: tlsv1 alert unknown ca", "ssl_ca_file"},
		{AT "server does not support SSL, but SSL was required", "ssl = on"},
		{AT
		 "FATAL:  no pg_hba.conf entry for host \"10.1.2.3\", user \"relay\", "
		 "database \"shop\", no encryption",
		 "sslmode"},
		{AT "channel binding required, but SSL not in use", "channel_binding"},
		{REFUSED, "see the password"},
		{MISSING, "PGPASSFILE"},
	};

	for (size_t i = 0; i < Lengthof(lines); i++)
		expect(lines[i][0], "", lines[i][1]);
}

/* The advice names the place that libpq uses, and no other. */
static void
the_password_s_place_is_named(void **state UNUSED)
{
	expect(REFUSED, "", "password file \"~/.pgpass\"; the next try");
	expect(REFUSED, "passfile=/own", "password file \"/own\"; the next try");
	setenv("PGPASSFILE", "/etc/pgpass", 1);
	expect(REFUSED, "", "password file \"/etc/pgpass\"; the next try");
	expect(MISSING, "", "password file \"/etc/pgpass\" (PGPASSFILE");
	expect(REFUSED, "passfile=/own", "password file \"/own\"");
	/* systemd's copy of a credential is not to be changed */
	setenv("CREDENTIALS_DIRECTORY", "/run/credentials/relay", 1);
	expect(REFUSED, "", "password file \"/etc/pgpass\"; the next try");
	setenv("PGPASSFILE", "/run/credentials/relay/pgpass", 1);
	expect(REFUSED, "", "that LoadCredential of the unit names, and restart");
	expect(MISSING, "", "that LoadCredential of the unit names, and restart");
	setenv("PGPASSFILE", "/run/credentials/relayed", 1);
	expect(REFUSED, "", "the next try");
	/* before any file */
	setenv("PGPASSWORD", "secret", 1);
	expect(REFUSED, "", "PGPASSWORD");
	expect(REFUSED, "passfile=/own", "leaves the password file unread");
	setenv("PGPASSWORD", "", 1);
	expect(REFUSED, "passfile=/own", "password file \"/own\"");
	/* before the environment */
	setenv("PGPASSWORD", "secret", 1);
	expect(REFUSED, "password=p", "in conninfo; a reload");
	expect(REFUSED, "service=shop", "of service \"shop\" in its service file");
	unsetenv("PGPASSWORD");
	unsetenv("PGPASSFILE");
	unsetenv("CREDENTIALS_DIRECTORY");
}

static void
expect_place(const char *conninfo, const char *keyword, const char *place)
{
	Buf found = {0};

	connect_name_place(conninfo, keyword, &found);
	assert_string_equal(buf_str(&found), place);
	buf_free(&found);
}

static void
a_parameter_s_place_is_named(void **state UNUSED)
{
	expect_place("host=h", "host", "host in [postgres] conninfo");
	expect_place("", "host", "host in [postgres] conninfo");
	setenv("PGHOST", "h", 1);
	expect_place("", "host", "PGHOST in the environment");
	expect_place("host=h", "host", "host in [postgres] conninfo");
	expect_place("postgresql://h/", "host", "host in [postgres] conninfo");
	unsetenv("PGHOST");
}

static void
another_error_has_none(void **state UNUSED)
{
	expect_none(AT "Connection refused");
	expect_none(AT "FATAL:  database \"shop\" does not exist");
	expect_none("");
	assert_true(
		connect_refused_certificate(AT "SSL error: certificate verify failed"));
	assert_false(connect_refused_certificate(AT "Connection refused"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_refusal_has_its_own_advice),
		cmocka_unit_test(the_password_s_place_is_named),
		cmocka_unit_test(a_parameter_s_place_is_named),
		cmocka_unit_test(another_error_has_none),
	};

	return cmocka_run_group_tests_name("connect_advice", tests, NULL, NULL);
}
