/*
 * spelling.h - how far a misspelt word is from a known one
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_SPELLING_H
#define PGSTOCK_COMMON_SPELLING_H

/*
 * Levenshtein's: characters inserted, deleted or replaced.  Only the first 64
 * characters count.
 */
unsigned spelling_distance(const char *a, const char *b);

#endif
