/*
 * position_topic.h - the outbox's position in Kafka
 *
 * In transactional mode each transaction carries, beside its events, a record
 * that says how far the outbox was read.  It goes to a compacted topic of one
 * partition that belongs to this database alone, so no other producer's open
 * transaction can hide its end from a reader.  The record is JSON; the
 * database takes it apart (docs/relay-protocol.md).
 *
 * A function that waits does so until the broker answers or *stop is true.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_POSITION_TOPIC_H
#define PGSTOCK_KAFKA_POSITION_TOPIC_H

#include <stdatomic.h>

#include "kafka/client.h"

#define POSITION_KEY "outbox"

/* Names by the database's incarnation; freed by the caller. */
char *position_topic(const char *incarnation);
char *position_transactional_id(const char *incarnation);

/* Of any database: no event may go there. */
bool position_is_topic(const char *topic);

/* How far the outbox was read, as the record's value has it. */
typedef struct PositionRecord
{
	const char *window;
	int64_t		seq;
	bool		finished; /* the window is */
	int64_t		epoch;	  /* of the lead */
	bool		held;	  /* a topic is: events before it may be in the
						   * database only */
} PositionRecord;

/* In place of what the buffer has. */
void position_write(Buf *to, const PositionRecord *record);

/* The topic as it is to be; freed by the caller. */
rd_kafka_NewTopic_t *position_new_topic(const char *topic);

rd_kafka_conf_t *position_reader_conf(const Config *config);

/*
 * Takes conf over; NULL, and why in *error, if that fails.  A consumer: where
 * a producer requests a topic, the broker may create it with its defaults.
 */
rd_kafka_t *position_reader_new(rd_kafka_conf_t *conf, Buf *error) MUST_CHECK;

/*
 * Makes the topic if it is missing.  Waits; false, and why in *error, if it is
 * not there at the end.
 */
bool position_ensure_topic(rd_kafka_t *reader, const char *topic,
						   const atomic_bool *stop, Buf *error) MUST_CHECK;

/*
 * The last committed record goes to *record.  If there is none, *found is
 * false.  Waits; false, and why in *error, if the topic could not be read to
 * its end: what lies behind an open transaction may be committed too.
 */
bool position_read(rd_kafka_t *reader, const char *topic,
				   const atomic_bool *stop, Buf *record, bool *found,
				   Buf *error) MUST_CHECK;

#endif
