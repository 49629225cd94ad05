/*-------------------------------------------------------------------------
 *
 * protocol/dead_letter.h
 *	  Headers of a dead letter, and of one that is sent back.
 *
 * The extension writes them, and reads those of a record that was sent back;
 * the relay sends it back.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef PROTOCOL_DEAD_LETTER_H
#define PROTOCOL_DEAD_LETTER_H

/* The prefix of those that describe the failure. */
#define HEADER_ERRORS "__dlq.errors."

/* The message's identity, which it keeps when it is sent back. */
#define HEADER_EVENT_ID		"__dlq.event.id"
#define HEADER_EVENT_SOURCE "__dlq.event.source"
#define HEADER_EVENT_TIME	"__dlq.event.time"

/* How often it was sent back. */
#define HEADER_REDRIVES "__dlq.redrive.count"

#endif /* PROTOCOL_DEAD_LETTER_H */
