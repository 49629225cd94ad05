/*
 * check_topics.c - the topics that "check" looks at: to publish to, to consume
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- topics to publish to ------------------------------------------------ */

static void
check_topic_out(Check *check, const struct rd_kafka_metadata *metadata,
				const char *name)
{
	const struct rd_kafka_metadata_topic *topic = command_find_entry(metadata,
																	 name);
	char								  reason[KAFKA_ERROR_MAX];

	if (topic == NULL)
		check_topic_creation(check, name,
							 rd_kafka_NewTopic_new(name, -1, -1, reason,
												   sizeof(reason)));
	else
		check_pass("topic %s: %d partitions", name, topic->partition_cnt);
}

void
check_topics_out(Check *check, const struct rd_kafka_metadata *metadata)
{
	PGresult *topics = check_call(check, API_TOPICS, NULL, "topics",
								  "See the server's log.");

	for (int row = 0; topics != NULL && row < PQntuples(topics); row++)
		check_topic_out(check, metadata, PQgetvalue(topics, row, 0));
	PQclear(topics);
	for (char **topic = check->config->topics; *topic != NULL; topic++)
	{
		char *dlq = config_dlq_topic(check->config, *topic);

		check_topic_out(check, metadata, dlq);
		free(dlq);
	}
}

/* ---- what a start would consume ---------------------------------------- */

typedef struct Consumed
{
	int64_t count;	   /* messages that a start would consume */
	int64_t missing;   /* offsets that were deleted before they were read */
	int		recreated; /* partitions that end before where they were read to */
	bool	known;	   /* the database knows the topic */
} Consumed;

/* -1: the database does not know the topic. */
static int64_t
check_stored_offset(const PGresult *offsets, const char *topic, int partition)
{
	int64_t offset = -1;

	for (int row = 0; row < PQntuples(offsets); row++)
	{
		if (strcmp(PQgetvalue(offsets, row, 0), topic) != 0)
			continue;
		if (!PQgetisnull(offsets, row, 1) &&
			api_int(offsets, row, 1) == partition)
			return api_int(offsets, row, 2);
		offset = 0;
	}
	return offset;
}

/* Adds the messages of a partition that a start would consume. */
static rd_kafka_resp_err_t
check_add_consumed(Check *check, const PGresult *offsets, const char *topic,
				   int partition, Consumed *consumed)
{
	int64_t				from = check_stored_offset(offsets, topic, partition);
	int64_t				first;
	int64_t				end;
	rd_kafka_resp_err_t error = check_find_range(check, topic, partition,
												 &first, &end);

	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		return error;
	consumed->known |= from >= 0;
	if (from > end)
	{
		consumed->recreated++;
		from = first;
	}
	else if (from >= 0)
		consumed->missing += Max(first - from, 0);
	else if (check->config->first_offset == FIRST_OFFSET_LATEST)
		from = end;
	consumed->count += Max(end - Max(from, first), 0);
	return error;
}

static void
check_topic_in(Check *check, const struct rd_kafka_metadata_topic *topic,
			   const PGresult *offsets)
{
	Consumed consumed = {0};

	if (topic->err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		check_fail(check, "See the broker's log and the relay's permissions.",
				   "topic %s: %s", topic->topic, rd_kafka_err2str(topic->err));
		return;
	}
	for (int i = 0; i < topic->partition_cnt; i++)
	{
		int					partition = topic->partitions[i].id;
		rd_kafka_resp_err_t error = check_add_consumed(check, offsets,
													   topic->topic, partition,
													   &consumed);

		if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			check_fail(check,
					   "See the broker's log and the relay's permissions.",
					   "topic %s: partition %d gave no offsets: %s",
					   topic->topic, partition, rd_kafka_err2str(error));
			return;
		}
	}
	Assert(consumed.count >= 0 && consumed.missing >= 0);
	Assert(consumed.known ||
		   (consumed.missing == 0 && consumed.recreated == 0));
	check_pass("topic %s: %d partitions, a start would consume %" PRId64
			   " messages%s",
			   topic->topic, topic->partition_cnt, consumed.count,
			   consumed.known ? ""
			   : check->config->first_offset >= 0
				   ? " or fewer, by first_offset"
				   : "; the database knows none of them yet");
	if (consumed.recreated > 0)
		check_pass("topic %s: %d partitions end before the place up to which "
				   "they were read: recreated, or without their end; a start "
				   "reads all that they have",
				   topic->topic, consumed.recreated);
	if (consumed.missing > 0)
		check_pass("topic %s: %" PRId64 " messages were deleted before they "
				   "were read, by retention or by hand; a start reads on "
				   "behind them",
				   topic->topic, consumed.missing);
}

void
check_topics_in(Check *check, const struct rd_kafka_metadata *metadata)
{
	char	**topics = check->config->topics;
	PGresult *offsets;

	if (topics[0] == NULL)
	{
		check_pass("inbox: no topics to consume");
		return;
	}
	check_pass("inbox: consumer group %s", check->config->group[0] != '\0'
											   ? check->config->group
											   : check->hello.inbox_group);
	Assert(check->pg != NULL && check->client != NULL);
	offsets = api_exec_offsets(check->pg, topics);
	for (; *topics != NULL; topics++)
	{
		const struct rd_kafka_metadata_topic
			*topic = command_find_entry(metadata, *topics);

		if (topic == NULL)
			check_fail(check,
					   "Topics to consume are never created by the relay: see "
					   "[inbox] topics.",
					   "topic %s: missing", *topics);
		else
			check_topic_in(check, topic, offsets);
	}
	PQclear(offsets);
}
