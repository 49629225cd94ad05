/*
 * watched_client.h - a transactional producer whose requests are watched
 *
 * Its calls wait for the broker, each in slices, between which it is seen
 * whether the caller has given up (*left).  No call is repeated with the same
 * producer, and where librdkafka repeated one, its success does not count.
 * After a failure the outcome is unknown: the next producer ends what the old
 * one has left open, fences it, and reads the position, which decides.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_WATCHED_CLIENT_H
#define PGSTOCK_KAFKA_WATCHED_CLIENT_H

#include <stdatomic.h>

#include "kafka/client.h"

typedef struct WatchedClient WatchedClient;

/* How a call went; all zero before it. */
typedef struct WatchedResult
{
	rd_kafka_resp_err_t code;
	Buf					error;	   /* empty: it went well */
	bool				committed; /* ... or only what came after went wrong */
} WatchedResult;

/* The call went wrong; frees the error. */
void watched_result_fail(WatchedResult *result, rd_kafka_error_t *error);

/* conf and error are as in kafka_client_new(). */
WatchedClient *watched_client_new(rd_kafka_conf_t *conf,
								  char			  *error) MUST_CHECK;

/* Waits, about a second; no call may use it. */
void watched_client_free(WatchedClient *client);

rd_kafka_t *watched_client_handle(const WatchedClient *client);

/*
 * Fences every earlier producer of its transactional.id.  A broker that is down
 * is no failure within so many slices, of a second each.
 */
bool watched_client_init(WatchedClient *client, int slices_max,
						 const atomic_bool *left, WatchedResult *result);

void watched_client_begin(WatchedClient *client, WatchedResult *result);

/* True: the transaction was committed, and the next one may begin. */
bool watched_client_commit(WatchedClient *client, const atomic_bool *left,
						   WatchedResult *result);

#endif
