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

#include "kafka/position_topic.h"
#include "kafka/producer_conf.h"
#include "kafka/transaction.h"
#include "kafka/trouble.h"

#define LOG_MODULE	"producer"
#define BATCH_BYTES 1000000
/* After its fatal error, in which the report of the record is to follow. */
#define BLAME_US (1 * SEC_US)
/* the record with a transaction's position, which is no event */
#define POSITION_ID UINT64_MAX

struct Producer
{
	Loop			 *loop;
	Metrics			 *metrics;
	ProducerHandlers  handlers;
	void			 *arg;
	LoopWake		 *wake;
	LoopTimer		 *blame_timer; /* no report has named the record */
	const Config	 *config;	   /* of the client */
	rd_kafka_t		 *client;	   /* NULL while closed */
	rd_kafka_queue_t *queue;
	Transaction		 *transaction;	  /* it owns the producer in that mode */
	char			 *position_topic; /* NULL: idempotent */
	Topics			 *topics;
	LogThrottle		  error_throttle;
	bool			  probes;
	bool			  known_up;
	Buf				  failure;		 /* first reason to give this producer up */
	bool			  committing;	 /* a position was produced */
	bool			  blaming;		 /* a record was refused: which? */
	char			 *blamed;		 /* topic of the refused record, or NULL */
	char			 *refused_topic; /* of the transaction: a topic, or NULL */
	int				  batch_max;	 /* bytes of a request; less once refused */
	Buf				  refusal;
};

static void producer_serve(void *arg);
static void producer_fail_unnamed(void *arg);
static void producer_opened(void *arg, Slice position);
static void producer_committed(void *arg);
static void producer_transaction_failed(void *arg, rd_kafka_resp_err_t error,
										const char *why);

Producer *
producer_new(Loop *loop, Metrics *metrics, const ProducerHandlers *handlers,
			 void *arg)
{
	static const TransactionHandlers on_transaction =
		{.opened = producer_opened,
		 .committed = producer_committed,
		 .failed = producer_transaction_failed};
	/* what people are woken for; others appear with their first loss */
	static const rd_kafka_resp_err_t classes[] =
		{RD_KAFKA_RESP_ERR__TRANSPORT,
		 RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
		 RD_KAFKA_RESP_ERR__FENCED,
		 RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
		 RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
		 RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
		 RD_KAFKA_RESP_ERR_INVALID_RECORD};
	Producer *producer = xcalloc(1, sizeof(Producer));

	for (size_t i = 0; i < Lengthof(classes); i++)
		(void) metrics_cell(metrics, METRIC_PUBLISH_ERRORS, "class",
							rd_kafka_err2name(classes[i]), NULL);
	(void) metrics_cell(metrics, METRIC_TRANSACTIONS, NULL);
	producer->loop = loop;
	producer->metrics = metrics;
	producer->handlers = *handlers;
	producer->arg = arg;
	producer->wake = loop_wake_new(loop, producer_serve, producer);
	producer->blame_timer = loop_timer_new(loop, producer_fail_unnamed,
										   producer);
	producer->batch_max = BATCH_BYTES;
	producer->topics = topics_new(loop, metrics);
	producer->transaction = transaction_new(loop, &on_transaction, producer);
	return producer;
}

void
producer_set_probing(Producer *producer)
{
	Assert(producer->client == NULL);
	producer->probes = true;
}

void
producer_free(Producer *producer)
{
	if (producer == NULL)
		return;
	producer_close(producer);
	transaction_free(producer->transaction);
	loop_wake_free(producer->wake);
	loop_timer_free(producer->blame_timer);
	topics_free(producer->topics);
	buf_free(&producer->failure);
	buf_free(&producer->refusal);
	free(producer);
}

/* ---- opening and closing ----------------------------------------------- */

bool
producer_open(Producer *producer, const Config *config, int max_event_bytes,
			  const char *incarnation, Buf *error)
{
	char			 reason[KAFKA_ERROR_MAX];
	char			*transactional = NULL;
	rd_kafka_conf_t *conf;

	if (incarnation != NULL)
		transactional = position_transactional_id(incarnation);
	conf = producer_conf_new(config, &(ProducerNeeds){
										 .max_event_bytes = max_event_bytes,
										 .batch_bytes_max = producer->batch_max,
										 .transactional_id = transactional,
										 .probes = producer->probes,
									 });
	free(transactional);
	producer->config = config;
	Assert(producer->client == NULL);
	Assert(producer->failure.len == 0 && producer->blamed == NULL);
	Assert(incarnation == NULL || !producer->probes);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR |
									   RD_KAFKA_EVENT_LOG |
									   RD_KAFKA_EVENT_CREATETOPICS_RESULT);
	producer->client = incarnation != NULL
						   ? transaction_producer_new(producer->transaction,
													  conf, reason)
						   : kafka_client_new(RD_KAFKA_PRODUCER, conf, reason);
	if (producer->client == NULL)
	{
		buf_printf(error, "could not create a producer: %s", reason);
		return false;
	}
	producer->queue = rd_kafka_queue_get_main(producer->client);
	rd_kafka_set_log_queue(producer->client, producer->queue);
	kafka_queue_wakes(producer->queue, producer->wake);
	topics_open(producer->topics, producer->client, producer->queue);
	if (incarnation != NULL)
	{
		producer->position_topic = position_topic(incarnation);
		transaction_open(producer->transaction, config,
						 producer->position_topic);
	}
	return true;
}

