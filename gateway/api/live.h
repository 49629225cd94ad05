/*
 * live.h - what happens now, as server-sent events
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_LIVE_H
#define PGSTOCK_GATEWAY_LIVE_H

#include "api/request.h"
#include "db/pool.h"

typedef struct Live Live;

Live *live_new(Loop *loop);
void  live_free(Live *live); /* no request waits any more */

/* Answers with an event that the client has not seen, now or in a second. */
void live_add(Live *live, ApiRequest *request);

/* A source of the pool; arg: a Live. */
bool live_next(void *arg, PoolWork *work);

/* Answers all that wait with a problem. */
void live_fail(Live *live, ProblemId id);

#endif
