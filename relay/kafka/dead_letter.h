/*
 * dead_letter.h - the headers of a dead letter, and of one that is sent back
 *
 * extension/inbox/dead_letter.c writes the letters; docs/events.md lists their
 * headers.  Pure but for librdkafka's list of headers.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_DEAD_LETTER_H
#define PGSTOCK_KAFKA_DEAD_LETTER_H

#include <librdkafka/rdkafka.h>

#include "common/util.h"

typedef struct DeadLetter
{
	const char *topic;		   /* its source; NULL: it names none */
	int32_t		partition;	   /* of the source; -1: it names none */
	int64_t		redrives;	   /* how often it was sent back; -1: damaged */
	const char *error;		   /* why it was given up; "": it does not say */
	bool		is_incomplete; /* its value is in the archive only */
} DeadLetter;

/*
 * Of a record's headers, from which the texts are borrowed; NULL: it has
 * none.
 */
void dead_letter_read(const rd_kafka_headers_t *headers, DeadLetter *letter);

/*
 * The headers that the message had, its id, and how often it was sent back with
 * this time.  Owned by the caller.
 */
rd_kafka_headers_t *dead_letter_headers(const rd_kafka_headers_t *headers,
										int64_t redrives) MUST_CHECK;

#endif
