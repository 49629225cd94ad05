/*
 * topics.h - the topics that are published to
 *
 * Each is requested with its first event, wanted ones earlier, and the broker
 * creates it with its own defaults if it is missing.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_TOPICS_H
#define PGSTOCK_KAFKA_TOPICS_H

#include "config/metric_table.h"
#include "kafka/client.h"
#include "kafka/record.h"

/*
 * Topics that a producer may have; the next producer begins with none.  Events
 * of a further topic are refused, so that topic is held.
 */
#define TOPICS_MAX 4096

typedef struct Topic
{
	char  *name;
	bool   unconfirmed; /* it may be missing in Kafka */
	bool   trusted;		/* wanted, or has taken records before */
	bool   answered;	/* the broker has responded, even if with an error */
	size_t len;			/* of name */
	rd_kafka_topic_t *handle;
	double			 *published;   /* metric */
	double			  uncommitted; /* delivered, to be published by a commit */
	struct Topic	 *next;		   /* in its bucket */
} Topic;

typedef struct Topics Topics;

Topics *topics_new(Loop *loop, Metrics *metrics);
void	topics_free(Topics *topics); /* they are closed */

/* With a new producer; its queue gets what topics_take_created() takes. */
void topics_open(Topics *topics, rd_kafka_t *producer, rd_kafka_queue_t *queue);
void topics_close(Topics *topics);

/*
 * The topic is to be there with any producer, and is trusted; if it is missing,
 * it is created with the broker's defaults, or compacted.
 */
void topics_want(Topics *topics, const char *name, bool compacted);

/* A request for a topic, with the broker's defaults, or compacted. */
rd_kafka_NewTopic_t *topics_new_topic(const char *name, bool compacted);

/* NULL if librdkafka refuses the name, or there are TOPICS_MAX others; why. */
Topic	   *topics_find(Topics *topics, Slice name);
const char *topics_fault(const Topics *topics);
bool		topics_are_full(const Topics *topics);

/* The state of a topic that is to get a record. */
typedef enum TopicState
{
	TOPIC_TRUSTED, /* wanted, or it has taken records before */
	TOPIC_PRESENT, /* the broker says that it is there */
	TOPIC_ASKED,   /* the answer of the broker is outstanding */
	TOPIC_DOUBTED, /* it could not be created, or no response arrived */
} TopicState;

TopicState topics_state(Topics *topics, Slice name);

/* Records delivered in the transaction count as published. */
void topics_committed(Topics *topics);

/* RD_KAFKA_EVENT_CREATETOPICS_RESULT; whether the broker answered. */
bool topics_take_created(Topics *topics, rd_kafka_event_t *event);

/* Those that do not exist and could not be created, "" if none. */
const char *topics_missing(Topics *topics);

#endif
