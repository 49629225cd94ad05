/*
 * held.h - products that another session holds
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_HELD_H
#define PGSTOCK_GATEWAY_HELD_H

#include "api/request.h"

#define HELD_MAX 64

typedef struct HeldProduct
{
	uint64_t product; /* a hash; two of one hash count as one */
	int64_t	 until;	  /* it is held; in the past: the place is free */
} HeldProduct;

typedef struct HeldProducts
{
	HeldProduct products[HELD_MAX];
	int64_t		until; /* the latest of them */
} HeldProducts;

/* A request that reserves: the hash of its product; 0: it names several. */
uint64_t held_product(ApiRequest *request);

/* Whether it names one that is held. */
bool held_is_named(const HeldProducts *held, const ApiRequest *request);

/* It waited for a lock in vain: whose it was is not known if none of its
 * products was held before. */
void held_add(HeldProducts *held, const ApiRequest *request);
/* It had all its locks. */
void held_remove(HeldProducts *held, const ApiRequest *request);

#endif
