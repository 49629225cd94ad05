/*
 * validate.c - what must hold for the configuration as a whole
 *
 * What libpq, librdkafka or the operating system would refuse later, at each
 * try, is refused here, once.  The text of a secret is in no message.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "config/validate.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/conninfo.h"
#include "common/destination.h"
#include "common/listener.h"
#include "extension/protocol/topic.h"

/* ---- PostgreSQL -------------------------------------------------------- */

/* libpq would refuse it at each try to connect, for ever. */
static bool
config_check_ports(const PQconninfoOption *parsed, Buf *error)
{
	bool good = true;

	for (const PQconninfoOption *o = parsed; good && o->keyword != NULL; o++)
	{
		char **ports;

		if (strcmp(o->keyword, "port") != 0 || o->val == NULL)
			continue;
		ports = strings_split(o->val);
		for (char **port = ports; good && *port != NULL; port++)
		{
			good = is_port(*port);
			if (!good)
				buf_printf(error,
						   "\"conninfo\" in [postgres]: port \"%s\" is not a "
						   "number between 1 and 65535",
						   *port);
		}
		strings_free(ports);
	}
	return good;
}

/*
 * libpq's own message may quote the string, so it is given only where that
 * cannot hold a password.
 */
static bool
config_check_conninfo(const Config *config, Buf *error)
{
	const char		 *conninfo = config->conninfo;
	char			 *message = NULL;
	PQconninfoOption *parsed = PQconninfoParse(conninfo, &message);
	bool			  good = parsed != NULL;

	if (!good)
	{
		bool quotable = strstr(conninfo, "pass") == NULL &&
						strstr(conninfo, "://") == NULL;

		buf_line(error,
				 "\"conninfo\" in [postgres] is not a connection "
				 "string%s%s",
				 quotable && message != NULL ? ": " : "",
				 quotable && message != NULL ? message : "");
	}
	else
		good = config_check_ports(parsed, error);
	Assert(good || error->len > 0);
	conninfo_free(parsed);
	PQfreemem(message);
	return good;
}

/* ---- topics ------------------------------------------------------------ */

static bool
config_is_topic(const char *name)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyz"
								"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t			  len = strlen(name);

	return len >= 1 && len <= 249 && strspn(name, legal) == len &&
		   strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static bool
config_check_dlq(const Config *config, Buf *error)
{
	char *dlq = config_dlq_topic(config, "t");
	bool  good = config_is_topic(dlq);

	free(dlq);
	if (!good)
		buf_printf(error,
				   "\"%s\" in [inbox] dlq_topic cannot be the name of a "
				   "topic",
				   config->dlq_topic);
	return good;
}

static bool
config_check_topics(const Config *config, Buf *error)
{
	for (char **topic = config->topics; *topic != NULL; topic++)
	{
		if (config_is_topic(*topic))
			continue;
		buf_printf(error,
				   "\"%s\" in [inbox] topics cannot be the name of a topic",
				   *topic);
		return false;
	}
	return true;
}

static bool
config_check_levels(const Config *config, Buf *error)
{
	const char *topic = config->levels_topic;
	bool		consumed = false;

	if (topic[0] == '\0')
		return true;
	for (char **name = config->topics; *name != NULL; name++)
		consumed = consumed || strcmp(*name, topic) == 0;
	if (!config_is_topic(topic))
		buf_printf(error,
				   "\"%s\" in [levels] topic cannot be the name of a topic",
				   topic);
	else if (consumed)
		buf_printf(error, "\"%s\" in [levels] topic is consumed", topic);
	else if (strcmp(topic, TOPIC_EVENTS) == 0 ||
			 strcmp(topic, TOPIC_FAILURES) == 0)
		buf_printf(error, "\"%s\" in [levels] topic has stock events", topic);
	return error->len == 0;
}

