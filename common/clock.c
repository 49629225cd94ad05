/*
 * clock.c - the time now, in microseconds
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/clock.h"

#include <time.h>

#include "common/util.h"

static int64_t
clock_read(clockid_t clock)
{
	struct timespec now;
	int				failed = clock_gettime(clock, &now);

	Assert(failed == 0);
	return now.tv_sec * SEC_US + now.tv_nsec / 1000;
}

int64_t
clock_monotonic(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

int64_t
clock_wall(void)
{
	return clock_read(CLOCK_REALTIME);
}