void
producer_close(Producer *producer)
{
	if (producer->client == NULL)
		return;
	loop_timer_set(producer->blame_timer, NEVER);
	rd_kafka_queue_io_event_enable(producer->queue, -1, NULL, 0);
	topics_close(producer->topics);
	rd_kafka_queue_destroy(producer->queue);
	if (producer->position_topic != NULL)
		transaction_close(producer->transaction);
	else
		rd_kafka_destroy(producer->client);
	free(producer->position_topic);
	producer->position_topic = NULL;
	producer->queue = NULL;
	producer->client = NULL;
	producer->known_up = producer->committing = producer->blaming = false;
	buf_clear(&producer->failure);
	free(producer->blamed);
	free(producer->refused_topic);
	producer->blamed = producer->refused_topic = NULL;
}

void
producer_reconfigured(Producer *producer, const Config *config)
{
	kafka_set_credentials(producer->client, config);
}

/* ---- producing --------------------------------------------------------- */

static ProducerResult
producer_refuse(Producer *producer, ProducerResult result, const char *class,
				const char *why)
{
	buf_clear(&producer->refusal);
	buf_add_str(&producer->refusal, why);
	buf_str(&producer->refusal);
	*metrics_cell(producer->metrics, METRIC_PUBLISH_ERRORS, "class", class,
				  NULL) += 1;
	return result;
}

/* A transaction is lost, and the error of its commit has the reason. */
static void
producer_commit_for_error(Producer *producer)
{
	if (producer->failure.len == 0 &&
		!transaction_is_busy(producer->transaction))
		transaction_commit(producer->transaction);
}

ProducerResult
producer_send(Producer *producer, const EventRow *row, uint64_t id,
			  unsigned profile, EventSource source)
{
	Topic			   *topic = topics_find(producer->topics, row->topic);
	rd_kafka_headers_t *headers;
	rd_kafka_resp_err_t error;

	Assert(producer->client != NULL);
	Assert(id != POSITION_ID);
	if (topic == NULL)
		return producer_refuse(producer, PRODUCER_NO_TOPIC, "topic",
							   topics_fault(producer->topics));
	if (position_is_topic(topic->name))
		return producer_refuse(producer, PRODUCER_NO_TOPIC, "topic",
							   "its topic is for positions, not for events");
	headers = record_headers(row, profile, source);
	if (headers == NULL)
		return producer_refuse(producer, PRODUCER_REFUSED, "headers",
							   "its headers are damaged");
	error = rd_kafka_producev(producer->client, RD_KAFKA_V_RKT(topic->handle),
							  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							  RD_KAFKA_V_VALUE((void *) (uintptr_t)
												   row->payload.data,
											   row->payload.len),
							  RD_KAFKA_V_KEY(row->key.data, row->key.len),
							  RD_KAFKA_V_HEADERS(headers),
							  RD_KAFKA_V_OPAQUE((void *) (uintptr_t) id),
							  RD_KAFKA_V_END);
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
		return PRODUCER_TAKEN; /* and so were the headers */
	rd_kafka_headers_destroy(headers);
	if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL ||
		error == RD_KAFKA_RESP_ERR__FATAL) /* an event follows */
		return PRODUCER_FULL;
	if (producer->position_topic != NULL && error == RD_KAFKA_RESP_ERR__STATE)
	{
		producer_commit_for_error(producer);
		return PRODUCER_FULL;
	}
	return producer_refuse(producer,
						   error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
							   ? PRODUCER_TOO_LARGE
							   : PRODUCER_REFUSED,
						   rd_kafka_err2name(error), rd_kafka_err2str(error));
}

