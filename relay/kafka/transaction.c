/*
 * transaction.c - a transactional producer, and its calls that wait
 *
 * A call belongs to its thread until the thread has set "ended"; then the loop
 * joins the thread and owns the call.  The loop sets "left" before that: the
 * producer was given up, and the thread need not wait on.  Then the producer
 * lives as long as the call, and a new one may be at work beside it, which has
 * fenced it.
 *
 * Every request of the producer is watched from its sending to its answer, by
 * librdkafka's threads, for librdkafka repeats an unanswered request by
 * itself, and does not report it.  The first request may still arrive,
 * and Kafka's first transaction protocol (before KIP-890) takes it for a
 * request of the next transaction in the same epoch.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/transaction.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kafka/position_topic.h"

#define SLICE_MS 1000 /* between two checks of whether the call was left */

/* As long as the coordinator leaves a transaction open (producer.c). */
#define COMMIT_SLICES (KAFKA_TRANSACTION_MS / SLICE_MS)
_Static_assert(KAFKA_TRANSACTION_MS % SLICE_MS == 0, "all of that time");

/* Requests of one transaction; written by librdkafka's threads. */
typedef struct Traffic
{
	atomic_int	ends_sent; /* requests to end the transaction */
	atomic_bool lost;	   /* a request was not answered, of any kind */
} Traffic;

typedef struct WatchedClient
{
	rd_kafka_t *client;
	Traffic		traffic;
} WatchedClient;

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
	rd_kafka_resp_err_t code;
	Buf					error;	   /* empty: it went well */
	bool				committed; /* ... or only what came after went wrong */
	Buf					position;
	bool				found;
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

/* ---- in librdkafka's threads ------------------------------------------- */

/* Requests that Kafka takes for a part of the present transaction whenever they
 * arrive; it distinguishes all others. */
static bool
is_of_transaction(int16_t request)
{
	return request == KAFKA_PRODUCE || request == KAFKA_ADD_PARTITIONS ||
		   request == KAFKA_END_TXN;
}

