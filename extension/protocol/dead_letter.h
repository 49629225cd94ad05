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

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Those that describe the failure. */
#define HEADER_ERROR_TOPIC		"__dlq.errors.topic"
#define HEADER_ERROR_PARTITION	"__dlq.errors.partition"
#define HEADER_ERROR_OFFSET		"__dlq.errors.offset"
#define HEADER_ERROR_GROUP		"__dlq.errors.group"
#define HEADER_ERROR_DELIVERIES "__dlq.errors.delivery.count"
#define HEADER_ERROR_MESSAGE	"__dlq.errors.message"
#define HEADER_ERROR_SQLSTATE	"__dlq.errors.sqlstate"
#define HEADER_ERROR_CLASS		"__dlq.errors.class"
#define HEADER_ERROR_TIME		"__dlq.errors.failed.time"
#define HEADER_ERROR_INCOMPLETE "__dlq.errors.incomplete"

/* The message's identity, which it keeps when it is sent back. */
#define HEADER_EVENT_ID		"__dlq.event.id"
#define HEADER_EVENT_SOURCE "__dlq.event.source"
#define HEADER_EVENT_TIME	"__dlq.event.time"

/* How often it was sent back. */
#define HEADER_REDRIVES "__dlq.redrive.count"

/*
 * Whether a header is one of those that describe the failure.  Other programs
 * have headers of their own that begin alike, by KIP-1191: these are not ours
 * to remove.
 */
static inline bool
header_is_error(const char *name)
{
	static const char *const errors[] = {
		HEADER_ERROR_TOPIC,		 HEADER_ERROR_PARTITION,  HEADER_ERROR_OFFSET,
		HEADER_ERROR_GROUP,		 HEADER_ERROR_DELIVERIES, HEADER_ERROR_MESSAGE,
		HEADER_ERROR_SQLSTATE,	 HEADER_ERROR_CLASS,	  HEADER_ERROR_TIME,
		HEADER_ERROR_INCOMPLETE,
	};

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
	{
		if (strcmp(name, errors[i]) == 0)
			return true;
	}
	return false;
}

#endif /* PROTOCOL_DEAD_LETTER_H */
