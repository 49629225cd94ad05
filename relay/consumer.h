/*
 * consumer.h - the consumer: a group's partitions, read from given offsets
 *
 * The group assigns, but nothing is read before consumer_place() says where to
 * begin: the database knows that, Kafka does not.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_CONSUMER_H
#define PGSTOCK_CONSUMER_H

#include "absent.h"
#include "api.h"
#include "kafka.h"
#include "loop.h"
#include "metrics.h"

/* Limits of one batch; a larger message comes alone. */
#define CONSUMER_BATCH_MESSAGES 500
#define CONSUMER_BATCH_BYTES	(4 * 1024 * 1024)

/* rebalance is called from within consumer_take(), the others from the loop. */
typedef struct ConsumerHandlers
{
	void (*readable)(void *arg);
	void (*rebalance)(void *arg, bool assigned);
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

/* Leaves the group in the background; go on calling consumer_take(). */
void consumer_leave(Consumer *consumer);
bool consumer_has_left(const Consumer *consumer);

/* Where the assigned partitions begin that the database does not know: decided
 * once, by first_offset, and then the database's to keep.  None are found where
 * that is the start.  False: Kafka did not say.  The answer is that of
 * relay_offsets(). */
bool consumer_find_beginnings(Consumer *consumer, const PGresult *offsets,
							  int64_t	first_offset,
							  ApiBatch *beginnings) MUST_CHECK;

/* The assigned partitions are read from where the database stands, others from
 * their start. */
void consumer_place(Consumer *consumer, const PGresult *offsets);
void consumer_suspend(Consumer *consumer); /* no partition is read */
bool consumer_is_assigned(const Consumer *consumer);

/* Of the topics to consume those that the broker has not. */
const Absent *consumer_absent(const Consumer *consumer);

/* The batch.  A message belongs to the consumer until consumer_drop(). */
ConsumerTaken consumer_take(Consumer *consumer) MUST_CHECK;
uint32_t	  consumer_count(const Consumer *consumer);
bool		  consumer_message(Consumer *consumer, uint32_t index,
							   ApiMessage *message) MUST_CHECK;
void		  consumer_applied(Consumer *consumer, uint32_t index);
void		  consumer_drop(Consumer *consumer);

/* What was applied, to Kafka, in the background. */
void consumer_commit(Consumer *consumer);
void consumer_measure_lag(Consumer *consumer);

#endif
