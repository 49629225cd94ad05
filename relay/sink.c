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

#define LOG_MODULE "sink"

#define TOPIC_BUCKETS	 256 /* a power of two */
#define ADMIN_TIMEOUT_MS 5000
#define ENSURE_AGAIN_US	 (5 * SEC_US)
#define ENSURE_MAX		 64 /* topics asked for at once */
#define BATCH_BYTES		 1000000
/* After its fatal error, in which the report of the record is to follow. */
#define BLAME_US (1 * SEC_US)
/* room for the relay's own headers and the record's frame */
#define MESSAGE_OVERHEAD (64 * 1024)

typedef struct SinkTopic
{
	char			 *name;
	bool			  unsure; /* it may be missing in Kafka */
	size_t			  len;	  /* of name */
	rd_kafka_topic_t *handle;
	double			 *published; /* metric */
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
	LoopTimer		 *blame_timer;	/* no report says whose fault it was */
	rd_kafka_t		 *producer;		/* NULL while closed */
	rd_kafka_queue_t *queue;
	SinkTopic		 *topics[TOPIC_BUCKETS];
	char			**wanted;  /* topics to be there with any producer */
	bool			  asking;  /* the broker has not answered yet */
	Buf				  missing; /* topics that could not be made */
	LogThrottle		  missing_told;
	LogThrottle		  error_told;
	bool			  known_up;
	Buf				  failure;	   /* first reason to give this producer up */
	bool			  blaming;	   /* a record was refused: which? */
	char			 *blamed;	   /* topic of the refused record, or NULL */
	int				  batch_bytes; /* of one request, until one was refused */
	Buf				  refusal;
};

static void sink_serve(void *arg);
static void sink_ensure(void *arg);
static void sink_blame_nobody(void *arg);

Sink *
sink_new(Loop *loop, Metrics *metrics, const SinkHandlers *handlers, void *arg)
{
	Sink *sink = xcalloc(1, sizeof(Sink));

	sink->loop = loop;
	sink->metrics = metrics;
	sink->handlers = *handlers;
	sink->arg = arg;
	sink->wanted = xcalloc(1, sizeof(char *));
	sink->wake = loop_wake_new(loop, sink_serve, sink);
	sink->ensure_timer = loop_timer_new(loop, sink_ensure, sink);
	sink->blame_timer = loop_timer_new(loop, sink_blame_nobody, sink);
	sink->batch_bytes = BATCH_BYTES;
	return sink;
}

void
sink_free(Sink *sink)
{
	if (sink == NULL)
		return;
	sink_close(sink);
	loop_wake_free(sink->wake);
	loop_timer_free(sink->ensure_timer);
	loop_timer_free(sink->blame_timer);
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
 */
static rd_kafka_conf_t *
sink_conf(const Config *config, int max_event_bytes, int batch_max)
{
	char in_flight[16];
	char batch_bytes[16];
	char message_bytes[16];
	char queue_kbytes[16];
	int	 message_max = max_event_bytes + MESSAGE_OVERHEAD;

	snprintf(in_flight, sizeof(in_flight), "%d", SINK_IN_FLIGHT_MAX);
	snprintf(batch_bytes, sizeof(batch_bytes), "%d", batch_max);
	snprintf(message_bytes, sizeof(message_bytes), "%d", message_max);
	snprintf(queue_kbytes, sizeof(queue_kbytes), "%d",
			 Max(8192, 2 * message_max / 1024));
	return kafka_conf_new(config,
						  (KafkaProperties){
							  {"linger.ms", "0"},
							  {"batch.size", batch_bytes},
							  {"partitioner", "murmur2_random"},
							  {"sticky.partitioning.linger.ms", "0"},
							  {"queue.buffering.max.kbytes", queue_kbytes},
							  {"topic.metadata.refresh.fast.interval.ms", "50"},
							  {"topic.metadata.propagation.max.ms", "5000"},
							  {NULL, NULL},
						  },
						  (KafkaProperties){
							  {"acks", "all"},
							  {"enable.idempotence", "true"},
							  {"enable.gapless.guarantee", "true"},
							  {"max.in.flight", "1"},
							  {"message.timeout.ms", "0"},
							  {"message.max.bytes", message_bytes},
							  {"queue.buffering.max.messages", in_flight},
							  {NULL, NULL},
						  });
}

bool
sink_open(Sink *sink, const Config *config, int max_event_bytes, Buf *error)
{
	char			 reason[KAFKA_ERROR_MAX];
	rd_kafka_conf_t *conf = sink_conf(config, max_event_bytes,
									  sink->batch_bytes);

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
	return true;
}

void
sink_close(Sink *sink)
{
	if (sink->producer == NULL)
		return;
	loop_timer_set(sink->ensure_timer, NEVER);
	loop_timer_set(sink->blame_timer, NEVER);
	rd_kafka_queue_io_event_enable(sink->queue, -1, NULL, 0);
	sink_forget_topics(sink);
	rd_kafka_queue_destroy(sink->queue);
	rd_kafka_destroy(sink->producer);
	sink->queue = NULL;
	sink->producer = NULL;
	sink->known_up = sink->asking = sink->blaming = false;
	buf_clear(&sink->failure);
	buf_clear(&sink->missing);
	free(sink->blamed);
	sink->blamed = NULL;
}

/* ---- producing --------------------------------------------------------- */

static SinkResult
sink_refuse(Sink *sink, const char *class, const char *why)
{
	buf_clear(&sink->refusal);
	buf_add_str(&sink->refusal, why);
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
	if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL ||
		error == RD_KAFKA_RESP_ERR__FATAL) /* of which we will hear */
		return SINK_FULL;
	return sink_refuse(sink, rd_kafka_err2name(error), rd_kafka_err2str(error));
}

