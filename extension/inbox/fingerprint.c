/*-------------------------------------------------------------------------
 *
 * inbox/fingerprint.c
 *	  Distinguishes a record from others that had its offset.
 *
 * An offset is a place in one history of a partition.  A topic that is deleted
 * and created again, or a partition that lost its end, has other records at the
 * same offsets.  A record's time and the checksum of its bytes distinguish
 * them, and do not depend on which relay reads it, nor how often.
 *
 * relay/kafka/fingerprint.c computes the same (docs/relay-protocol.md).
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_bswap.h"
#include "port/pg_crc32c.h"

#include "inbox/inbox.h"

StaticAssertDecl(sizeof(pg_crc32c) == sizeof(uint32), "eight digits hold it");

/*
 * Adds the length first, so that two records differ if their parts do; -1:
 * there is no such part.
 */
static pg_crc32c
fingerprint_add(pg_crc32c crc, const bytea *part)
{
	int32  len = part == NULL ? -1 : (int32) VARSIZE_ANY_EXHDR(part);
	uint32 wire = pg_hton32((uint32) len);

	Assert(part == NULL || !VARATT_IS_EXTERNAL(part));
	Assert(part == NULL || !VARATT_IS_COMPRESSED(part));
	COMP_CRC32C(crc, &wire, sizeof(wire));
	if (len > 0)
		COMP_CRC32C(crc, VARDATA_ANY(part), len);
	return crc;
}

/* The fingerprint; time_ms is as Kafka has it, -1: none. */
const char *
fingerprint(int64 time_ms, const bytea *key, const bytea *value,
			const bytea *headers)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	crc = fingerprint_add(crc, key);
	crc = fingerprint_add(crc, value);
	crc = fingerprint_add(crc, headers);
	FIN_CRC32C(crc);
	return psprintf(INT64_FORMAT ".%08x", time_ms, crc);
}
