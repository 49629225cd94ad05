/*
 * load.c - the configuration, from file and command line
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "config/load.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/conninfo.h"
#include "config/options.h"
#include "config/validate.h"

#define BROKERS "bootstrap.servers"
#define HOST	"{host}"

static bool
config_override(Config *config, const ConfigOverrides *from, Buf *error)
{
	if (from->postgres != NULL)
	{
		if (conninfo_holds_password(from->postgres))
		{
			buf_add_str(error, "--postgres holds a password, which "
							   "every user of this machine can read: use the "
							   "configuration file, PGPASSFILE or PGPASSWORD");
			return false;
		}
		secret_free(config->conninfo);
		config->conninfo = xstrdup(from->postgres);
		config->conninfo_overridden = true;
	}
	return from->kafka == NULL ||
		   config_table_set_property(&relay_options, config, BROKERS,
									 from->kafka, error);
}

/*
 * Of a name that is too long the end is kept: it is what distinguishes the pods
 * of Kubernetes.
 */
static void
config_name_host(Config *config)
{
	char   host[HOST_NAME_MAX + 1] = "";
	char  *at = strstr(config->name, HOST);
	char  *name;
	size_t len;

	if (at == NULL)
		return;
	(void) gethostname(host, sizeof(host) - 1);
	name = xasprintf("%.*s%s%s", (int) (at - config->name), config->name,
					 host[0] != '\0' ? host : "unknown", at + strlen(HOST));
	len = strlen(name);
	free(config->name);
	config->name = xstrdup(name +
						   (len > CONFIG_NAME_MAX ? len - CONFIG_NAME_MAX : 0));
	free(name);
}

Config *
config_load(const ConfigOverrides *from, Buf *error)
{
	Config *config = xcalloc(1, sizeof(Config));
	bool	good;

	Assert(error->len == 0);
	config_table_init(&relay_options, config);
	good = from->path == NULL ||
		   config_table_read(&relay_options, config, from->path, error);
	if (good)
		config_name_host(config);
	if (good && config_override(config, from, error) &&
		config_validate(config, from->offline, error))
	{
		Assert(error->len == 0);
		return config;
	}
	Assert(error->len > 0);
	buf_str(error);
	config_free(config);
	return NULL;
}
