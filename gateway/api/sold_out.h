/*
 * sold_out.h - purchases in a flash sale that has too little left: refused from
 * memory
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_SOLD_OUT_H
#define PGSTOCK_GATEWAY_SOLD_OUT_H

#include "api/call.h"
#include "common/metrics.h"
#include "db/pool.h"

/* The fields of a purchase. */
enum
{
	PURCHASE_ACTIVITY,
	PURCHASE_USER,
	PURCHASE_ORDER,
	PURCHASE_QUANTITY,
	PURCHASE_ATTRIBUTES,
};

typedef struct SoldOut SoldOut;

/*
 * others: the queues of requests that the database decides, by role.  The
 * counters are those of the metrics.
 */
SoldOut *sold_out_new(CallQueue *others, double *answers, double *looks);
void	 sold_out_free(SoldOut *sold_out); /* NULL is fine */

/*
 * It was answered: where it was refused for lack of stock, its sale is worth a
 * look; where it was granted, what was known of its buyers is no more.
 */
void sold_out_note(SoldOut *sold_out, const ApiRequest *request);

/*
 * Takes a purchase that what is known of its sale refuses: it is answered, or
 * waits for a look, if it may.  False: the database has to decide it.
 */
bool sold_out_take(SoldOut *sold_out, ApiRequest *request,
				   bool may_wait) MUST_CHECK;

/* Those that wait for a look; they can be answered with a problem. */
int	 sold_out_count(const SoldOut *sold_out);
void sold_out_fail(SoldOut *sold_out, ProblemId id, const char *detail);

/* A source of the pool: looks at sales; arg: a SoldOut. */
bool sold_out_next(void *arg, PoolWork *work);

#endif
