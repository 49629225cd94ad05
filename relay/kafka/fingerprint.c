/*
 * fingerprint.c - identifies a record among those that had its offset
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/fingerprint.h"

#include <inttypes.h>
#include <stdio.h>

#define CRC32C_POLYNOMIAL 0x82F63B78 /* Castagnoli's, reflected */

static uint32_t
fingerprint_add_crc32c(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++)
	{
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
	}
	return crc;
}

/* The length first, in network byte order; -1: there is none. */
static uint32_t
fingerprint_add_part(uint32_t crc, Slice part)
{
	uint32_t	  len = part.data != NULL ? (uint32_t) part.len : UINT32_MAX;
	const uint8_t wire[] = {(uint8_t) (len >> 24), (uint8_t) (len >> 16),
							(uint8_t) (len >> 8), (uint8_t) len};

	Assert(part.data == NULL || part.len < UINT32_MAX);
	crc = fingerprint_add_crc32c(crc, wire, sizeof(wire));
	return part.data != NULL ? fingerprint_add_crc32c(crc, part.data, part.len)
							 : crc;
}

Fingerprint
fingerprint_of(const ApiMessage *message)
{
	Fingerprint fingerprint;
	uint32_t	crc = UINT32_MAX;
	int			len;

	crc = fingerprint_add_part(crc, message->key);
	crc = fingerprint_add_part(crc, message->value);
	crc = fingerprint_add_part(crc, message->headers);
	len = snprintf(fingerprint.text, sizeof(fingerprint.text),
				   "%" PRId64 ".%08" PRIx32, message->timestamp_ms, ~crc);
	Assert(len > 0 && len < FINGERPRINT_MAX); /* a part would never match */
	return fingerprint;
}
