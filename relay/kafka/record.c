/*
 * record.c - the headers of a Kafka record: those of an event, and packed ones
 *
 * This runs once for each event: no formatted printing, and no allocation
 * beside those of the list itself.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/record.h"

#include <string.h>

#include "extension/protocol/event_header.h"

static void
record_add_header(rd_kafka_headers_t *headers, const char *name,
				  size_t name_len, const char *value, size_t len)
{
	rd_kafka_resp_err_t error;

	error = rd_kafka_header_add(headers, name, (ssize_t) name_len, value,
								(ssize_t) len);
	Assert(error == RD_KAFKA_RESP_ERR_NO_ERROR);
}

#define ADD(headers, name, value, len) \
	record_add_header(headers, name, sizeof(name) - 1, value, len)

static void
record_add_cloudevents(rd_kafka_headers_t *headers, const EventRow *row,
					   EventSource source, const char *id, const char *created)
{
	char seq[EVENT_SEQ_LEN];

	event_seq_text(seq, row->seq);
	ADD(headers, "ce_specversion", "1.0", 3);
	ADD(headers, HEADER_CE_ID, id, EVENT_UUID_LEN);
	ADD(headers, HEADER_CE_SOURCE, source.name.data, source.name.len);
	ADD(headers, HEADER_CE_TYPE, row->type.data, row->type.len);
	ADD(headers, HEADER_CE_TIME, created, EVENT_TIME_LEN);
	if (row->key.data != NULL)
		ADD(headers, "ce_subject", row->key.data, row->key.len);
	ADD(headers, HEADER_CE_SEQUENCE, seq, EVENT_SEQ_LEN);
	ADD(headers, HEADER_CE_INCARNATION, source.incarnation.data,
		source.incarnation.len);
	if (row->payload.data != NULL && row->format == 'j')
		ADD(headers, HEADER_CONTENT_TYPE, "application/json", 16);
	else if (row->payload.data != NULL)
		ADD(headers, HEADER_CONTENT_TYPE, "application/octet-stream", 24);
	if (row->traceparent.data != NULL)
	{
		ADD(headers, HEADER_TRACEPARENT, row->traceparent.data,
			row->traceparent.len);
		ADD(headers, HEADER_CE_TRACEPARENT, row->traceparent.data,
			row->traceparent.len);
	}
}

rd_kafka_headers_t *
record_headers(const EventRow *row, unsigned profile, EventSource source)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(17);
	char				id[EVENT_UUID_LEN];
	char				created[EVENT_TIME_LEN];

	Assert(row->id.len == 16);
	if (row->format != 'r')
	{
		event_uuid_text(id, row->id.data);
		event_time_text(created, row->created_us);
		if (profile & HEADERS_CLOUDEVENTS)
			record_add_cloudevents(headers, row, source, id, created);
		if (profile & HEADERS_PLAIN)
		{
			ADD(headers, HEADER_PLAIN_ID, id, EVENT_UUID_LEN);
			ADD(headers, HEADER_PLAIN_TYPE, row->type.data, row->type.len);
			ADD(headers, HEADER_PLAIN_TIME, created, EVENT_TIME_LEN);
		}
		if (profile & HEADERS_DEBEZIUM)
		{
			ADD(headers, HEADER_DEBEZIUM_ID, id, EVENT_UUID_LEN);
			ADD(headers, HEADER_DEBEZIUM_TYPE, row->type.data, row->type.len);
		}
	}
	if (!headers_unpack(row->headers, headers))
	{
		rd_kafka_headers_destroy(headers);
		return NULL;
	}
	return headers;
}

/* ---- packed ------------------------------------------------------------ */

bool
headers_unpack(Slice packed, rd_kafka_headers_t *headers)
{
	const char *at = packed.data;
	size_t		left = packed.data != NULL ? packed.len : 0;

	while (left > 0)
	{
		size_t		name_len;
		const char *name;
		int32_t		len;

		if (left < 2)
			return false;
		name_len = read_u16(at);
		name = at + 2;
		if (left < 2 + name_len + 4)
			return false;
		at += 2 + name_len;
		left -= 2 + name_len;
		len = (int32_t) read_u32(at);
		at += 4;
		left -= 4;
		if (len < -1 || (len > 0 && (size_t) len > left))
			return false;
		record_add_header(headers, name, name_len, len < 0 ? NULL : at,
						  len < 0 ? 0 : (size_t) len);
		if (len > 0)
		{
			at += len;
			left -= (size_t) len;
		}
	}
	Assert(packed.data == NULL || at == packed.data + packed.len);
	return true;
}

bool
headers_pack(const rd_kafka_headers_t *headers, Buf *packed)
{
	const char *name;
	const void *value;
	size_t		len;
	bool		complete = true;

	for (size_t i = 0;
		 rd_kafka_header_get_all(headers, i, &name, &value, &len) ==
		 RD_KAFKA_RESP_ERR_NO_ERROR;
		 i++)
	{
		size_t name_len = strlen(name);

		if (name_len > UINT16_MAX || len > INT32_MAX)
		{
			complete = false;
			continue;
		}
		buf_add_u16(packed, (uint16_t) name_len);
		buf_add(packed, name, name_len);
		buf_add_u32(packed, value != NULL ? (uint32_t) len : UINT32_MAX);
		if (value != NULL)
			buf_add(packed, value, len);
	}
	return complete;
}

/* ---- consumed ---------------------------------------------------------- */

static Slice
record_slice(const void *data, size_t len)
{
	return (Slice){data, data != NULL ? len : 0};
}

bool
record_read(const rd_kafka_message_t *message, Buf *headers, ApiMessage *to)
{
	rd_kafka_headers_t		 *list;
	rd_kafka_timestamp_type_t type;
	const char				 *topic = rd_kafka_topic_name(message->rkt);
	bool					  complete;

	Assert(message->err == RD_KAFKA_RESP_ERR_NO_ERROR && message->offset >= 0);
	buf_clear(headers);
	*to = (ApiMessage){
		.topic = {topic, strlen(topic)},
		.partition = message->partition,
		.offset = message->offset,
		.timestamp_ms = rd_kafka_message_timestamp(message, &type),
		.key = record_slice(message->key, message->key_len),
		.value = record_slice(message->payload, message->len),
	};
	if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE)
		to->timestamp_ms = -1;
	if (rd_kafka_message_headers(message, &list) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return true;
	complete = headers_pack(list, headers);
	to->headers = (Slice){buf_str(headers), headers->len};
	return complete;
}
