/*-------------------------------------------------------------------------
 *
 * protocol/event_header.h
 *	  Headers of an event: those that both the extension and the relay name.
 *
 * The relay writes them to Kafka, by the profiles that [outbox] headers names,
 * and reads those of its own events again; the extension reads them in the
 * messages that it consumes.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef PROTOCOL_EVENT_HEADER_H
#define PROTOCOL_EVENT_HEADER_H

/* CloudEvents */
#define HEADER_CE_ID		  "ce_id"
#define HEADER_CE_SOURCE	  "ce_source"
#define HEADER_CE_TYPE		  "ce_type"
#define HEADER_CE_TIME		  "ce_time"
#define HEADER_CE_SEQUENCE	  "ce_sequence"
#define HEADER_CE_INCARNATION "ce_incarnation"
#define HEADER_CE_TRACEPARENT "ce_traceparent"
#define HEADER_CONTENT_TYPE	  "content-type"
#define HEADER_TRACEPARENT	  "traceparent"

/* plain */
#define HEADER_PLAIN_ID	  "event_id"
#define HEADER_PLAIN_TYPE "event_type"
#define HEADER_PLAIN_TIME "timestamp"

/* Debezium's */
#define HEADER_DEBEZIUM_ID	 "id"
#define HEADER_DEBEZIUM_TYPE "eventType"

/*
 * The id of the event that this one repeats: replay_header() in
 * sql/commands.sql has it too.
 */
#define HEADER_REPLAY_OF "replay_of"

#endif /* PROTOCOL_EVENT_HEADER_H */
