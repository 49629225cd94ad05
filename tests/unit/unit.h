/*
 * unit.h - what every unit test needs: cmocka, and dice for simulations
 *
 * A simulation says its seed; PGSTOCK_SEED=<that number> plays it again.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_UNIT_H
#define PGSTOCK_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "util.h"

typedef struct Dice
{
	uint64_t state;
} Dice;

/* splitmix64: any seed will do */
static inline uint64_t
dice_roll(Dice *dice)
{
	uint64_t	roll = dice->state += UINT64_C(0x9e3779b97f4a7c15);

	roll = (roll ^ (roll >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	roll = (roll ^ (roll >> 27)) * UINT64_C(0x94d049bb133111eb);
	return roll ^ (roll >> 31);
}

/* From 0 to n - 1. */
static inline uint32_t
dice_below(Dice *dice, uint32_t n)
{
	Assert(n > 0);
	return (uint32_t) (dice_roll(dice) % n);
}

static inline bool
dice_one_in(Dice *dice, uint32_t n)
{
	return dice_below(dice, n) == 0;
}

/* Dice with the seed that the environment asks for, or a new one. */
static inline Dice
dice_new(const char *simulation)
{
	const char *wanted = getenv("PGSTOCK_SEED");
	struct timespec now;
	uint64_t	seed;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = wanted != NULL ? strtoull(wanted, NULL, 10)
		: (uint64_t) now.tv_sec * 1000003 + (uint64_t) now.tv_nsec;
	printf("%s: PGSTOCK_SEED=%" PRIu64 "\n", simulation, seed);
	fflush(stdout);
	return (Dice){seed};
}

#endif
