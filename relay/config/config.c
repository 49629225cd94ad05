/*
 * config.c - the relay's configuration: its values
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "config/config.h"

#include <stdlib.h>
#include <string.h>

#include "common/conninfo.h"
#include "config/options.h"

void
config_free(Config *config)
{
	if (config == NULL)
		return;
	config_table_clear(&relay_options, config);
	free(config);
}

/*
 * A conninfo of the same database is taken over for the next connections: it
 * may have another password.  Another server needs a restart, as sessions with
 * two databases at once would mix them up.
 */
static void
config_reload_conninfo(Config *config, const Config *fresh)
{
	if (!conninfo_is_same_database(config->conninfo, fresh->conninfo))
		return;
	secret_free(config->conninfo);
	config->conninfo = xstrdup(fresh->conninfo);
}

void
config_reload(Config *config, const Config *fresh, Buf *restart)
{
	if (config != fresh)
		config_reload_conninfo(config, fresh);
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

void
config_add_place(const Config *config, const char *section, const char *key,
				 Buf *text)
{
	if (config->conninfo_overridden && strcmp(key, "conninfo") == 0)
		buf_add_str(text, "--postgres, in place of ");
	else
		config_table_add_place(&relay_options, config, section, key, text);
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
