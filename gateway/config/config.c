/*
 * config.c - the gateway's configuration, from file and command line
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "config/config.h"

#include <stdlib.h>
#include <string.h>

#include "access/rate.h"
#include "common/conninfo.h"
#include "common/listener.h"
#include "config/options.h"

void
config_free(Config *config)
{
	if (config == NULL)
		return;
	config_table_clear(&gateway_options, config);
	free(config);
}

static bool
config_read_rate(const char *name, const char *text, double *per_second,
				 Buf *error)
{
	Buf	 why = {0};
	bool good = rate_parse(text, per_second, &why);

	if (!good)
		buf_printf(error, "\"%s\": %s", name, buf_str(&why));
	buf_free(&why);
	Assert(!good || (*per_second >= 0 && *per_second <= RATE_MAX));
	return good;
}

static bool
config_read_rates(Config *config, Buf *error)
{
	return config_read_rate("rate_user", config->rate_user, &config->user_rate,
							error) &&
		   config_read_rate("rate_client", config->rate_client,
							&config->client_rate, error) &&
		   config_read_rate("rate_sale", config->rate_sale, &config->sale_rate,
							error);
}

static bool
config_check_listen(const Config *config, Buf *error)
{
	size_t count = strings_count(config->listen);

	if (count < 1 || count > LISTEN_MAX)
	{
		buf_printf(error, "\"listen\" must have 1 to %d addresses", LISTEN_MAX);
		return false;
	}
	for (size_t i = 0; i < count; i++)
	{
		if (!listener_check(config->listen[i], error))
			return false;
		if (config->tokens[0] == '\0' && !listener_is_local(config->listen[i]))
		{
			buf_printf(error,
					   "without \"tokens\" everyone who reaches %s could "
					   "reserve stock: name a file of tokens, or listen on "
					   "127.0.0.1 or a Unix socket",
					   config->listen[i]);
			return false;
		}
	}
	return true;
}

static bool
config_check_tls(const Config *config, Buf *error)
{
	bool certificate = config->tls_certificate[0] != '\0';
	bool authority = config->tls_client_ca[0] != '\0';

	if (certificate != (config->tls_key[0] != '\0'))
		buf_add_str(error, "give \"tls_certificate\" and \"tls_key\", or "
						   "neither");
	else if (authority && !certificate)
		buf_add_str(error, "\"tls_client_ca\" needs \"tls_certificate\" and "
						   "\"tls_key\"");
	else if (authority && config->tokens[0] == '\0')
		buf_add_str(error, "\"tls_client_ca\" needs \"tokens\", the file that "
						   "gives the role of each certificate");
	return error->len == 0;
}

static bool
config_check(const Config *config, const ConfigOrigin *from, Buf *error)
{
	if (from->postgres != NULL && conninfo_holds_password(from->postgres))
	{
		buf_add_str(error, "--postgres holds a password, which every user of "
						   "this machine can read: use the configuration file, "
						   "PGPASSFILE or PGPASSWORD");
		return false;
	}
	return config_check_listen(config, error) &&
		   config_check_tls(config, error);
}

/* In place of a value that was read. */
static void
config_override(char **value, const char *given)
{
	if (given == NULL)
		return;
	secret_free(*value);
	*value = xstrdup(given);
}

Config *
config_load(const ConfigOrigin *from, Buf *error)
{
	Config *config = xcalloc(1, sizeof(Config));
	bool	good;

	Assert(error->len == 0);
	config_table_init(&gateway_options, config);
	good = from->path == NULL ||
		   config_table_read(&gateway_options, config, from->path, error);
	if (good)
	{
		config_override(&config->conninfo, from->postgres);
		if (from->listen != NULL)
		{
			strings_free(config->listen);
			config->listen = strings_split(from->listen);
		}
	}
	if (good && config_check(config, from, error) &&
		config_read_rates(config, error))
		return config;
	Assert(error->len > 0);
	config_free(config);
	return NULL;
}

/* A new password is taken over; another database needs a restart. */
static void
config_reload_conninfo(char **conninfo, const char *fresh)
{
	if (conninfo_is_same_database(*conninfo, fresh))
		config_override(conninfo, fresh);
}

/* Whether there is TLS is decided at the start. */
bool
config_reloads_tls(const Config *config, const Config *fresh)
{
	return config->tls_certificate[0] != '\0' &&
		   fresh->tls_certificate[0] != '\0';
}

static void
config_reload_tls(Config *config, const Config *fresh)
{
	if (!config_reloads_tls(config, fresh))
		return;
	config_override(&config->tls_certificate, fresh->tls_certificate);
	config_override(&config->tls_key, fresh->tls_key);
	config_override(&config->tls_client_ca, fresh->tls_client_ca);
}

void
config_reload(Config *config, const Config *fresh, Buf *restart)
{
	if (config != fresh)
	{
		config_reload_conninfo(&config->conninfo, fresh->conninfo);
		config_reload_conninfo(&config->reader_conninfo,
							   fresh->reader_conninfo);
		config_reload_conninfo(&config->admin_conninfo, fresh->admin_conninfo);
		config_reload_tls(config, fresh);
	}
	config_table_reload(&gateway_options, config, fresh, restart);
	config->user_rate = fresh->user_rate;
	config->client_rate = fresh->client_rate;
	config->sale_rate = fresh->sale_rate;
}

void
config_print(const Config *config, FILE *to)
{
	config_table_print(&gateway_options, config, to);
}
