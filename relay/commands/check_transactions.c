/*
 * check_transactions.c - what "check" looks at in transactional mode
 *
 * While a relay leads, nothing is tried that would fence its producer.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <stdlib.h>
#include <string.h>

#include "kafka/position_topic.h"

/* A topic's setting; NULL if the broker does not return it.  Freed by the
 * caller. */
static char *
check_topic_setting(const Check *check, const char *topic, const char *setting)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(check->client);
	rd_kafka_ConfigResource_t
		*wanted = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
	const rd_kafka_ConfigResource_t **found;
	const rd_kafka_ConfigEntry_t	**entries;
	rd_kafka_event_t				 *event;
	size_t							  count = 0;
	char							 *value = NULL;

	rd_kafka_DescribeConfigs(check->client, &wanted, 1, NULL, queue);
	event = rd_kafka_queue_poll(queue, COMMAND_BROKER_MS);
	if (event != NULL && rd_kafka_event_error(event) == 0)
	{
		found = rd_kafka_DescribeConfigs_result_resources(
			rd_kafka_event_DescribeConfigs_result(event), &count);
		entries = rd_kafka_ConfigResource_configs(found[0], &count);
		for (size_t i = 0; i < count; i++)
			if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), setting) == 0)
				value = xstrdup(rd_kafka_ConfigEntry_value(entries[i]));
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_ConfigResource_destroy(wanted);
	rd_kafka_queue_destroy(queue);
	return value;
}

static bool
check_position_topic(Check *check, const struct rd_kafka_metadata *metadata,
					 const char *name)
{
	const struct rd_kafka_metadata_topic *topic = command_find_entry(metadata,
																	 name);
	char								 *cleanup;
	bool								  right;

	if (topic == NULL)
	{
		check_topic_creation(check, name, position_new_topic(name));
		return false;
	}
	cleanup = check_topic_setting(check, name, "cleanup.policy");
	right = topic->partition_cnt == 1 &&
			(cleanup == NULL || strcmp(cleanup, "compact") == 0);
	if (right)
		check_pass("position topic %s", name);
	else
		check_fail(check,
				   "It must have one partition and be compacted: mend it.",
				   "position topic %s: %d partitions, cleanup.policy %s", name,
				   topic->partition_cnt, cleanup != NULL ? cleanup : "unknown");
	free(cleanup);
	return right;
}

static bool
check_outbox_is_led(Check *check)
{
	PGresult *status = check_call(check, API_STATUS, NULL, "status",
								  "See the server's log.");
	bool	  leads = false;

	for (int row = 0; status != NULL && row < PQntuples(status); row++)
		if (strcmp(PQgetvalue(status, row, 0), "leader") == 0)
			leads = !PQgetisnull(status, row, 2);
	PQclear(status);
	return leads;
}

/* Initializing fences another producer with this id: so only if none leads. */
static void
check_transactional_id(Check *check, const char *id, bool in_use)
{
	char			  reason[KAFKA_ERROR_MAX];
	rd_kafka_t		 *producer;
	rd_kafka_error_t *error;

	Assert(check->until == 0);
	if (in_use)
	{
		check_pass("transactional.id %s: in use by the relay that leads", id);
		return;
	}
	producer = kafka_client_new(RD_KAFKA_PRODUCER,
								kafka_conf_new(check->config,
											   (KafkaProperties){{NULL, NULL}},
											   (KafkaProperties){
												   {"log.queue", "false"},
												   {"log_level", "0"},
												   {"transactional.id", id},
												   {NULL, NULL},
											   }),
								reason);
	if (producer == NULL)
	{
		check_fail(check, "See [kafka].", "transactional.id %s: %s", id,
				   reason);
		return;
	}
	while ((error = rd_kafka_init_transactions(producer, COMMAND_BROKER_MS)) !=
			   NULL &&
		   check_again(check, rd_kafka_error_code(error)))
		rd_kafka_error_destroy(error);
	check->until = 0;
	if (error == NULL)
		check_pass("transactional.id %s", id);
	else
		check_fail(check, "Allow the relay Describe and Write on it.",
				   "transactional.id %s: %s", id, rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	rd_kafka_destroy(producer);
}

/* A leader reads it itself, and has a transaction open there: its end is not
 * to be seen. */
static void
check_position_record(Check *check, const char *topic)
{
	const atomic_bool stop = false;
	Buf				  record = {0};
	Buf				  error = {0};
	Slice			  kafka = {NULL, 0};
	bool			  found = false;
	rd_kafka_conf_t	 *conf = position_reader_conf(check->config);
	rd_kafka_t		 *reader = position_reader_new(conf, &error);

	if (reader == NULL ||
		!position_read(reader, topic, &stop, &record, &found, &error))
		check_fail(check, "Allow the relay Read and Write on it.", "%s",
				   buf_str(&error));
	Assert(!found || error.len == 0);
	if (found)
		kafka = (Slice){buf_str(&record), record.len};
	check_position(check, kafka);
	if (reader != NULL)
		rd_kafka_destroy(reader);
	buf_free(&record);
	buf_free(&error);
}

void
check_transactions(Check *check, const struct rd_kafka_metadata *metadata)
{
	char *topic = position_topic(check->hello.incarnation);
	char *id = position_transactional_id(check->hello.incarnation);
	bool  in_use = check_outbox_is_led(check);

	Assert(check->config->mode == MODE_TRANSACTIONAL);
	Assert(check->pg != NULL && check->client != NULL);
	check_transactional_id(check, id, in_use);
	if (check_position_topic(check, metadata, topic) && !in_use)
		check_position_record(check, topic);
	else
		check_position(check, (Slice){NULL, 0});
	free(topic);
	free(id);
}
