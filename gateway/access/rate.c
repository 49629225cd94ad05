/*
 * rate.c - how often a client, a user or a sale may be served: token buckets
 *
 * The table has a fixed size.  A name has WAYS places; if other names have them
 * all, it takes that of the one that has not been seen for longest, whose
 * bucket is full again if the name returns.  So an attacker who draws names at
 * random can free a limited user, never block one.
 *
 * The hash is keyed at random: no client can choose names that share
 * places.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "access/rate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SETS 8192
#define WAYS 4

typedef struct Bucket
{
	uint64_t hash;	 /* 0: free */
	double	 tokens; /* as of at */
	int64_t	 at;
} Bucket;

struct RateLimit
{
	uint64_t key;
	Bucket	 buckets[SETS][WAYS];
};

bool
rate_parse(const char *text, double *per_second, Buf *error)
{
	size_t	digits = strspn(text, "0123456789");
	char   *number = xasprintf("%.*s", (int) digits, text);
	int64_t value = 0;
	bool	seconds = strcmp(text + digits, "/s") == 0;
	bool	good = text[0] == '\0' ||
				(parse_number(number, &value) && value > 0 &&
				 value <= RATE_MAX &&
				 (seconds || strcmp(text + digits, "/m") == 0));

	free(number);
	if (!good)
		buf_printf(error, "\"%s\" is not a rate such as 50/s or 3000/m", text);
	else
		*per_second = (double) value / (seconds ? 1 : 60);
	return good;
}

RateLimit *
rate_new(void)
{
	RateLimit *limit = xcalloc(1, sizeof(RateLimit));

	if (getrandom(&limit->key, sizeof(limit->key), 0) !=
		(ssize_t) sizeof(limit->key))
		limit->key = (uint64_t) (uintptr_t) limit;
	return limit;
}

void
rate_free(RateLimit *limit)
{
	free(limit);
}

/* Keyed and mixed; never 0. */
static uint64_t
rate_hash(const RateLimit *limit, const char *name)
{
	uint64_t hash = hash_text(name, limit->key);

	hash ^= hash >> 29;
	hash *= limit->key | 1;
	return (hash ^ hash >> 32) | 1;
}

/* The name's bucket, which may be new and full. */
static Bucket *
rate_find(RateLimit *limit, const char *name, double size, int64_t now)
{
	uint64_t hash = rate_hash(limit, name);
	Bucket	*set = limit->buckets[(hash >> 8) % SETS];
	Bucket	*oldest = set;

	for (int way = 0; way < WAYS; way++)
	{
		if (set[way].hash == hash)
			return &set[way];
		if (set[way].at < oldest->at || set[way].hash == 0)
			oldest = &set[way];
	}
	*oldest = (Bucket){.hash = hash, .tokens = size, .at = now};
	return oldest;
}

int64_t
rate_take(RateLimit *limit, const char *name, double per_second, int64_t now)
{
	double	size = Max(per_second, 1);
	Bucket *bucket;

	if (per_second <= 0)
		return 0;
	bucket = rate_find(limit, name, size, now);
	Assert(now >= bucket->at);
	bucket->tokens += (double) (now - bucket->at) / SEC_US * per_second;
	bucket->tokens = Min(bucket->tokens, size);
	bucket->at = now;
	Assert(bucket->tokens >= 0 && bucket->tokens <= size);
	if (bucket->tokens < 1)
		return (int64_t) ((1 - bucket->tokens) / per_second * SEC_US) + 1;
	bucket->tokens -= 1;
	return 0;
}
