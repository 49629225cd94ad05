/*-------------------------------------------------------------------------
 *
 * outbox/outbox.h
 *	  Events for Kafka: their rows, headers and wake-up.
 *
 * This layer knows no stock.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef OUTBOX_OUTBOX_H
#define OUTBOX_OUTBOX_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

#include "base/base.h"
#include "protocol/topic.h"

#define OUTBOX_TOPIC_MAX 249 /* characters: Kafka's limit */

/* A header's name and value; value NULL: a null value. */
typedef struct Header
{
	const char *name;
	int			name_len;
	const char *value;
	int			value_len;
} Header;

/* A record to be published. */
typedef struct OutboxRecord
{
	pg_uuid_t	event_id;
	const char *topic;
	const char *event_type;
	const char *key; /* NULL: none */
	int			key_len;
	const char *payload; /* NULL: a tombstone */
	int			payload_len;
	bytea	   *headers;	 /* packed, or NULL */
	const char *traceparent; /* or NULL */
	char		format;		 /* j, b or r: see sql/outbox_tables.sql */
	char		ends;		 /* the state that it reports; 0: none */
	bool		is_utf8;	 /* key and payload are what they will be */
	bool		is_minimal;	 /* nothing can be left out of it */
	bool		by_movement; /* a movement of its order names it, or it has no
							  * order: see outbox_is_found_by_key */
} OutboxRecord;

/* in record.c */
extern void		   outbox_append(Call *call, OutboxRecord *record);
extern int		   outbox_record_bytes(const OutboxRecord *record);
extern void		   outbox_record_to_utf8(OutboxRecord *record);
extern const char *outbox_topic_fault(const char *topic);

/* in headers.c */
extern bytea		*headers_pack(List *headers);
extern List			*headers_unpack(bytea *packed);
extern const Header *headers_find(List *headers, const char *name);
extern List			*headers_remove(List *headers, const char *name);
extern List			*headers_from_jsonb(Jsonb *object);
extern char			*headers_json(bytea *packed);
extern char			*bytes_printable(const char *bytes, int length);

/* in reserved_topic.c */
extern void topic_must_not_be_position(const char *topic);
extern void topic_must_not_be_reserved(Call *call, const char *topic);
extern bool topic_is_for_stock_events(Call *call, const char *topic);

/* in receipt_board.c */
extern void receipt_init(void);
extern bool receipt_take_request(void);

/* in wakeup.c */
extern void wakeup_init(void);
extern void wakeup_at_commit(void);

#endif /* OUTBOX_OUTBOX_H */
