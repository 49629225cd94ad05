/*
 * watched_client.c - a transactional producer whose requests are watched
 *
 * Every request of the producer is watched from its sending to its answer, by
 * librdkafka's threads, for librdkafka repeats an unanswered request by
 * itself, and does not report it.  The first request may still arrive,
 * and Kafka's first transaction protocol (before KIP-890) takes it for a
 * request of the next transaction in the same epoch.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/watched_client.h"

#include <stdlib.h>

#define SLICE_MS 1000 /* between two checks of whether the call was left */
#define ABORT_MS 200  /* twice, before a client is destroyed */

/* As long as the coordinator leaves a transaction open (producer_conf.c). */
#define COMMIT_SLICES (KAFKA_TRANSACTION_MS / SLICE_MS)
_Static_assert(KAFKA_TRANSACTION_MS % SLICE_MS == 0, "all of that time");

/* Requests of one transaction; written by librdkafka's threads. */
typedef struct Traffic
{
	atomic_int	ends_sent; /* requests to end the transaction */
	atomic_bool lost;	   /* a request was not answered, of any kind */
} Traffic;

struct WatchedClient
{
	rd_kafka_t *handle;
	Traffic		traffic;
};

/* ---- in librdkafka's threads ------------------------------------------- */

/*
 * Requests that Kafka takes for a part of the present transaction whenever they
 * arrive; it distinguishes all others.
 */
static bool
watched_is_of_transaction(int16_t request)
{
	return request == KAFKA_PRODUCE || request == KAFKA_ADD_PARTITIONS ||
		   request == KAFKA_ADD_OFFSETS || request == KAFKA_TXN_OFFSETS ||
		   request == KAFKA_END_TXN;
}