const char *
sink_refusal(const Sink *sink)
{
	return sink->refusal.len > 0 ? sink->refusal.data : "";
}

/* ---- what comes back --------------------------------------------------- */

/* The first reason counts: what follows it is its consequence. */
static void
sink_give_up(Sink *sink, const char *topic, rd_kafka_resp_err_t error,
			 const char *text)
{
	if (sink->failure.len > 0)
		return;
	if (topic != NULL)
		sink->blamed = xstrdup(topic);
	buf_printf(&sink->failure, "%s: %s", rd_kafka_err2name(error), text);
	buf_str(&sink->failure);
	*metrics_cell(sink->metrics, METRIC_PUBLISH_ERRORS, "class",
				  rd_kafka_err2name(error), NULL) += 1;
}

/*
 * The broker's limit is for what it gets at once, which may be many records,
 * none of them too large: then less at once.
 */
static void
sink_send_less(Sink *sink, rd_kafka_event_t *event, rd_kafka_resp_err_t error)
{
	if ((error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
		 error == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE) &&
		rd_kafka_event_message_count(event) > 1)
		sink->batch_bytes = Max(sink->batch_bytes / 4, 1);
}

/*
 * No offset: librdkafka infers the delivery from that of a later batch, which
 * the broker may have taken without the one before.
 */
static bool
sink_delivered(Sink *sink, const rd_kafka_message_t *message)
{
	rd_kafka_resp_err_t error = message->err;
	const char		   *topic = rd_kafka_topic_name(message->rkt);
	char			   *text;

	if (error == RD_KAFKA_RESP_ERR_NO_ERROR &&
		message->offset != RD_KAFKA_OFFSET_INVALID)
		return true;
	if (sink->blaming && !kafka_is_refusal(error))
		return false; /* goes down with the one that was refused */
	text = xasprintf("%s (topic %s)",
					 error == RD_KAFKA_RESP_ERR_NO_ERROR
						 ? "delivered, but nobody knows where"
						 : rd_kafka_err2str(error),
					 topic);
	sink_give_up(sink, kafka_is_refusal(error) ? topic : NULL, error, text);
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
		if (!sink_delivered(sink, message))
		{
			sink_send_less(sink, event, message->err);
			continue;
		}
		if (message->rkt != handle)
		{
			const char *name = rd_kafka_topic_name(message->rkt);

			handle = message->rkt;
			topic = sink_topic(sink, (Slice){name, strlen(name)});
		}
		Assert(topic != NULL);
		topic->unsure = false;
		*topic->published += 1;
		sink->handlers.acked(sink->arg,
							 (uint64_t) (uintptr_t) message->_private);
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
		if (error != RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE)
			sink_give_up(sink, NULL, error, reason);
		else if (!sink->blaming)
			loop_timer_set(sink->blame_timer, loop_now(sink->loop) + BLAME_US);
		sink->blaming = true;
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

static void
sink_tell_failure(Sink *sink)
{
	char *topic = sink->blamed;

	if (sink->failure.len == 0)
		return;
	sink->blamed = NULL; /* as it may be closed meanwhile */
	sink->handlers.failed(sink->arg, topic, buf_str(&sink->failure));
	free(topic);
}

static void
sink_blame_nobody(void *arg)
{
	Sink *sink = arg;

	sink_give_up(sink, NULL, RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE,
				 "a record failed, and nobody knows which");
	sink_tell_failure(sink);
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
	sink_tell_failure(sink);
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
	{
		buf_clear(&sink->missing);
		return;
	}
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
