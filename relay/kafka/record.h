/*
 * record.h - the headers of a Kafka record: those of an event, and packed ones
 *
 * Pure but for librdkafka's list of headers, which is a plain data structure.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_RECORD_H
#define PGSTOCK_KAFKA_RECORD_H

#include <librdkafka/rdkafka.h>

#include "db/api.h"
#include "db/event.h"

/* Which headers an event gets; a set of them. */
typedef enum HeaderProfile
{
	HEADERS_CLOUDEVENTS = 1, /* ce_..., content-type, traceparent */
	HEADERS_PLAIN = 2,		 /* event_id, event_type, timestamp */
	HEADERS_DEBEZIUM = 4,	 /* id, eventType */
} HeaderProfile;

/* The record's headers, or NULL if the packed ones are damaged. */
rd_kafka_headers_t *record_headers(const EventRow *row, unsigned profile,
								   EventSource source) MUST_CHECK;

/*
 * Packed headers (docs/relay-protocol.md): for each a 16-bit length of the
 * name, the name, a 32-bit length of the value (-1: null), the value.
 * headers_pack returns false if it had to leave one out for its length.
 */
bool headers_unpack(Slice packed, rd_kafka_headers_t *headers) MUST_CHECK;
bool headers_pack(const rd_kafka_headers_t *headers, Buf *packed) MUST_CHECK;

/*
 * A message as the database takes it, its headers packed into *headers; false:
 * one of them had to be left out.
 */
bool record_read(const rd_kafka_message_t *message, Buf *headers,
				 ApiMessage *to);

#endif
