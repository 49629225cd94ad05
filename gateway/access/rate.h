/*
 * rate.h - how often a client, a user or a sale may be served: token buckets
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_RATE_H
#define PGSTOCK_GATEWAY_RATE_H

#include "common/util.h"

#define RATE_MAX 1000000 /* requests a second */

typedef struct RateLimit RateLimit;

/*
 * "50/s" or "3000/m": requests a second, up to RATE_MAX; "" is 0, no limit.
 * False, and only a phrase in *error, for another text.
 */
bool rate_parse(const char *text, double *per_second, Buf *error) MUST_CHECK;

/*
 * A bucket for each name.  It holds the requests of one second, at least one,
 * and begins full.
 */
RateLimit *rate_new(void);
void	   rate_free(RateLimit *limit); /* NULL is fine */

/*
 * Takes a request of this name; 0 if it may pass, or else after how many
 * microseconds one may.  per_second 0: all may; it may change at any time.
 */
int64_t rate_take(RateLimit *limit, const char *name, double per_second,
				  int64_t now) MUST_CHECK;

#endif
