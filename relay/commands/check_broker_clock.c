/*
 * check_broker_clock.c - whether the brokers' clock is behind the database's
 *
 * Kafka has no request for a broker's time.  But in a topic with
 * message.timestamp.type=LogAppendTime a record has the time of its broker, and
 * in its headers that of the database, which wrote the event before: where the
 * latter is the later one, the broker's clock is behind, by that much or more.
 * The latest record of each partition is read for that.  (A clock that is ahead
 * is seen by check_message_times().)
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/rfc3339.h"
#include "extension/protocol/event_header.h"
#include "kafka/record.h"

#define BEHIND_US	   SEC_US
#define READ_MS		   3000 /* for all of them */
#define SLICE_MS	   100
#define PARTITIONS_MAX 64  /* more would show nothing new */
#define SOURCE_MAX	   160 /* bytes of ce_source, with the end */

/*
 * The last one may be the mark of a transaction's end, which no consumer
 * gets.
 */
#define LATEST RD_KAFKA_OFFSET_TAIL(2)

typedef struct Behind
{
	int64_t us; /* the most that was seen */
	int32_t partition;
	int64_t offset;
	char   *topic;
} Behind;

/* "" if it has no such header, or not as text. */
static void
broker_clock_header(const rd_kafka_headers_t *headers, const char *name,
					char *text, size_t size)
{
	const void *value;
	size_t		len;

	text[0] = '\0';
	if (rd_kafka_header_get_last(headers, name, &value, &len) ==
			RD_KAFKA_RESP_ERR_NO_ERROR &&
		value != NULL && len < size)
	{
		memcpy(text, value, len);
		text[len] = '\0';
	}
}

/* When the database wrote the event; false: the record is not its own. */
static bool
broker_clock_event_time(const Check *check, const rd_kafka_message_t *message,
						int64_t *us)
{
	bool cloudevents = (check->config->header_profile & HEADERS_CLOUDEVENTS) !=
					   0;
	rd_kafka_headers_t *headers;
	char				own[SOURCE_MAX];
	char				source[SOURCE_MAX];
	char				created[64];

	if (rd_kafka_message_headers(message, &headers) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	snprintf(own, sizeof(own), "/pgstock/%s", check->hello.database);
	broker_clock_header(headers, HEADER_CE_SOURCE, source, sizeof(source));
	broker_clock_header(headers,
						cloudevents ? HEADER_CE_TIME : HEADER_PLAIN_TIME,
						created, sizeof(created));
	return (!cloudevents || strcmp(source, own) == 0) &&
		   rfc3339_parse(created, us) == RFC3339_VALID;
}

static void
broker_clock_take(const Check *check, const rd_kafka_message_t *message,
				  Behind *behind)
{
	rd_kafka_timestamp_type_t type;
	int64_t appended_us = rd_kafka_message_timestamp(message, &type) * MS_US;
	int64_t created_us;

	if (type != RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME ||
		!broker_clock_event_time(check, message, &created_us) ||
		created_us - appended_us <= behind->us)
		return;
	free(behind->topic);
	*behind = (Behind){
		.us = created_us - appended_us,
		.partition = message->partition,
		.offset = message->offset,
		.topic = xstrdup(rd_kafka_topic_name(message->rkt)),
	};
}

/* Until each partition has given its last record, or is known to be empty. */
static void
broker_clock_read(const Check *check, rd_kafka_queue_t *queue, int left,
				  Behind *behind)
{
	int64_t until = clock_monotonic() + READ_MS * MS_US;

	while (left > 0 && clock_monotonic() < until)
	{
		rd_kafka_message_t *message = rd_kafka_consume_queue(queue, SLICE_MS);

		if (message == NULL)
			continue;
		if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
			broker_clock_take(check, message, behind);
		else
			left--; /* its end, or no right to read it: then it is left out */
		rd_kafka_message_destroy(message);
	}
}

static void
broker_clock_read_topic(const Check *check, const char *name, Behind *behind)
{
	const struct rd_kafka_metadata_topic *topic = check_topic(check, name);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(check->client);
	rd_kafka_topic_t *handle = rd_kafka_topic_new(check->client, name, NULL);
	int				  started = 0;

	Assert(topic != NULL && handle != NULL);
	for (int i = 0; i < Min(topic->partition_cnt, PARTITIONS_MAX); i++)
		started += rd_kafka_consume_start_queue(handle, topic->partitions[i].id,
												LATEST, queue) == 0;
	broker_clock_read(check, queue, started, behind);
	for (int i = 0; i < Min(topic->partition_cnt, PARTITIONS_MAX); i++)
		(void) rd_kafka_consume_stop(handle, topic->partitions[i].id);
	rd_kafka_topic_destroy(handle);
	rd_kafka_queue_destroy(queue);
}

void
check_broker_clock(Check *check)
{
	Behind behind = {.us = BEHIND_US};

	for (char **topic = check->published; *topic != NULL; topic++)
		if (check_topic(check, *topic) != NULL &&
			check_has_broker_times(check, *topic))
			broker_clock_read_topic(check, *topic, &behind);
	if (behind.topic == NULL)
		return;
	check_advise(check, "Synchronize the clocks of the brokers and of the "
						"database server (NTP, chronyc tracking).");
	check_find(check,
			   "clock: a broker's is %" PRId64 ".%03" PRId64
			   " s or more behind the database server's: offset %" PRId64
			   " of partition %" PRId32 " of %s was appended before its event "
			   "was written",
			   behind.us / SEC_US, behind.us % SEC_US / MS_US, behind.offset,
			   behind.partition, behind.topic);
	free(behind.topic);
}