/* A dead letter in a consumed topic would be given up again, for ever. */
static bool
config_check_dlq_of(const Config *config, const char *topic, Buf *error)
{
	char *dlq = config_dlq_topic(config, topic);

	if (!config_is_topic(dlq))
		buf_printf(error,
				   "\"%s\" in [inbox] dlq_topic cannot be the name of a "
				   "topic for \"%s\"",
				   config->dlq_topic, topic);
	else if (strcmp(dlq, topic) == 0)
		buf_printf(error,
				   "\"%s\" in [inbox] dlq_topic is \"%s\" itself, which is "
				   "consumed",
				   config->dlq_topic, topic);
	free(dlq);
	return error->len == 0;
}

static bool
config_check_dlqs(const Config *config, Buf *error)
{
	bool good = true;

	for (char **topic = config->topics; good && *topic != NULL; topic++)
		good = config_check_dlq_of(config, *topic, error);
	Assert(good || error->len > 0);
	return good;
}

/* ---- alerts ------------------------------------------------------------ */

static bool
config_check_allow(const Config *config, Buf *error)
{
	for (char *const *allow = config->webhook_allow; *allow != NULL; allow++)
		if (!destination_is_rule(*allow))
		{
			buf_printf(error,
					   "\"allow\" in [webhook] holds \"%s\", which is neither "
					   "a host nor a network such as 10.1.0.0/16",
					   *allow);
			return false;
		}
	return true;
}

static bool
config_check_ca(const Config *config, Buf *error)
{
	if (config->webhook_ca[0] == '\0' || access(config->webhook_ca, R_OK) == 0)
		return true;
	buf_printf(error, "\"ca\" in [webhook]: cannot read \"%s\": %s",
			   config->webhook_ca, strerror(errno));
	return false;
}

static bool
config_check_url(const Config *config, Buf *error)
{
	const char *fault;

	if (config->webhook_url[0] == '\0')
		return true;
	fault = destination_url_fault(config->webhook_url, config->webhook_allow,
								  config->webhook_allow_http);
	if (fault != NULL)
		buf_printf(error, "\"url\" in [webhook] %s", fault);
	return fault == NULL;
}

bool
config_validate_webhook(const Config *config, Buf *error)
{
	return config_check_allow(config, error) &&
		   config_check_ca(config, error) && config_check_url(config, error);
}

/* ---- all of it --------------------------------------------------------- */

static bool
config_check_listen(const Config *config, Buf *error)
{
	if (config->http_listen[0] == '\0')
		return true;
	buf_add_str(error, "\"listen\" in [http]: ");
	return listener_check(config->http_listen, error);
}

/* Which keys the message is about, and the function that adds it. */
static const struct
{
	const char *section;
	const char *key;
	bool (*check)(const Config *config, Buf *error);
} config_checks[] = {
	{"postgres", "conninfo", config_check_conninfo},
	{"inbox", "dlq_topic", config_check_dlq},
	{"inbox", "topics", config_check_topics},
	{"inbox", "dlq_topic", config_check_dlqs},
	{"levels", "topic", config_check_levels},
	{"webhook", "allow", config_check_allow},
	{"webhook", "ca", config_check_ca},
	{"webhook", "url", config_check_url},
	{"http", "listen", config_check_listen},
};

static bool
config_names_broker(const Config *config)
{
	return config_kafka_get(config, "bootstrap.servers") != NULL ||
		   config_kafka_get(config, "metadata.broker.list") != NULL;
}

bool
config_validate(const Config *config, bool offline, Buf *error)
{
	Buf	 why = {0};
	bool good = true;

	Assert(error->len == 0);
	for (size_t i = 0; good && i < Lengthof(config_checks); i++)
	{
		buf_clear(&why);
		good = config_checks[i].check(config, &why);
		if (!good)
			config_add_place(config, config_checks[i].section,
							 config_checks[i].key, error);
	}
	if (good && !offline && !config_names_broker(config))
	{
		good = false;
		buf_clear(&why);
		config_add_place(config, "kafka", "bootstrap.servers", error);
		buf_add_str(&why, "no broker is named: \"bootstrap.servers\" in "
						  "[kafka], or --kafka");
	}
	Assert(good || why.len > 0); /* no refusal without a reason */
	if (!good)
		buf_add(error, why.data, why.len);
	buf_free(&why);
	return good;
}
