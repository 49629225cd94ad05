/*
 * level_reader.c - the records of the level stream's topic, as Kafka has them
 *
 * Taken from the loop, without waiting, by the steps of the level stream.  A
 * topic that is missing, or has more partitions than before, is found by a
 * survey of the broker from time to time.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/level_reader.h"

#include <stdlib.h>
#include <string.h>

#include "db/event.h"
#include "extension/protocol/event_header.h"
#include "kafka/client.h"
#include "kafka/survey.h"

#define SURVEY_US		  (30 * SEC_US) /* between two surveys ... */
#define SURVEY_US_MISSING (1 * SEC_US)	/* ... while there is no topic */

struct LevelReader
{
	Loop							*loop;
	Survey							*survey;
	int64_t							 survey_at;
	char							*name;	 /* of the topic; owned */
	rd_kafka_t						*client; /* NULL: closed */
	rd_kafka_topic_t				*topic;
	rd_kafka_queue_t				*queue;
	rd_kafka_topic_partition_list_t *begins;  /* offsets of partitions */
	int32_t							 started; /* partitions below are read */
	bool							 closing; /* once the survey has ended */
	bool							 behind;
	Buf								 trouble;
};

/* ---- closing ----------------------------------------------------------- */

static void
level_reader_destroy(LevelReader *reader)
{
	Assert(reader->client != NULL && !survey_runs(reader->survey));
	for (int32_t id = 0; id < reader->started; id++)
		(void) rd_kafka_consume_stop(reader->topic, id);
	rd_kafka_topic_partition_list_destroy(reader->begins);
	rd_kafka_queue_destroy(reader->queue);
	rd_kafka_topic_destroy(reader->topic);
	kafka_consumer_end(reader->client);
	free(reader->name);
	reader->client = NULL;
	reader->closing = false;
	buf_clear(&reader->trouble);
}

/* A survey uses the client, and may wait for the broker. */
void
level_reader_close(LevelReader *reader)
{
	if (reader->client == NULL)
		return;
	reader->behind = false;
	reader->closing = survey_runs(reader->survey);
	if (reader->closing)
		survey_stop(reader->survey);
	else
		level_reader_destroy(reader);
}

bool
level_reader_is_closed(const LevelReader *reader)
{
	return reader->client == NULL;
}

/* ---- partitions -------------------------------------------------------- */

static int64_t
level_reader_first(const LevelReader *reader, int32_t partition)
{
	/* librdkafka's lookup changes nothing, but takes no const list */
	const rd_kafka_topic_partition_t
		*found = rd_kafka_topic_partition_list_find(reader->begins,
													reader->name, partition);

	return found != NULL ? found->offset : RD_KAFKA_OFFSET_BEGINNING;
}

static void
level_reader_surveyed(void *arg)
{
	LevelReader *reader = arg;
	int32_t		 partitions;

	Assert(reader->client != NULL);
	if (reader->closing)
	{
		level_reader_destroy(reader);
		return;
	}
	partitions = survey_partitions(reader->survey, reader->name);
	for (; reader->started < partitions; reader->started++)
		if (rd_kafka_consume_start_queue(reader->topic, reader->started,
										 level_reader_first(reader,
															reader->started),
										 reader->queue) != 0)
			break; /* the next survey tries again */
	reader->survey_at = loop_now(reader->loop) +
						(reader->started > 0 ? SURVEY_US : SURVEY_US_MISSING);
}

static void
level_reader_survey(LevelReader *reader)
{
	if (survey_runs(reader->survey) ||
		loop_now(reader->loop) < reader->survey_at)
		return;
	survey_prepare(reader->survey, FIRST_OFFSET_EARLIEST);
	survey_add_topic(reader->survey, reader->name);
	survey_begin(reader->survey, reader->client);
}

/* ---- opening ----------------------------------------------------------- */

LevelReader *
level_reader_new(Loop *loop)
{
	LevelReader *reader = xcalloc(1, sizeof(LevelReader));

	reader->loop = loop;
	reader->survey = survey_new(loop, level_reader_surveyed, reader);
	return reader;
}

void
level_reader_free(LevelReader *reader)
{
	if (reader == NULL)
		return;
	survey_close(reader->survey);
	if (reader->client != NULL)
		level_reader_destroy(reader);
	survey_free(reader->survey);
	buf_free(&reader->trouble);
	free(reader);
}

static rd_kafka_conf_t *
level_reader_conf(const Config *config)
{
	return kafka_conf_new(config,
						  (KafkaProperties){
							  {"queued.min.messages", "1000"},
							  {"queued.max.messages.kbytes", "1024"},
							  {NULL, NULL},
						  },
						  (KafkaProperties){
							  {"log.queue", "false"},
							  {"log_level", "0"},
							  {"allow.auto.create.topics", "false"},
							  {"enable.auto.commit", "false"},
							  /* of a topic that was made anew */
							  {"auto.offset.reset", "earliest"},
							  {"isolation.level", "read_committed"},
							  {"check.crcs", "true"},
							  {NULL, NULL},
						  });
}

