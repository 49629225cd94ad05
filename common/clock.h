/*
 * clock.h - the time now, in microseconds
 *
 * In the loop loop_now() is the time instead: it is read once for all that is
 * done at one moment.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_CLOCK_H
#define PGSTOCK_COMMON_CLOCK_H

#include <stdint.h>

int64_t clock_monotonic(void);
int64_t clock_wall(void); /* since 1970, in UTC */

#endif
