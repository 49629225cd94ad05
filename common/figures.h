/*
 * figures.h - numbers as people read them: counts, rates, bytes, durations
 *
 * Each function appends to the text.  A point separates decimals and a comma
 * thousands, in every locale.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_FIGURES_H
#define PGSTOCK_COMMON_FIGURES_H

#include "common/util.h"

/* 1,234,567 */
void figures_add_count(Buf *text, int64_t count);

/* 0.4/s, 12/s, 1,234/s: two digits or more, none where it would be noise */
void figures_add_rate(Buf *text, double per_second);

/* 17 B, 1.5 kB, 23 MB, ...: powers of 1,024, as PostgreSQL counts */
void figures_add_bytes(Buf *text, int64_t bytes);

/* The largest two units: 12 ms, 4.2 s, 38 s, 3 min 20 s, 2 h 5 min, 3 d 4 h */
void figures_add_duration(Buf *text, int64_t us);

/* Of a wait, whose end one looks at again and again: 0:38, 3:20, 2:05:00 */
void figures_add_clock(Buf *text, int64_t us);

#endif
