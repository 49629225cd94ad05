/*
 * options.c - the gateway's options: their names, limits, defaults and
 * docstrings
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "config/options.h"

#include "common/log.h"
#include "config/config.h"

static const char *const log_levels[] = {
	"error", "warning", "info", "debug", NULL,
};
static const char *const log_formats[] = {"text", "json", NULL};
_Static_assert(Lengthof(log_levels) == LEVEL_DEBUG + 2, "a name for each");
_Static_assert(Lengthof(log_formats) == LOG_JSON + 2, "a name for each");

#define AT(field) offsetof(Config, field)

static const Option options[] = {
	{"gateway", "listen", OPTION_NAMES, 0, AT(listen), "127.0.0.1:8087", NULL,
	 0, 0, NULL,
	 "Addresses of the API, comma-separated: host:port, or unix:/path."},
	{"gateway", "tls_certificate", OPTION_STRING, 0, AT(tls_certificate), "",
	 "/etc/pgstock/gateway.crt", 0, 0, NULL,
	 "PEM file of the certificate, followed by those between it and its\n"
	 "authority; default: none, and no address is encrypted.  With it, all\n"
	 "but Unix sockets are.  A reload reads the three files again."},
	{"gateway", "tls_key", OPTION_STRING, 0, AT(tls_key), "",
	 "/etc/pgstock/gateway.key", 0, 0, NULL, "PEM file of its key."},
	{"gateway", "tls_client_ca", OPTION_STRING, 0, AT(tls_client_ca), "",
	 "/etc/pgstock/clients.crt", 0, 0, NULL,
	 "PEM file of the authorities of clients' certificates, whose subjects\n"
	 "are in the file of tokens; default: clients have tokens only."},
	{"gateway", "tokens", OPTION_STRING, 0, AT(tokens), "",
	 "/etc/pgstock/gateway-tokens", 0, 0, NULL,
	 "File of access tokens, one a line: role, name and SHA-256 of the token,\n"
	 "or role, name and cert:SUBJECT for a client's certificate;\n"
	 "default: none, every client but those of admin_users is an app and a\n"
	 "reader, and listen must be a loopback address or a Unix socket.  A\n"
	 "reload reads the file again."},
	{"gateway", "admin_users", OPTION_NAMES, OPTION_RELOADS, AT(admin_users),
	 "", "root", 0, 0, NULL,
	 "Users of this machine who are administrators when they connect to a\n"
	 "Unix socket, comma-separated, and with them the gateway's own user;\n"
	 "default: nobody.  Not where a proxy that runs as one of them passes\n"
	 "requests of others to the socket."},
	{"gateway", "batch_max", OPTION_INT, OPTION_RELOADS, AT(batch_max), "100",
	 NULL, 1, 1000, NULL, "Reservations that one commit holds at most."},
	{"gateway", "queue_max", OPTION_INT, OPTION_RELOADS, AT(queue_max), "2000",
	 NULL, 1, 3000, NULL,
	 "Requests that wait for a session of one role at most; a further one is\n"
	 "answered with status 503 at once."},
	{"gateway", "rate_client", OPTION_STRING, OPTION_RELOADS, AT(rate_client),
	 "", "500/s", 0, 0, NULL,
	 "Requests of one access token, or without tokens of all clients, that\n"
	 "are served, as 50/s or 3000/m; default: no limit.  A further one gets\n"
	 "status 429."},
	{"gateway", "rate_user", OPTION_STRING, OPTION_RELOADS, AT(rate_user), "",
	 "5/s", 0, 0, NULL, "The same for reservations of one user_id."},
	{"gateway", "rate_sale", OPTION_STRING, OPTION_RELOADS, AT(rate_sale), "",
	 "2000/s", 0, 0, NULL, "The same for purchases in one flash sale."},
	{"gateway", "console", OPTION_BOOL, OPTION_RELOADS, AT(console), "yes",
	 NULL, 0, 0, NULL, "Whether the web console is served, at /console/."},
	{"gateway", "log_level", OPTION_CHOICE, OPTION_RELOADS, AT(log_level),
	 "info", NULL, 0, 0, log_levels, "error, warning, info or debug."},
	{"gateway", "log_format", OPTION_CHOICE, OPTION_RELOADS, AT(log_format),
	 "text", NULL, 0, 0, log_formats, "text or json."},
	{"postgres", "conninfo", OPTION_STRING, OPTION_SECRET, AT(conninfo), "",
	 "host=localhost dbname=shop user=pgstock_gateway", 0, 0, NULL,
	 "A libpq connection string or URI of a role with the level app; PG*\n"
	 "variables and the password file work too."},
	{"postgres", "reader_conninfo", OPTION_STRING, OPTION_SECRET,
	 AT(reader_conninfo), "",
	 "host=localhost dbname=shop user=pgstock_gateway_reader", 0, 0, NULL,
	 "The same for requests that only read, of a role with the level reader;\n"
	 "default: they use sessions of conninfo, and those that need the level\n"
	 "reader are refused."},
	{"postgres", "admin_conninfo", OPTION_STRING, OPTION_SECRET,
	 AT(admin_conninfo), "",
	 "host=localhost dbname=shop user=pgstock_gateway_admin", 0, 0, NULL,
	 "The same for requests of administrators, of a role with the level\n"
	 "admin; default: such requests are refused."},
	{"postgres", "pool", OPTION_INT, 0, AT(pool), "4", NULL, 1, 64, NULL,
	 "Sessions of conninfo, and as many of reader_conninfo."},
};

const ConfigTable gateway_options = {
	.options = options,
	.option_count = Lengthof(options),
	.source = AT(source),
};
