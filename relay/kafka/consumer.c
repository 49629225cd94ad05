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
#include "kafka/consumer_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kafka/trouble.h"
#include "kafka/witness.h"

#define LOG_MODULE "consumer"

static void
consumer_survey_ended(void *arg)
{
	Consumer *consumer = arg;

	if (consumer->client == NULL)
		return;
	consumer_surveyed(consumer);
	consumer->handlers.surveyed(consumer->arg);
}

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
	consumer->survey = survey_new(loop, consumer_survey_ended, consumer);
	return consumer;
}

void
consumer_free(Consumer *consumer)
{
	if (consumer == NULL)
		return;
	consumer_close(consumer);
	survey_free(consumer->survey);
	loop_wake_free(consumer->wake);
	strings_free(consumer->unknown);
	buf_free(&consumer->trouble);
	buf_free(&consumer->headers);
	buf_free(&consumer->group);
	buf_free(&consumer->error);
	missing_topics_clear(&consumer->missing);
	free(consumer);
}

const char *
consumer_error(const Consumer *consumer)
{
	return consumer->error.len > 0 ? consumer->error.data : "";
}

/* ---- the assignment ---------------------------------------------------- */

void
consumer_suspend(Consumer *consumer)
{
	rd_kafka_topic_partition_list_t *none = rd_kafka_topic_partition_list_new(
		0);

	Assert(consumer->client != NULL);
	consumer_drop(consumer);
	for (size_t i = 0; i < consumer->partition_count; i++)
		consumer->partitions[i].ignored = true;
	consumer_assign(consumer, none);
	rd_kafka_topic_partition_list_destroy(none);
}

