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

/* Whether the topic is there, and is right. */
static bool
check_position_topic(Check *check, char *name)
{
	const struct rd_kafka_metadata_topic
					   *topic = command_find_entry(check->metadata, name);
	char *const			names[] = {name, NULL};
	rd_kafka_resp_err_t error;
	KafkaSettings	   *settings;
	const char		   *cleanup;
	bool				right;

	if (topic == NULL)
	{
		check_topic_creation(check, name, position_new_topic(name));
		return false;
	}
	settings = kafka_describe_topics(check->client, names, COMMAND_BROKER_MS,
									 &error);
	cleanup = kafka_setting(settings, name, "cleanup.policy");
	right = topic->partition_cnt == 1 &&
			(cleanup == NULL || strcmp(cleanup, "compact") == 0);
	if (right)
		check_pass(check, "position topic %s", name);
	else
	{
		check_advise(check, "Stop the relays, delete the topic and start one: "
							"it creates the topic with one partition, "
							"compacted; its position is in the database, too.");
		check_find(check, "position topic %s: %d partitions, cleanup.policy %s",
				   name, topic->partition_cnt,
				   cleanup != NULL ? cleanup : "unknown");
	}
	kafka_settings_free(settings);
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
check_id(Check *check, const char *id)
{
	char			  reason[KAFKA_ERROR_MAX];
	int64_t			  until = 0;
	rd_kafka_t		 *producer;
	rd_kafka_error_t *error;

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
		check_advise(check, "See [kafka].");
		check_find(check, "transactional.id %s: %s", id, reason);
		return;
	}
	while ((error = rd_kafka_init_transactions(producer, COMMAND_BROKER_MS)) !=
			   NULL &&
		   command_may_retry(check->client, &until, rd_kafka_error_code(error)))
		rd_kafka_error_destroy(error);
	if (error == NULL)
		check_pass(check, "transactional.id %s", id);
	else
	{
		check_advise(check, "Allow the relay's principal Describe and Write on "
							"this TransactionalId.");
		check_find(check, "transactional.id %s: %s", id,
				   rd_kafka_error_string(error));
	}
	rd_kafka_error_destroy(error);
	rd_kafka_destroy(producer);
}

/*
 * A leader reads it itself, and has a transaction open there: its end is not
 * to be seen.
 */
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
	{
		check_advise(check, "Allow the relay's principal Read, Write and "
							"Describe on this topic.");
		check_find(check, "%s", buf_str(&error));
	}
	Assert(!found || error.len == 0);
	if (found)
		kafka = (Slice){buf_str(&record), record.len};
	check_position(check, kafka);
	if (reader != NULL)
		rd_kafka_destroy(reader);
	buf_free(&record);
	buf_free(&error);
}

static void
check_transactional_id(Check *check)
{
	char *id = position_transactional_id(check->hello.incarnation);

	if (check->config->mode == MODE_TRANSACTIONAL)
	{
		if (check_outbox_is_led(check))
			check_pass(check,
					   "transactional.id %s: in use by the relay that leads",
					   id);
		else
			check_id(check, id);
	}
	free(id);
}

static void
check_kafka_position(Check *check)
{
	char *topic = position_topic(check->hello.incarnation);

	if (check->config->mode == MODE_TRANSACTIONAL)
	{
		if (check_position_topic(check, topic) && !check_outbox_is_led(check))
			check_position_record(check, topic);
		else
			check_position(check, (Slice){NULL, 0});
	}
	free(topic);
}

#define KNOWN (HAVE_EXTENSION | HAVE_BROKER | HAVE_ANSWERS)

static const CheckRow rows[] = {
	{"transactional_id", CHECK_ERROR, EXIT_RUNTIME, KNOWN,
	 check_transactional_id,
	 "In transactional mode nothing is published without that right."},
	{"position_topic", CHECK_ERROR, EXIT_RUNTIME, KNOWN, check_kafka_position,
	 "In transactional mode the relay reads its position there before it "
	 "publishes."},
};

const CheckGroup check_transactions_group = {rows, Lengthof(rows)};
