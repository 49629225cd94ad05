/*
 * transaction.c - a transactional producer, and its calls that wait
 *
 * A call belongs to its thread until the thread has set "ended"; then the loop
 * joins the thread and owns the call.  The loop sets "left" before that: the
 * producer was given up, and the thread need not wait on.  Then the producer
 * lives as long as the call, and a new one may be at work beside it, which has
 * fenced it.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/transaction.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "kafka/position_topic.h"
#include "kafka/watched_client.h"

typedef struct Call
{
	struct Call		*next; /* among those that were left */
	pthread_t		 thread;
	atomic_bool		 left;	/* set by the loop */
	atomic_bool		 ended; /* set by the thread, its last act but waking */
	LoopWake		*wake;
	WatchedClient	*producer;
	rd_kafka_conf_t *reader; /* to open: for the position; NULL: to commit */
	char			*topic;	 /* the position's */
	/* the answer */
	WatchedResult result;
	Buf			  position;
	bool		  found;
} Call;

struct Transaction
{
	TransactionHandlers handlers;
	void			   *arg;
	LoopWake		   *wake;
	WatchedClient	   *producer; /* NULL: closed */
	Call			   *call;	  /* NULL: none runs */
	Call			   *left;	  /* that run, or ended and were not joined */
};

/* ---- in the thread ----------------------------------------------------- */

static bool
transaction_call_open(Call *call)
{
	rd_kafka_t *reader = position_reader_new(call->reader, &call->result.error);
	bool		good;

	call->reader = NULL; /* it is taken */
	if (reader == NULL)
		return false;
	good = position_ensure_topic(reader, call->topic, &call->left,
								 &call->result.error) &&
		   watched_client_init(call->producer, INT_MAX, &call->left,
							   &call->result) &&
		   position_read(reader, call->topic, &call->left, &call->position,
						 &call->found, &call->result.error);
	rd_kafka_destroy(reader);
	return good;
}

static void
transaction_call_free(Call *call)
{
	if (call->reader != NULL)
		rd_kafka_conf_destroy(call->reader);
	free(call->topic);
	buf_free(&call->result.error);
	buf_free(&call->position);
	free(call);
}

static void *
transaction_call_run(void *arg)
{
	Call *call = arg;

	if (call->topic != NULL
			? transaction_call_open(call)
			: watched_client_commit(call->producer, &call->left, &call->result))
		watched_client_begin(call->producer, &call->result);
	call->ended = true;
	loop_wake_up(call->wake);
	return NULL;
}

/* ---- in the loop ------------------------------------------------------- */

static void
transaction_call(Transaction *transaction, Call *call)
{
	Assert(transaction->call == NULL && transaction->producer != NULL);
	call->wake = transaction->wake;
	call->producer = transaction->producer;
	transaction->call = call;
	loop_thread(&call->thread, transaction_call_run, call);
}

/*
 * Joins the thread, which is at its end if it has set "ended", and takes the
 * call out of its list, where link leads to it.
 */
static void
transaction_reap(Transaction *transaction, Call **link)
{
	Call *call = *link;

	Assert(call->left && call->producer != transaction->producer);
	*link = call->next;
	pthread_join(call->thread, NULL);
	watched_client_free(call->producer);
	transaction_call_free(call);
}

static void
transaction_report(Transaction *transaction, Call *call)
{
	const TransactionHandlers *handlers = &transaction->handlers;
	Slice					   position = {NULL, 0};

	Assert(call->ended && !call->left);
	Assert(call->topic == NULL || !call->result.committed);
	if (call->found)
		position = (Slice){buf_str(&call->position), call->position.len};
	if (call->result.committed)
		handlers->committed(transaction->arg);
	if (call->result.error.len > 0)
		handlers->failed(transaction->arg, call->result.code,
						 buf_str(&call->result.error));
	else if (call->topic != NULL)
		handlers->opened(transaction->arg, position);
}

static void
transaction_on_wake(void *arg)
{
	Transaction *transaction = arg;
	Call		*call = transaction->call;
	Call	   **link = &transaction->left;

	while (*link != NULL)
		if ((*link)->ended) /* in any order: each waits for its broker */
			transaction_reap(transaction, link);
		else
			link = &(*link)->next;
	if (call == NULL || !call->ended)
		return;
	pthread_join(call->thread, NULL);
	transaction->call = NULL;
	transaction_report(transaction, call);
	transaction_call_free(call);
}

Transaction *
transaction_new(Loop *loop, const TransactionHandlers *handlers, void *arg)
{
	Transaction *transaction = xcalloc(1, sizeof(Transaction));

	transaction->handlers = *handlers;
	transaction->arg = arg;
	transaction->wake = loop_wake_new(loop, transaction_on_wake, transaction);
	return transaction;
}

void
transaction_free(Transaction *transaction)
{
	if (transaction == NULL)
		return;
	Assert(transaction->producer == NULL && transaction->call == NULL);
	while (transaction->left != NULL)
		transaction_reap(transaction, &transaction->left);
	loop_wake_free(transaction->wake);
	free(transaction);
}

rd_kafka_t *
transaction_producer_new(Transaction *transaction, rd_kafka_conf_t *conf,
						 char *error)
{
	Assert(transaction->producer == NULL);
	transaction->producer = watched_client_new(conf, error);
	return transaction->producer == NULL
			   ? NULL
			   : watched_client_handle(transaction->producer);
}

void
transaction_open(Transaction *transaction, const Config *config,
				 const char *topic)
{
	Call *call = xcalloc(1, sizeof(Call));

	Assert(transaction->producer != NULL);
	call->reader = position_reader_conf(config);
	call->topic = xstrdup(topic);
	transaction_call(transaction, call);
}

void
transaction_commit(Transaction *transaction)
{
	Assert(transaction->producer != NULL);
	transaction_call(transaction, xcalloc(1, sizeof(Call)));
}

void
transaction_close(Transaction *transaction)
{
	Call *call = transaction->call;

	Assert(call == NULL || call->producer == transaction->producer);
	if (transaction->producer != NULL && call == NULL)
		watched_client_free(transaction->producer);
	if (call != NULL)
	{
		call->left = true;
		call->next = transaction->left;
		transaction->left = call;
	}
	transaction->producer = NULL;
	transaction->call = NULL;
}

bool
transaction_is_busy(const Transaction *transaction)
{
	return transaction->call != NULL;
}
