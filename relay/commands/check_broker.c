/*
 * check_broker.c - the broker's part of "check"
 *
 * Errors that pass are retried (command_may_retry).
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"
#include "common/clock.h"

#include <stdlib.h>
#include <string.h>

#define CHECK_SETTLE_MS 3000 /* for a topic of [inbox] that is missing */

/* ---- metadata ---------------------------------------------------------- */

/* Whether each topic to consume is there, and its partitions have leaders. */
static bool
check_topics_are_settled(const Check *check)
{
	for (char **name = check->config->topics; *name != NULL; name++)
	{
		const struct rd_kafka_metadata_topic
			*topic = command_find_entry(check->metadata, *name);

		if (topic == NULL || kafka_error_passes(topic->err))
			return false;
		for (int i = 0; i < topic->partition_cnt; i++)
			if (topic->partitions[i].leader < 0)
				return false;
	}
	return true;
}

static const struct rd_kafka_metadata *
check_query_metadata(Check *check)
{
	Buf why = {0};
	Buf advice = {0};
	const struct rd_kafka_metadata
		*metadata = command_query_metadata(check->client, NULL, &why);

	if (metadata == NULL)
	{
		kafka_trouble_advise(&check->trouble, &advice);
		check_advise_phrase(check, buf_str(&advice),
							check_broker_advice(buf_str(&why)));
		check_find(check, "broker: %s", buf_str(&why));
	}
	buf_free(&why);
	buf_free(&advice);
	return metadata;
}

static bool
check_open_client(Check *check)
{
	Buf error = {0};

	check->client = command_client_new(check->config, NULL, &check->trouble,
									   &error);
	if (check->client == NULL)
	{
		check_advise(check, "See [kafka].");
		check_find(check, "broker: %s", buf_str(&error));
	}
	buf_free(&error);
	return check->client != NULL;
}

static void
check_broker(Check *check)
{
	int64_t settle_until;

	if (!check_open_client(check))
		return;
	check->metadata = check_query_metadata(check);
	settle_until = clock_monotonic() + CHECK_SETTLE_MS * MS_US;
	while (check->metadata != NULL && !check_topics_are_settled(check) &&
		   clock_monotonic() < settle_until)
	{
		rd_kafka_metadata_destroy(check->metadata);
		command_pause("topics of [inbox]",
					  settle_until - CHECK_SETTLE_MS * MS_US);
		check->metadata = check_query_metadata(check);
	}
	if (check->metadata == NULL)
		return;
	check_pass(check, "broker: %d of them, %d topics",
			   check->metadata->broker_cnt, check->metadata->topic_cnt);
	check->have |= HAVE_BROKER;
}

/* A broker may have ended since the metadata was read: it is tried again. */
static void
check_broker_address(Check *check)
{
	if (check->metadata->broker_cnt > 0)
		check->have |= HAVE_ANSWERS;
	for (int i = 0; i < check->metadata->broker_cnt; i++)
	{
		const struct rd_kafka_metadata_broker *b = &check->metadata->brokers[i];
		Buf									   why = {0};

		if (!check_connects(b->host, b->port, &why))
		{
			buf_clear(&why);
			command_pause("a broker", clock_monotonic());
			if (!check_connects(b->host, b->port, &why))
			{
				check_advise(check,
							 "Set advertised.listeners of broker %d to an "
							 "address that this host can reach, or see the "
							 "name server and firewalls in between.",
							 b->id);
				check_find(check, "broker %d: it advertises %s:%d: %s", b->id,
						   b->host, b->port, buf_str(&why));
				check->have &= ~HAVE_ANSWERS;
			}
		}
		buf_free(&why);
	}
}

/* ---- topics ------------------------------------------------------------ */

