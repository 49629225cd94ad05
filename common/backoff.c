/*
 * backoff.c - how long to wait before the next try
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/backoff.h"

void
backoff_init(Backoff *backoff, int64_t base_us, int64_t cap_us, uint64_t seed)
{
	Assert(base_us > 0 && cap_us >= base_us);
	*backoff = (Backoff){
		.base_us = base_us,
		.cap_us = cap_us,
		.random = seed | 1,
	};
}

/* xorshift64*: small, and good enough to spread processes out */
static uint64_t
backoff_random(Backoff *backoff)
{
	backoff->random ^= backoff->random >> 12;
	backoff->random ^= backoff->random << 25;
	backoff->random ^= backoff->random >> 27;
	return backoff->random * UINT64_C(2685821657736338717);
}

int64_t
backoff_failed(Backoff *backoff)
{
	int64_t last = Max(backoff->pause_us, backoff->base_us);
	int64_t span = Min(last * 3, backoff->cap_us) - backoff->base_us + 1;

	Assert(span > 0);
	backoff->pause_us = backoff->base_us +
						(int64_t) ((backoff_random(backoff) >> 1) %
								   (uint64_t) span);
	backoff->failures++;
	Assert(backoff->pause_us >= backoff->base_us);
	Assert(backoff->pause_us <= backoff->cap_us);
	return backoff->pause_us;
}

void
backoff_succeeded(Backoff *backoff)
{
	backoff->pause_us = 0;
	backoff->failures = 0;
}
