/*-------------------------------------------------------------------------
 *
 * inbox/fingerprint.c
 *	  What tells a record from every other one that had its place.
 *
 * An offset is a place in one history of a partition.  A topic that is deleted
 * and made again under its name, or a partition that lost its tail, has other
 * records at the same places.  A record's time and the checksum of its bytes
 * tell them apart, and are the same however often and by whomever it is read.
 *
 * The relay makes the same (relay/kafka/fingerprint.c, docs/relay-protocol.md).
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_bswap.h"
#include "port/pg_crc32c.h"

#include "inbox/inbox.h"

/* The length first, so that no two records read the same; -1: there is none. */
static pg_crc32c
add_part(pg_crc32c crc, const bytea *part)
{
	int32  len = part == NULL ? -1 : (int32) VARSIZE_ANY_EXHDR(part);
	uint32 wire = pg_hton32((uint32) len);

	COMP_CRC32C(crc, &wire, sizeof(wire));
	if (len > 0)
		COMP_CRC32C(crc, VARDATA_ANY(part), len);
	return crc;
}

/* time_ms: as Kafka has it, -1 for none */
const char *
fingerprint(int64 time_ms, const bytea *key, const bytea *value,
			const bytea *headers)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	crc = add_part(crc, key);
	crc = add_part(crc, value);
	crc = add_part(crc, headers);
	FIN_CRC32C(crc);
	return psprintf(INT64_FORMAT ".%08x", time_ms, crc);
}
