/*
 * config.c - the relay's configuration: its values, from file and command line
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "config/config.h"

#include <stdlib.h>
#include <string.h>

#include "config/check.h"
#include "config/options.h"

#define BROKERS "bootstrap.servers"

static bool
config_override(Config *config, const ConfigOverrides *from, Buf *error)
{
	if (from->postgres != NULL)
	{
		if (config_conninfo_holds_password(from->postgres))
		{
			buf_add_str(error, "--postgres holds a password, which "
							   "every user of this machine can read: use the "
							   "configuration file, PGPASSFILE or PGPASSWORD");
			return false;
		}
		secret_free(config->conninfo);
		config->conninfo = xstrdup(from->postgres);
	}
	return from->kafka == NULL ||
		   config_table_set_property(&relay_options, config, BROKERS,
									 from->kafka, error);
}

Config *
config_load(const ConfigOverrides *from, Buf *error)
{
	Config *config = xcalloc(1, sizeof(Config));
	bool	good;

	config_table_init(&relay_options, config);
	good = from->path == NULL ||
		   config_table_read(&relay_options, config, from->path, error);
	if (good && config_override(config, from, error) &&
		config_check(config, from->offline, error))
		return config;
	buf_str(error);
	config_free(config);
	return NULL;
}

void
config_free(Config *config)
{
	if (config == NULL)
		return;
	config_table_clear(&relay_options, config);
	free(config);
}

void
config_reload(Config *config, const Config *fresh, Buf *restart)
{
	config_table_reload(&relay_options, config, fresh, restart);
}

void
config_print_sample(FILE *to)
{
	config_table_print(&relay_options, NULL, to);
}

void
config_print(const Config *config, FILE *to)
{
	Assert(config != NULL);
	config_table_print(&relay_options, config, to);
}

const char *
config_kafka_get(const Config *config, const char *property)
{
	return config_table_property(&relay_options, config, property);
}

char *
config_dlq_topic(const Config *config, const char *topic)
{
	const char *mark = strstr(config->dlq_topic, "{topic}");

	if (mark == NULL)
		return xstrdup(config->dlq_topic);
	return xasprintf("%.*s%s%s", (int) (mark - config->dlq_topic),
					 config->dlq_topic, topic, mark + strlen("{topic}"));
}