static rd_kafka_resp_err_t
watched_on_sent(rd_kafka_t *client UNUSED, int socket UNUSED,
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
watched_on_answered(rd_kafka_t *client UNUSED, int socket UNUSED,
					const char *broker UNUSED, int32_t broker_id UNUSED,
					int16_t request, int16_t version UNUSED, int32_t id UNUSED,
					size_t size UNUSED, int64_t took UNUSED,
					rd_kafka_resp_err_t error, void *arg)
{
	Traffic *traffic = arg;

	if (error != RD_KAFKA_RESP_ERR_NO_ERROR &&
		watched_is_of_transaction(request))
		traffic->lost = true;
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t
watched_on_new(rd_kafka_t *client, const rd_kafka_conf_t *conf UNUSED,
			   void *arg, char *error UNUSED, size_t error_size UNUSED)
{
	rd_kafka_resp_err_t code;

	code = rd_kafka_interceptor_add_on_request_sent(client, "pgstock",
													watched_on_sent, arg);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return code;
	return rd_kafka_interceptor_add_on_response_received(client, "pgstock",
														 watched_on_answered,
														 arg);
}

/* ---- before a client is destroyed -------------------------------------- */

typedef rd_kafka_error_t *(*ClientCall)(rd_kafka_t *);

/*
 * librdkafka 2.0.2 counts a request to add partitions after it has sent it.  If
 * the client is destroyed in between, and it is the transaction's first one,
 * the answer comes before it is counted, and an assertion fails (txn_req_cnt in
 * rd_kafka_txn_handle_AddPartitionsToTxn).  So first the messages are removed.
 * The partitions of those that were added are still due then, at the latest
 * when the coordinator can be reached; they are not once the client's main
 * thread, which sends that request, has answered a call that ends the
 * transaction.
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

/*
 * Begun, it forgets the partitions, and that is what counts; then it waits for
 * reports that are not taken any more.  What it sends to the coordinator, the
 * next producer's init_transactions would do too.  Where no transaction is open
 * it fails at once.
 */
static rd_kafka_error_t *
client_begin_abort(rd_kafka_t *client)
{
	return rd_kafka_abort_transaction(client, ABORT_MS);
}

/* ---- calls that wait --------------------------------------------------- */

void
watched_result_fail(WatchedResult *result, rd_kafka_error_t *error)
{
	result->code = rd_kafka_error_code(error);
	buf_add_str(&result->error, rd_kafka_error_string(error));
	Assert(result->error.len > 0); /* it is not taken for a success */
	rd_kafka_error_destroy(error);
}

bool
watched_client_init(WatchedClient *client, int slices_max,
					const atomic_bool *left, WatchedResult *result)
{
	rd_kafka_error_t *error;

	for (int i = 1;; i++)
	{
		error = rd_kafka_init_transactions(client->handle, SLICE_MS);
		if (error == NULL)
			return true;
		if (!rd_kafka_error_is_retriable(error) || *left || i == slices_max)
			break;
		rd_kafka_error_destroy(error);
	}
	watched_result_fail(result, error);
	return false;
}

void
watched_client_begin(WatchedClient *client, WatchedResult *result)
{
	Traffic			 *traffic = &client->traffic;
	rd_kafka_error_t *error;

	traffic->ends_sent = 0;
	traffic->lost = false;
	error = rd_kafka_begin_transaction(client->handle);
	if (error != NULL)
		watched_result_fail(result, error);
}

/* To resume after a slice is to wait on: it sends nothing again. */
static bool
watched_try_commit(WatchedClient *client, const atomic_bool *left,
				   WatchedResult *result)
{
	rd_kafka_error_t *error = NULL;
	bool			  resumable = true;

	for (int i = 0; i < COMMIT_SLICES && resumable && !*left; i++)
	{
		if (error != NULL)
			rd_kafka_error_destroy(error);
		error = rd_kafka_commit_transaction(client->handle, SLICE_MS);
		if (error == NULL)
			return true;
		resumable = rd_kafka_error_code(error) ==
						RD_KAFKA_RESP_ERR__TIMED_OUT &&
					rd_kafka_error_is_retriable(error);
	}
	if (error != NULL && resumable)
		client_quiesce(client->handle, client_end_commit);
	if (error != NULL)
		watched_result_fail(result, error);
	return false;
}

static void
watched_doubt(WatchedResult *result, const char *why)
{
	result->code = RD_KAFKA_RESP_ERR__TRANSPORT;
	buf_add_str(&result->error, why);
}

/*
 * An answer to the one request to commit proves that it was committed.  Of
 * several, another may still be to arrive: it would commit whatever the next
 * transaction has sent by then.  Nor may the next one begin while anything of
 * this one may come late.
 */
bool
watched_client_commit(WatchedClient *client, const atomic_bool *left,
					  WatchedResult *result)
{
	const Traffic *traffic = &client->traffic;

	Assert(!result->committed && result->error.len == 0);
	if (!watched_try_commit(client, left, result))
		return false;
	if (traffic->ends_sent != 1)
	{
		watched_doubt(result, "the request to commit was sent again");
		return false;
	}
	result->committed = true;
	if (!traffic->lost)
		return true;
	watched_doubt(result, "a request of the transaction was not answered");
	return false;
}

/* ---- the client -------------------------------------------------------- */

WatchedClient *
watched_client_new(rd_kafka_conf_t *conf, char *error)
{
	WatchedClient *client = xcalloc(1, sizeof(WatchedClient));

	if (rd_kafka_conf_interceptor_add_on_new(conf, "pgstock", watched_on_new,
											 &client->traffic) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		Assert(!"no other interceptor has this name");
	client->handle = kafka_client_new(RD_KAFKA_PRODUCER, conf, error);
	if (client->handle != NULL)
		return client;
	free(client);
	return NULL;
}

void
watched_client_free(WatchedClient *client)
{
	Assert(client->handle != NULL);
	client_quiesce(client->handle, client_begin_abort);
	rd_kafka_destroy(client->handle);
	free(client);
}

rd_kafka_t *
watched_client_handle(const WatchedClient *client)
{
	return client->handle;
}