static rd_kafka_resp_err_t
traffic_on_sent(rd_kafka_t *client UNUSED, int socket UNUSED,
				const char *broker UNUSED, int32_t broker_id UNUSED,
				int16_t request, int16_t version UNUSED, int32_t id UNUSED,
				size_t size UNUSED, void *arg)
{
	Traffic *traffic = arg;

	if (request == KAFKA_END_TXN)
		traffic->ends_sent++;
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Also called for a request whose connection or time has ended. */
static rd_kafka_resp_err_t
traffic_on_answered(rd_kafka_t *client UNUSED, int socket UNUSED,
					const char *broker UNUSED, int32_t broker_id UNUSED,
					int16_t request, int16_t version UNUSED, int32_t id UNUSED,
					size_t size UNUSED, int64_t took UNUSED,
					rd_kafka_resp_err_t error, void *arg)
{
	Traffic *traffic = arg;

	if (error != RD_KAFKA_RESP_ERR_NO_ERROR && is_of_transaction(request))
		traffic->lost = true;
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t
traffic_on_new(rd_kafka_t *client, const rd_kafka_conf_t *conf UNUSED,
			   void *arg, char *error UNUSED, size_t error_size UNUSED)
{
	rd_kafka_resp_err_t code;

	code = rd_kafka_interceptor_add_on_request_sent(client, "pgstock",
													traffic_on_sent, arg);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return code;
	return rd_kafka_interceptor_add_on_response_received(client, "pgstock",
														 traffic_on_answered,
														 arg);
}

/* ---- before a client is destroyed -------------------------------------- */

typedef rd_kafka_error_t *(*ClientCall)(rd_kafka_t *);

/*
 * librdkafka 2.0.2 counts a request to add partitions after it has sent it.  If
 * the client is destroyed in between, and it is the transaction's first one,
 * the answer comes before it is counted, and an assertion fails (txn_req_cnt in
 * rd_kafka_txn_handle_AddPartitionsToTxn).  So first the messages are removed,
 * without which the client adds no partitions.  Then two calls are answered by
 * the client's main thread, which sends what is due between the two.
 *
 * CALL fails for it has no place in the present state, whichever that is.
 */
static void
client_quiesce(rd_kafka_t *client, ClientCall call)
{
	rd_kafka_error_t *error;

	(void) rd_kafka_purge(client, RD_KAFKA_PURGE_F_QUEUE |
									  RD_KAFKA_PURGE_F_NON_BLOCKING);
	for (int i = 0; i < 2; i++)
	{
		error = call(client);
		if (error != NULL)
			rd_kafka_error_destroy(error);
	}
}

/*
 * A commit that is not at its end lets no other call in; once its messages are
 * gone, and the reports are taken, it soon fails.  If all of them had arrived,
 * it may succeed, as it might have by itself.
 */
static rd_kafka_error_t *
client_end_commit(rd_kafka_t *client)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_get_main(client);
	rd_kafka_event_t *event;

	while ((event = rd_kafka_queue_poll(queue, 0)) != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	return rd_kafka_commit_transaction(client, SLICE_MS);
}

/* ---- in the thread ----------------------------------------------------- */

static void
call_failed(Call *call, rd_kafka_error_t *error)
{
	call->code = rd_kafka_error_code(error);
	buf_add_str(&call->error, rd_kafka_error_string(error));
	Assert(call->error.len > 0); /* it is not taken for a success */
	rd_kafka_error_destroy(error);
}

/* A broker that is down is no failure, as long as the call was not left. */
static bool
call_init(Call *call)
{
	rd_kafka_error_t *error;

	while ((error = rd_kafka_init_transactions(call->producer->client,
											   SLICE_MS)) != NULL &&
		   rd_kafka_error_is_retriable(error) && !call->left)
		rd_kafka_error_destroy(error);
	if (error == NULL)
		return true;
	call_failed(call, error);
	return false;
}

/* To resume after a slice is to wait on: it sends nothing again. */
static bool
call_commit(Call *call)
{
	rd_kafka_error_t *error = NULL;
	bool			  resumable = true;

	for (int i = 0; i < COMMIT_SLICES && resumable && !call->left; i++)
	{
		if (error != NULL)
			rd_kafka_error_destroy(error);
		error = rd_kafka_commit_transaction(call->producer->client, SLICE_MS);
		if (error == NULL)
			return true;
		resumable = rd_kafka_error_code(error) ==
						RD_KAFKA_RESP_ERR__TIMED_OUT &&
					rd_kafka_error_is_retriable(error);
	}
	if (error != NULL && resumable)
		client_quiesce(call->producer->client, client_end_commit);
	if (error != NULL)
		call_failed(call, error);
	return false;
}

static void
call_doubt(Call *call, const char *why)
{
	call->code = RD_KAFKA_RESP_ERR__TRANSPORT;
	buf_add_str(&call->error, why);
}

/*
 * An answer to the one request to commit proves that it was committed.  Of
 * several, another may still be to arrive: it would commit whatever the next
 * transaction has sent by then.  Nor may the next one begin while anything of
 * this one may come late.
 */
static bool
call_commit_surely(Call *call)
{
	const Traffic *traffic = &call->producer->traffic;

	if (!call_commit(call))
		return false;
	if (traffic->ends_sent != 1)
	{
		call_doubt(call, "the request to commit was sent again");
		return false;
	}
	call->committed = true;
	if (!traffic->lost)
		return true;
	call_doubt(call, "a request of the transaction was not answered");
	return false;
}

static void
call_begin(Call *call)
{
	Traffic			 *traffic = &call->producer->traffic;
	rd_kafka_error_t *error;

	traffic->ends_sent = 0;
	traffic->lost = false;
	error = rd_kafka_begin_transaction(call->producer->client);
	if (error != NULL)
		call_failed(call, error);
}

static bool
call_open(Call *call)
{
	rd_kafka_t *reader = position_reader_new(call->reader, &call->error);
	bool		good;

	call->reader = NULL; /* it is taken */
	if (reader == NULL)
		return false;
	good = position_ensure_topic(reader, call->topic, &call->left,
								 &call->error) &&
		   call_init(call) &&
		   position_read(reader, call->topic, &call->left, &call->position,
						 &call->found, &call->error);
	rd_kafka_destroy(reader);
	return good;
}

static void
call_free(Call *call)
{
	if (call->reader != NULL)
		rd_kafka_conf_destroy(call->reader);
	free(call->topic);
	buf_free(&call->error);
	buf_free(&call->position);
	free(call);
}

static void *
call_run(void *arg)
{
	Call *call = arg;

	if (call->topic != NULL ? call_open(call) : call_commit_surely(call))
		call_begin(call);
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
	loop_thread(&call->thread, call_run, call);
}

static void
watched_client_free(WatchedClient *producer)
{
	client_quiesce(producer->client, rd_kafka_begin_transaction);
	rd_kafka_destroy(producer->client);
	free(producer);
}

/* Joins the thread, which is at its end if it has set "ended". */
static void
transaction_reap(Transaction *transaction)
{
	Call *call = transaction->left;

	Assert(call->left && call->producer != transaction->producer);
	transaction->left = call->next;
	pthread_join(call->thread, NULL);
	watched_client_free(call->producer);
	call_free(call);
}

static void
transaction_report(Transaction *transaction, Call *call)
{
	const TransactionHandlers *handlers = &transaction->handlers;
	Slice					   position = {NULL, 0};

	Assert(call->ended && !call->left);
	Assert(call->topic == NULL || !call->committed);
	if (call->found)
		position = (Slice){buf_str(&call->position), call->position.len};
	if (call->committed)
		handlers->committed(transaction->arg);
	if (call->error.len > 0)
		handlers->failed(transaction->arg, call->code, buf_str(&call->error));
	else if (call->topic != NULL)
		handlers->opened(transaction->arg, position);
}

static void
transaction_on_wake(void *arg)
{
	Transaction *transaction = arg;
	Call		*call = transaction->call;

	while (transaction->left != NULL && transaction->left->ended)
		transaction_reap(transaction);
	if (call == NULL || !call->ended)
		return;
	pthread_join(call->thread, NULL);
	transaction->call = NULL;
	transaction_report(transaction, call);
	call_free(call);
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
		transaction_reap(transaction);
	loop_wake_free(transaction->wake);
	free(transaction);
}

rd_kafka_t *
transaction_producer_new(Transaction *transaction, rd_kafka_conf_t *conf,
						 char *error)
{
	WatchedClient *producer = xcalloc(1, sizeof(WatchedClient));

	Assert(transaction->producer == NULL);
	if (rd_kafka_conf_interceptor_add_on_new(conf, "pgstock", traffic_on_new,
											 &producer->traffic) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		Assert(!"no other interceptor has this name");
	producer->client = kafka_client_new(RD_KAFKA_PRODUCER, conf, error);
	if (producer->client == NULL)
	{
		free(producer);
		return NULL;
	}
	transaction->producer = producer;
	return producer->client;
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
