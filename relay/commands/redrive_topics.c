/*
 * redrive_topics.c - the topics of "redrive": of the letters, of their sources
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/redrive_run.h"

#include <stdlib.h>
#include <string.h>

#include "kafka/position_topic.h"

/* ---- sources ----------------------------------------------------------- */

bool
redrive_find_own_topics(Redrive *run)
{
	run->event_topics = command_check_result(api_exec(run->command.pg,
													  API_TOPICS, NULL),
											 "topics");
	return run->event_topics != NULL;
}

static bool
redrive_is_own_topic(const Redrive *run, const char *name)
{
	if (position_is_topic(name) ||
		strcmp(name, run->command.config->levels_topic) == 0)
		return true;
	for (int row = 0; row < PQntuples(run->event_topics); row++)
		if (strcmp(name, PQgetvalue(run->event_topics, row, 0)) == 0)
			return true;
	return false;
}

/* Consumers trust that what is in Kafka's topics and in pgstock's was written
 * by them: whoever may write a letter must not get into one by it.  And what
 * goes to the letters' own topic would be read for ever. */
static const char *
redrive_forbidden(const Redrive *run, const char *name)
{
	if (strncmp(name, "__", 2) == 0)
		return "is one of Kafka's own";
	if (strcmp(name, run->topic) == 0)
		return "is the dead letters' own";
	if (redrive_is_own_topic(run, name))
		return "is one of pgstock's own";
	return NULL;
}

void
redrive_report_topic(const char *name, rd_kafka_resp_err_t error)
{
	bool denied = error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;

	command_report("could not send to topic \"%s\": %s%s", name,
				   rd_kafka_err2str(error),
				   denied ? ": allow the relay's principal Write on this topic"
						  : "");
}

static const char *
redrive_topic_fault(rd_kafka_resp_err_t error)
{
	return error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
				   error == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION
			   ? "does not exist"
			   : rd_kafka_err2str(error);
}

/* A consumer's query creates no topic. */
static bool
redrive_query_topic(Redrive *run, RedriveTopic *topic)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;

	topic->fault = redrive_forbidden(run, topic->name);
	if (topic->fault != NULL)
		return true;
	metadata = command_get_metadata(run->consumer, topic->name);
	if (metadata == NULL)
		return false;
	if (metadata->topic_cnt == 1)
		error = metadata->topics[0].err;
	if (error == 0)
		topic->partitions = metadata->topics[0].partition_cnt;
	else
		topic->fault = redrive_topic_fault(error);
	rd_kafka_metadata_destroy(metadata);
	Assert((topic->partitions > 0) == (topic->fault == NULL));
	if (error == 0 || redrive_is_refusal(error))
		return true;
	redrive_report_topic(topic->name, error);
	return false;
}

const RedriveTopic *
redrive_find_topic(Redrive *run, const char *name)
{
	RedriveTopic topic = {0};

	for (size_t i = 0; i < run->topic_count; i++)
		if (strcmp(run->topics[i].name, name) == 0)
			return &run->topics[i];
	topic.name = xstrdup(name);
	if (!redrive_query_topic(run, &topic))
	{
		free(topic.name);
		return NULL;
	}
	run->topics = xrealloc(run->topics,
						   (run->topic_count + 1) * sizeof(RedriveTopic));
	run->topics[run->topic_count] = topic;
	return &run->topics[run->topic_count++];
}

void
redrive_free_topics(Redrive *run)
{
	for (size_t i = 0; i < run->topic_count; i++)
		free(run->topics[i].name);
	free(run->topics);
	PQclear(run->event_topics);
}

/* ---- the letters' topic ------------------------------------------------ */

RedrivePartition *
redrive_partition(Redrive *run, int32_t id)
{
	size_t i = 0;

	while (i < run->partition_count && run->partitions[i].id != id)
		i++;
	Assert(i < run->partition_count); /* no other one is read */
	return &run->partitions[i];
}

static bool
redrive_find_ends(Redrive *run)
{
	for (size_t i = 0; i < run->partition_count; i++)
	{
		RedrivePartition   *partition = &run->partitions[i];
		int64_t				until = 0;
		rd_kafka_resp_err_t error;

		do
			error = kafka_find_range(run->consumer, run->topic, partition->id,
									 &partition->begin, &partition->end,
									 COMMAND_BROKER_MS);
		while (error != 0 && command_may_retry(run->consumer, &until, error));
		if (error == 0)
			continue;
		command_report_broker(run->consumer,
							  "could not find the ends of the topic", error);
		return false;
	}
	return true;
}

bool
redrive_find_partitions(Redrive *run)
{
	const struct rd_kafka_metadata		 *metadata;
	const struct rd_kafka_metadata_topic *topic;

	metadata = command_get_metadata(run->consumer, run->topic);
	if (metadata == NULL)
		return false;
	topic = command_find_entry(metadata, run->topic);
	if (topic == NULL || topic->partition_cnt == 0)
		command_report("topic \"%s\" %s", run->topic,
					   redrive_topic_fault(
						   topic != NULL && topic->err != 0
							   ? topic->err
							   : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART));
	else
	{
		run->partition_count = (size_t) topic->partition_cnt;
		run->partitions = xcalloc(run->partition_count,
								  sizeof(RedrivePartition));
		for (size_t i = 0; i < run->partition_count; i++)
			run->partitions[i].id = topic->partitions[i].id;
	}
	rd_kafka_metadata_destroy(metadata);
	return run->partition_count > 0 && redrive_find_ends(run);
}

/* ---- where to read ----------------------------------------------------- */

/* The offsets that the group has; the earlier records may be deleted since. */
static rd_kafka_resp_err_t
redrive_read_offsets(Redrive *run, rd_kafka_topic_partition_list_t *list)
{
	int64_t				until = 0;
	rd_kafka_resp_err_t error;

	do
		error = rd_kafka_committed(run->consumer, list, COMMAND_BROKER_MS);
	while (error != 0 && command_may_retry(run->consumer, &until, error));
	for (int i = 0; error == 0 && i < list->cnt; i++)
	{
		RedrivePartition *partition = redrive_partition(run, list->elems[i]
																 .partition);

		error = list->elems[i].err;
		partition->committed = Max(list->elems[i].offset, partition->begin);
		partition->next = partition->committed;
	}
	return error;
}

bool
redrive_seek(Redrive *run)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(
		(int) run->partition_count);
	rd_kafka_resp_err_t error;

	for (size_t i = 0; i < run->partition_count; i++)
		rd_kafka_topic_partition_list_add(list, run->topic,
										  run->partitions[i].id);
	error = redrive_read_offsets(run, list);
	if (error != 0)
		command_report_broker(run->consumer,
							  "could not read the offsets of the group", error);
	for (int i = list->cnt - 1; i >= 0; i--)
	{
		const RedrivePartition *p = redrive_partition(run,
													  list->elems[i].partition);

		list->elems[i].offset = p->next;
		if (p->next >= p->end)
			rd_kafka_topic_partition_list_del_by_idx(list, i);
	}
	if (error == 0)
	{
		error = rd_kafka_assign(run->consumer, list);
		if (error != 0)
			command_report_broker(run->consumer, "could not read the topic",
								  error);
	}
	rd_kafka_topic_partition_list_destroy(list);
	return error == 0;
}
