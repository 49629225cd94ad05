/*
 * reserve.h - requests that reserve: gathered into batches
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_RESERVE_H
#define PGSTOCK_GATEWAY_RESERVE_H

#include "api/request.h"
#include "common/metrics.h"
#include "db/pool.h"

/* The fields of a ROUTE_RESERVE: of a whole order, or of one line. */
enum
{
	RESERVE_ORDER_ID,
	RESERVE_USER_ID,
	RESERVE_TTL,
	RESERVE_KEY,
	RESERVE_ITEMS,
	RESERVE_PRODUCT_ID = RESERVE_ITEMS,
	RESERVE_QUANTITY,
	RESERVE_LOCATION,
};

typedef struct ReserveQueue ReserveQueue;

/* batch_max: may change while running; histogram: sizes of batches. */
ReserveQueue *reserve_queue_new(const int64_t *batch_max, Metrics *metrics,
								int histogram);
void		  reserve_queue_free(ReserveQueue *queue);
void		  reserve_queue_add(ReserveQueue *queue, ApiRequest *request);
int			  reserve_queue_count(const ReserveQueue *queue);
void reserve_queue_fail(ReserveQueue *queue, ProblemId id, const char *detail);
/* Those that have waited too long. */
void reserve_queue_expire(ReserveQueue *queue, int64_t now);

/*
 * Two sources of the pool; arg: a ReserveQueue.  The second one sends those
 * whose product another session holds: one session is enough for them.
 */
bool reserve_next(void *arg, PoolWork *work);
bool reserve_next_locked(void *arg, PoolWork *work);

#endif