/* One request that creates nothing; the broker's message goes to *why. */
static rd_kafka_resp_err_t
check_would_create(Check *check, rd_kafka_NewTopic_t *topic, Buf *why)
{
	char					 reason[KAFKA_ERROR_MAX] = "";
	rd_kafka_queue_t		*queue = rd_kafka_queue_new(check->client);
	rd_kafka_AdminOptions_t *options;
	rd_kafka_event_t		*event;
	rd_kafka_resp_err_t		 error = RD_KAFKA_RESP_ERR__TIMED_OUT;
	size_t					 count;

	options = rd_kafka_AdminOptions_new(check->client,
										RD_KAFKA_ADMIN_OP_CREATETOPICS);
	(void) rd_kafka_AdminOptions_set_validate_only(options, 1, reason,
												   sizeof(reason));
	rd_kafka_CreateTopics(check->client, &topic, 1, options, queue);
	event = rd_kafka_queue_poll(queue, COMMAND_BROKER_MS);
	buf_clear(why);
	if (event != NULL)
		error = rd_kafka_event_error(event);
	if (event != NULL && error == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		const rd_kafka_topic_result_t *
			*results = rd_kafka_CreateTopics_result_topics(
				rd_kafka_event_CreateTopics_result(event), &count);

		Assert(count == 1);
		error = rd_kafka_topic_result_error(results[0]);
		if (rd_kafka_topic_result_error_string(results[0]) != NULL)
			buf_add_str(why, rd_kafka_topic_result_error_string(results[0]));
	}
	else
		buf_add_str(why, event != NULL ? rd_kafka_event_error_string(event)
									   : "no answer");
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_queue_destroy(queue);
	return error;
}

rd_kafka_resp_err_t
check_topic_error(const Check *check, const char *name)
{
	rd_kafka_topic_t *handle = rd_kafka_topic_new(check->client, name, NULL);
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t				error;

	Assert(handle != NULL);
	error = rd_kafka_metadata(check->client, 0, handle, &metadata,
							  COMMAND_BROKER_MS);
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		Assert(metadata->topic_cnt == 1);
		error = metadata->topics[0].err;
		rd_kafka_metadata_destroy(metadata);
	}
	rd_kafka_topic_destroy(handle);
	return error;
}

