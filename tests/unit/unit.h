/*
 * unit.h - what every unit test needs: cmocka, and dice for simulations
 *
 * A simulation prints its seed; PGSTOCK_SEED=<that number> repeats it.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_UNIT_H
#define PGSTOCK_UNIT_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* needs what stands above */
#include <cmocka.h>

#include "common/util.h"

/* Of the only simulation in a program. */
static uint64_t dice UNUSED;

/* splitmix64: any seed will do */
static inline uint64_t
roll(void)
{
	uint64_t number = dice += UINT64_C(0x9e3779b97f4a7c15);

	number = (number ^ (number >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	number = (number ^ (number >> 27)) * UINT64_C(0x94d049bb133111eb);
	return number ^ (number >> 31);
}

/* From 0 to n - 1. */
static inline uint32_t
below(uint32_t n)
{
	Assert(n > 0);
	return (uint32_t) (roll() % n);
}

static inline bool
one_in(uint32_t n)
{
	return below(n) == 0;
}

/* Takes the seed that the environment asks for, or a new one. */
static inline void
begin_dice(const char *simulation)
{
	const char	   *wanted = getenv("PGSTOCK_SEED");
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	dice = wanted != NULL
			   ? strtoull(wanted, NULL, 10)
			   : (uint64_t) now.tv_sec * 1000003 + (uint64_t) now.tv_nsec;
	printf("%s: PGSTOCK_SEED=%" PRIu64 "\n", simulation, dice);
	fflush(stdout);
}

#endif
