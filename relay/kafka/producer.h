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
#define SINK_IN_FLIGHT_MAX 8192

typedef enum SinkResult
{
	SINK_TAKEN,		/* an acknowledgement will come, or a failure */
	SINK_FULL,		/* again after the next acknowledgement */
	SINK_TOO_LARGE, /* this record, for this producer */
	SINK_NO_TOPIC,	/* no record can be produced to its topic */
	SINK_REFUSED,	/* this record cannot be produced */
} SinkResult;

/* Called from the loop, never from within a call of sink_...(). */
typedef struct SinkHandlers
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
} SinkHandlers;

typedef struct Sink Sink;

Sink *sink_new(Loop *loop, Metrics *metrics, const SinkHandlers *handlers,
			   void *arg);
void  sink_free(Sink *sink);

/* For topics that are tried, and tried again: one that is missing is not waited
 * for. */
void sink_set_probing(Sink *sink);

/*
 * What is in flight when it is closed is lost: the owner knows.  With a
 * database's incarnation it is transactional, and may be used once opened() was
 * called; NULL: idempotent.
 */
bool sink_open(Sink *sink, const Config *config, int max_event_bytes,
			   const char *incarnation, Buf *error) MUST_CHECK;
void sink_close(Sink *sink);

SinkResult sink_produce(Sink *sink, const EventRow *row, uint64_t id,
						unsigned profile, EventSource source) MUST_CHECK;

/* Transactional: commits what was produced, and this position with it. */
SinkResult sink_commit(Sink *sink, Slice position) MUST_CHECK;

/* Why the last record was refused. */
const char *sink_refusal(const Sink *sink);

/*
 * Asks the broker to make the topic if it is missing, now and with each new
 * producer.  The same is done for a topic when its first event comes.
 */
void sink_want_topic(Sink *sink, const char *name);

/* What the broker has said of it, or of others (topics.h). */
TopicState sink_topic(Sink *sink, Slice name);

/* Whether the broker has answered since the producer was opened. */
bool sink_is_known_up(const Sink *sink);

/* Topics that are missing and could not be made, "" if none. */
const char *sink_missing_topics(Sink *sink);

#endif
