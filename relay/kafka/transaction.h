/*
 * transaction.h - a transactional producer, and its calls that wait
 *
 * librdkafka's init_transactions and commit_transaction wait for the broker, a
 * commit for 5 to 50 ms whatever it holds, and both as long as the broker is
 * away.  Our loop may not wait, so a thread makes the call: one at a time, and
 * it ends with it.  It shares nothing with the loop but the producer, which is
 * thread-safe; the result of the call is read when the thread has ended.  The
 * loop takes delivery reports meanwhile, which a commit waits for.  Why not
 * short waits and "call again to resume": docs/decisions/0014-transactional-
 * mode.md.
 *
 * What a call may mean for the transaction: watched_client.h.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_TRANSACTION_H
#define PGSTOCK_KAFKA_TRANSACTION_H

#include "kafka/client.h"
#include "kafka/record.h"

/* Called from the loop; the producer may be closed in them. */
typedef struct TransactionHandlers
{
	/* NULL, 0: there is no position in Kafka; borrowed */
	void (*opened)(void *arg, Slice position);
	void (*committed)(void *arg);
	/* also right after committed(): the producer is not to be used again */
	void (*failed)(void *arg, rd_kafka_resp_err_t error, const char *why);
} TransactionHandlers;

typedef struct Transaction Transaction;

Transaction *transaction_new(Loop *loop, const TransactionHandlers *handlers,
							 void *arg);

/* It is closed.  Waits, about a second, for calls that were left. */
void transaction_free(Transaction *transaction);

/*
 * A producer that belongs to the transaction; conf and error are as in
 * kafka_client_new().
 */
rd_kafka_t *transaction_producer_new(Transaction	 *transaction,
									 rd_kafka_conf_t *conf,
									 char			 *error) MUST_CHECK;

/*
 * Fences every earlier producer of this transactional.id, creates the position
 * topic if it does not exist, reads it, and begins a transaction.
 */
void transaction_open(Transaction *transaction, const Config *config,
					  const char *topic);

/* Commits, and begins the next one. */
void transaction_commit(Transaction *transaction);

/* Destroys the producer, as soon as no call uses it; no handler is called. */
void transaction_close(Transaction *transaction);

bool transaction_is_busy(const Transaction *transaction);

#endif
