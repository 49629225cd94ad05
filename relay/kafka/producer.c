/*
 * producer.c - the producer
 *
 * Acknowledgements, errors and log lines arrive as events on librdkafka's main
 * queue, which wakes our loop through an eventfd.  The payload is copied by
 * librdkafka: holding the page's memory until the last of its rows is
 * acknowledged would take more than the copies do.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/producer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kafka/log_text.h"
#include "kafka/position_topic.h"
#include "kafka/transaction.h"

#define LOG_MODULE "sink"

#define BATCH_BYTES 1000000
/* After its fatal error, in which the report of the record is to follow. */
#define BLAME_US (1 * SEC_US)
/* room for the relay's own headers and the record's frame */
#define MESSAGE_OVERHEAD (64 * 1024)
/* what is no event: a transaction's position */
#define POSITION_ID UINT64_MAX

struct Sink
{
	Loop			 *loop;
	Metrics			 *metrics;
	SinkHandlers	  handlers;
	void			 *arg;
	LoopWake		 *wake;
	LoopTimer		 *blame_timer; /* no report says whose fault it was */
	rd_kafka_t		 *producer;	   /* NULL while closed */
	rd_kafka_queue_t *queue;
	Transaction		 *transaction;	  /* it owns the producer in that mode */
	char			 *position_topic; /* NULL: idempotent */
	Topics			 *topics;
	LogThrottle		  error_told;
	bool			  probes;
	bool			  known_up;
	Buf				  failure;	   /* first reason to give this producer up */
	bool			  committing;  /* a position was produced */
	bool			  blaming;	   /* a record was refused: which? */
	char			 *blamed;	   /* topic of the refused record, or NULL */
	char			 *kept_out;	   /* of the transaction: a topic, or NULL */
	int				  batch_bytes; /* of one request, until one was refused */
	Buf				  refusal;
};

static void sink_serve(void *arg);
static void sink_blame_nobody(void *arg);
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
	/* what people are woken for; others appear with their first loss */
	static const rd_kafka_resp_err_t classes[] = {
		RD_KAFKA_RESP_ERR__TRANSPORT,
		RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
		RD_KAFKA_RESP_ERR__FENCED,
		RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
		RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
		RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
		RD_KAFKA_RESP_ERR_INVALID_RECORD,
	};
	Sink *sink = xcalloc(1, sizeof(Sink));

	for (size_t i = 0; i < Lengthof(classes); i++)
		(void) metrics_cell(metrics, METRIC_PUBLISH_ERRORS, "class",
							rd_kafka_err2name(classes[i]), NULL);
	(void) metrics_cell(metrics, METRIC_TRANSACTIONS, NULL);
	sink->loop = loop;
	sink->metrics = metrics;
	sink->handlers = *handlers;
	sink->arg = arg;
	sink->wake = loop_wake_new(loop, sink_serve, sink);
	sink->blame_timer = loop_timer_new(loop, sink_blame_nobody, sink);
	sink->batch_bytes = BATCH_BYTES;
	sink->topics = topics_new(loop, metrics);
	sink->transaction = transaction_new(loop, &on_transaction, sink);
	return sink;
}

void
sink_set_probing(Sink *sink)
{
	sink->probes = true;
}

void
sink_free(Sink *sink)
{
	if (sink == NULL)
		return;
	sink_close(sink);
	transaction_free(sink->transaction);
	loop_wake_free(sink->wake);
	loop_timer_free(sink->blame_timer);
	topics_free(sink->topics);
	buf_free(&sink->failure);
	buf_free(&sink->refusal);
	free(sink);
}

/* ---- opening and closing ----------------------------------------------- */

/* batch.size in [kafka] says at most: the broker may have said less. */
static int
sink_batch_bytes(const Config *config, int batch_max)
{
	const char *wanted = config_kafka_get(config, "batch.size");

	return wanted == NULL ? batch_max
						  : (int) Min(strtol(wanted, NULL, 10), batch_max);
}

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
 * fails all of it, and its records wait no longer than itself.  Where a topic
 * is gone, its coordinator is asked again and again, and only the topics' list
 * tells.
 */
