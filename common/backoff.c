/*
 * backoff.c - how long to wait before the next try
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/backoff.h"

void
retry_init(Retry *retry, int64_t base_us, int64_t cap_us, uint64_t seed)
{
	Assert(base_us > 0 && cap_us >= base_us);
	*retry = (Retry){
		.base_us = base_us,
		.cap_us = cap_us,
		.random = seed | 1,
	};
}

/* xorshift64*: small, and good enough to spread relays out */
static uint64_t
next_random(Retry *retry)
{
	retry->random ^= retry->random >> 12;
	retry->random ^= retry->random << 25;
	retry->random ^= retry->random >> 27;
	return retry->random * UINT64_C(2685821657736338717);
}

int64_t
retry_failed(Retry *retry)
{
	int64_t last = Max(retry->pause_us, retry->base_us);
	int64_t span = Min(last * 3, retry->cap_us) - retry->base_us + 1;

	Assert(span > 0);
	retry->pause_us = retry->base_us +
					  (int64_t) ((next_random(retry) >> 1) % (uint64_t) span);
	retry->failures++;
	Assert(retry->pause_us >= retry->base_us);
	Assert(retry->pause_us <= retry->cap_us);
	return retry->pause_us;
}

void
retry_succeeded(Retry *retry)
{
	retry->pause_us = 0;
	retry->failures = 0;
}
