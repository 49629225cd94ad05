/*
 * check_configuration.c - the relay's own host: its file, its address
 *
 * What the configuration alone shows to be wrong is refused before any check,
 * with exit code 2 (config/validate.c).
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>

#include "common/conninfo.h"
#include "common/json.h"
#include "common/listener.h"
#include "config/validate.h"

/* of /status, as no other program writes it */
#define RELAY_STATUS "\"components\":{\"outbox\":"

/* of the packaged service's user */
#define SERVICE_GROUP "pgstock"

static void
check_configuration(Check *check)
{
	if (check->path != NULL)
		check_pass(check, "configuration %s", check->path);
	else
		check_pass(check, "configuration");
}

/* The option or property of the configuration that is a secret, or NULL. */
static const char *
check_find_secret(const Config *config)
{
	if (conninfo_holds_password(config->conninfo))
		return "[postgres] conninfo with a password";
	for (char **pair = config->kafka; *pair != NULL; pair += 2)
		if (kafka_property_is_secret(pair[0]))
			return pair[0];
	if (config->webhook_secret[0] != '\0')
		return "[webhook] secret";
	if (config->webhook_url[0] != '\0')
		return "[webhook] url";
	return NULL;
}

/* A service that is not root reads a file of root's by its group. */
static void
check_advise_mode(Check *check, const struct stat *file)
{
	if (file->st_uid != 0)
		check_advise(check, "chmod o-rwx %s", check->path);
	else if (getgrnam(SERVICE_GROUP) != NULL)
		check_advise(check, "chgrp " SERVICE_GROUP " %s && chmod 640 %s",
					 check->path, check->path);
	else
		check_advise(check,
					 "chgrp GROUP %s && chmod 640 %s, where GROUP is the group "
					 "of the relay's user",
					 check->path, check->path);
}

static void
check_config_file(Check *check)
{
	const char *secret = check_find_secret(check->config);
	struct stat file;

	if (check->path == NULL || secret == NULL ||
		stat(check->path, &file) != 0 || (file.st_mode & S_IROTH) == 0)
		return;
	check_advise_mode(check, &file);
	check_find(check,
			   "configuration %s: mode %04o lets every user of this machine "
			   "read it, and it holds %s",
			   check->path, file.st_mode & 07777, secret);
}

/* Whether the page is that of a relay with this name. */
static bool
check_is_own_status(const Config *config, const char *page)
{
	Buf	 own = {0};
	bool found;

	buf_add_str(&own, "\"name\":");
	json_add_string(&own, config->name);
	found = strstr(page, buf_str(&own)) != NULL &&
			strstr(page, RELAY_STATUS) != NULL;
	buf_free(&own);
	return found;
}

/* One that may pass: "run" ends with the same code, and is started again. */
static void
check_http_address(Check *check)
{
	const char *listen = check->config->http_listen;
	int			reason = 0;

	if (listen[0] != '\0')
		reason = listener_probe(listen);
	if (reason == 0 || !listener_may_pass(reason))
		return;
	check_advise(check, "Set [http] listen to an address of this machine (ip "
						"address); an address that is assigned later needs "
						"no change.");
	check_find(check, "http: cannot listen on %s: %s", listen,
			   strerror(reason));
}

static void
check_http_port(Check *check)
{
	const char *listen = check->config->http_listen;
	Buf			page = {0};
	int			reason;

	if (listen[0] == '\0')
		return;
	reason = listener_probe(listen);
	if (reason != 0 && listener_may_pass(reason))
		return; /* check_http_address() */
	if (reason == 0)
		check_pass(check, "http: %s is free", listen);
	else if (reason == EADDRINUSE &&
			 check_read_page(listen, "/status", &page) &&
			 check_is_own_status(check->config, buf_str(&page)))
		check_pass(check, "http: %s is served by the relay \"%s\", which runs",
				   listen, check->config->name);
	else
	{
		check_advise(check,
					 "Set [http] listen to an address of this machine with a "
					 "free port; ss -ltnp shows which process has a port.");
		check_find(check, "http: cannot listen on %s: %s%s", listen,
				   strerror(reason),
				   strstr(buf_str(&page), RELAY_STATUS) != NULL
					   ? ": another pgstock-relay has it"
					   : "");
	}
	buf_free(&page);
}

/* Its form was checked with the configuration; no alert is sent to try it. */
static void
check_webhook(Check *check)
{
	const Config *config = check->config;

	Assert(config->webhook_format >= 0);
	Assert(config->webhook_format < ALERT_FORMATS);
	if (config->webhook_url[0] == '\0')
		check_pass(check, "webhook: no url, no alerts are sent");
	else
		check_pass(check, "webhook: format %s, %s, %s",
				   config_alert_formats[config->webhook_format],
				   config->webhook_secret[0] != '\0' ? "signed" : "not signed",
				   config->webhook_allow[0] != NULL
					   ? "only where \"allow\" says"
					   : "to public addresses only");
}

static const CheckRow rows[] = {
	{"configuration", CHECK_OK, EXIT_CLEAN, 0, check_configuration, NULL},
	{"config_file", CHECK_WARNING, EXIT_CLEAN, 0, check_config_file,
	 "A user who reads the secret can act as the relay."},
	{"http_address", CHECK_ERROR, EXIT_RUNTIME, 0, check_http_address,
	 "The relay ends at once if it cannot serve its metrics and probes, and "
	 "systemd starts it again."},
	{"http_port", CHECK_ERROR, EXIT_USAGE, 0, check_http_port,
	 "The relay ends at once if it cannot serve its metrics and probes."},
	{"webhook", CHECK_OK, EXIT_CLEAN, 0, check_webhook, NULL},
};

const CheckGroup check_configuration_group = {rows, Lengthof(rows)};