ProducerResult
producer_commit(Producer *producer, Slice position)
{
	static const char	key[] = POSITION_KEY;
	void			   *value = (void *) (uintptr_t) position.data;
	rd_kafka_resp_err_t error;

	Assert(producer->position_topic != NULL);
	Assert(!producer->committing && position.len > 0);
	error = rd_kafka_producev(producer->client,
							  RD_KAFKA_V_TOPIC(producer->position_topic),
							  RD_KAFKA_V_PARTITION(0),
							  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							  RD_KAFKA_V_KEY(key, strlen(key)),
							  RD_KAFKA_V_VALUE(value, position.len),
							  RD_KAFKA_V_OPAQUE((void *) POSITION_ID),
							  RD_KAFKA_V_END);
	if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		return PRODUCER_FULL;
	if (error == RD_KAFKA_RESP_ERR__STATE)
	{
		/* A request of the transaction has failed; a commit reports which. */
		producer_commit_for_error(producer);
		return PRODUCER_TAKEN;
	}
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		return producer_refuse(producer, PRODUCER_REFUSED,
							   rd_kafka_err2name(error),
							   rd_kafka_err2str(error));
	producer->committing = true;
	transaction_commit(producer->transaction);
	return PRODUCER_TAKEN;
}

const char *
producer_refusal(const Producer *producer)
{
	return producer->refusal.len > 0 ? producer->refusal.data : "";
}

/* ---- reports ----------------------------------------------------------- */

/* The first reason counts: what follows it is its consequence. */
static void
producer_give_up(Producer *producer, const char *topic,
				 rd_kafka_resp_err_t error, const char *text)
{
	if (producer->failure.len > 0)
		return;
	Assert(producer->client != NULL && producer->blamed == NULL);
	if (topic != NULL)
		producer->blamed = xstrdup(topic);
	buf_printf(&producer->failure, "%s: %s", rd_kafka_err2name(error), text);
	buf_str(&producer->failure);
	*metrics_cell(producer->metrics, METRIC_PUBLISH_ERRORS, "class",
				  rd_kafka_err2name(error), NULL) += 1;
}

/*
 * The broker's limit is for what it gets at once, which may be many records,
 * none of them too large: then less at once.
 */
static void
producer_send_less(Producer *producer, rd_kafka_event_t *event,
				   rd_kafka_resp_err_t error)
{
	if ((error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
		 error == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE) &&
		rd_kafka_event_message_count(event) > 1)
		producer->batch_max = Max(producer->batch_max / 4, 1);
}

static bool
producer_is_position(const rd_kafka_message_t *message)
{
	return (uint64_t) (uintptr_t) message->_private == POSITION_ID;
}

/*
 * No offset: librdkafka infers the delivery from that of a later batch, which
 * the broker may have taken without the one before.  (A lost transaction purges
 * its records; the error of its commit has the reason.)
 */
static bool
producer_delivered(Producer *producer, const rd_kafka_message_t *message)
{
	rd_kafka_resp_err_t error = message->err;
	const char		   *topic = rd_kafka_topic_name(message->rkt);
	char			   *text;

	if (error == RD_KAFKA_RESP_ERR_NO_ERROR &&
		message->offset != RD_KAFKA_OFFSET_INVALID)
		return true;
	if (producer->position_topic != NULL &&
		(error == RD_KAFKA_RESP_ERR__PURGE_QUEUE ||
		 error == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT))
	{
		producer_commit_for_error(producer);
		return false;
	}
	if (producer->blaming && !kafka_is_refusal(error))
		return false; /* it failed with the refused one */
	text = xasprintf("%s (topic %s)",
					 error == RD_KAFKA_RESP_ERR_NO_ERROR
						 ? "delivered at an unknown offset"
						 : rd_kafka_err2str(error),
					 topic);
	/* the position is no event that could be held back */
	producer_give_up(producer,
					 kafka_is_refusal(error) && !producer_is_position(message)
						 ? topic
						 : NULL,
					 error, text);
	free(text);
	return false;
}

static void
producer_take_reports(Producer *producer, rd_kafka_event_t *event)
{
	const rd_kafka_message_t *message;
	const rd_kafka_topic_t	 *handle = NULL;
	Topic					 *topic = NULL;

	while ((message = rd_kafka_event_message_next(event)) != NULL)
	{
		uint64_t id = (uint64_t) (uintptr_t) message->_private;

		if (!producer_delivered(producer, message))
		{
			producer_send_less(producer, event, message->err);
			continue;
		}
		if (producer_is_position(message))
			continue;
		if (message->rkt != handle)
		{
			const char *name = rd_kafka_topic_name(message->rkt);

			handle = message->rkt;
			topic = topics_find(producer->topics, (Slice){name, strlen(name)});
		}
		Assert(topic != NULL);
		if (!topic->trusted)
			topics_want(producer->topics, topic->name, false);
		topic->unconfirmed = false;
		if (producer->position_topic != NULL)
		{
			topic->uncommitted++;
			producer->handlers.arrived(producer->arg, id);
			continue;
		}
		*topic->published += 1;
		producer->handlers.acked(producer->arg, id);
	}
	producer->known_up = true;
}

