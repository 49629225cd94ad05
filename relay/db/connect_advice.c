/*
 * connect_advice.c - the next step where PostgreSQL refuses a connection
 *
 * A connection that fails has no SQLSTATE (libpq 15), so the text decides: that
 * of libpq, which the relay runs without a translation, or of the server, whose
 * lc_messages may be another language: then the advice is missing, and nothing
 * else.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "db/connect_advice.h"

#include <stddef.h>
#include <string.h>

#include "common/util.h"

#define REFUSED_CERTIFICATE "certificate verify failed"

const char *
connect_advice(const char *error)
{
	/* of several that fit the first counts */
	static const char *const advice[][2] = {
		{REFUSED_CERTIFICATE,
		 "\"pgstock-relay check\" reports what is wrong with the server's "
		 "certificate"},
		{"does not match host name",
		 "connect by a name that the certificate contains (hostaddr may give "
		 "its address), or have a certificate issued for this name"},
		{"root certificate file",
		 "set sslrootcert in conninfo to a file with the certificate of the "
		 "authority that issued the server's"},
		{"private key file",
		 "the file of sslkey must belong to the relay's user (chmod 600), or "
		 "to root with the group of the relay's user (chmod 640)"},
		{"certificate file",
		 "set sslcert and sslkey in conninfo to the relay's certificate and "
		 "its key"},
		{"requires a valid client certificate",
		 "set sslcert and sslkey in conninfo: pg_hba.conf requires a client "
		 "certificate"},
		{"certificate authentication failed",
		 "the certificate's CN must be the role's name, or pg_ident.conf map "
		 "it"},
		{" alert ",
		 "the server refuses the relay's certificate: see sslcert, and "
		 "ssl_ca_file on the server"},
		{"server does not support SSL",
		 "set ssl = on in postgresql.conf, with ssl_cert_file and "
		 "ssl_key_file"},
		{"no encryption",
		 "set sslmode = verify-full in conninfo: pg_hba.conf may have only "
		 "hostssl lines for this role"},
		{"channel binding",
		 "use TLS, and a password that is stored as scram-sha-256: "
		 "channel_binding = require needs both"},
		{"password authentication failed",
		 "see the password in the password file or conninfo; the next try uses "
		 "what is there then, conninfo after a reload"},
		{"no password supplied",
		 "put the password into the password file (PGPASSFILE), which must be "
		 "readable by the relay's user only (chmod 600)"},
	};

	for (size_t i = 0; i < Lengthof(advice); i++)
		if (strstr(error, advice[i][0]) != NULL)
			return advice[i][1];
	return NULL;
}

bool
connect_refused_certificate(const char *error)
{
	return strstr(error, REFUSED_CERTIFICATE) != NULL;
}
