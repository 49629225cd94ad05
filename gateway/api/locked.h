/*
 * locked.h - products that another session has locked
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_LOCKED_H
#define PGSTOCK_GATEWAY_LOCKED_H

#include "api/request.h"

#define LOCKED_MAX 64

typedef struct LockedProduct
{
	uint64_t product; /* a hash; two of one hash count as one */
	int64_t	 until;	  /* it is locked; in the past: the place is free */
} LockedProduct;

typedef struct LockedProducts
{
	LockedProduct products[LOCKED_MAX];
	int64_t		  until; /* the latest of them */
} LockedProducts;

/* A request that reserves: the hash of its product; 0: it names several. */
uint64_t locked_product(ApiRequest *request);

/* Whether it names one that is locked. */
bool locked_is_named(const LockedProducts *locked, const ApiRequest *request);

/*
 * It waited for a lock in vain: whose it was is not known if none of its
 * products was locked before.
 */
void locked_add(LockedProducts *locked, const ApiRequest *request);
/* It had all its locks. */
void locked_remove(LockedProducts *locked, const ApiRequest *request);

#endif
