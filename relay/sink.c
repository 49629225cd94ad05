/*
 * sink.c - the producer
 *
 * Acknowledgements, errors and log lines arrive as events on librdkafka's main
 * queue, which wakes our loop through an eventfd.  The payload is copied by
 * librdkafka: holding the page's memory until the last of its rows is
 * acknowledged would take more than the copies do.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "sink.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "position.h"
#include "transaction.h"

#define LOG_MODULE "sink"

#define TOPIC_BUCKETS	 256 /* a power of two */
#define ADMIN_TIMEOUT_MS 5000
#define ENSURE_AGAIN_US	 (5 * SEC_US)
#define ENSURE_MAX		 64 /* topics asked for at once */
/* room for the relay's own headers and the record's frame */
#define MESSAGE_OVERHEAD (64 * 1024)
/* what is no event: a transaction's position */
#define POSITION_ID UINT64_MAX

typedef struct SinkTopic
{
	char			 *name;
	bool			  unsure; /* it may be missing in Kafka */
	size_t			  len;	  /* of name */
	rd_kafka_topic_t *handle;
	double			 *published; /* metric */
	double			  taken;	 /* transactional: since the last commit */
	struct SinkTopic *next;		 /* in its bucket */
} SinkTopic;

struct Sink
{
	Loop			 *loop;
	Metrics			 *metrics;
	SinkHandlers	  handlers;
	void			 *arg;
	LoopWake		 *wake;
	LoopTimer		 *ensure_timer; /* asks for topics that may be missing */
	rd_kafka_t		 *producer;		/* NULL while closed */
	rd_kafka_queue_t *queue;
	Transaction		 *transaction;	  /* it owns the producer in that mode */
	char			 *position_topic; /* NULL: idempotent */
	SinkTopic		 *topics[TOPIC_BUCKETS];
	char			**wanted;  /* topics to be there with any producer */
	bool			  asking;  /* the broker has not answered yet */
	Buf				  missing; /* topics that could not be made */
	LogThrottle		  missing_told;
	LogThrottle		  error_told;
	bool			  known_up;
	Buf				  failure; /* first reason to give this producer up */
	Buf				  refusal;
};

static void sink_serve(void *arg);
static void sink_ensure(void *arg);
static void sink_opened(void *arg, Slice position);
static void sink_committed(void *arg);
static void sink_transaction_failed(void *arg, rd_kafka_resp_err_t error,
									const char *why);

Sink *
sink_new(Loop *loop, Metrics *metrics, const SinkHandlers *handlers, void *arg)
{
	static const TransactionHandlers on_transaction = {
		.opened = sink_opened,
		.committed = sink_committed,
		.failed = sink_transaction_failed,
	};
	Sink *sink = xcalloc(1, sizeof(Sink));

	sink->loop = loop;
	sink->metrics = metrics;
	sink->handlers = *handlers;
	sink->arg = arg;
	sink->wanted = xcalloc(1, sizeof(char *));
	sink->wake = loop_wake_new(loop, sink_serve, sink);
	sink->ensure_timer = loop_timer_new(loop, sink_ensure, sink);
	sink->transaction = transaction_new(loop, &on_transaction, sink);
	return sink;
}

void
sink_free(Sink *sink)
{
	if (sink == NULL)
		return;
	sink_close(sink);
	transaction_free(sink->transaction);
	loop_wake_free(sink->wake);
	loop_timer_free(sink->ensure_timer);
	strings_free(sink->wanted);
	buf_free(&sink->missing);
	buf_free(&sink->failure);
	buf_free(&sink->refusal);
	free(sink);
}

/* ---- topics ------------------------------------------------------------ */

static SinkTopic **
sink_topic_bucket(Sink *sink, Slice name)
{
	uint32_t hash = UINT32_C(2166136261);

	for (size_t i = 0; i < name.len; i++)
		hash = (hash ^ (unsigned char) name.data[i]) * UINT32_C(16777619);
	return &sink->topics[hash & (TOPIC_BUCKETS - 1)];
}

