/*
 * record.h - an outbox row as a Kafka record, and packed headers
 *
 * Pure but for librdkafka's list of headers, which is a plain data structure.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_RECORD_H
#define PGSTOCK_KAFKA_RECORD_H

#include <librdkafka/rdkafka.h>

#include "common/util.h"

/* Which headers an event gets; a set of them. */
typedef enum HeaderProfile
{
	HEADERS_CLOUDEVENTS = 1, /* ce_..., content-type, traceparent */
	HEADERS_PLAIN = 2,		 /* event_id, event_type, timestamp */
	HEADERS_DEBEZIUM = 4,	 /* id, eventType */
} HeaderProfile;

/* Bytes that belong to somebody else; data NULL: null. */
typedef struct Slice
{
	const char *data;
	size_t		len;
} Slice;

/* One row of relay_page(); it points into the answer. */
typedef struct EventRow
{
	int64_t seq;
	Slice	id;	   /* 16 bytes */
	Slice	topic; /* a C string */
	Slice	key;
	Slice	type;
	Slice	payload;
	Slice	headers; /* packed */
	Slice	traceparent;
	int64_t created_us; /* since 1970 */
	char	format;		/* j JSON, b bytes, r raw */
} EventRow;

/* The database that an event is of; two may have one name. */
typedef struct EventSource
{
	Slice name;		   /* ce_source */
	Slice incarnation; /* ce_incarnation */
} EventSource;

/* The record's headers, or NULL if the packed ones are damaged. */
rd_kafka_headers_t *event_headers(const EventRow *row, unsigned profile,
								  EventSource source) MUST_CHECK;

/* The states in which an order's reservation ends. */
#define EVENT_ENDS 6
extern const char *const event_ends[EVENT_ENDS];

/* Which of them the event tells of, or -1. */
int event_end(const EventRow *row);

#define EVENT_UUID_LEN 36
#define EVENT_TIME_LEN 27 /* 2026-01-31T12:34:56.123456Z */
#define EVENT_SEQ_LEN  20

/* Each fills exactly that many bytes and adds no NUL. */
void event_uuid_text(char *to, const char *uuid);
void event_time_text(char *to, int64_t us);
void event_seq_text(char *to, int64_t seq);

/*
 * Packed headers (docs/relay-protocol.md): for each a 16-bit length of the
 * name, the name, a 32-bit length of the value (-1: null), the value.
 * headers_pack returns false if it had to leave one out for its length.
 */
bool headers_unpack(Slice packed, rd_kafka_headers_t *headers) MUST_CHECK;
bool headers_pack(const rd_kafka_headers_t *headers, Buf *packed) MUST_CHECK;

#endif
