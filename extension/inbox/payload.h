/*-------------------------------------------------------------------------
 *
 * inbox/payload.h
 *	  A record's value while it is parsed.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef INBOX_PAYLOAD_H
#define INBOX_PAYLOAD_H

#include "postgres.h"

struct json_t;

/* JSON texts within a value: the value, and two of its strings at most. */
#define PAYLOAD_TREES 3

/* A record's value while it is parsed, and what its envelope says. */
typedef struct Payload
{
	struct json_t *trees[PAYLOAD_TREES];
	int			   n_trees;
	struct json_t *message; /* in one of the trees; NULL: the value is none */
	const char	  *text;	/* of the message, UTF-8 */
	int			   length;
	const char	  *where;		/* what holds the message; NULL: the value */
	const char	  *fault;		/* why no object is there, or NULL */
	bool		   is_deletion; /* of a row: there is nothing to apply */
	struct json_t *time;		/* or NULL, as all that follow */
	const char	  *id;
	const char	  *source; /* of the id, if it is a CloudEvent's */
	const char	  *event_type;
	const char	  *traceparent;
} Payload;

#endif /* INBOX_PAYLOAD_H */
