/*-------------------------------------------------------------------------
 *
 * base/epoch_ms.h
 *	  Times as milliseconds since 1970, as Kafka and many producers have them.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef BASE_EPOCH_MS_H
#define BASE_EPOCH_MS_H

#include "datatype/timestamp.h"

/* From 1970 to 9999: a producer may write anything into a record's time. */
static inline bool
epoch_ms_is_sane(int64 ms)
{
	return ms >= 0 && ms < INT64CONST(253402300800000);
}

/* The milliseconds from 1970 to PostgreSQL's epoch. */
#define EPOCH_OFFSET_MS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000)

static inline TimestampTz
epoch_ms_to_timestamp(int64 ms)
{
	Assert(epoch_ms_is_sane(ms));
	return (ms - EPOCH_OFFSET_MS) * 1000;
}

static inline int64
epoch_ms_from_timestamp(TimestampTz at)
{
	return at / 1000 + EPOCH_OFFSET_MS;
}

#endif /* BASE_EPOCH_MS_H */
