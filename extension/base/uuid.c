/*-------------------------------------------------------------------------
 *
 * base/uuid.c
 *	  Random UUIDs, for the ids of events.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/uuid.h"

#include "base/base.h"

#define DRAWN_AT_ONCE 64

StaticAssertDecl(sizeof(pg_uuid_t) == UUID_LEN,
				 "an array of UUIDs has no bytes that are not drawn");

/*
 * A random (version 4) UUID.  The random bytes are drawn for many at once: a
 * draw of 16 costs as much as one of 1,000.
 */
void
uuid_generate(pg_uuid_t *id)
{
	static pg_uuid_t drawn[DRAWN_AT_ONCE];
	static int		 left = 0;

	if (left == 0)
	{
		if (!pg_strong_random(drawn, sizeof(drawn)))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
							errmsg("could not generate random values")));
		left = DRAWN_AT_ONCE;
	}
	Assert(left > 0 && left <= DRAWN_AT_ONCE);
	*id = drawn[--left];
	id->data[6] = (id->data[6] & 0x0f) | 0x40;
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
}
