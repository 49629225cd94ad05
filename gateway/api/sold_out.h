/*
 * sold_out.h - purchases in a flash sale that has too little left: refused from
 * memory
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_SOLD_OUT_H
#define PGSTOCK_GATEWAY_SOLD_OUT_H

#include "api/request.h"
#include "common/metrics.h"
#include "db/pool.h"

/* The fields of a purchase. */
enum
{
	PURCHASE_ACTIVITY,
	PURCHASE_USER,
	PURCHASE_ORDER,
	PURCHASE_QUANTITY,
};

typedef struct SoldOut SoldOut;

/* The counters are those of the metrics. */
SoldOut *sold_out_new(double *answers, double *looks);
void	 sold_out_free(SoldOut *sold_out); /* NULL is fine */

/* It was answered: where it was refused for lack of stock, its sale is worth a
 * look; where it was granted, what was known of its buyers is no more. */
void sold_out_note(SoldOut *sold_out, const ApiRequest *request);

/* Answers it, if what is known of its sale refuses it; false: it does not. */
bool sold_out_refuse(SoldOut *sold_out, ApiRequest *request) MUST_CHECK;

/* A source of the pool: looks at sales; arg: a SoldOut. */
bool sold_out_next(void *arg, PoolWork *work);

#endif
