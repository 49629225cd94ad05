/*
 * spelling.c - how far a misspelt word is from a known one
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/spelling.h"

#include <string.h>

#include "common/util.h"

#define WORD_MAX 64

/* One row of the table of distances between all beginnings of both words. */
unsigned
spelling_distance(const char *a, const char *b)
{
	size_t	 a_len = Min(strlen(a), WORD_MAX);
	size_t	 b_len = Min(strlen(b), WORD_MAX);
	unsigned row[WORD_MAX + 1];

	for (size_t j = 0; j <= b_len; j++)
		row[j] = (unsigned) j;
	for (size_t i = 1; i <= a_len; i++)
	{
		unsigned diagonal = row[0];

		row[0] = (unsigned) i;
		for (size_t j = 1; j <= b_len; j++)
		{
			unsigned change = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = Min(change, Min(row[j], row[j - 1]) + 1);
		}
	}
	Assert(row[b_len] <= Max(a_len, b_len));
	return row[b_len];
}