static rd_kafka_conf_t *
sink_conf(const Config *config, int max_event_bytes, int batch_max,
		  const char *transactional, bool probes)
{
	char in_flight[16];
	char batch_bytes[16];
	char message_bytes[16];
	char queue_kbytes[16];
	char timeout[16];
	int	 message_max = max_event_bytes + MESSAGE_OVERHEAD;
	bool once = transactional != NULL;

	snprintf(in_flight, sizeof(in_flight), "%d", SINK_IN_FLIGHT_MAX + once);
	snprintf(batch_bytes, sizeof(batch_bytes), "%d",
			 sink_batch_bytes(config, batch_max));
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
							  {"topic.metadata.propagation.max.ms",
							   probes ? "500" : "5000"},
							  {"topic.metadata.refresh.interval.ms",
							   once ? "5000" : "300000"},
							  {NULL, NULL},
						  },
						  (KafkaProperties){
							  {"acks", "all"},
							  {"batch.size", batch_bytes},
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
	rd_kafka_conf_t *conf = sink_conf(config, max_event_bytes,
									  sink->batch_bytes, transactional,
									  sink->probes);

	free(transactional);
	Assert(sink->producer == NULL);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR |
									   RD_KAFKA_EVENT_LOG |
									   RD_KAFKA_EVENT_CREATETOPICS_RESULT);
	sink->producer = incarnation != NULL
						 ? transaction_producer_new(sink->transaction, conf,
													reason)
						 : kafka_client_new(RD_KAFKA_PRODUCER, conf, reason);
	if (sink->producer == NULL)
	{
		buf_printf(error, "could not make a producer: %s", reason);
		return false;
	}
	sink->queue = rd_kafka_queue_get_main(sink->producer);
	rd_kafka_set_log_queue(sink->producer, sink->queue);
	kafka_queue_wakes(sink->queue, sink->wake);
	topics_open(sink->topics, sink->producer, sink->queue);
	if (incarnation != NULL)
	{
		sink->position_topic = position_topic(incarnation);
		transaction_open(sink->transaction, config, sink->position_topic);
	}
	return true;
}

void
sink_close(Sink *sink)
{
	if (sink->producer == NULL)
		return;
	loop_timer_set(sink->blame_timer, NEVER);
	rd_kafka_queue_io_event_enable(sink->queue, -1, NULL, 0);
	topics_close(sink->topics);
	rd_kafka_queue_destroy(sink->queue);
	if (sink->position_topic != NULL)
		transaction_close(sink->transaction);
	else
		rd_kafka_destroy(sink->producer);
	free(sink->position_topic);
	sink->position_topic = NULL;
	sink->queue = NULL;
	sink->producer = NULL;
	sink->known_up = sink->committing = sink->blaming = false;
	buf_clear(&sink->failure);
	free(sink->blamed);
	free(sink->kept_out);
	sink->blamed = sink->kept_out = NULL;
}

/* ---- producing --------------------------------------------------------- */

static SinkResult
sink_refuse(Sink *sink, SinkResult result, const char *class, const char *why)
{
	buf_clear(&sink->refusal);
	buf_add_str(&sink->refusal, why);
	buf_str(&sink->refusal);
	*metrics_cell(sink->metrics, METRIC_PUBLISH_ERRORS, "class", class,
				  NULL) += 1;
	return result;
}

/* A transaction is lost, and its commit says why. */
static void
sink_ask_why(Sink *sink)
{
	if (sink->failure.len == 0 && !transaction_is_busy(sink->transaction))
		transaction_commit(sink->transaction);
}