void
check_topic_creation(Check *check, const char *name, rd_kafka_NewTopic_t *topic)
{
	Buf					why = {0};
	int64_t				until = 0;
	rd_kafka_resp_err_t error;

	do
		error = check_would_create(check, topic, &why);
	while (error != RD_KAFKA_RESP_ERR_NO_ERROR &&
		   command_may_retry(check->client, &until, error));
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
		check_pass(check, "topic %s: missing, will be created at start", name);
	else if (error == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
		check_pass(check, "topic %s: has just been created", name);
	else if (error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
	{
		check_advise(check, "Allow the relay's principal Write on it, and "
							"Create if it does not exist: see "
							"docs/transports.md.");
		check_find(check, "topic %s: %s", name, rd_kafka_err2str(error));
	}
	else
	{
		check_advise(check,
					 "Create it, or allow the relay to: kafka-topics.sh "
					 "--bootstrap-server %s --create --topic %s --partitions 3",
					 check_servers(check), name);
		check_find(check, "topic %s: missing, cannot be created: %s", name,
				   buf_str(&why));
	}
	rd_kafka_NewTopic_destroy(topic);
	buf_free(&why);
}

rd_kafka_resp_err_t
check_find_range(Check *check, const char *topic, int partition, int64_t *first,
				 int64_t *end)
{
	int64_t				until = 0;
	rd_kafka_resp_err_t error;

	do
		error = kafka_find_range(check->client, topic, partition, first, end,
								 COMMAND_BROKER_MS);
	while (error != RD_KAFKA_RESP_ERR_NO_ERROR &&
		   command_may_retry(check->client, &until, error));
	return error;
}

/* ---- settings ---------------------------------------------------------- */

/* names: ",a,b," */
static void
check_add_name(Buf *names, const char *name)
{
	char *entry = xasprintf(",%s,", name);

	if (names->len == 0)
		buf_add_str(names, ",");
	if (strstr(buf_str(names), entry) == NULL)
		buf_add_str(names, entry + 1);
	free(entry);
}

/* Topics with stock events, and those of dead letters, each once. */
static void
check_name_published(Check *check)
{
	PGresult *topics = check_call(check, API_TOPICS, NULL, "topics",
								  "See the server's log.");
	Buf		  names = {0};

	for (int row = 0; topics != NULL && row < PQntuples(topics); row++)
		check_add_name(&names, PQgetvalue(topics, row, 0));
	PQclear(topics);
	if (check->config->levels_topic[0] != '\0')
		check_add_name(&names, check->config->levels_topic);
	for (char **topic = check->config->topics; *topic != NULL; topic++)
	{
		char *dlq = config_dlq_topic(check->config, *topic);

		check_add_name(&names, dlq);
		free(dlq);
	}
	check->published = strings_split(buf_str(&names));
	buf_free(&names);
}

static bool
check_topic_exists(const Check *check UNUSED, const char *topic UNUSED)
{
	return true;
}

static rd_kafka_resp_err_t
check_read_settings(Check *check)
{
	int32_t				broker = check->metadata->brokers[0].id;
	rd_kafka_resp_err_t error;
	rd_kafka_resp_err_t of_broker;
	Buf					names = {0};
	char			  **topics;

	check_list_topics(check, check->published, check_topic_exists, &names);
	check_list_topics(check, check->config->topics, check_topic_exists, &names);
	topics = strings_split(buf_str(&names));
	check->topic_settings = kafka_describe_topics(check->client, topics,
												  COMMAND_BROKER_MS, &error);
	check->broker_settings = kafka_describe_broker(check->client, broker,
												   COMMAND_BROKER_MS,
												   &of_broker);
	strings_free(topics);
	buf_free(&names);
	return error != RD_KAFKA_RESP_ERR_NO_ERROR ? error : of_broker;
}

static void
check_broker_version(Check *check)
{
	check_name_published(check);
	check->settings_error = check_read_settings(check);
	if (check->settings_error != RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE)
		return;
	check_advise(check, "Upgrade the brokers; README.md lists the versions "
						"that were tested.");
	check_find(check, "broker: it does not know the request DescribeConfigs");
	check->have &= ~HAVE_ANSWERS;
}

static void
check_settings(Check *check)
{
	rd_kafka_resp_err_t error = check->settings_error;

	if (error != RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED &&
		error != RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
		return;
	check_advise(check,
				 "Allow the relay's principal DescribeConfigs on its topics "
				 "and on the cluster, if you want them checked.");
	check_find(check, "broker: settings of topics and brokers: %s",
			   rd_kafka_err2str(error));
}

static void
check_auto_create(Check *check)
{
	if (strcmp(check_broker_setting(check, "auto.create.topics.enable"),
			   "true") != 0)
		return;
	check_advise(check, "Set auto.create.topics.enable=false in the brokers' "
						"server.properties and restart them; the relay creates "
						"its topics by request.");
	check_find(check, "broker %d: auto.create.topics.enable=true",
			   check->metadata->brokers[0].id);
}

/* Before the login, whose failure looks like a wrong password. */
static void
check_scram(Check *check)
{
	if (!kafka_scram_is_limited(check->config))
		return;
	check_advise_phrase(check, KAFKA_SCRAM_ADVICE, "");
	check_find(check, "broker: this librdkafka, %s, repeats the nonce of SCRAM",
			   rd_kafka_version_str());
}

static const CheckRow rows[] = {
	{"scram", CHECK_WARNING, EXIT_CLEAN, 0, check_scram,
	 "Brokers since Kafka 4.0 refuse that as invalid credentials, even if the "
	 "password is right."},
	{"broker", CHECK_ERROR, EXIT_RUNTIME, 0, check_broker,
	 "Events wait in the outbox, and no message is consumed."},
	{"broker_address", CHECK_ERROR, EXIT_RUNTIME, HAVE_BROKER,
	 check_broker_address,
	 "A client uses bootstrap.servers for its first request only, then the "
	 "addresses that the brokers advertise."},
	{"broker_version", CHECK_ERROR, EXIT_RUNTIME,
	 HAVE_EXTENSION | HAVE_BROKER | HAVE_ANSWERS, check_broker_version,
	 "It is older than the idempotent producer, without which nothing is "
	 "published."},
	{"settings", CHECK_NOTE, EXIT_CLEAN,
	 HAVE_EXTENSION | HAVE_BROKER | HAVE_ANSWERS, check_settings,
	 "The checks of these settings were left out; the relay does not need "
	 "that right."},
	{"auto_create", CHECK_NOTE, EXIT_CLEAN,
	 HAVE_EXTENSION | HAVE_BROKER | HAVE_ANSWERS, check_auto_create,
	 "A misspelled name in any client makes a topic with the brokers' "
	 "defaults."},
};

const CheckGroup check_broker_group = {rows, Lengthof(rows)};
