/*
 * connect_advice.c - the next step where PostgreSQL refuses a connection
 *
 * A connection that fails has no SQLSTATE (libpq 15), so the text decides: that
 * of libpq, which the relay runs without a translation, or of the server, whose
 * lc_messages may be another language: then the advice is missing, and nothing
 * else.  Where the password came from is found in libpq's own order: conninfo,
 * the service's file, PGPASSWORD, the password file.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "db/connect_advice.h"
#include "common/conninfo.h"

#include <stdlib.h>
#include <string.h>

#define REFUSED_CERTIFICATE "certificate verify failed"
#define REFUSED_PASSWORD	"password authentication failed"
#define NO_PASSWORD			"no password supplied"

/* ---- where a value comes from ------------------------------------------ */

static const PQconninfoOption *
connect_option(const PQconninfoOption *parsed, const char *keyword)
{
	while (strcmp(parsed->keyword, keyword) != 0)
	{
		parsed++;
		Assert(parsed->keyword != NULL); /* libpq knows each that is wanted */
	}
	return parsed;
}

static bool
connect_is_in_conninfo(const PQconninfoOption *option)
{
	return option->val != NULL && option->val[0] != '\0';
}

/* Of conninfo, or else of the environment; "" if it is in neither. */
static const char *
connect_value(const PQconninfoOption *option)
{
	const char *value;

	if (connect_is_in_conninfo(option))
		return option->val;
	value = option->envvar != NULL ? getenv(option->envvar) : NULL;
	return value != NULL ? value : "";
}

/* The copy that systemd makes of a credential, at the start only. */
static bool
connect_is_credential(const char *file)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	size_t		len = directory != NULL ? strlen(directory) : 0;

	return len > 0 && strncmp(file, directory, len) == 0 && file[len] == '/';
}

static void
connect_advise_file(const char *file, bool none, Buf *to)
{
	const char *verb = none ? "put the password into" : "see the password in";

	if (file[0] == '\0')
		file = "~/.pgpass";
	if (connect_is_credential(file))
		buf_printf(to,
				   "%s the file that LoadCredential of the unit names, and "
				   "restart the relay: the password file \"%s\" is a copy "
				   "that systemd made at the start",
				   verb, file);
	else if (none)
		buf_printf(to,
				   "%s the password file \"%s\" (PGPASSFILE or passfile names "
				   "another), which must be readable by the relay's user only "
				   "(chmod 600)",
				   verb, file);
	else
		buf_printf(to,
				   "%s the password file \"%s\"; the next try uses what is "
				   "there then",
				   verb, file);
}

/* none: there was no password. */
static void
connect_advise_password(const PQconninfoOption *parsed, bool none, Buf *to)
{
	const PQconninfoOption *password = connect_option(parsed, "password");
	const char *service = connect_value(connect_option(parsed, "service"));

	if (connect_is_in_conninfo(password))
	{
		buf_add_str(to, "see the password in conninfo; a reload takes over "
						"another one");
		return;
	}
	if (service[0] != '\0')
		buf_printf(to,
				   "see the password of service \"%s\" in its service file; "
				   "if there is none, ",
				   service);
	if (connect_value(password)[0] != '\0')
		buf_add_str(to, "see the environment variable PGPASSWORD, for which "
						"libpq leaves the password file unread; another value "
						"needs a restart");
	else
		connect_advise_file(connect_value(connect_option(parsed, "passfile")),
							none, to);
}

/* ---- the advice -------------------------------------------------------- */

/* What does not depend on conninfo; NULL: none. */
static const char *
connect_find_advice(const char *error)
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
	};

	for (size_t i = 0; i < Lengthof(advice); i++)
		if (strstr(error, advice[i][0]) != NULL)
			return advice[i][1];
	return NULL;
}

bool
connect_advise(const char *error, const char *conninfo, Buf *to)
{
	const char		 *phrase = connect_find_advice(error);
	bool			  none = strstr(error, NO_PASSWORD) != NULL;
	PQconninfoOption *parsed;

	if (phrase == NULL && !none && strstr(error, REFUSED_PASSWORD) == NULL)
		return false;
	parsed = phrase == NULL ? PQconninfoParse(conninfo, NULL) : NULL;
	if (phrase != NULL)
		buf_add_str(to, phrase);
	else if (parsed != NULL)
		connect_advise_password(parsed, none, to);
	conninfo_free(parsed);
	return to->len > 0;
}

void
connect_name_place(const char *conninfo, const char *keyword, Buf *to)
{
	PQconninfoOption	   *parsed = PQconninfoParse(conninfo, NULL);
	const PQconninfoOption *option = NULL;

	if (parsed != NULL)
		option = connect_option(parsed, keyword);
	if (option == NULL || connect_is_in_conninfo(option) ||
		connect_value(option)[0] == '\0')
		buf_printf(to, "%s in [postgres] conninfo", keyword);
	else
		buf_printf(to, "%s in the environment", option->envvar);
	conninfo_free(parsed);
}

bool
connect_refused_certificate(const char *error)
{
	return strstr(error, REFUSED_CERTIFICATE) != NULL;
}
