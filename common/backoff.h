/*
 * backoff.h - how long to wait before the next try
 *
 * Exponential with decorrelated jitter: each pause is drawn between base and
 * three times the one before, up to a cap, so that many processes that lost the
 * same server do not reconnect in step.  Pure: the random numbers come from a
 * seed, so that a simulation repeats.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_BACKOFF_H
#define PGSTOCK_COMMON_BACKOFF_H

#include "common/util.h"

typedef struct Backoff
{
	int64_t	 base_us;  /* the shortest pause */
	int64_t	 cap_us;   /* the longest one */
	int64_t	 pause_us; /* the last one; 0: none since success */
	unsigned failures; /* in a row */
	uint64_t random;   /* state of the generator, never 0 */
} Backoff;

void	backoff_init(Backoff *backoff, int64_t base_us, int64_t cap_us,
					 uint64_t seed);
int64_t backoff_failed(Backoff *backoff) MUST_CHECK; /* the pause from now */
void	backoff_succeeded(Backoff *backoff);

#endif
