/*
 * position_topic.c - the outbox's position in Kafka
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/position_topic.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "extension/protocol/topic.h"

#define SLICE_MS   1000 /* between two looks at *stop */
#define ADMIN_MS   5000
#define READ_TRIES (30000 / SLICE_MS) /* without a sign of the broker */
#define LOOK_US	   100000			  /* between two queries */
#define LOOKS	   100
#define PARTITION  0

char *
position_topic(const char *incarnation)
{
	return xasprintf(TOPIC_POSITION_PREFIX "%s", incarnation);
}

bool
position_is_topic(const char *topic)
{
	return strncmp(topic, TOPIC_POSITION_PREFIX,
				   strlen(TOPIC_POSITION_PREFIX)) == 0;
}

char *
position_transactional_id(const char *incarnation)
{
	return xasprintf("pgstock-%s", incarnation);
}

void
position_write(Buf *to, const PositionRecord *record)
{
	Assert(record->window != NULL);
	Assert(record->seq >= 0 && record->epoch > 0);
	buf_clear(to);
	buf_add_str(to, "{\"window\":");
	json_add_string(to, record->window);
	buf_printf(to,
			   ",\"seq\":%" PRId64 ",\"finished\":%s,\"epoch\":%" PRId64
			   ",\"held\":%s}",
			   record->seq, record->finished ? "true" : "false", record->epoch,
			   record->held ? "true" : "false");
}

static void
position_unread(Buf *error, const char *topic, const char *why)
{
	buf_printf(error, "position topic %s could not be read: %s", topic, why);
}

/* ---- the topic --------------------------------------------------------- */

/*
 * Compaction leaves the segment that is being written alone, so segments are
 * small: the topic is read from its beginning at each start.
 */
rd_kafka_NewTopic_t *
position_new_topic(const char *topic)
{
	static const char *const settings[][2] = {
		{"cleanup.policy", "compact"},
		{"segment.bytes", "1048576"},
		{"min.cleanable.dirty.ratio", "0.01"},
	};
	char reason[KAFKA_ERROR_MAX];
	rd_kafka_NewTopic_t *new = rd_kafka_NewTopic_new(topic, 1, -1, reason,
													 sizeof(reason));

	Assert(new != NULL);
	for (size_t i = 0; i < Lengthof(settings); i++)
		if (rd_kafka_NewTopic_set_config(new, settings[i][0], settings[i][1]) !=
			RD_KAFKA_RESP_ERR_NO_ERROR)
			Assert(!"a legal setting");
	return new;
}