/* NULL if librdkafka does not like the name. */
static SinkTopic *
sink_topic(Sink *sink, Slice name)
{
	SinkTopic		**bucket = sink_topic_bucket(sink, name);
	SinkTopic		 *topic;
	rd_kafka_topic_t *handle;

	for (topic = *bucket; topic != NULL; topic = topic->next)
		if (topic->len == name.len &&
			memcmp(topic->name, name.data, name.len) == 0)
			return topic;
	handle = rd_kafka_topic_new(sink->producer, name.data, NULL);
	if (handle == NULL)
		return NULL;
	topic = xcalloc(1, sizeof(SinkTopic));
	topic->name = xstrdup(name.data);
	topic->len = name.len;
	topic->handle = handle;
	topic->unsure = true;
	if (!sink->asking)
		loop_timer_set(sink->ensure_timer, loop_now(sink->loop));
	topic->published = metrics_cell(sink->metrics, METRIC_PUBLISHED, "topic",
									name.data, NULL);
	topic->next = *bucket;
	*bucket = topic;
	return topic;
}

static void
sink_forget_topics(Sink *sink)
{
	for (size_t i = 0; i < TOPIC_BUCKETS; i++)
		while (sink->topics[i] != NULL)
		{
			SinkTopic *topic = sink->topics[i];

			sink->topics[i] = topic->next;
			rd_kafka_topic_destroy(topic->handle);
			free(topic->name);
			free(topic);
		}
}

/* ---- opening and closing ----------------------------------------------- */

/*
 * No linger: a lone event leaves at once; under load batches form by themselves
 * while requests are on the wire.
 *
 * One request on the wire to a broker: with more, a partition that has just
 * come up may refuse the first batch and take the second (the broker accepts
 * any first sequence number of a producer that it does not know), and
 * librdkafka then reports the first one as delivered with the second.
 *
 * A transaction needs no guarantee of its own against gaps, for a failed record
 * fails all of it, and its records wait no longer than itself.
 */
static rd_kafka_conf_t *
sink_conf(const Config *config, int max_event_bytes, const char *transactional)
{
	char in_flight[16];
	char message_bytes[16];
	char queue_kbytes[16];
	char timeout[16];
	int	 message_max = max_event_bytes + MESSAGE_OVERHEAD;
	bool once = transactional != NULL;

	snprintf(in_flight, sizeof(in_flight), "%d", SINK_IN_FLIGHT_MAX + once);
	snprintf(timeout, sizeof(timeout), "%d", KAFKA_TRANSACTION_MS);
	snprintf(message_bytes, sizeof(message_bytes), "%d", message_max);
	snprintf(queue_kbytes, sizeof(queue_kbytes), "%d",
			 Max(8192, 2 * message_max / 1024));
	return kafka_conf_new(config,
						  (KafkaProperties){
							  {"linger.ms", "0"},
							  {"partitioner", "murmur2_random"},
							  {"sticky.partitioning.linger.ms", "0"},
							  {"queue.buffering.max.kbytes", queue_kbytes},
							  {"topic.metadata.refresh.fast.interval.ms", "50"},
							  {NULL, NULL},
						  },
						  (KafkaProperties){
							  {"acks", "all"},
							  {"enable.idempotence", "true"},
							  {"max.in.flight", "1"},
							  {"message.max.bytes", message_bytes},
							  {"queue.buffering.max.messages", in_flight},
							  {once ? "transactional.id"
									: "enable.gapless.guarantee",
							   once ? transactional : "true"},
							  {once ? "transaction.timeout.ms"
									: "message.timeout.ms",
							   once ? timeout : "0"},
							  {NULL, NULL},
						  });
}

bool
sink_open(Sink *sink, const Config *config, int max_event_bytes,
		  const char *incarnation, Buf *error)
{
	char			 reason[KAFKA_ERROR_MAX];
	char			*transactional = incarnation != NULL
										 ? position_transactional_id(incarnation)
										 : NULL;
	rd_kafka_conf_t *conf = sink_conf(config, max_event_bytes, transactional);

	free(transactional);
	Assert(sink->producer == NULL);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR |
									   RD_KAFKA_EVENT_LOG |
									   RD_KAFKA_EVENT_CREATETOPICS_RESULT);
	sink->producer = kafka_client_new(RD_KAFKA_PRODUCER, conf, reason);
	if (sink->producer == NULL)
	{
		buf_printf(error, "could not make a producer: %s", reason);
		return false;
	}
	sink->queue = rd_kafka_queue_get_main(sink->producer);
	rd_kafka_set_log_queue(sink->producer, sink->queue);
	kafka_queue_wakes(sink->queue, sink->wake);
	for (char **name = sink->wanted; *name != NULL; name++)
		(void) sink_topic(sink, (Slice){*name, strlen(*name)});
	if (incarnation != NULL)
	{
		sink->position_topic = position_topic(incarnation);
		transaction_open(sink->transaction, sink->producer, config,
						 sink->position_topic);
	}
	return true;
}

