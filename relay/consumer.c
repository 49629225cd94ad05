/*
 * consumer.c - the consumer: a group's partitions, read from given offsets
 *
 * The assignment that the group decides and the one that librdkafka reads are
 * two things here: on a rebalance librdkafka is given an empty one, which is
 * enough to be a member, and the real one follows with the offsets.  Each
 * rd_kafka_assign() puts a barrier before what was fetched until then.
 *
 * Callbacks of librdkafka run in our thread, from rd_kafka_consumer_poll(); on
 * the queue that is used while leaving the same thing is an event.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "consumer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LOG_MODULE "consumer"

/* What waits: only for partitions that the database does not know
 * yet, and only where they do not begin at their start; and for topics that
 * were missing. */
#define FIND_OFFSETS_MS 5000

typedef struct Partition
{
	char   *topic; /* owned */
	int32_t id;
	int64_t next;		 /* offset after the last applied; -1: none */
	bool	uncommitted; /* Kafka does not know next */
} Partition;

struct Consumer
{
	Loop			   *loop;
	Metrics			   *metrics;
	ConsumerHandlers	handlers;
	void			   *arg;
	LoopWake		   *wake;
	rd_kafka_t		   *client;		/* NULL while closed */
	rd_kafka_queue_t   *queue;		/* messages and rebalances */
	rd_kafka_queue_t   *side_queue; /* log lines; all, while leaving */
	bool				leaving;
	Partition		   *partitions; /* what the group assigned */
	size_t				partition_count;
	rd_kafka_message_t *messages[CONSUMER_BATCH_MESSAGES];
	uint32_t			count;
	size_t				bytes;	 /* of messages */
	Buf					headers; /* of the message last asked for */
	Buf					error;
	LogThrottle			error_told;
	Absent				absent;
};

static void
consumer_woken(void *arg)
{
	Consumer *consumer = arg;

	if (consumer->client != NULL)
		consumer->handlers.readable(consumer->arg);
}

Consumer *
consumer_new(Loop *loop, Metrics *metrics, const ConsumerHandlers *handlers,
			 void *arg)
{
	Consumer *consumer = xcalloc(1, sizeof(Consumer));

	consumer->loop = loop;
	consumer->metrics = metrics;
	consumer->handlers = *handlers;
	consumer->arg = arg;
	consumer->wake = loop_wake_new(loop, consumer_woken, consumer);
	return consumer;
}

void
consumer_free(Consumer *consumer)
{
	if (consumer == NULL)
		return;
	consumer_close(consumer);
	loop_wake_free(consumer->wake);
	buf_free(&consumer->headers);
	buf_free(&consumer->error);
	absent_forget_all(&consumer->absent);
	free(consumer);
}

const char *
consumer_error(const Consumer *consumer)
{
	return consumer->error.len > 0 ? consumer->error.data : "";
}

/* ---- the assignment ---------------------------------------------------- */

static void
consumer_forget_partitions(Consumer *consumer)
{
	for (size_t i = 0; i < consumer->partition_count; i++)
		free(consumer->partitions[i].topic);
	free(consumer->partitions);
	consumer->partitions = NULL;
	consumer->partition_count = 0;
	metrics_forget(consumer->metrics, METRIC_LAG);
}

static void
consumer_set_partitions(Consumer							  *consumer,
						const rd_kafka_topic_partition_list_t *list)
{
	consumer_forget_partitions(consumer);
	if (list->cnt == 0)
		return;
	consumer->partition_count = (size_t) list->cnt;
	consumer->partitions = xcalloc(consumer->partition_count,
								   sizeof(Partition));
	for (int i = 0; i < list->cnt; i++)
		consumer->partitions[i] = (Partition){
			.topic = xstrdup(list->elems[i].topic),
			.id = list->elems[i].partition,
			.next = -1,
		};
}

static Partition *
consumer_partition(Consumer *consumer, const char *topic, int32_t id)
{
	for (size_t i = 0; i < consumer->partition_count; i++)
		if (consumer->partitions[i].id == id &&
			strcmp(consumer->partitions[i].topic, topic) == 0)
			return &consumer->partitions[i];
	return NULL;
}

