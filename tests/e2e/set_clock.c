/*
 * set_clock.c
 *	  Preloaded into a server: a clock that is a month ahead while the file
 *	  exists that SET_CLOCK_AHEAD names.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#define AHEAD_S (30 * 86400)

int
gettimeofday(struct timeval *now, void *zone)
{
	static int (*next)(struct timeval *, void *) = NULL;
	const char *ahead = getenv("SET_CLOCK_AHEAD");
	int			result;

	if (next == NULL)
		*(void **) &next = dlsym(RTLD_NEXT, "gettimeofday");
	result = next(now, zone);
	if (ahead != NULL && access(ahead, F_OK) == 0)
		now->tv_sec += AHEAD_S;
	return result;
}
