/*
 * record.c - an outbox row as a Kafka record, and packed headers
 *
 * This runs once for each event: no formatted printing, no allocation beside
 * those of the list itself, and the date is worked out once a second.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/record.h"

#include <string.h>
#include <time.h>

void
event_uuid_text(char *to, const char *uuid)
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < 16; i++)
	{
		unsigned char byte = (unsigned char) uuid[i];

		if (i == 4 || i == 6 || i == 8 || i == 10)
			*to++ = '-';
		*to++ = digits[byte >> 4];
		*to++ = digits[byte & 15];
	}
}

const char *const event_ends[EVENT_ENDS] = {
	"confirmed", "released", "rolled_back", "returned", "expired", "shortfall",
};

int
event_end(const EventRow *row)
{
	static const char *const types[EVENT_ENDS] = {
		"StockConfirmed", "StockReleased", "StockRolledBack",
		"StockReturned",  "StockExpired",  "StockShortfall",
	};

	for (int i = 0; row->format == 'j' && i < EVENT_ENDS; i++)
		if (strlen(types[i]) == row->type.len &&
			memcmp(types[i], row->type.data, row->type.len) == 0)
			return i;
	return -1;
}

/* The number right-aligned in exactly len digits, zeros before it. */
static void
put_digits(char *to, int len, uint64_t number)
{
	for (int i = len - 1; i >= 0; i--)
	{
		to[i] = (char) ('0' + number % 10);
		number /= 10;
	}
}

void
event_time_text(char *to, int64_t us)
{
	static _Thread_local int64_t cached_second = INT64_MIN;
	static _Thread_local char	 cached[20];
	int64_t						 second = us / SEC_US;
	int64_t						 fraction = us % SEC_US;

	if (fraction < 0)
	{
		fraction += SEC_US;
		second--;
	}
	if (second != cached_second)
	{
		time_t	  moment = (time_t) second;
		struct tm utc;

		gmtime_r(&moment, &utc);
		put_digits(cached, 4, (uint64_t) Max(utc.tm_year + 1900, 0));
		cached[4] = cached[7] = '-';
		put_digits(cached + 5, 2, (uint64_t) utc.tm_mon + 1);
		put_digits(cached + 8, 2, (uint64_t) utc.tm_mday);
		cached[10] = 'T';
		put_digits(cached + 11, 2, (uint64_t) utc.tm_hour);
		cached[13] = cached[16] = ':';
		put_digits(cached + 14, 2, (uint64_t) utc.tm_min);
		put_digits(cached + 17, 2, (uint64_t) utc.tm_sec);
		cached[19] = '.';
		cached_second = second;
	}
	memcpy(to, cached, 20);
	put_digits(to + 20, 6, (uint64_t) fraction);
	to[26] = 'Z';
}

void
event_seq_text(char *to, int64_t seq)
{
	Assert(seq >= 0);
	put_digits(to, EVENT_SEQ_LEN, (uint64_t) seq);
}

/* ---- headers ----------------------------------------------------------- */

static void
add_header(rd_kafka_headers_t *headers, const char *name, size_t name_len,
		   const char *value, size_t len)
{
	rd_kafka_resp_err_t error;

	error = rd_kafka_header_add(headers, name, (ssize_t) name_len, value,
								(ssize_t) len);
	Assert(error == RD_KAFKA_RESP_ERR_NO_ERROR);
}

#define ADD(headers, name, value, len) \
	add_header(headers, name, sizeof(name) - 1, value, len)

static void
add_cloudevents(rd_kafka_headers_t *headers, const EventRow *row,
				EventSource source, const char *id, const char *created)
{
	char seq[EVENT_SEQ_LEN];

	event_seq_text(seq, row->seq);
	ADD(headers, "ce_specversion", "1.0", 3);
	ADD(headers, "ce_id", id, EVENT_UUID_LEN);
	ADD(headers, "ce_source", source.name.data, source.name.len);
	ADD(headers, "ce_type", row->type.data, row->type.len);
	ADD(headers, "ce_time", created, EVENT_TIME_LEN);
	if (row->key.data != NULL)
		ADD(headers, "ce_subject", row->key.data, row->key.len);
	ADD(headers, "ce_sequence", seq, EVENT_SEQ_LEN);
	ADD(headers, "ce_incarnation", source.incarnation.data,
		source.incarnation.len);
	if (row->payload.data != NULL && row->format == 'j')
		ADD(headers, "content-type", "application/json", 16);
	else if (row->payload.data != NULL)
		ADD(headers, "content-type", "application/octet-stream", 24);
	if (row->traceparent.data != NULL)
	{
		ADD(headers, "traceparent", row->traceparent.data,
			row->traceparent.len);
		ADD(headers, "ce_traceparent", row->traceparent.data,
			row->traceparent.len);
	}
}

rd_kafka_headers_t *
event_headers(const EventRow *row, unsigned profile, EventSource source)
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
			add_cloudevents(headers, row, source, id, created);
		if (profile & HEADERS_PLAIN)
		{
			ADD(headers, "event_id", id, EVENT_UUID_LEN);
			ADD(headers, "event_type", row->type.data, row->type.len);
			ADD(headers, "timestamp", created, EVENT_TIME_LEN);
		}
		if (profile & HEADERS_DEBEZIUM)
		{
			ADD(headers, "id", id, EVENT_UUID_LEN);
			ADD(headers, "eventType", row->type.data, row->type.len);
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
		add_header(headers, name, name_len, len < 0 ? NULL : at,
				   len < 0 ? 0 : (size_t) len);
		if (len > 0)
		{
			at += len;
			left -= (size_t) len;
		}
	}
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