static void
consumer_assign(Consumer *consumer, const rd_kafka_topic_partition_list_t *list)
{
	rd_kafka_resp_err_t error = rd_kafka_assign(consumer->client, list);

	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		log_warning("could not assign partitions: %s", rd_kafka_err2str(error));
}

void
consumer_suspend(Consumer *consumer)
{
	rd_kafka_topic_partition_list_t *none = rd_kafka_topic_partition_list_new(
		0);

	consumer_drop(consumer);
	consumer_assign(consumer, none);
	rd_kafka_topic_partition_list_destroy(none);
}

bool
consumer_is_assigned(const Consumer *consumer)
{
	return consumer->partition_count > 0;
}

const Absent *
consumer_absent(const Consumer *consumer)
{
	return &consumer->absent;
}

/* A topic that is made later brings a rebalance, if not always a partition for
 * us.  Few are missing, and seldom: it may wait for the broker. */
static void
consumer_look_for_absent(Consumer *consumer)
{
	char **topics = consumer->absent.topics;

	consumer->absent = (Absent){0};
	for (char **topic = topics; topics != NULL && *topic != NULL; topic++)
		if (kafka_has_topic(consumer->client, *topic, FIND_OFFSETS_MS))
			log_info("topic is there now topic=%s", *topic);
		else
			(void) absent_note(&consumer->absent, *topic);
	strings_free(topics);
}

static void
consumer_rebalance(rd_kafka_t *client, rd_kafka_resp_err_t error,
				   rd_kafka_topic_partition_list_t *list, void *arg)
{
	Consumer *consumer = arg;
	bool	  assigned = error == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;

	Assert(client == consumer->client);
	log_info("%s partitions=%d",
			 assigned ? "partitions assigned" : "partitions revoked",
			 list->cnt);
	if (assigned)
	{
		consumer_suspend(consumer);
		consumer_set_partitions(consumer, list);
		consumer_look_for_absent(consumer);
	}
	else
	{
		consumer_drop(consumer);
		consumer_forget_partitions(consumer);
		consumer_assign(consumer, NULL);
	}
	consumer->handlers.rebalance(consumer->arg, assigned);
}

/* ---- opening and closing ----------------------------------------------- */

static bool
consumer_subscribe(Consumer *consumer, char *const *topics)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(
		(int) strings_count(topics));
	rd_kafka_resp_err_t error;

	for (; *topics != NULL; topics++)
		rd_kafka_topic_partition_list_add(list, *topics, RD_KAFKA_PARTITION_UA);
	error = rd_kafka_subscribe(consumer->client, list);
	rd_kafka_topic_partition_list_destroy(list);
	return error == RD_KAFKA_RESP_ERR_NO_ERROR;
}

bool
consumer_open(Consumer *consumer, const Config *config, const char *group,
			  Buf *error)
{
	char			 reason[KAFKA_ERROR_MAX];
	rd_kafka_conf_t *conf = kafka_conf_new(
		config,
		(KafkaProperties){
			{"session.timeout.ms", "10000"},
			{"heartbeat.interval.ms", "2000"},
			{"queued.max.messages.kbytes", "16384"},
			{"queued.min.messages", "2000"},
			{"topic.metadata.refresh.interval.ms", "10000"},
			{NULL, NULL},
		},
		(KafkaProperties){
			{"group.id", group},
			{"partition.assignment.strategy", "range"},
			{"enable.auto.commit", "false"},
			{"enable.auto.offset.store", "false"},
			/* where retention has overtaken the database: what is left */
			{"auto.offset.reset", "earliest"},
			{NULL, NULL},
		});

	Assert(consumer->client == NULL && group[0] != '\0');
	rd_kafka_conf_set_opaque(conf, consumer);
	rd_kafka_conf_set_rebalance_cb(conf, consumer_rebalance);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_LOG);
	consumer->client = kafka_client_new(RD_KAFKA_CONSUMER, conf, reason);
	if (consumer->client == NULL)
	{
		buf_printf(error, "could not make a consumer: %s", reason);
		return false;
	}
	rd_kafka_poll_set_consumer(consumer->client);
	consumer->queue = rd_kafka_queue_get_consumer(consumer->client);
	consumer->side_queue = rd_kafka_queue_new(consumer->client);
	rd_kafka_set_log_queue(consumer->client, consumer->side_queue);
	kafka_queue_wakes(consumer->queue, consumer->wake);
	kafka_queue_wakes(consumer->side_queue, consumer->wake);
	if (consumer_subscribe(consumer, config->topics))
		return true;
	buf_add_str(error, "could not subscribe to the topics");
	consumer_close(consumer);
	return false;
}