SinkResult
sink_produce(Sink *sink, const EventRow *row, uint64_t id, unsigned profile,
			 EventSource source)
{
	Topic			   *topic = topics_find(sink->topics, row->topic);
	rd_kafka_headers_t *headers;
	rd_kafka_resp_err_t error;

	Assert(sink->producer != NULL);
	if (topic == NULL)
		return sink_refuse(sink, SINK_NO_TOPIC, "topic",
						   "its topic has no legal name");
	if (position_is_topic(topic->name))
		return sink_refuse(sink, SINK_NO_TOPIC, "topic",
						   "its topic is for positions, not for events");
	headers = record_headers(row, profile, source);
	if (headers == NULL)
		return sink_refuse(sink, SINK_REFUSED, "headers",
						   "its headers are damaged");
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
	if (sink->position_topic != NULL && error == RD_KAFKA_RESP_ERR__STATE)
	{
		sink_ask_why(sink);
		return SINK_FULL;
	}
	return sink_refuse(sink,
					   error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
						   ? SINK_TOO_LARGE
						   : SINK_REFUSED,
					   rd_kafka_err2name(error), rd_kafka_err2str(error));
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
		return sink_refuse(sink, SINK_REFUSED, rd_kafka_err2name(error),
						   rd_kafka_err2str(error));
	sink->committing = true;
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

static bool
sink_is_position(const rd_kafka_message_t *message)
{
	return (uint64_t) (uintptr_t) message->_private == POSITION_ID;
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
	const char		   *topic = rd_kafka_topic_name(message->rkt);
	char			   *text;

	if (error == RD_KAFKA_RESP_ERR_NO_ERROR &&
		message->offset != RD_KAFKA_OFFSET_INVALID)
		return true;
	if (sink->position_topic != NULL &&
		(error == RD_KAFKA_RESP_ERR__PURGE_QUEUE ||
		 error == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT))
	{
		sink_ask_why(sink);
		return false;
	}
	if (sink->blaming && !kafka_is_refusal(error))
		return false; /* goes down with the one that was refused */
	text = xasprintf("%s (topic %s)",
					 error == RD_KAFKA_RESP_ERR_NO_ERROR
						 ? "delivered, but nobody knows where"
						 : rd_kafka_err2str(error),
					 topic);
	/* the position is no event that could be held back */
	sink_give_up(sink,
				 kafka_is_refusal(error) && !sink_is_position(message) ? topic
																	   : NULL,
				 error, text);
	free(text);
	return false;
}

static void
sink_take_reports(Sink *sink, rd_kafka_event_t *event)
{
	const rd_kafka_message_t *message;
	const rd_kafka_topic_t	 *handle = NULL;
	Topic					 *topic = NULL;

	while ((message = rd_kafka_event_message_next(event)) != NULL)
	{
		uint64_t id = (uint64_t) (uintptr_t) message->_private;

		if (!sink_delivered(sink, message))
		{
			sink_send_less(sink, event, message->err);
			continue;
		}
		if (sink_is_position(message))
			continue;
		if (message->rkt != handle)
		{
			const char *name = rd_kafka_topic_name(message->rkt);

			handle = message->rkt;
			topic = topics_find(sink->topics, (Slice){name, strlen(name)});
		}
		Assert(topic != NULL);
		if (!topic->trusted)
			topics_want(sink->topics, topic->name);
		topic->unsure = false;
		if (sink->position_topic != NULL)
		{
			topic->uncommitted++;
			sink->handlers.arrived(sink->arg, id);
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

static void
sink_take_log(Sink *sink, rd_kafka_event_t *event)
{
	const char *facility;
	const char *text;
	int			level;
	char	   *topic;

	if (rd_kafka_event_log(event, &facility, &text, &level) != 0)
		return;
	topic = log_text_refused_topic(facility, text);
	if (topic == NULL)
		return;
	free(sink->kept_out);
	sink->kept_out = topic;
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
			if (topics_take_created(sink->topics, event))
				sink->known_up = true;
			break;
		case RD_KAFKA_EVENT_LOG:
			kafka_log_event(event, LOG_MODULE);
			sink_take_log(sink, event);
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
sink_take_events(Sink *sink)
{
	rd_kafka_event_t *event;

	while ((event = rd_kafka_queue_poll(sink->queue, 0)) != NULL)
	{
		sink_take_event(sink, event);
		rd_kafka_event_destroy(event);
	}
}

static void
sink_serve(void *arg)
{
	Sink *sink = arg;

	if (sink->producer == NULL)
		return;
	sink_take_events(sink);
	sink->handlers.served(sink->arg);
	sink_tell_failure(sink);
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

	if (!sink->committing)
	{
		sink_give_up(sink, NULL, RD_KAFKA_RESP_ERR__STATE,
					 "a transaction that was lost has been committed");
		sink_tell_failure(sink);
		return;
	}
	sink->committing = false;
	topics_committed(sink->topics);
	*metrics_cell(sink->metrics, METRIC_TRANSACTIONS, NULL) += 1;
	sink->known_up = true;
	sink->handlers.committed(sink->arg);
}

static void
sink_transaction_failed(void *arg, rd_kafka_resp_err_t error, const char *why)
{
	Sink	   *sink = arg;
	const char *topic = NULL;

	sink_take_events(sink); /* what came before knows more: which topic */
	if (kafka_is_refusal(error))
		topic = sink->kept_out;
	sink_give_up(sink, topic, error, why);
	sink_tell_failure(sink);
}

bool
sink_is_known_up(const Sink *sink)
{
	return sink->known_up;
}

const char *
sink_missing_topics(Sink *sink)
{
	return topics_missing(sink->topics);
}

void
sink_want_topic(Sink *sink, const char *name)
{
	topics_want(sink->topics, name);
}

TopicState
sink_topic(Sink *sink, Slice name)
{
	return topics_state(sink->topics, name);
}
