/*
 * check_settings.c - where the checks look up what was read before
 *
 * A value that was not read is not known, and no check fails for it.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <stdlib.h>
#include <string.h>

const char *
check_fact(const Check *check, const char *name)
{
	return check->facts != NULL ? api_find_value(check->facts, name) : NULL;
}

int64_t
check_fact_number(const Check *check, const char *name, int64_t unknown)
{
	const char *value = check_fact(check, name);

	return value != NULL ? strtoll(value, NULL, 10) : unknown;
}

const char *
check_setting(const Check *check, const char *topic, const char *name)
{
	return kafka_setting(check->topic_settings, topic, name);
}

int64_t
check_setting_number(const Check *check, const char *topic, const char *name,
					 int64_t unknown)
{
	const char *value = check_setting(check, topic, name);

	return value != NULL ? strtoll(value, NULL, 10) : unknown;
}

bool
check_has_broker_times(const Check *check, const char *topic)
{
	const char *value = check_setting(check, topic, "message.timestamp.type");

	return value != NULL && strcmp(value, "LogAppendTime") == 0;
}

const char *
check_broker_setting(const Check *check, const char *name)
{
	char		id[16];
	const char *value;

	Assert(check->metadata->broker_cnt > 0); /* HAVE_ANSWERS says so */
	snprintf(id, sizeof(id), "%d", check->metadata->brokers[0].id);
	value = kafka_setting(check->broker_settings, id, name);
	return value != NULL ? value : "";
}

const char *
check_servers(const Check *check)
{
	const char *servers = config_kafka_get(check->config, "bootstrap.servers");

	return servers != NULL
			   ? servers
			   : config_kafka_get(check->config, "metadata.broker.list");
}

void
check_advise_setting(Check *check, const char *topic, const char *setting)
{
	Assert(strchr(setting, '=') != NULL);
	check_advise(check,
				 "kafka-configs.sh --bootstrap-server %s --alter --topic %s "
				 "--add-config %s",
				 check_servers(check), topic, setting);
}

const struct rd_kafka_metadata_topic *
check_topic(const Check *check, const char *name)
{
	return command_find_topic(check->metadata, name);
}

void
check_list_topics(const Check *check, char *const *topics, CheckTopicIsBad bad,
				  Buf *to)
{
	for (; *topics != NULL; topics++)
		if (check_topic(check, *topics) != NULL && bad(check, *topics))
			buf_printf(to, "%s%s", to->len > 0 ? ", " : "", *topics);
	buf_str(to);
}

void
check_find_topics(Check *check, CheckTopicIsBad bad, CheckTopics which,
				  const char *setting, const char *what)
{
	Buf topics = {0};

	if (which != CHECK_CONSUMED)
		check_list_topics(check, check->published, bad, &topics);
	if (which != CHECK_PUBLISHED)
		check_list_topics(check, check->config->topics, bad, &topics);
	if (topics.len > 0)
	{
		char *first = xasprintf("%.*s", (int) strcspn(buf_str(&topics), ","),
								buf_str(&topics));

		check_advise_setting(check, first, setting);
		check_advise(check, "%s",
					 strchr(buf_str(&topics), ',') != NULL
						 ? ", and the same for the others."
						 : "");
		check_find(check, "topic %s: %s", buf_str(&topics), what);
		free(first);
	}
	buf_free(&topics);
}