void
consumer_leave(Consumer *consumer)
{
	rd_kafka_error_t *error;

	consumer_drop(consumer);
	consumer->leaving = true;
	error = rd_kafka_consumer_close_queue(consumer->client,
										  consumer->side_queue);
	if (error != NULL)
	{
		log_debug("could not leave the group: %s",
				  rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
	}
}

bool
consumer_has_left(const Consumer *consumer)
{
	return rd_kafka_consumer_closed(consumer->client) == 1;
}

void
consumer_close(Consumer *consumer)
{
	if (consumer->client == NULL)
		return;
	consumer_drop(consumer);
	consumer_forget_partitions(consumer);
	rd_kafka_queue_io_event_enable(consumer->queue, -1, NULL, 0);
	rd_kafka_queue_io_event_enable(consumer->side_queue, -1, NULL, 0);
	rd_kafka_queue_destroy(consumer->queue);
	rd_kafka_queue_destroy(consumer->side_queue);
	rd_kafka_destroy_flags(consumer->client,
						   RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	consumer->client = NULL;
	consumer->leaving = false;
}

/* ---- where to begin ---------------------------------------------------- */

static void
take_database_offsets(rd_kafka_topic_partition_list_t *list,
					  const PGresult				  *offsets)
{
	for (int row = 0; row < PQntuples(offsets); row++)
	{
		rd_kafka_topic_partition_t *partition;

		partition = rd_kafka_topic_partition_list_find(list,
													   api_text(offsets, row,
																0),
													   (int32_t)
														   api_int(offsets, row,
																   1));
		if (partition != NULL)
			partition->offset = api_int(offsets, row, 2);
	}
}

/* The assigned partitions, with offsets where the database has them. */
static rd_kafka_topic_partition_list_t *
list_from_database(const Consumer *consumer, const PGresult *offsets)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(
		(int) consumer->partition_count);

	for (size_t i = 0; i < consumer->partition_count; i++)
		rd_kafka_topic_partition_list_add(list, consumer->partitions[i].topic,
										  consumer->partitions[i].id);
	take_database_offsets(list, offsets);
	return list;
}

static bool
find_beginnings(Consumer *consumer, rd_kafka_topic_partition_list_t *list,
				int64_t first_offset)
{
	for (int i = 0; i < list->cnt; i++)
		list->elems[i].offset = first_offset >= 0 ? first_offset
												  : RD_KAFKA_OFFSET_END;
	if (first_offset >= 0 &&
		kafka_find_offsets(consumer->client, list, FIND_OFFSETS_MS) != 0)
		return false;
	/* the end as a number: what comes from now on comes after it */
	for (int i = 0; i < list->cnt; i++)
		if (list->elems[i].offset == RD_KAFKA_OFFSET_END &&
			kafka_find_end(consumer->client, list->elems[i].topic,
						   list->elems[i].partition, &list->elems[i].offset,
						   FIND_OFFSETS_MS) != 0)
			return false;
	return true;
}

bool
consumer_find_beginnings(Consumer *consumer, const PGresult *offsets,
						 int64_t first_offset, ApiBatch *beginnings)
{
	rd_kafka_topic_partition_list_t *all = list_from_database(consumer,
															  offsets);
	rd_kafka_topic_partition_list_t
		*unknown = rd_kafka_topic_partition_list_new(all->cnt);
	bool good;

	/* at the start nothing can be skipped: it need not be remembered */
	for (int i = 0; first_offset != FIRST_OFFSET_EARLIEST && i < all->cnt; i++)
		if (all->elems[i].offset == RD_KAFKA_OFFSET_INVALID)
			rd_kafka_topic_partition_list_add(unknown, all->elems[i].topic,
											  all->elems[i].partition);
	good = unknown->cnt == 0 ||
		   find_beginnings(consumer, unknown, first_offset);
	api_batch_begin(beginnings);
	for (int i = 0; good && i < unknown->cnt; i++)
		api_batch_add(beginnings,
					  &(ApiMessage){
						  .topic = {unknown->elems[i].topic,
									strlen(unknown->elems[i].topic)},
						  .partition = unknown->elems[i].partition,
						  .offset = unknown->elems[i].offset,
						  .timestamp_ms = -1,
					  });
	rd_kafka_topic_partition_list_destroy(unknown);
	rd_kafka_topic_partition_list_destroy(all);
	return good;
}

void
consumer_place(Consumer *consumer, const PGresult *offsets)
{
	rd_kafka_topic_partition_list_t *list = list_from_database(consumer,
															   offsets);

	for (int i = 0; i < list->cnt; i++)
	{
		if (list->elems[i].offset == RD_KAFKA_OFFSET_INVALID)
			list->elems[i].offset = RD_KAFKA_OFFSET_BEGINNING;
		consumer->partitions[i].next = list->elems[i].offset >= 0
										   ? list->elems[i].offset
										   : -1;
		log_debug("begins topic=%s partition=%d offset=%" PRId64,
				  list->elems[i].topic, list->elems[i].partition,
				  list->elems[i].offset);
	}
	consumer_assign(consumer, list);
	rd_kafka_topic_partition_list_destroy(list);
}

/* ---- the batch --------------------------------------------------------- */

void
consumer_drop(Consumer *consumer)
{
	for (uint32_t i = 0; i < consumer->count; i++)
		rd_kafka_message_destroy(consumer->messages[i]);
	consumer->count = 0;
	consumer->bytes = 0;
}

uint32_t
consumer_count(const Consumer *consumer)
{
	return consumer->count;
}

static void
consumer_serve_side_queue(Consumer *consumer)
{
	rd_kafka_event_t *event;

	while ((event = rd_kafka_queue_poll(consumer->side_queue, 0)) != NULL)
	{
		if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_LOG)
			kafka_log_event(event, LOG_MODULE);
		else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
			consumer_rebalance(consumer->client, rd_kafka_event_error(event),
							   rd_kafka_event_topic_partition_list(event),
							   consumer);
		rd_kafka_event_destroy(event);
	}
}