void
sink_close(Sink *sink)
{
	if (sink->producer == NULL)
		return;
	loop_timer_set(sink->ensure_timer, NEVER);
	rd_kafka_queue_io_event_enable(sink->queue, -1, NULL, 0);
	sink_forget_topics(sink);
	rd_kafka_queue_destroy(sink->queue);
	if (sink->position_topic != NULL)
		transaction_close(sink->transaction);
	else
		rd_kafka_destroy(sink->producer);
	free(sink->position_topic);
	sink->position_topic = NULL;
	sink->queue = NULL;
	sink->producer = NULL;
	sink->known_up = sink->asking = false;
	buf_clear(&sink->failure);
	buf_clear(&sink->missing);
}

/* ---- producing --------------------------------------------------------- */

static SinkResult
sink_refuse(Sink *sink, const char *class, const char *why)
{
	buf_clear(&sink->refusal);
	buf_add_str(&sink->refusal, why);
	buf_str(&sink->refusal);
	*metrics_cell(sink->metrics, METRIC_PUBLISH_ERRORS, "class", class,
				  NULL) += 1;
	return SINK_REFUSED;
}

SinkResult
sink_produce(Sink *sink, const EventRow *row, uint64_t id, unsigned profile,
			 Slice source)
{
	SinkTopic		   *topic = sink_topic(sink, row->topic);
	rd_kafka_headers_t *headers;
	rd_kafka_resp_err_t error;

	Assert(sink->producer != NULL);
	if (topic == NULL)
		return sink_refuse(sink, "topic", "its topic has no legal name");
	headers = event_headers(row, profile, source);
	if (headers == NULL)
		return sink_refuse(sink, "headers", "its headers are damaged");
	error = rd_kafka_producev(sink->producer, RD_KAFKA_V_RKT(topic->handle),
							  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							  RD_KAFKA_V_VALUE((void *) (uintptr_t)
												   row->payload.data,
											   row->payload.len),
							  RD_KAFKA_V_KEY(row->key.data, row->key.len),
							  RD_KAFKA_V_HEADERS(headers),
							  RD_KAFKA_V_OPAQUE((void *) (uintptr_t) id),
							  RD_KAFKA_V_END);
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
		return SINK_TAKEN; /* and so were the headers */
	rd_kafka_headers_destroy(headers);
	if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		return SINK_FULL;
	return sink_refuse(sink, rd_kafka_err2name(error), rd_kafka_err2str(error));
}

SinkResult
sink_commit(Sink *sink, Slice position)
{
	rd_kafka_resp_err_t error;

	Assert(sink->position_topic != NULL);
	error = rd_kafka_producev(sink->producer,
							  RD_KAFKA_V_TOPIC(sink->position_topic),
							  RD_KAFKA_V_PARTITION(0),
							  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							  RD_KAFKA_V_KEY(POSITION_KEY,
											 strlen(POSITION_KEY)),
							  RD_KAFKA_V_VALUE((void *) (uintptr_t)
												   position.data,
											   position.len),
							  RD_KAFKA_V_OPAQUE(
								  (void *) (uintptr_t) POSITION_ID),
							  RD_KAFKA_V_END);
	if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		return SINK_FULL;
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		return sink_refuse(sink, rd_kafka_err2name(error),
						   rd_kafka_err2str(error));
	transaction_commit(sink->transaction);
	return SINK_TAKEN;
}

const char *
sink_refusal(const Sink *sink)
{
	return sink->refusal.len > 0 ? sink->refusal.data : "";
}

/* ---- what comes back --------------------------------------------------- */

/* The first reason counts: what follows it is its consequence. */
static void
sink_give_up(Sink *sink, rd_kafka_resp_err_t error, const char *text)
{
	if (sink->failure.len > 0)
		return;
	buf_printf(&sink->failure, "%s: %s", rd_kafka_err2name(error), text);
	buf_str(&sink->failure);
	*metrics_cell(sink->metrics, METRIC_PUBLISH_ERRORS, "class",
				  rd_kafka_err2name(error), NULL) += 1;
}

/*
 * No offset: librdkafka infers the delivery from that of a later batch, which
 * the broker may have taken without the one before.  (A lost transaction purges
 * its records; why it was lost is what its commit says.)
 */
