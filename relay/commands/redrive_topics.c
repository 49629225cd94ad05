/*
 * redrive_topics.c - the topics of "redrive": of the letters, of their sources
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/redrive_run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "extension/protocol/topic.h"
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
	/* the default topics also where events go to others */
	if (position_is_topic(name) || strcmp(name, TOPIC_EVENTS) == 0 ||
		strcmp(name, TOPIC_FAILURES) == 0 ||
		strcmp(name, run->command.config->levels_topic) == 0)
		return true;
	for (int row = 0; row < PQntuples(run->event_topics); row++)
		if (strcmp(name, PQgetvalue(run->event_topics, row, 0)) == 0)
			return true;
	return false;
}

/*
 * Consumers trust that what is in Kafka's topics and in pgstock's was written
 * by them: whoever may write a letter must not get into one by it.  And what
 * goes to the letters' own topic would be read for ever.
 */
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

static void
redrive_add_partitions(Redrive								*run,
					   const struct rd_kafka_metadata_topic *topic)
{
	Assert(run->partition_count == 0);
	run->partitions = xcalloc((size_t) topic->partition_cnt,
							  sizeof(RedrivePartition));
	for (int i = 0; i < topic->partition_cnt; i++)
		if (run->only < 0 || topic->partitions[i].id == run->only)
			run->partitions[run->partition_count++].id = topic->partitions[i]
															 .id;
	Assert(run->only < 0 || run->partition_count <= 1);
	if (run->partition_count == 0)
		command_report("topic \"%s\" has no partition %" PRId64 ", only 0 "
					   "to %d",
					   run->topic, run->only, topic->partition_cnt - 1);
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
		redrive_add_partitions(run, topic);
	rd_kafka_metadata_destroy(metadata);
	return run->partition_count > 0 && redrive_find_ends(run);
}

/* ---- where to read ----------------------------------------------------- */

static rd_kafka_topic_partition_list_t *
redrive_list_partitions(const Redrive *run, int64_t offset)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(
		(int) run->partition_count);

	for (size_t i = 0; i < run->partition_count; i++)
		rd_kafka_topic_partition_list_add(list, run->topic,
										  run->partitions[i].id)
			->offset = offset;
	return list;
}

/* The offsets that the group has; the earlier records may be deleted since. */
static bool
redrive_read_offsets(Redrive *run)
{
	rd_kafka_topic_partition_list_t *list = redrive_list_partitions(run, 0);
	int64_t							 until = 0;
	rd_kafka_resp_err_t				 error;

	do
		error = rd_kafka_committed(run->consumer, list, COMMAND_BROKER_MS);
	while (error != 0 && command_may_retry(run->consumer, &until, error));
	for (int i = 0; error == 0 && i < list->cnt; i++)
	{
		RedrivePartition *partition = redrive_partition(run, list->elems[i]
																 .partition);

		error = list->elems[i].err;
		partition->stored = Max(list->elems[i].offset, partition->stored);
	}
	rd_kafka_topic_partition_list_destroy(list);
	if (error != 0)
		command_report_broker(run->consumer,
							  "could not read the offsets of the group", error);
	return error == 0;
}

/*
 * Where --from is in each partition: an offset, or in place of a moment the
 * first letter of that time or later.  NULL, and reported why.
 */
static rd_kafka_topic_partition_list_t *
redrive_find_from(Redrive *run)
{
	const Point						*from = &run->from;
	rd_kafka_topic_partition_list_t *list = NULL;
	int64_t							 until = 0;
	rd_kafka_resp_err_t				 error;

	if (from->number >= 0)
		return redrive_list_partitions(run, from->number);
	do
	{
		if (list != NULL)
			rd_kafka_topic_partition_list_destroy(list);
		list = redrive_list_partitions(run, from->moment_us / 1000);
		error = kafka_find_offsets(run->consumer, list, COMMAND_BROKER_MS);
	} while (error != 0 && command_may_retry(run->consumer, &until, error));
	if (error == 0)
		return list;
	command_report_broker(run->consumer, "could not find offsets", error);
	rd_kafka_topic_partition_list_destroy(list);
	return NULL;
}

/*
 * Where this run begins in each partition: behind what the group has, or at
 * --from.
 */
static bool
redrive_place(Redrive *run)
{
	rd_kafka_topic_partition_list_t *list = NULL;

	if (run->from.text != NULL && (list = redrive_find_from(run)) == NULL)
		return false;
	for (size_t i = 0; i < run->partition_count; i++)
	{
		RedrivePartition *p = &run->partitions[i];
		int64_t			  first = p->begin;
		int64_t			  from = 0;

		if (list != NULL)
			from = rd_kafka_topic_partition_list_find(list, run->topic, p->id)
					   ->offset;
		p->stored = Max(p->stored, first);
		if (list == NULL)
			p->begin = p->stored;
		else if (from < 0 || from > p->end)
			p->begin = p->end; /* no letter is as late as that */
		else
			p->begin = Max(from, first);
		p->committed = p->begin;
	}
	if (list != NULL)
		rd_kafka_topic_partition_list_destroy(list);
	return true;
}

static rd_kafka_resp_err_t
redrive_assign(Redrive *run)
{
	rd_kafka_topic_partition_list_t *list = redrive_list_partitions(run, 0);
	rd_kafka_resp_err_t				 error;

	for (int i = list->cnt - 1; i >= 0; i--)
	{
		RedrivePartition *p = redrive_partition(run, list->elems[i].partition);

		p->next = p->committed;
		list->elems[i].offset = p->next;
		if (p->next >= p->end)
			rd_kafka_topic_partition_list_del_by_idx(list, i);
	}
	error = rd_kafka_assign(run->consumer, list);
	rd_kafka_topic_partition_list_destroy(list);
	return error;
}

bool
redrive_seek(Redrive *run)
{
	rd_kafka_resp_err_t error;

	if (!redrive_read_offsets(run) || (!run->placed && !redrive_place(run)))
		return false;
	run->placed = true;
	error = redrive_assign(run);
	if (error != 0)
		command_report_broker(run->consumer, "could not read the topic", error);
	return error == 0;
}