/* False if the consumer is of no use any more. */
static bool
consumer_take_error(Consumer *consumer, const rd_kafka_message_t *message)
{
	char		reason[KAFKA_ERROR_MAX];
	const char *text = rd_kafka_message_errstr(message);

	if (message->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART &&
		message->rkt != NULL)
	{
		const char *topic = rd_kafka_topic_name(message->rkt);

		if (absent_note(&consumer->absent, topic))
			log_warning("topic to consume is missing: is its name right? "
						"topic=%s",
						topic);
		return true;
	}
	if (message->err != RD_KAFKA_RESP_ERR__FATAL)
	{
		log_throttled(&consumer->error_told, loop_now(consumer->loop),
					  LEVEL_WARNING, LOG_MODULE, "%s: %s",
					  rd_kafka_err2name(message->err),
					  text != NULL ? text : "");
		return true;
	}
	rd_kafka_fatal_error(consumer->client, reason, sizeof(reason));
	buf_clear(&consumer->error);
	buf_add_str(&consumer->error, reason);
	buf_str(&consumer->error);
	return false;
}

ConsumerTaken
consumer_take(Consumer *consumer)
{
	rd_kafka_message_t *message;

	Assert(consumer->client != NULL);
	consumer_serve_side_queue(consumer);
	if (consumer->leaving)
		return CONSUMER_DRAINED;
	while (consumer->count < CONSUMER_BATCH_MESSAGES &&
		   consumer->bytes < CONSUMER_BATCH_BYTES)
	{
		message = rd_kafka_consumer_poll(consumer->client, 0);
		if (message == NULL)
			return CONSUMER_DRAINED;
		if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			bool usable = consumer_take_error(consumer, message);

			rd_kafka_message_destroy(message);
			if (!usable)
				return CONSUMER_FAILED;
			continue;
		}
		consumer->messages[consumer->count++] = message;
		consumer->bytes += message->len + message->key_len;
	}
	return CONSUMER_MORE;
}

