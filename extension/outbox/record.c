/*-------------------------------------------------------------------------
 *
 * outbox/record.c
 *	  Inserts an event into the outbox, in the transaction that it describes.
 *
 * The row gets the top-level transaction's id before it draws its seq: the
 * window's floor (sql/window.sql) rests on that order.  seq is drawn while the
 * level's lock is held, so that it is the order of the locks.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/sequence.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "outbox/outbox.h"

enum
{
	OUTBOX_SEQ = 1,
	OUTBOX_XID,
	OUTBOX_ID,
	OUTBOX_TOPIC,
	OUTBOX_KEY,
	OUTBOX_TYPE,
	OUTBOX_PAYLOAD,
	OUTBOX_HEADERS,
	OUTBOX_TRACEPARENT,
	OUTBOX_CREATED_AT,
	OUTBOX_FORMAT,
	OUTBOX_BY_KEY,
	OUTBOX_ENDS,
	OUTBOX_PART
};

/*
 * What the relay adds to a record besides the stored headers: names and
 * numbers of fixed length; the topic, type, key and traceparent once more.
 */
#define RELAY_HEADER_BYTES 512

/*
 * By how much a record may exceed the limit if nothing can be left out of it:
 * no call and no message fails because of an event that pgstock itself emits.
 * All its ids and a reason, each character escaped, take less; the relay leaves
 * room for twice that.
 */
#define MINIMAL_BYTES_MAX (32 * 1024)

/* The longest escape of a byte is \u00xx; eight ids are in an event. */
StaticAssertDecl(6 * (8 * STOCK_ID_BYTES_MAX + STOCK_TEXT_BYTES_MAX) <
					 MINIMAL_BYTES_MAX,
				 "all ids and a reason, escaped, fit");
StaticAssertDecl(RELAY_HEADER_BYTES > OUTBOX_TOPIC_MAX,
				 "the relay's headers repeat the topic");

/* Why Kafka would reject this topic name; NULL if it is valid. */
const char *
outbox_topic_fault(const char *topic)
{
	size_t length = strlen(topic);

	if (length == 0)
		return "must not be empty";
	if (length > OUTBOX_TOPIC_MAX)
		return "must not be longer than 249 characters";
	if (strcmp(topic, ".") == 0 || strcmp(topic, "..") == 0)
		return "must not be \".\" or \"..\"";
	if (strspn(topic, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					  "0123456789._-") != length)
		return "must consist of letters, digits, \".\", \"_\" and \"-\"";
	return NULL;
}

/* The bytes that count against pgstock.max_event_bytes. */
int
outbox_record_bytes(const OutboxRecord *record)
{
	int64 bytes = (int64) record->key_len + record->payload_len;

	if (record->headers != NULL)
		bytes += VARSIZE_ANY_EXHDR(record->headers);
	if (record->format != 'r')
		bytes += RELAY_HEADER_BYTES + record->key_len +
				 2 * strlen(record->event_type);
	return (int) Min(bytes, INT_MAX);
}

static Datum
outbox_bytes_datum(const char *bytes, int length)
{
	bytea *datum;

	Assert(bytes != NULL && length >= 0);
	datum = palloc(VARHDRSZ + length);
	SET_VARSIZE(datum, VARHDRSZ + length);
	memcpy(VARDATA(datum), bytes, length);
	return PointerGetDatum(datum);
}

/*
 * The events of an order are found by the movements that name them.  Only what
 * no movement names needs an entry in the index on the key.  It is for orders,
 * and a longer key than their ids may be longer than an entry can be.
 */
static bool
outbox_is_found_by_key(const OutboxRecord *record)
{
	return !record->by_movement && record->key != NULL &&
		   record->key_len <= STOCK_ID_BYTES_MAX;
}

static void
outbox_record_put(Call *call, Table *table, const OutboxRecord *record)
{
	TupleTableSlot *slot = table_new_row(table);

	/* the xid first: see the banner */
	row_put(slot, OUTBOX_XID,
			FullTransactionIdGetDatum(GetTopFullTransactionId()));
	Assert(TransactionIdIsValid(GetTopTransactionIdIfAny()));
	row_put(slot, OUTBOX_SEQ,
			Int64GetDatum(
				nextval_internal(relation_sequence("outbox_seq"), false)));
	row_put(slot, OUTBOX_ID, UUIDPGetDatum(&record->event_id));
	row_put_text(slot, OUTBOX_TOPIC, record->topic);
	if (record->key != NULL)
		row_put(slot, OUTBOX_KEY,
				outbox_bytes_datum(record->key, record->key_len));
	row_put_text(slot, OUTBOX_TYPE, record->event_type);
	if (record->payload != NULL)
		row_put(slot, OUTBOX_PAYLOAD,
				outbox_bytes_datum(record->payload, record->payload_len));
	row_put_bytes(slot, OUTBOX_HEADERS, record->headers);
	row_put_text(slot, OUTBOX_TRACEPARENT, record->traceparent);
	row_put(slot, OUTBOX_CREATED_AT, TimestampTzGetDatum(call->now));
	row_put(slot, OUTBOX_FORMAT, CharGetDatum(record->format));
	row_put(slot, OUTBOX_BY_KEY, BoolGetDatum(outbox_is_found_by_key(record)));
	if (record->ends != 0)
		row_put(slot, OUTBOX_ENDS, CharGetDatum(record->ends));
	row_put(slot, OUTBOX_PART, Int16GetDatum(table->part));
}

/* Text is published as UTF-8, whatever the database's encoding. */
void
outbox_record_to_utf8(OutboxRecord *record)
{
	if (record->is_utf8)
		return;
	record->is_utf8 = true;
	if (record->key != NULL && record->format != 'r')
		record->key = text_to_utf8(record->key, record->key_len,
								   &record->key_len);
	if (record->payload != NULL && record->format == 'j')
		record->payload = text_to_utf8(record->payload, record->payload_len,
									   &record->payload_len);
}

/* Appends a record; it is published only if this transaction commits. */
void
outbox_append(Call *call, OutboxRecord *record)
{
	Table *table = rotation_use(call, TABLE_OUTBOX);
	int	   bytes_max = pgstock_max_event_bytes +
					(record->is_minimal ? MINIMAL_BYTES_MAX : 0);

	Assert(record->event_type != NULL);
	Assert(record->format == 'j' || record->format == 'b' ||
		   record->format == 'r');
	Assert(record->key_len >= 0 && record->payload_len >= 0);
	Assert(record->topic != NULL && table->part > 0);
	Assert(record->key != NULL || record->key_len == 0);
	Assert(record->payload != NULL || record->payload_len == 0);
	if (outbox_topic_fault(record->topic) != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("topic %s", outbox_topic_fault(record->topic))));
	outbox_record_to_utf8(record);
	if (outbox_record_bytes(record) > bytes_max)
		ereport(
			ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("event is too large for topic \"%s\"", record->topic),
			 errdetail("With key and headers it has %d bytes; the limit is %d.",
					   outbox_record_bytes(record), pgstock_max_event_bytes),
			 errhint("Send less, or raise pgstock.max_event_bytes and the "
					 "broker's message.max.bytes.")));
	outbox_record_put(call, table, record);
	table_insert(call, table);
	wakeup_at_commit();
}