static bool
sink_delivered(Sink *sink, const rd_kafka_message_t *message)
{
	rd_kafka_resp_err_t error = message->err;
	char			   *text;

	if (error == RD_KAFKA_RESP_ERR_NO_ERROR &&
		message->offset != RD_KAFKA_OFFSET_INVALID)
		return true;
	if (sink->position_topic != NULL &&
		(error == RD_KAFKA_RESP_ERR__PURGE_QUEUE ||
		 error == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT))
	{
		if (!transaction_is_busy(sink->transaction))
			transaction_commit(sink->transaction);
		return false;
	}
	text = xasprintf("%s (topic %s)",
					 error == RD_KAFKA_RESP_ERR_NO_ERROR
						 ? "delivered, but nobody knows where"
						 : rd_kafka_err2str(error),
					 rd_kafka_topic_name(message->rkt));
	sink_give_up(sink, error, text);
	free(text);
	return false;
}

static void
sink_take_reports(Sink *sink, rd_kafka_event_t *event)
{
	const rd_kafka_message_t *message;
	const rd_kafka_topic_t	 *handle = NULL;
	SinkTopic				 *topic = NULL;

	while ((message = rd_kafka_event_message_next(event)) != NULL)
	{
		uint64_t id = (uint64_t) (uintptr_t) message->_private;

		if (!sink_delivered(sink, message) || id == POSITION_ID)
			continue;
		if (message->rkt != handle)
		{
			const char *name = rd_kafka_topic_name(message->rkt);

			handle = message->rkt;
			topic = sink_topic(sink, (Slice){name, strlen(name)});
		}
		Assert(topic != NULL);
		if (sink->position_topic != NULL)
		{
			topic->taken++;
			continue;
		}
		*topic->published += 1;
		sink->handlers.acked(sink->arg, id);
	}
	sink->known_up = true;
}

static void
sink_take_error(Sink *sink, rd_kafka_event_t *event)
{
	rd_kafka_resp_err_t error = rd_kafka_event_error(event);
	char				reason[KAFKA_ERROR_MAX];

	if (rd_kafka_event_error_is_fatal(event))
	{
		error = rd_kafka_fatal_error(sink->producer, reason, sizeof(reason));
		sink_give_up(sink, error, reason);
		return;
	}
	if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		sink->known_up = false;
	log_throttled(&sink->error_told, loop_now(sink->loop), LEVEL_WARNING,
				  LOG_MODULE, "%s: %s", rd_kafka_err2name(error),
				  rd_kafka_event_error_string(event));
}

/* One topic of the broker's answer. */
static void
sink_take_topic(Sink *sink, const rd_kafka_topic_result_t *result)
{
	const char		   *name = rd_kafka_topic_result_name(result);
	rd_kafka_resp_err_t error = rd_kafka_topic_result_error(result);
	SinkTopic		   *topic = sink_topic(sink, (Slice){name, strlen(name)});

	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
		log_info("made topic topic=%s", name);
	else if (error != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
	{
		buf_printf(&sink->missing, "%s%s (%s)",
				   sink->missing.len > 0 ? ", " : "", name,
				   rd_kafka_err2name(error));
		return;
	}
	if (topic != NULL)
		topic->unsure = false;
}

static void
sink_take_created(Sink *sink, rd_kafka_event_t *event)
{
	const rd_kafka_topic_result_t **topics;
	size_t							count = 0;

	sink->asking = false;
	loop_timer_set(sink->ensure_timer, loop_now(sink->loop) + ENSURE_AGAIN_US);
	if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		log_debug("could not ask for topics: %s",
				  rd_kafka_event_error_string(event));
		return;
	}
	sink->known_up = true;
	buf_clear(&sink->missing);
	topics =
		rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(
												event),
											&count);
	for (size_t i = 0; i < count; i++)
		sink_take_topic(sink, topics[i]);
	if (sink->missing.len > 0)
		log_throttled(&sink->missing_told, loop_now(sink->loop), LEVEL_WARNING,
					  LOG_MODULE, "topics are missing and cannot be made: %s",
					  buf_str(&sink->missing));
	else
		loop_timer_set(sink->ensure_timer, loop_now(sink->loop));
}

