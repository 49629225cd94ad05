/*
 * witness.h - records that were applied, read once more
 *
 * As long as a partition has the history that was read, it has them.  They are
 * read by a client of their own: consumption is not disturbed.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_WITNESS_H
#define PGSTOCK_KAFKA_WITNESS_H

#include <stdatomic.h>

#include "kafka/client.h"
#include "kafka/fingerprint.h"

typedef struct Witness
{
	char   *topic; /* owned */
	int32_t id;
	int64_t offset;
	int64_t found; /* the first offset that arrived; -1: none */
	bool	ended; /* none follows, for a client with enable.partition.eof */
	Fingerprint fingerprint; /* of what was found */
} Witness;

rd_kafka_conf_t *witness_conf(const Config *config);

/* Waits until all arrived or WITNESS_MS have passed; not in the loop. */
#define WITNESS_MS 2000
void witness_read(rd_kafka_t *client, Witness *witnesses, size_t count,
				  const atomic_bool *stop);

#endif
