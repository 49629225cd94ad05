/*
 * receipts.h - requests that wait until Kafka has an event
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_RECEIPTS_H
#define PGSTOCK_GATEWAY_RECEIPTS_H

#include "api/request.h"
#include "db/pool.h"

typedef struct Receipts Receipts;

Receipts *receipts_new(Loop *loop);
void	  receipts_free(Receipts *receipts); /* no request waits any more */

/* Whether the request waits: its field "wait" is more than 0. */
bool receipts_want(const ApiRequest *request);

/* Answers when Kafka has the event, or its "wait" has passed. */
void receipts_add(Receipts *receipts, ApiRequest *request);

/* A source of the pool, for one session; arg: a Receipts. */
bool receipts_next(void *arg, PoolWork *work);

/* From now on each answer is the state as it is. */
void receipts_stop(Receipts *receipts);

/* Answers all that wait with a problem. */
void receipts_fail(Receipts *receipts, ProblemId id);

#endif
