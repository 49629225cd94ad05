/*
 * producer.h - the producer
 *
 * Idempotent, without a timeout of its own, and never with a gap: if one
 * record fails for good, the whole producer is of no use any more (what comes
 * after it may be in Kafka already) and its owner starts again from the stored
 * position with a new one.
 *
 * In transactional mode (transaction.h) it is the same, but that what was
 * produced is acknowledged by its commit, all at once, and that opening takes
 * a while.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_PRODUCER_H
#define PGSTOCK_KAFKA_PRODUCER_H

#include "common/log.h"
#include "common/loop.h"
#include "config/metric_table.h"
#include "kafka/client.h"
#include "kafka/record.h"
#include "kafka/topics.h"

/* Records that librdkafka may hold; each costs about 2 kB with its headers. */
#define PRODUCER_IN_FLIGHT_MAX 8192

typedef enum ProducerResult
{
	PRODUCER_TAKEN,		/* an acknowledgement follows, or a failure */
	PRODUCER_FULL,		/* again after the next acknowledgement */
	PRODUCER_TOO_LARGE, /* this record, for this producer */
	PRODUCER_NO_TOPIC,	/* no record can be produced to its topic */
	PRODUCER_REFUSED,	/* this record cannot be produced */
} ProducerResult;

/* Called from the loop, never from within a call of producer_...(). */
typedef struct ProducerHandlers
{
	void (*acked)(void *arg, uint64_t id);
	void (*served)(void *arg); /* after the last of a group of acked() */
	/* topic: the broker refused a record of it; NULL: that was not why */
	void (*failed)(void *arg, const char *topic, const char *why);
	/* transactional, instead of acked: in the log, and not yet committed */
	void (*arrived)(void *arg, uint64_t id);
	/* transactional: the position that Kafka has, if any */
	void (*opened)(void *arg, Slice position);
	void (*committed)(void *arg);
} ProducerHandlers;

typedef struct Producer Producer;

Producer *producer_new(Loop *loop, Metrics *metrics,
					   const ProducerHandlers *handlers, void *arg);
void	  producer_free(Producer *producer);

/*
 * For topics that are tried, and tried again: one that is missing is not waited
 * for.
 */
void producer_set_probing(Producer *producer);

/*
 * Records in flight when it is closed have no report.  With a
 * database's incarnation it is transactional, and may be used once opened() was
 * called; NULL: idempotent.
 */
bool producer_open(Producer *producer, const Config *config,
				   int max_event_bytes, const char *incarnation,
				   Buf *error) MUST_CHECK;
void producer_close(Producer *producer);

/* Takes over the user and the password of the configuration. */
void producer_reconfigured(Producer *producer, const Config *config);

ProducerResult producer_send(Producer *producer, const EventRow *row,
							 uint64_t id, unsigned profile,
							 EventSource source) MUST_CHECK;

/* Transactional: commits what was produced, and this position with it. */
ProducerResult producer_commit(Producer *producer, Slice position) MUST_CHECK;

/* Why the last record was refused. */
const char *producer_refusal(const Producer *producer);

/*
 * Requests that the broker create the topic if it does not exist, now and with
 * each new producer.  The same is done for a topic with its first event.
 */
void producer_want_topic(Producer *producer, const char *name, bool compacted);

/* The state of the topic (topics.h). */
TopicState producer_topic_state(Producer *producer, Slice name);

/* Whether the broker has answered since the producer was opened. */
bool producer_is_known_up(const Producer *producer);

/* Topics that do not exist and could not be created, "" if none. */
const char *producer_missing_topics(Producer *producer);

#endif