/* How many partitions the topic has, and why it has none; waits. */
static int
position_count_partitions(rd_kafka_t *client, const char *topic,
						  const atomic_bool *stop, rd_kafka_resp_err_t *why)
{
	rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
	const struct rd_kafka_metadata *metadata = NULL;
	int								count = 0;

	*why = RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
	while (!*stop && rd_kafka_metadata(client, 0, handle, &metadata,
									   SLICE_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		;
	if (metadata != NULL)
	{
		if (metadata->topic_cnt == 1)
		{
			*why = metadata->topics[0].err;
			count = metadata->topics[0].partition_cnt;
		}
		rd_kafka_metadata_destroy(metadata);
	}
	rd_kafka_topic_destroy(handle);
	return *why == RD_KAFKA_RESP_ERR_NO_ERROR ? count : 0;
}

/* Creates the topic; waits. */
static bool
position_make_topic(rd_kafka_t *client, const char *name,
					const atomic_bool *stop, Buf *error)
{
	rd_kafka_queue_t			   *queue = rd_kafka_queue_new(client);
	rd_kafka_NewTopic_t			   *topic = position_new_topic(name);
	rd_kafka_AdminOptions_t		   *admin;
	rd_kafka_event_t			   *event = NULL;
	const rd_kafka_topic_result_t **results;
	char							reason[KAFKA_ERROR_MAX];
	size_t							count;
	rd_kafka_resp_err_t				code;

	admin = rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_CREATETOPICS);
	if (rd_kafka_AdminOptions_set_request_timeout(admin, ADMIN_MS, reason,
												  sizeof(reason)) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		Assert(!"a legal timeout");
	rd_kafka_CreateTopics(client, &topic, 1, admin, queue);
	while (event == NULL && !*stop)
		event = rd_kafka_queue_poll(queue, SLICE_MS);
	code = event != NULL ? rd_kafka_event_error(event)
						 : RD_KAFKA_RESP_ERR__TIMED_OUT;
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		results = rd_kafka_CreateTopics_result_topics(
			rd_kafka_event_CreateTopics_result(event), &count);
		Assert(count == 1);
		code = rd_kafka_topic_result_error(results[0]);
	}
	if (code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
		code = RD_KAFKA_RESP_ERR_NO_ERROR;
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		buf_printf(error,
				   "position topic %s does not exist and cannot be created: %s",
				   name, rd_kafka_err2str(code));
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_AdminOptions_destroy(admin);
	rd_kafka_NewTopic_destroy(topic);
	rd_kafka_queue_destroy(queue);
	return code == RD_KAFKA_RESP_ERR_NO_ERROR;
}

bool
position_ensure_topic(rd_kafka_t *reader, const char *topic,
					  const atomic_bool *stop, Buf *error)
{
	rd_kafka_resp_err_t why;
	int count = position_count_partitions(reader, topic, stop, &why);

	if (count == 0 && !position_make_topic(reader, topic, stop, error))
		return false;
	/* the broker queried may learn of it later than the one that created it */
	for (int i = 0; count == 0 && i < LOOKS && !*stop; i++)
	{
		usleep(LOOK_US);
		count = position_count_partitions(reader, topic, stop, &why);
	}
	if (count == 1)
		return true;
	if (count == 0)
		position_unread(error, topic, rd_kafka_err2str(why));
	else
		buf_printf(error, "position topic %s has %d partitions and not one",
				   topic, count);
	return false;
}

/* ---- reading ----------------------------------------------------------- */

rd_kafka_conf_t *
position_reader_conf(const Config *config)
{
	return kafka_conf_new(config,
						  (KafkaProperties){
							  {"fetch.wait.max.ms", "10"},
							  {NULL, NULL},
						  },
						  (KafkaProperties){
							  {"log.queue", "false"},
							  {"log_level", "0"},
							  {"allow.auto.create.topics", "false"},
							  {"enable.auto.commit", "false"},
							  {"enable.partition.eof", "true"},
							  {"auto.offset.reset", "earliest"},
							  {"check.crcs", "true"},
							  {"isolation.level", "read_committed"},
							  {NULL, NULL},
						  });
}

static void
position_take_record(const rd_kafka_message_t *message, Buf *record,
					 bool *found)
{
	if (message->key_len != strlen(POSITION_KEY) ||
		memcmp(message->key, POSITION_KEY, message->key_len) != 0)
		return;
	buf_clear(record);
	*found = message->payload != NULL;
	if (*found)
		buf_add(record, message->payload, message->len);
}

/*
 * Whether waiting does not help.  librdkafka steps over a damaged batch: what
 * it held would be missed.
 */
static bool
position_error_is_final(rd_kafka_resp_err_t error)
{
	return error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
		   error == RD_KAFKA_RESP_ERR__BAD_MSG ||
		   error == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
		   error == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
}

/*
 * The leader's last stable offset, a lower bound for the end of the committed
 * records: the end that a fetch returns may come from a leader that was just
 * elected, or from a replica, and be too low.  Waits.
 */
static rd_kafka_resp_err_t
position_find_end(rd_kafka_t *reader, const char *topic,
				  const atomic_bool *stop, int64_t *end)
{
	rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;

	for (int i = 0; i < READ_TRIES && !*stop && !position_error_is_final(code);
		 i++)
	{
		code = kafka_find_end(reader, topic, PARTITION, end, SLICE_MS);
		if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		usleep(LOOK_US);
	}
	return code;
}

/* Whether the last committed record is the last one of all. */
static bool
position_is_at_end(rd_kafka_t *reader, const char *topic, int64_t offset)
{
	int64_t low;
	int64_t high;

	return rd_kafka_get_watermark_offsets(reader, topic, PARTITION, &low,
										  &high) ==
			   RD_KAFKA_RESP_ERR_NO_ERROR &&
		   offset == high;
}

static bool
position_read_to_end(rd_kafka_t *reader, rd_kafka_topic_t *topic,
					 const atomic_bool *stop, Buf *record, bool *found,
					 Buf *error)
{
	const char		   *name = rd_kafka_topic_name(topic);
	int64_t				end;
	rd_kafka_resp_err_t code = position_find_end(reader, name, stop, &end);
	int					quiet = 0;

	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		position_unread(error, name, rd_kafka_err2str(code));
		return false;
	}

	while (quiet < READ_TRIES && !*stop && !position_error_is_final(code))
	{
		rd_kafka_message_t *message = rd_kafka_consume(topic, PARTITION,
													   SLICE_MS);
		int64_t				offset;

		quiet++;
		if (message == NULL)
			continue;
		code = message->err;
		offset = message->offset;
		if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			position_take_record(message, record, found);
			quiet = 0;
		}
		rd_kafka_message_destroy(message);
		if (code == RD_KAFKA_RESP_ERR__PARTITION_EOF && offset >= end &&
			position_is_at_end(reader, name, offset))
			return true;
	}
	position_unread(error, name,
					code == RD_KAFKA_RESP_ERR__PARTITION_EOF
						? "an open transaction hides its end"
						: rd_kafka_err2str(code));
	return false;
}

rd_kafka_t *
position_reader_new(rd_kafka_conf_t *conf, Buf *error)
{
	char		reason[KAFKA_ERROR_MAX];
	rd_kafka_t *reader = kafka_client_new(RD_KAFKA_CONSUMER, conf, reason);

	if (reader == NULL)
		buf_printf(error, "could not create a consumer: %s", reason);
	return reader;
}

bool
position_read(rd_kafka_t *reader, const char *topic, const atomic_bool *stop,
			  Buf *record, bool *found, Buf *error)
{
	rd_kafka_topic_t *handle;
	bool			  good;

	*found = false;
	handle = rd_kafka_topic_new(reader, topic, NULL);
	Assert(handle != NULL);
	if (rd_kafka_consume_start(handle, PARTITION, RD_KAFKA_OFFSET_BEGINNING) <
		0)
		Assert(!"no other consumer of this client reads the partition");
	good = position_read_to_end(reader, handle, stop, record, found, error);
	rd_kafka_consume_stop(handle, PARTITION);
	rd_kafka_topic_destroy(handle);
	return good;
}
