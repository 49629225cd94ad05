/*
 * test_connect_advice.c - libpq's texts about TLS and the login, as it writes
 * them
 *
 * A new version of libpq gets its lines here, beside the old ones.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "db/connect_advice.h"

#define AT "connection to server at \"10.1.2.3\", port 5432 failed: "

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
		{AT "FATAL:  password authentication failed for user \"relay\"\n",
		 "see the password"},
		{AT "fe_sendauth: no password supplied", "PGPASSFILE"},
	};

	for (size_t i = 0; i < Lengthof(lines); i++)
	{
		const char *advice = connect_advice(lines[i][0]);

		assert_non_null(advice);
		if (strstr(advice, lines[i][1]) == NULL)
			fail_msg("%s: %s", lines[i][0], advice);
	}
}

static void
another_error_has_none(void **state UNUSED)
{
	assert_null(connect_advice(AT "Connection refused"));
	assert_null(connect_advice(AT "FATAL:  database \"shop\" does not exist"));
	assert_null(connect_advice(""));
	assert_true(
		connect_refused_certificate(AT "SSL error: certificate verify failed"));
	assert_false(connect_refused_certificate(AT "Connection refused"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_refusal_has_its_own_advice),
		cmocka_unit_test(another_error_has_none),
	};

	return cmocka_run_group_tests_name("connect_advice", tests, NULL, NULL);
}