static void
sink_take_event(Sink *sink, rd_kafka_event_t *event)
{
	switch (rd_kafka_event_type(event))
	{
		case RD_KAFKA_EVENT_DR:
			sink_take_reports(sink, event);
			break;
		case RD_KAFKA_EVENT_ERROR:
			sink_take_error(sink, event);
			break;
		case RD_KAFKA_EVENT_CREATETOPICS_RESULT:
			sink_take_created(sink, event);
			break;
		case RD_KAFKA_EVENT_LOG:
			kafka_log_event(event, LOG_MODULE);
			break;
		default:
			break;
	}
}

/* Until the queue is empty: what it holds is limited by what is in flight. */
static void
sink_serve(void *arg)
{
	Sink			 *sink = arg;
	rd_kafka_event_t *event;

	if (sink->producer == NULL)
		return;
	while ((event = rd_kafka_queue_poll(sink->queue, 0)) != NULL)
	{
		sink_take_event(sink, event);
		rd_kafka_event_destroy(event);
	}
	sink->handlers.served(sink->arg);
	if (sink->failure.len > 0)
		sink->handlers.failed(sink->arg, buf_str(&sink->failure));
}

/* ---- what becomes of transactions -------------------------------------- */

static void
sink_opened(void *arg, Slice position)
{
	Sink *sink = arg;

	sink->known_up = true;
	sink->handlers.opened(sink->arg, position);
}

/* What was delivered is published from now on. */
static void
sink_committed(void *arg)
{
	Sink *sink = arg;

	for (size_t i = 0; i < TOPIC_BUCKETS; i++)
		for (SinkTopic *topic = sink->topics[i]; topic != NULL;
			 topic = topic->next)
		{
			*topic->published += topic->taken;
			topic->taken = 0;
		}
	*metrics_cell(sink->metrics, METRIC_TRANSACTIONS, NULL) += 1;
	sink->known_up = true;
	sink->handlers.committed(sink->arg);
}

static void
sink_transaction_failed(void *arg, rd_kafka_resp_err_t error, const char *why)
{
	Sink *sink = arg;

	sink_give_up(sink, error, why);
	sink->handlers.failed(sink->arg, buf_str(&sink->failure));
}

/* ---- topics that should be there --------------------------------------- */

void
sink_want_topic(Sink *sink, const char *name)
{
	size_t count = strings_count(sink->wanted);

	for (size_t i = 0; i < count; i++)
		if (strcmp(sink->wanted[i], name) == 0)
			return;
	sink->wanted = xrealloc(sink->wanted, (count + 2) * sizeof(char *));
	sink->wanted[count] = xstrdup(name);
	sink->wanted[count + 1] = NULL;
	if (sink->producer != NULL)
		(void) sink_topic(sink, (Slice){name, strlen(name)});
}

/* Those of which nobody knows yet whether they are there. */
static size_t
sink_unsure_topics(const Sink *sink, rd_kafka_NewTopic_t **topics)
{
	char   reason[KAFKA_ERROR_MAX];
	size_t count = 0;

	for (size_t i = 0; i < TOPIC_BUCKETS; i++)
		for (SinkTopic *topic = sink->topics[i]; topic != NULL;
			 topic = topic->next)
		{
			if (!topic->unsure || count == ENSURE_MAX)
				continue;
			topics[count] = rd_kafka_NewTopic_new(topic->name, -1, -1, reason,
												  sizeof(reason));
			count += topics[count] != NULL;
		}
	return count;
}

/* The broker's own defaults: how many partitions and copies is its affair. */
static void
sink_ensure(void *arg)
{
	Sink					*sink = arg;
	rd_kafka_NewTopic_t		*topics[ENSURE_MAX];
	rd_kafka_AdminOptions_t *admin;
	char					 reason[KAFKA_ERROR_MAX];
	size_t					 count;

	if (sink->producer == NULL || sink->asking)
		return;
	count = sink_unsure_topics(sink, topics);
	if (count == 0)
		return;
	admin = rd_kafka_AdminOptions_new(sink->producer,
									  RD_KAFKA_ADMIN_OP_CREATETOPICS);
	if (rd_kafka_AdminOptions_set_request_timeout(admin, ADMIN_TIMEOUT_MS,
												  reason, sizeof(reason)) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		Assert(!"a legal timeout");
	rd_kafka_CreateTopics(sink->producer, topics, count, admin, sink->queue);
	sink->asking = true;
	rd_kafka_AdminOptions_destroy(admin);
	rd_kafka_NewTopic_destroy_array(topics, count);
}

bool
sink_is_known_up(const Sink *sink)
{
	return sink->known_up;
}

const char *
sink_missing_topics(Sink *sink)
{
	return buf_str(&sink->missing);
}
