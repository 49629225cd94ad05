/*
 * consumer.h - the consumer: a group's partitions, read from given offsets
 *
 * The group assigns, but no partition is read before consumer_place() has given
 * its offset: that is in the database, not in Kafka.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_CONSUMER_H
#define PGSTOCK_KAFKA_CONSUMER_H

#include "common/loop.h"
#include "config/metric_table.h"
#include "db/api.h"
#include "kafka/client.h"
#include "kafka/fingerprint.h"
#include "kafka/missing_topics.h"

/* Limits of one batch; a larger message comes alone. */
#define CONSUMER_BATCH_MESSAGES 500
#define CONSUMER_BATCH_BYTES	(4 * 1024 * 1024)

/*
 * rebalance is called from within consumer_take(), the others from the loop.
 * surveyed: the broker has answered consumer_survey().
 */
typedef struct ConsumerHandlers
{
	void (*readable)(void *arg);
	void (*rebalance)(void *arg, bool assigned);
	void (*surveyed)(void *arg);
} ConsumerHandlers;

typedef enum ConsumerTaken
{
	CONSUMER_DRAINED, /* nothing is left for now */
	CONSUMER_MORE,	  /* the batch is full */
	CONSUMER_FAILED,  /* of no use any more: consumer_error() */
} ConsumerTaken;

typedef struct Consumer Consumer;

Consumer *consumer_new(Loop *loop, Metrics *metrics,
					   const ConsumerHandlers *handlers, void *arg);
void	  consumer_free(Consumer *consumer);

bool consumer_open(Consumer *consumer, const Config *config, const char *group,
				   Buf *error) MUST_CHECK;
void consumer_close(Consumer *consumer); /* without leaving the group */
const char *consumer_error(const Consumer *consumer);

/* Leaves the group in the background, served by consumer_take(). */
void consumer_leave(Consumer *consumer);
bool consumer_has_left(const Consumer *consumer);

/*
 * Where to begin (consumer_offsets.c): the database's offsets, an answer to
 * relay_offsets(); then the broker's offsets, queried in a thread;
 * then changes for the database, if there are any, and all of it again; if
 * there are none, the partitions can be placed.
 */
void consumer_take_offsets(Consumer *consumer, const PGresult *offsets);
void consumer_survey(Consumer *consumer, int64_t first_offset);
bool consumer_surveys(const Consumer *consumer);
void consumer_surveyed(Consumer *consumer);
bool consumer_wants_change(const Consumer *consumer);
bool consumer_waits(const Consumer *consumer); /* for more from the broker */

typedef struct ConsumerChange
{
	enum
	{
		CONSUMER_BEGINS, /* a topic: its partitions, and their offsets */
		CONSUMER_MOVES,	 /* a partition: was, next, why */
		CONSUMER_LEARNED /* what its record before next is */
	} kind;
	char	   *topic;
	int64_t	   *partitions;
	int64_t	   *offsets;
	uint32_t	count; /* of these two */
	int32_t		partition;
	int64_t		was;
	int64_t		next;
	int64_t		last_missing; /* -1: not known */
	const char *reason;
	Fingerprint fingerprint;
} ConsumerChange;

void consumer_next_change(Consumer *consumer, ConsumerChange *change);
bool consumer_next_learned(Consumer		  *consumer,
						   ConsumerChange *change) MUST_CHECK;
void consumer_change_free(ConsumerChange *change);

void consumer_place(Consumer *consumer);

/*
 * Once it is placed: the last survey contradicts it; it read something that
 * cannot be relied on, so it has to be placed again; it has a fingerprint for
 * the database.
 */
bool consumer_is_misplaced(const Consumer *consumer);
bool consumer_is_disturbed(const Consumer *consumer);
bool consumer_has_learned(const Consumer *consumer);

/*
 * Nothing was wrong since it was placed: forgets the last trouble, unless a
 * partition is held.
 */
void consumer_clear_trouble(Consumer *consumer);

/* Takes over the user and the password of the configuration. */
void consumer_reconfigured(Consumer *consumer, const Config *config);

void consumer_suspend(Consumer *consumer); /* no partition is read */
bool consumer_is_assigned(const Consumer *consumer);

/* The trouble, if any: ", ..." */
void consumer_describe_trouble(const Consumer *consumer, Buf *sentence);

/* The batch.  A message belongs to the consumer until consumer_drop(). */
ConsumerTaken consumer_take(Consumer *consumer) MUST_CHECK;
uint32_t	  consumer_count(const Consumer *consumer);
bool		  consumer_message(Consumer *consumer, uint32_t index,
							   ApiMessage *message) MUST_CHECK;
void		  consumer_applied(Consumer *consumer, uint32_t index);
void		  consumer_drop(Consumer *consumer);

/* Commits the offsets of applied messages to Kafka, in the background. */
void consumer_commit(Consumer *consumer);
void consumer_measure_lag(Consumer *consumer);

#endif
