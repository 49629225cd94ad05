/*-------------------------------------------------------------------------
 *
 * base/uuid.c
 *	  UUIDs for the ids of events: random, behind the time.
 *
 * They rise with time, so the index on the ids of the outbox grows at its end:
 * others would change a page of their own each, and write it to the WAL after
 * each checkpoint.  In form they are of version 4, as consumers know them.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/base.h"
#include "base/epoch_ms.h"

#define DRAWN_AT_ONCE 64

StaticAssertDecl(sizeof(pg_uuid_t) == UUID_LEN,
				 "an array of UUIDs has no bytes that are not drawn");

/*
 * A UUID: 48 bits of milliseconds since 1970, 74 random ones.  The random bytes
 * are drawn for many at once: a draw of 16 costs as much as one of 1,000.
 */
void
uuid_generate(pg_uuid_t *id)
{
	static pg_uuid_t drawn[DRAWN_AT_ONCE];
	static int		 left = 0;
	int64			 ms = epoch_ms_from_timestamp(GetCurrentTimestamp());

	if (left == 0)
	{
		if (!pg_strong_random(drawn, sizeof(drawn)))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
							errmsg("could not generate random values")));
		left = DRAWN_AT_ONCE;
	}
	Assert(left > 0 && left <= DRAWN_AT_ONCE);
	*id = drawn[--left];
	for (int i = 0; i < 6; i++)
		id->data[i] = (unsigned char) (ms >> (40 - 8 * i));
	id->data[6] = (id->data[6] & 0x0f) | 0x40;
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
}