static Slice
slice_of(const void *data, size_t len)
{
	return (Slice){data, data != NULL ? len : 0};
}

/* The headers are packed into one buffer: the answer is good until the next
 * call.  False if a header had to be left out. */
bool
consumer_message(Consumer *consumer, uint32_t index, ApiMessage *to)
{
	const rd_kafka_message_t *message;
	rd_kafka_headers_t		 *headers;
	rd_kafka_timestamp_type_t type;
	const char				 *topic;
	bool					  complete;

	Assert(index < consumer->count);
	message = consumer->messages[index];
	topic = rd_kafka_topic_name(message->rkt);
	buf_clear(&consumer->headers);
	*to = (ApiMessage){
		.topic = {topic, strlen(topic)},
		.partition = message->partition,
		.offset = message->offset,
		.timestamp_ms = rd_kafka_message_timestamp(message, &type),
		.key = slice_of(message->key, message->key_len),
		.value = slice_of(message->payload, message->len),
	};
	if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE)
		to->timestamp_ms = -1;
	if (rd_kafka_message_headers(message, &headers) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		return true;
	complete = headers_pack(headers, &consumer->headers);
	to->headers = (Slice){buf_str(&consumer->headers), consumer->headers.len};
	return complete;
}

void
consumer_applied(Consumer *consumer, uint32_t index)
{
	const rd_kafka_message_t *message;
	Partition				 *partition;

	Assert(index < consumer->count);
	message = consumer->messages[index];
	partition = consumer_partition(consumer, rd_kafka_topic_name(message->rkt),
								   message->partition);
	Assert(partition != NULL);
	Assert(message->offset >= partition->next);
	partition->next = message->offset + 1;
	partition->uncommitted = true;
}

/* ---- what others see --------------------------------------------------- */

void
consumer_commit(Consumer *consumer)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(
		(int) consumer->partition_count);

	for (size_t i = 0; i < consumer->partition_count; i++)
	{
		Partition *partition = &consumer->partitions[i];

		if (!partition->uncommitted)
			continue;
		rd_kafka_topic_partition_list_add(list, partition->topic, partition->id)
			->offset = partition->next;
		partition->uncommitted = false;
	}
	/* It is for lag tools: should it fail, the next one says more. */
	if (list->cnt > 0)
		(void) rd_kafka_commit(consumer->client, list, 1);
	rd_kafka_topic_partition_list_destroy(list);
}

void
consumer_measure_lag(Consumer *consumer)
{
	for (size_t i = 0; i < consumer->partition_count; i++)
	{
		const Partition *partition = &consumer->partitions[i];
		int64_t			 low;
		int64_t			 high;
		char			 id[16];

		if (consumer->client == NULL || partition->next < 0 ||
			rd_kafka_get_watermark_offsets(consumer->client, partition->topic,
										   partition->id, &low, &high) !=
				RD_KAFKA_RESP_ERR_NO_ERROR ||
			high < 0)
			continue;
		snprintf(id, sizeof(id), "%d", partition->id);
		*metrics_cell(consumer->metrics, METRIC_LAG, "topic", partition->topic,
					  "partition", id,
					  NULL) = (double) Max(high - partition->next, 0);
	}
}