bool
level_reader_open(LevelReader *reader, const Config *config, Buf *error)
{
	char reason[KAFKA_ERROR_MAX];

	Assert(reader->client == NULL && config->levels_topic[0] != '\0');
	reader->client = kafka_client_new(RD_KAFKA_CONSUMER,
									  level_reader_conf(config), reason);
	if (reader->client == NULL)
	{
		buf_printf(error, "could not create a consumer: %s", reason);
		return false;
	}
	reader->name = xstrdup(config->levels_topic);
	reader->topic = rd_kafka_topic_new(reader->client, reader->name, NULL);
	Assert(reader->topic != NULL);
	reader->queue = rd_kafka_queue_new(reader->client);
	reader->begins = rd_kafka_topic_partition_list_new(8);
	reader->started = 0;
	reader->behind = false;
	reader->survey_at = loop_now(reader->loop);
	return true;
}

void
level_reader_begin(LevelReader *reader, int32_t partition, int64_t offset)
{
	Assert(reader->client != NULL && reader->started == 0);
	rd_kafka_topic_partition_list_add(reader->begins, reader->name, partition)
		->offset = offset;
}

bool
level_reader_is_open(const LevelReader *reader)
{
	return reader->client != NULL && !reader->closing;
}

void
level_reader_reconfigured(LevelReader *reader, const Config *config)
{
	if (reader->client != NULL)
		kafka_set_credentials(reader->client, config);
}

/* ---- records ----------------------------------------------------------- */

const char *
level_reader_trouble(const LevelReader *reader)
{
	return reader->trouble.len > 0 ? reader->trouble.data : "";
}

/*
 * The database that wrote the record.  NULL: none did; a name of another
 * length is no database's.
 */
static Slice
level_reader_incarnation(const rd_kafka_message_t *message)
{
	rd_kafka_headers_t *headers;
	const void		   *value;
	size_t				len;

	/* the message keeps its headers */
	if (rd_kafka_message_headers(message, &headers) != 0 ||
		rd_kafka_header_get_last(headers, HEADER_CE_INCARNATION, &value,
								 &len) != 0)
		return (Slice){NULL, 0};
	if (value == NULL || len != EVENT_UUID_LEN)
		return (Slice){"", 0};
	return (Slice){value, len};
}

/* Kept by the client: the end of the partition as of the last fetch. */
static bool
level_reader_is_far(const LevelReader		 *reader,
					const rd_kafka_message_t *message)
{
	int64_t begin;
	int64_t end;

	return rd_kafka_get_watermark_offsets(reader->client, reader->name,
										  message->partition, &begin,
										  &end) == 0 &&
		   end - message->offset > LEVEL_READER_ROWS;
}

static void
level_reader_add(ApiBatch *batch, const rd_kafka_message_t *message)
{
	bool long_key = message->key_len > LEVEL_KEY_BYTES_MAX;

	api_batch_add(batch, &(ApiMessage){
							 .topic = {"", 0},
							 .partition = message->partition,
							 .offset = message->offset,
							 .timestamp_ms = -1,
							 .key = {long_key ? NULL : message->key,
									 long_key ? 0 : message->key_len},
							 .value = {message->payload, message->len},
							 .headers = level_reader_incarnation(message),
						 });
}

/* librdkafka tries again by itself, whatever the error is. */
static void
level_reader_note(LevelReader *reader, const rd_kafka_message_t *message)
{
	buf_clear(&reader->trouble);
	buf_add_str(&reader->trouble, rd_kafka_message_errstr(message));
	buf_str(&reader->trouble);
}

uint32_t
level_reader_take(LevelReader *reader, ApiBatch *batch)
{
	size_t bytes = 0;

	Assert(level_reader_is_open(reader));
	reader->behind = false;
	level_reader_survey(reader);
	api_batch_begin(batch);
	while (batch->count < LEVEL_READER_ROWS && bytes < LEVEL_READER_BYTES)
	{
		rd_kafka_message_t *message = rd_kafka_consume_queue(reader->queue, 0);

		if (message == NULL)
			break;
		if (message->err != 0)
			level_reader_note(reader, message);
		else
		{
			buf_clear(&reader->trouble);
			level_reader_add(batch, message);
			bytes += message->key_len + message->len;
			reader->behind |= level_reader_is_far(reader, message);
		}
		rd_kafka_message_destroy(message);
	}
	reader->behind |= batch->count >= LEVEL_READER_ROWS ||
					  bytes >= LEVEL_READER_BYTES;
	return batch->count;
}

bool
level_reader_is_behind(const LevelReader *reader)
{
	return reader->behind;
}
