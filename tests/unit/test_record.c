/*
 * test_record.c - headers of a record, packed headers
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "kafka/record.h"

static const EventSource source = {{"/pgstock/shop", 13}, {"1f0a", 4}};

static EventRow
sample_row(void)
{
	return (EventRow){
		.seq = 42,
		.id = {"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd"
			   "\xef",
			   16},
		.topic = {"stock-events", 12},
		.key = {"order-1", 7},
		.type = {"StockReserved", 13},
		.payload = {"{}", 2},
		.created_us = INT64_C(1769863496123456),
		.format = 'j',
	};
}

/* Name and value each; NULL at the end. */
typedef const char *const Headers[][2];

/* Exactly these, in this order. */
static void
expect_headers(const EventRow *row, unsigned profile, Headers expected)
{
	rd_kafka_headers_t *headers = record_headers(row, profile, source);
	const char		   *name;
	const void		   *value;
	size_t				len;
	size_t				count = 0;

	assert_non_null(headers);
	for (; expected[count][0] != NULL; count++)
	{
		assert_int_equal(rd_kafka_header_get_all(headers, count, &name, &value,
												 &len),
						 RD_KAFKA_RESP_ERR_NO_ERROR);
		assert_string_equal(name, expected[count][0]);
		assert_int_equal(len, strlen(expected[count][1]));
		assert_memory_equal(value, expected[count][1], len);
	}
	assert_int_equal(rd_kafka_header_cnt(headers), count);
	rd_kafka_headers_destroy(headers);
}

#define ID		"01234567-89ab-cdef-0123-456789abcdef"
#define CREATED "2026-01-31T12:44:56.123456Z"

static void
an_event_has_the_headers_of_the_contract(void **state UNUSED)
{
	EventRow row = sample_row();

	expect_headers(&row, HEADERS_CLOUDEVENTS | HEADERS_PLAIN,
				   (Headers){
					   {"ce_specversion", "1.0"},
					   {"ce_id", ID},
					   {"ce_source", "/pgstock/shop"},
					   {"ce_type", "StockReserved"},
					   {"ce_time", CREATED},
					   {"ce_subject", "order-1"},
					   {"ce_sequence", "00000000000000000042"},
					   {"ce_incarnation", "1f0a"},
					   {"content-type", "application/json"},
					   {"event_id", ID},
					   {"event_type", "StockReserved"},
					   {"timestamp", CREATED},
					   {NULL, NULL},
				   });
	expect_headers(&row, HEADERS_DEBEZIUM,
				   (Headers){
					   {"id", ID},
					   {"eventType", "StockReserved"},
					   {NULL, NULL},
				   });
	expect_headers(&row, HEADERS_PLAIN,
				   (Headers){
					   {"event_id", ID},
					   {"event_type", "StockReserved"},
					   {"timestamp", CREATED},
					   {NULL, NULL},
				   });
}

static void
an_event_of_bytes_with_a_trace_and_without_a_key(void **state UNUSED)
{
	EventRow row = sample_row();

	row.format = 'b';
	row.key = (Slice){NULL, 0};
	row.traceparent = (Slice){"00-1-2-01", 9};
	expect_headers(&row, HEADERS_CLOUDEVENTS,
				   (Headers){
					   {"ce_specversion", "1.0"},
					   {"ce_id", ID},
					   {"ce_source", "/pgstock/shop"},
					   {"ce_type", "StockReserved"},
					   {"ce_time", CREATED},
					   {"ce_sequence", "00000000000000000042"},
					   {"ce_incarnation", "1f0a"},
					   {"content-type", "application/octet-stream"},
					   {"traceparent", "00-1-2-01"},
					   {"ce_traceparent", "00-1-2-01"},
					   {NULL, NULL},
				   });
}

static void
a_tombstone_has_no_content_type(void **state UNUSED)
{
	EventRow row = sample_row();

	row.payload = (Slice){NULL, 0};
	expect_headers(&row, HEADERS_CLOUDEVENTS,
				   (Headers){
					   {"ce_specversion", "1.0"},
					   {"ce_id", ID},
					   {"ce_source", "/pgstock/shop"},
					   {"ce_type", "StockReserved"},
					   {"ce_time", CREATED},
					   {"ce_subject", "order-1"},
					   {"ce_sequence", "00000000000000000042"},
					   {"ce_incarnation", "1f0a"},
					   {NULL, NULL},
				   });
}

static void
the_application_s_headers_follow_and_are_all_that_a_raw_row_has(
	void **state UNUSED)
{
	EventRow row = sample_row();
	Buf		 packed = {0};

	buf_add_u16(&packed, 1);
	buf_add_str(&packed, "h");
	buf_add_u32(&packed, 2);
	buf_add_str(&packed, "v1");
	buf_add_u16(&packed, 5);
	buf_add_str(&packed, "ce_id");
	buf_add_u32(&packed, 0);
	row.headers = (Slice){packed.data, packed.len};
	expect_headers(&row, HEADERS_DEBEZIUM,
				   (Headers){
					   {"id", ID},
					   {"eventType", "StockReserved"},
					   {"h", "v1"},
					   {"ce_id", ""},
					   {NULL, NULL},
				   });
	row.format = 'r';
	expect_headers(&row, HEADERS_CLOUDEVENTS | HEADERS_PLAIN,
				   (Headers){
					   {"h", "v1"},
					   {"ce_id", ""},
					   {NULL, NULL},
				   });
	row.headers = (Slice){NULL, 0};
	expect_headers(&row, HEADERS_CLOUDEVENTS | HEADERS_PLAIN,
				   (Headers){
					   {NULL, NULL},
				   });
	buf_free(&packed);
}

