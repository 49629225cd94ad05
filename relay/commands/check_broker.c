/*
 * check_broker.c - the broker's part of "check"
 *
 * A broker that has just started returns errors that pass, and so does any
 * broker about a topic that has just been created: these are retried for
 * COMMAND_BROKER_MS.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <time.h>
#include <unistd.h>

#define CHECK_TRY_MS \
	1000 /* of the first answer: a final error is seen between */
#define CHECK_PAUSE_US	(100 * MS_US)
#define CHECK_SETTLE_MS 3000 /* for a topic of [inbox] that is missing */

static int64_t
check_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SEC_US + now.tv_nsec / 1000;
}

bool
check_again(Check *check, rd_kafka_resp_err_t error)
{
	Assert(error != RD_KAFKA_RESP_ERR_NO_ERROR);
	if (check->until == 0)
		check->until = check_now() + COMMAND_BROKER_MS * MS_US;
	kafka_trouble_poll(&check->trouble, check->client);
	if (kafka_error_passes(error) && !kafka_trouble_is_final(&check->trouble) &&
		check_now() < check->until)
	{
		usleep(CHECK_PAUSE_US);
		return true;
	}
	check->until = 0;
	return false;
}

/* ---- metadata ---------------------------------------------------------- */

/* Whether each topic to consume is there, and its partitions have leaders. */
static bool
check_topics_are_settled(const Check					*check,
						 const struct rd_kafka_metadata *metadata)
{
	for (char **name = check->config->topics; *name != NULL; name++)
	{
		const struct rd_kafka_metadata_topic
			*topic = command_find_entry(metadata, *name);

		if (topic == NULL || kafka_error_passes(topic->err))
			return false;
		for (int i = 0; i < topic->partition_cnt; i++)
			if (topic->partitions[i].leader < 0)
				return false;
	}
	return true;
}

static const struct rd_kafka_metadata *
check_get_metadata(Check *check)
{
	const struct rd_kafka_metadata *metadata = NULL;
	rd_kafka_resp_err_t				error;
	Buf								why = {0};

	do
		error = rd_kafka_metadata(check->client, 1, NULL, &metadata,
								  CHECK_TRY_MS);
	while (error != RD_KAFKA_RESP_ERR_NO_ERROR && check_again(check, error));
	check->until = 0;
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
		return metadata;
	kafka_trouble_explain(&check->trouble, error, &why);
	check_fail(check,
			   "See [kafka] bootstrap.servers and the security settings.",
			   "broker: %s", buf_str(&why));
	buf_free(&why);
	return NULL;
}

static bool
check_open_client(Check *check)
{
	Buf error = {0};

	check->client = command_client_new(check->config, NULL, &check->trouble,
									   &error);
	if (check->client == NULL)
		check_fail(check, "See [kafka].", "broker: %s", buf_str(&error));
	buf_free(&error);
	return check->client != NULL;
}

const struct rd_kafka_metadata *
check_broker(Check *check)
{
	const struct rd_kafka_metadata *metadata;
	int64_t							settle_until;

	if (!check_open_client(check))
		return NULL;
	metadata = check_get_metadata(check);
	settle_until = check_now() + CHECK_SETTLE_MS * MS_US;
	while (metadata != NULL && !check_topics_are_settled(check, metadata) &&
		   check_now() < settle_until)
	{
		rd_kafka_metadata_destroy(metadata);
		usleep(CHECK_PAUSE_US);
		metadata = check_get_metadata(check);
	}
	if (metadata != NULL)
		check_pass("broker: %d of them, %d topics", metadata->broker_cnt,
				   metadata->topic_cnt);
	return metadata;
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

void
check_topic_creation(Check *check, const char *name, rd_kafka_NewTopic_t *topic)
{
	Buf					why = {0};
	rd_kafka_resp_err_t error;

	do
		error = check_would_create(check, topic, &why);
	while (error != RD_KAFKA_RESP_ERR_NO_ERROR && check_again(check, error));
	check->until = 0;
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
		check_pass("topic %s: missing, will be created at start", name);
	else if (error == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
		check_pass("topic %s: has just been created", name);
	else
		check_fail(check, "Create it, or allow the relay to.",
				   "topic %s: missing, cannot be created: %s", name,
				   buf_str(&why));
	rd_kafka_NewTopic_destroy(topic);
	buf_free(&why);
}

rd_kafka_resp_err_t
check_find_range(Check *check, const char *topic, int partition, int64_t *first,
				 int64_t *end)
{
	rd_kafka_resp_err_t error;

	do
		error = kafka_find_range(check->client, topic, partition, first, end,
								 COMMAND_BROKER_MS);
	while (error != RD_KAFKA_RESP_ERR_NO_ERROR && check_again(check, error));
	check->until = 0;
	return error;
}
