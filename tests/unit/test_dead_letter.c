/*
 * test_dead_letter.c - headers of dead letters, and of those sent back
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "kafka/dead_letter.h"

typedef struct Sample
{
	const char *name; /* NULL: the end */
	const char *value;
	ssize_t		len; /* -1: of the text */
} Sample;

static rd_kafka_headers_t *
headers_of(const Sample *samples)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(8);

	for (; samples->name != NULL; samples++)
		assert_int_equal(rd_kafka_header_add(headers, samples->name, -1,
											 samples->value, samples->len),
						 RD_KAFKA_RESP_ERR_NO_ERROR);
	return headers;
}

/* Reads a letter, whose texts are compared while the headers are there. */
static void
expect_letter(const Sample *samples, const char *topic, int32_t partition,
			  int64_t redrives)
{
	rd_kafka_headers_t *headers = headers_of(samples);
	DeadLetter			letter;

	dead_letter_read(headers, &letter);
	if (topic == NULL)
		assert_null(letter.topic);
	else
		assert_string_equal(letter.topic, topic);
	assert_int_equal(letter.partition, partition);
	assert_int_equal(letter.redrives, redrives);
	assert_false(letter.is_incomplete);
	rd_kafka_headers_destroy(headers);
}

#define TOPIC                              \
	{                                      \
		"__dlq.errors.topic", "orders", -1 \
	}
#define PARTITION(p)                    \
	{                                   \
		"__dlq.errors.partition", p, -1 \
	}
#define COUNT(n)                     \
	{                                \
		"__dlq.redrive.count", n, -1 \
	}
#define END           \
	{                 \
		NULL, NULL, 0 \
	}

static void
a_letter_names_its_source(void **state UNUSED)
{
	DeadLetter none;

	dead_letter_read(NULL, &none);
	assert_null(none.topic);
	assert_string_equal(none.error, "");
	expect_letter((Sample[]){END}, NULL, -1, 0);
	expect_letter((Sample[]){TOPIC, END}, "orders", -1, 0);
	expect_letter((Sample[]){TOPIC, PARTITION("2"), COUNT("3"), END}, "orders",
				  2, 3);
	/* the latest one counts */
	expect_letter((Sample[]){{"__dlq.errors.topic", "old", -1}, TOPIC, END},
				  "orders", -1, 0);
}

static void
damaged_headers_are_no_values(void **state UNUSED)
{
	expect_letter((Sample[]){{"__dlq.errors.topic", NULL, 0}, END}, NULL, -1,
				  0);
	expect_letter((Sample[]){{"__dlq.errors.topic", "", 0}, END}, NULL, -1, 0);
	expect_letter((Sample[]){{"__dlq.errors.topic", "a\0b", 3}, END}, NULL, -1,
				  0);
	expect_letter((Sample[]){TOPIC, PARTITION("-1"), END}, "orders", -1, 0);
	expect_letter((Sample[]){TOPIC, PARTITION("2147483648"), END}, "orders", -1,
				  0);
	expect_letter((Sample[]){TOPIC, PARTITION("x"), END}, "orders", -1, 0);
	/* a count that cannot be read may be any */
	expect_letter((Sample[]){TOPIC, COUNT("many"), END}, "orders", -1, -1);
	expect_letter((Sample[]){TOPIC, COUNT("-1"), END}, "orders", -1, -1);
	expect_letter((Sample[]){TOPIC, COUNT(""), END}, "orders", -1, -1);
	expect_letter((Sample[]){TOPIC, {"__dlq.redrive.count", NULL, 0}, END},
				  "orders", -1, -1);
}

static void
a_message_gets_its_own_headers_back(void **state UNUSED)
{
	static const Sample sent[] = {
		{"a", "1", -1},
		{"a", "2", -1},
		{"null", NULL, 0},
		{"empty", "", 0},
		{"__dlq.event.id", "e-1", -1},
		/* another program's, which begin as ours do */
		{"__dlq.errors.exception", "Timeout", -1},
		{"__dlq.errors.topic.name", "t", -1},
		{"__dlq.redrive.count", "3", -1},
		END,
	};
	rd_kafka_headers_t *letter = headers_of(
		(Sample[]){sent[0], TOPIC, sent[1], sent[2], COUNT("2"), sent[3],
				   PARTITION("1"), sent[4], sent[5], sent[6], END});
	rd_kafka_headers_t *back = dead_letter_headers(letter, 3);
	const char		   *name;
	const void		   *value;
	size_t				len;

	assert_int_equal(rd_kafka_header_cnt(back), 8);
	for (size_t i = 0; sent[i].name != NULL; i++)
	{
		assert_int_equal(rd_kafka_header_get_all(back, i, &name, &value, &len),
						 RD_KAFKA_RESP_ERR_NO_ERROR);
		assert_string_equal(name, sent[i].name);
		if (sent[i].value == NULL)
		{
			assert_null(value);
			continue;
		}
		assert_non_null(value);
		assert_string_equal(value, sent[i].value);
		assert_int_equal(len, strlen(sent[i].value));
	}
	rd_kafka_headers_destroy(back);
	rd_kafka_headers_destroy(letter);
}

static void
a_letter_may_lack_its_message(void **state UNUSED)
{
	rd_kafka_headers_t *headers = headers_of(
		(Sample[]){TOPIC,
				   {"__dlq.errors.message", "too large", -1},
				   {"__dlq.errors.incomplete", "true", -1},
				   END});
	DeadLetter letter;

	dead_letter_read(headers, &letter);
	assert_true(letter.is_incomplete);
	assert_string_equal(letter.error, "too large");
	rd_kafka_headers_destroy(headers);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_letter_names_its_source),
		cmocka_unit_test(damaged_headers_are_no_values),
		cmocka_unit_test(a_message_gets_its_own_headers_back),
		cmocka_unit_test(a_letter_may_lack_its_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
