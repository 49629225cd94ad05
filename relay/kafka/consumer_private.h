/*
 * consumer_private.h - the consumer, for its own files
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_CONSUMER_PRIVATE_H
#define PGSTOCK_KAFKA_CONSUMER_PRIVATE_H

#include "common/log.h"
#include "kafka/consumer.h"
#include "kafka/fingerprint.h"
#include "kafka/record.h"
#include "kafka/start_offset.h"
#include "kafka/survey.h"

/* A record that was applied, to be found again. */
typedef struct Proof
{
	int64_t		offset;
	Fingerprint fingerprint; /* "": there is none */
} Proof;

typedef struct Partition
{
	char   *topic; /* owned */
	int32_t id;

	/* the database's, and ours from then on */
	bool		begun;		 /* its topic is known there */
	int64_t		next;		 /* offset after the last applied */
	Fingerprint fingerprint; /* of the record before it, when placed */
	bool		uncommitted; /* next is not committed to Kafka yet */

	/* how it is read */
	bool		waits;	  /* not at all: the broker has to answer first */
	bool		proving;  /* the record before next has not arrived yet */
	bool		ignored;  /* until it is placed again: something was wrong */
	bool		refuted;  /* the record before next is another one */
	Fingerprint learned;  /* of that, where the database has none */
	int64_t		expected; /* lower offsets are not accepted */
	unsigned	failures; /* damaged batches, one after another */
	int64_t		hold_to;  /* it is not read until then; 0: it is */
	Proof		proved;	  /* a record that was applied, and is still there */
	Proof		fresh;	  /* a newer one, which was not looked for yet */
	bool		fresh_is_older; /* ... than the survey under way */

	/* the broker's */
	int64_t end;		 /* last stable offset; -1: not known */
	int64_t drained_to;	 /* all before was taken, and nothing since */
	int64_t asked_at;	 /* next, when the end was last queried */
	bool	moves;		 /* a query to move it is under way */
	bool	move_logged; /* ... which is in the log */
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
	const Config	   *config;
	char			  **unknown; /* of these, unknown to the database */
	Survey			   *survey;
	Partition		   *partitions; /* what the group assigned */
	size_t				partition_count;
	bool				disturbed; /* it is to be placed again */
	bool				learned;   /* a partition has learned a fingerprint */
	Buf					trouble;   /* what disturbed it last */
	rd_kafka_message_t *messages[CONSUMER_BATCH_MESSAGES];
	uint32_t			count;
	size_t				bytes;	 /* of messages */
	Buf					headers; /* of the last consumer_message() */
	Buf					error;
	Buf					group;
	LogThrottle			error_throttle;
	LogThrottle			topic_throttle; /* rights that are missing */
	LogThrottle			group_throttle;
	MissingTopics		missing;
};

/* in partition.c: what the group assigned */
void consumer_set_partitions(Consumer							   *consumer,
							 const rd_kafka_topic_partition_list_t *list);
void consumer_forget_partitions(Consumer *consumer);
/* NULL: it is not ours. */
Partition *consumer_partition(Consumer *consumer, const char *topic,
							  int32_t id);
/* list: what librdkafka is to read */
void consumer_assign(Consumer							   *consumer,
					 const rd_kafka_topic_partition_list_t *list);

/*
 * Something is wrong with the partition (NULL: with all): its messages are
 * ignored until it is placed again.
 */
void consumer_disturb(Consumer *consumer, Partition *partition,
					  const char *what);

/* A batch of it is damaged: repeatedly damaged, it is not read for a while. */
void consumer_hold(const Consumer *consumer, Partition *partition);

/* in consumer_offsets.c: the message was applied, it can be looked for */
void consumer_note_witness(Consumer *consumer, Partition *partition,
						   const rd_kafka_message_t *message);

/* Whether the message is a new one, not the proof or out of its turn. */
bool consumer_expects(Consumer *consumer, const rd_kafka_message_t *message);

#endif