static void
producer_take_error(Producer *producer, rd_kafka_event_t *event)
{
	rd_kafka_resp_err_t error = rd_kafka_event_error(event);
	char				reason[KAFKA_ERROR_MAX];

	if (rd_kafka_event_error_is_fatal(event))
	{
		error = rd_kafka_fatal_error(producer->client, reason, sizeof(reason));
		if (error != RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE)
			producer_give_up(producer, NULL, error, reason);
		else if (!producer->blaming)
			loop_timer_set(producer->blame_timer,
						   loop_now(producer->loop) + BLAME_US);
		producer->blaming = true;
		return;
	}
	if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		producer->known_up = false;
	kafka_log_error(&producer->error_throttle, loop_now(producer->loop),
					LOG_MODULE, producer->config, error,
					rd_kafka_event_error_string(event));
}

static void
producer_take_event(Producer *producer, rd_kafka_event_t *event)
{
	char *topic;

	switch (rd_kafka_event_type(event))
	{
		case RD_KAFKA_EVENT_DR:
			producer_take_reports(producer, event);
			break;
		case RD_KAFKA_EVENT_ERROR:
			producer_take_error(producer, event);
			break;
		case RD_KAFKA_EVENT_CREATETOPICS_RESULT:
			if (topics_take_created(producer->topics, event))
				producer->known_up = true;
			break;
		case RD_KAFKA_EVENT_LOG:
			kafka_log_event(event, LOG_MODULE);
			topic = kafka_refused_topic(event);
			if (topic == NULL)
				break;
			free(producer->refused_topic);
			producer->refused_topic = topic;
			break;
		default:
			break;
	}
}

static void
producer_report_failure(Producer *producer)
{
	char *topic = producer->blamed;

	if (producer->failure.len == 0)
		return;
	producer->blamed = NULL; /* as it may be closed meanwhile */
	producer->handlers.failed(producer->arg, topic,
							  buf_str(&producer->failure));
	free(topic);
}

static void
producer_fail_unnamed(void *arg)
{
	Producer *producer = arg;

	Assert(producer->client != NULL && producer->blaming);
	producer_give_up(producer, NULL, RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE,
					 "a record failed, and no report names it");
	producer_report_failure(producer);
}

/* Until the queue is empty: it holds no more than the events in flight. */
static void
producer_take_events(Producer *producer)
{
	rd_kafka_event_t *event;

	Assert(producer->client != NULL && producer->queue != NULL);
	while ((event = rd_kafka_queue_poll(producer->queue, 0)) != NULL)
	{
		producer_take_event(producer, event);
		rd_kafka_event_destroy(event);
	}
}

static void
producer_serve(void *arg)
{
	Producer *producer = arg;

	if (producer->client == NULL)
		return;
	producer_take_events(producer);
	producer->handlers.served(producer->arg);
	producer_report_failure(producer);
}

/* ---- results of transactions ------------------------------------------ */

static void
producer_opened(void *arg, Slice position)
{
	Producer *producer = arg;

	Assert(producer->position_topic != NULL && !producer->committing);
	producer->known_up = true;
	producer->handlers.opened(producer->arg, position);
}

/* Records delivered in the transaction are published from now on. */
static void
producer_committed(void *arg)
{
	Producer *producer = arg;

	if (!producer->committing)
	{
		producer_give_up(producer, NULL, RD_KAFKA_RESP_ERR__STATE,
						 "a transaction that was lost has been committed");
		producer_report_failure(producer);
		return;
	}
	producer->committing = false;
	topics_committed(producer->topics);
	*metrics_cell(producer->metrics, METRIC_TRANSACTIONS, NULL) += 1;
	producer->known_up = true;
	producer->handlers.committed(producer->arg);
}

static void
producer_transaction_failed(void *arg, rd_kafka_resp_err_t error,
							const char *why)
{
	Producer   *producer = arg;
	const char *topic = NULL;

	producer_take_events(producer); /* earlier events name the topic */
	/* the position is no event that could be set aside */
	if (kafka_is_refusal(error) && producer->refused_topic != NULL &&
		!position_is_topic(producer->refused_topic))
		topic = producer->refused_topic;
	producer_give_up(producer, topic, error, why);
	producer_report_failure(producer);
}

bool
producer_is_known_up(const Producer *producer)
{
	return producer->known_up;
}

const char *
producer_missing_topics(Producer *producer)
{
	return topics_missing(producer->topics);
}

void
producer_want_topic(Producer *producer, const char *name, bool compacted)
{
	topics_want(producer->topics, name, compacted);
}

TopicState
producer_topic_state(Producer *producer, Slice name)
{
	return topics_state(producer->topics, name);
}