bool
consumer_is_assigned(const Consumer *consumer)
{
	return consumer->partition_count > 0;
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
			/* never another offset than consumer_offsets.c decided */
			{"auto.offset.reset", "error"},
			{"check.crcs", "true"},
			{"enable.partition.eof", "true"},
			{NULL, NULL},
		});

	Assert(consumer->client == NULL && group[0] != '\0');
	consumer->config = config;
	buf_clear(&consumer->group);
	buf_add_str(&consumer->group, group);
	survey_open(consumer->survey, witness_conf(config));
	buf_clear(&consumer->trouble);
	rd_kafka_conf_set_opaque(conf, consumer);
	rd_kafka_conf_set_rebalance_cb(conf, consumer_rebalance);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_LOG);
	consumer->client = kafka_client_new(RD_KAFKA_CONSUMER, conf, reason);
	if (consumer->client == NULL)
	{
		survey_close(consumer->survey);
		buf_printf(error, "could not create a consumer: %s", reason);
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
consumer_reconfigured(Consumer *consumer, const Config *config)
{
	if (consumer->client == NULL)
		return;
	kafka_set_credentials(consumer->client, config);
	survey_reconfigured(consumer->survey, witness_conf(config));
}

void
consumer_leave(Consumer *consumer)
{
	rd_kafka_error_t *error;

	Assert(consumer->client != NULL && !consumer->leaving);
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
	Assert(consumer->client != NULL && consumer->leaving);
	return rd_kafka_consumer_closed(consumer->client) == 1;
}

void
consumer_close(Consumer *consumer)
{
	if (consumer->client == NULL)
		return;
	survey_close(consumer->survey);
	consumer_drop(consumer);
	consumer_forget_partitions(consumer);
	rd_kafka_queue_io_event_enable(consumer->queue, -1, NULL, 0);
	rd_kafka_queue_io_event_enable(consumer->side_queue, -1, NULL, 0);
	rd_kafka_queue_destroy(consumer->queue);
	rd_kafka_queue_destroy(consumer->side_queue);
	kafka_consumer_end(consumer->client);
	consumer->client = NULL;
	consumer->leaving = false;
	Assert(consumer->count == 0 && consumer->partition_count == 0);
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

static void
consumer_note_missing(Consumer *consumer, const rd_kafka_message_t *message)
{
	const char *topic = rd_kafka_topic_name(message->rkt);

	if (missing_topics_add(&consumer->missing, topic))
		log_warning("topic to consume does not exist topic=%s", topic);
}

/*
 * Something is wrong with a partition, so it is placed again.  librdkafka skips
 * every record of a damaged batch.
 */
static void
consumer_take_disturbance(Consumer *consumer, Partition *partition,
						  const rd_kafka_message_t *message)
{
	const char *topic = partition != NULL ? partition->topic : "";
	const char *text = rd_kafka_message_errstr(message);
	char		what[256];

	snprintf(what, sizeof(what), "could not be read: %s",
			 text != NULL ? text : rd_kafka_err2name(message->err));
	if (message->err == RD_KAFKA_RESP_ERR__BAD_MSG)
		*metrics_cell(consumer->metrics, METRIC_DAMAGED, "topic", topic,
					  NULL) += 1;
	if (partition != NULL &&
		(message->err == RD_KAFKA_RESP_ERR__BAD_MSG ||
		 message->err == RD_KAFKA_RESP_ERR__BAD_COMPRESSION))
		consumer_hold(consumer, partition);
	log_throttled(&consumer->error_throttle, loop_now(consumer->loop),
				  LEVEL_WARNING, LOG_MODULE,
				  "partition %s topic=%s partition=%d", what, topic,
				  message->partition);
	consumer_disturb(consumer, partition, what);
}

static void
consumer_take_fatal(Consumer *consumer)
{
	char reason[KAFKA_ERROR_MAX];

	rd_kafka_fatal_error(consumer->client, reason, sizeof(reason));
	buf_clear(&consumer->error);
	buf_add_str(&consumer->error, reason);
	buf_str(&consumer->error);
}

/* librdkafka's text names neither the topic nor the group. */
static void
consumer_take_refusal(Consumer *consumer, const rd_kafka_message_t *message)
{
	bool of_group = message->err ==
					RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
	const char *topic = message->rkt != NULL ? rd_kafka_topic_name(message->rkt)
											 : "";

	log_throttled(of_group ? &consumer->group_throttle
						   : &consumer->topic_throttle,
				  loop_now(consumer->loop), LEVEL_WARNING, LOG_MODULE,
				  "%s: allow the relay's principal Read %s=%s",
				  rd_kafka_err2name(message->err), of_group ? "group" : "topic",
				  of_group ? buf_str(&consumer->group) : topic);
}

/* False if the consumer is of no use any more. */
static bool
consumer_take_error(Consumer *consumer, const rd_kafka_message_t *message)
{
	const char *text = rd_kafka_message_errstr(message);
	Partition  *partition = NULL;

	Assert(message->err != RD_KAFKA_RESP_ERR_NO_ERROR);
	if (message->rkt != NULL)
		partition = consumer_partition(consumer,
									   rd_kafka_topic_name(message->rkt),
									   message->partition);
	switch ((int) message->err)
	{
		case RD_KAFKA_RESP_ERR__PARTITION_EOF:
			if (partition != NULL && !partition->ignored)
				partition->drained_to = message->offset;
			return true;
		case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
		case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
		case RD_KAFKA_RESP_ERR__BAD_MSG:
		case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
			consumer_take_disturbance(consumer, partition, message);
			return true;
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
			if (message->rkt != NULL)
			{
				consumer_note_missing(consumer, message);
				return true;
			}
			break;
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
			consumer_take_refusal(consumer, message);
			return true;
		case RD_KAFKA_RESP_ERR__FATAL:
			consumer_take_fatal(consumer);
			return false;
		default:
			break;
	}
	kafka_log_error(&consumer->error_throttle, loop_now(consumer->loop),
					LOG_MODULE, consumer->config, message->err,
					text != NULL ? text : "");
	return true;
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
		if (!consumer_expects(consumer, message))
		{
			rd_kafka_message_destroy(message);
			continue;
		}
		consumer->messages[consumer->count++] = message;
		consumer->bytes += message->len + message->key_len;
	}
	Assert(consumer->count <= CONSUMER_BATCH_MESSAGES);
	return CONSUMER_MORE;
}

/*
 * The headers are packed into one buffer: the answer is good until the next
 * call.  False if a header had to be left out.
 */
bool
consumer_message(Consumer *consumer, uint32_t index, ApiMessage *to)
{
	Assert(index < consumer->count);
	return record_read(consumer->messages[index], &consumer->headers, to);
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
	consumer_note_witness(consumer, partition, message);
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
	Assert(consumer->client != NULL);
	/* For lag tools only: the next commit replaces one that fails. */
	if (list->cnt > 0)
		(void) rd_kafka_commit(consumer->client, list, 1);
	rd_kafka_topic_partition_list_destroy(list);
}

/* Of the partition's messages at hand none is applied before all are. */
static bool
consumer_holds(const Consumer *consumer, const Partition *partition)
{
	for (uint32_t i = 0; i < consumer->count; i++)
		if (consumer->messages[i]->partition == partition->id &&
			consumer->messages[i]->offset >= partition->next &&
			strcmp(rd_kafka_topic_name(consumer->messages[i]->rkt),
				   partition->topic) == 0)
			return true;
	return false;
}

/*
 * Where all that is stable was taken and applied there is no lag, though the
 * last offset applied be lower: what follows are marks of transactions.
 */
void
consumer_measure_lag(Consumer *consumer)
{
	for (size_t i = 0; i < consumer->partition_count; i++)
	{
		const Partition *partition = &consumer->partitions[i];
		bool			 drained = partition->drained_to >= partition->next &&
					   !consumer_holds(consumer, partition);
		int64_t end = Max(partition->end, partition->drained_to);
		char	id[16];

		if (consumer->client == NULL || !partition->begun || end < 0)
			continue;
		snprintf(id, sizeof(id), "%d", partition->id);
		*metrics_cell(consumer->metrics, METRIC_LAG, "topic", partition->topic,
					  "partition", id,
					  NULL) = drained ? 0
									  : (double) Max(end - partition->next, 0);
	}
}