static void
packed_headers_survive_the_round_trip(void **state UNUSED)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(4);
	rd_kafka_headers_t *again = rd_kafka_headers_new(4);
	Buf					packed = {0};
	const char		   *name;
	const void		   *value;
	size_t				len;

	rd_kafka_header_add(headers, "a", 1, "x", 1);
	rd_kafka_header_add(headers, "a", 1, NULL, 0);
	rd_kafka_header_add(headers, "", 0, "", 0);
	rd_kafka_header_add(headers, "bytes", 5, "\0\xff\n", 3);
	assert_true(headers_pack(headers, &packed));
	assert_true(headers_unpack((Slice){packed.data, packed.len}, again));
	assert_int_equal(rd_kafka_header_cnt(again), 4);
	assert_int_equal(rd_kafka_header_get_all(again, 1, &name, &value, &len), 0);
	assert_null(value);
	assert_int_equal(rd_kafka_header_get_all(again, 3, &name, &value, &len), 0);
	assert_string_equal(name, "bytes");
	assert_int_equal(len, 3);
	assert_memory_equal(value, "\0\xff\n", 3);
	rd_kafka_headers_destroy(headers);
	rd_kafka_headers_destroy(again);
	buf_free(&packed);
}

/* The id may stand beside a header that cannot be packed. */
static void
long_names_are_left_out(void **state UNUSED)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(2);
	rd_kafka_headers_t *again = rd_kafka_headers_new(2);
	Buf					packed = {0};
	size_t				len = UINT16_MAX + 1;
	char			   *name = memset(malloc(len), 'n', len);

	rd_kafka_header_add(headers, name, (ssize_t) len, "x", 1);
	rd_kafka_header_add(headers, "ce_id", 5, "1", 1);
	assert_false(headers_pack(headers, &packed));
	assert_true(headers_unpack((Slice){packed.data, packed.len}, again));
	assert_int_equal(rd_kafka_header_cnt(again), 1);
	buf_clear(&packed);
	rd_kafka_headers_destroy(headers);
	headers = rd_kafka_headers_new(1);
	rd_kafka_header_add(headers, name, (ssize_t) len - 1, "x", 1);
	assert_true(headers_pack(headers, &packed));
	rd_kafka_headers_destroy(headers);
	rd_kafka_headers_destroy(again);
	buf_free(&packed);
	free(name);
}

/*
 * Sound headers that are cut short anywhere are refused; the memory is exactly
 * as long as stated, so that a sanitizer finds a read beyond it.
 */
static void
damaged_headers_are_refused(void **state UNUSED)
{
	static const char sound[] = "\0\1h\0\0\0\2xy";
	const size_t	  len = sizeof(sound) - 1;
	EventRow		  row = sample_row();

	for (size_t cut = 1; cut < len; cut++)
	{
		char			   *part = xmalloc(cut);
		rd_kafka_headers_t *headers = rd_kafka_headers_new(1);

		memcpy(part, sound, cut);
		assert_false(headers_unpack((Slice){part, cut}, headers));
		row.headers = (Slice){part, cut};
		assert_null(record_headers(&row, HEADERS_PLAIN, source));
		rd_kafka_headers_destroy(headers);
		free(part);
	}
	row.headers = (Slice){"\0\1h\xff\xff\xff\xfe", 7};
	assert_null(record_headers(&row, HEADERS_PLAIN, source));
}

static void
times_and_numbers_have_fixed_width(void **state UNUSED)
{
	char text[EVENT_TIME_LEN + 1] = {0};
	char seq[EVENT_SEQ_LEN + 1] = {0};

	event_time_text(text, 0);
	assert_string_equal(text, "1970-01-01T00:00:00.000000Z");
	event_time_text(text, -1);
	assert_string_equal(text, "1969-12-31T23:59:59.999999Z");
	event_time_text(text, INT64_C(951782400000001));
	assert_string_equal(text, "2000-02-29T00:00:00.000001Z");
	event_seq_text(seq, INT64_MAX);
	assert_string_equal(seq, "09223372036854775807");
	event_seq_text(seq, 0);
	assert_string_equal(seq, "00000000000000000000");
}

static void
an_order_s_end_is_known_by_its_event(void **state UNUSED)
{
	EventRow row = sample_row();

	assert_int_equal(event_end(&row), -1);
	row.type = (Slice){"StockExpired", 12};
	assert_int_equal(event_end(&row), -1);
	row.ends = 'e';
	assert_string_equal(event_end_text(event_end(&row)), "expired");
	row.type = (Slice){"com.shop.gone", 13};
	assert_string_equal(event_end_text(event_end(&row)), "expired");
	row.ends = 'b';
	assert_string_equal(event_end_text(event_end(&row)), "rolled_back");
	row.ends = 's';
	assert_string_equal(event_end_text(event_end(&row)), "shortfall");
	row.ends = '?';
	assert_int_equal(event_end(&row), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_event_has_the_headers_of_the_contract),
		cmocka_unit_test(an_event_of_bytes_with_a_trace_and_without_a_key),
		cmocka_unit_test(a_tombstone_has_no_content_type),
		cmocka_unit_test(
			the_application_s_headers_follow_and_are_all_that_a_raw_row_has),
		cmocka_unit_test(packed_headers_survive_the_round_trip),
		cmocka_unit_test(long_names_are_left_out),
		cmocka_unit_test(damaged_headers_are_refused),
		cmocka_unit_test(times_and_numbers_have_fixed_width),
		cmocka_unit_test(an_order_s_end_is_known_by_its_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
