/*
 * rfc3339.h - moments as text: 2026-01-31T12:00:00.25Z
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_RFC3339_H
#define PGSTOCK_COMMON_RFC3339_H

#include "common/util.h"

#define RFC3339_EXAMPLE "2026-01-31T12:00:00Z" /* for error messages */

typedef enum Rfc3339
{
	RFC3339_VALID,
	RFC3339_MALFORMED,
	RFC3339_NO_SUCH_DAY, /* the 31st of February */
	RFC3339_BEFORE_1970,
} Rfc3339;

/*
 * The moment in microseconds since 1970, set only if it is valid.  A blank in
 * place of the T is accepted; the zone is required.
 */
Rfc3339 rfc3339_parse(const char *text, int64_t *us) MUST_CHECK;

/* Appends a second of UTC up to its seconds, without fraction and zone. */
void rfc3339_add_second(Buf *text, int64_t second);

#endif
