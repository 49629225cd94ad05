/*
 * dead_letter.c - the headers of a dead letter, and of one that is sent back
 *
 * A message that is sent back keeps the headers __dlq.event.*, which are its
 * identity, and loses those that describe its failure: if it fails again, it
 * gets new ones.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/dead_letter.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "extension/protocol/dead_letter.h"

#define DIGITS_MAX 24

/* The value of a header as text, borrowed; NULL: there is none. */
static const char *
dead_letter_text(const rd_kafka_headers_t *headers, const char *name)
{
	const void *value;
	size_t		len;

	if (rd_kafka_header_get_last(headers, name, &value, &len) !=
			RD_KAFKA_RESP_ERR_NO_ERROR ||
		value == NULL || len == 0)
		return NULL;
	/* librdkafka ends each value with a byte of its own */
	return memchr(value, '\0', len) == NULL ? value : NULL;
}

static int64_t
dead_letter_redrives(const rd_kafka_headers_t *headers)
{
	const void *value;
	size_t		len;
	const char *text = dead_letter_text(headers, HEADER_REDRIVES);
	int64_t		count;

	if (rd_kafka_header_get_last(headers, HEADER_REDRIVES, &value, &len) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		return 0;
	return text != NULL && parse_number(text, &count) && count >= 0 ? count
																	: -1;
}

void
dead_letter_read(const rd_kafka_headers_t *headers, DeadLetter *letter)
{
	const char *text;
	int64_t		partition;

	*letter = (DeadLetter){.partition = -1, .error = ""};
	if (headers == NULL)
		return;
	letter->topic = dead_letter_text(headers, HEADER_ERROR_TOPIC);
	text = dead_letter_text(headers, HEADER_ERROR_PARTITION);
	if (text != NULL && parse_number(text, &partition) && partition >= 0 &&
		partition <= INT32_MAX)
		letter->partition = (int32_t) partition;
	text = dead_letter_text(headers, HEADER_ERROR_MESSAGE);
	if (text != NULL)
		letter->error = text;
	letter->redrives = dead_letter_redrives(headers);
	letter->is_incomplete = dead_letter_text(headers,
											 HEADER_ERROR_INCOMPLETE) != NULL;
}

rd_kafka_headers_t *
dead_letter_headers(const rd_kafka_headers_t *headers, int64_t redrives)
{
	rd_kafka_headers_t *kept = rd_kafka_headers_new(8);
	char				digits[DIGITS_MAX];
	const char		   *name;
	const void		   *value;
	size_t				len;

	Assert(redrives > 0);
	for (size_t i = 0;
		 rd_kafka_header_get_all(headers, i, &name, &value, &len) ==
		 RD_KAFKA_RESP_ERR_NO_ERROR;
		 i++)
	{
		if (header_is_error(name) || strcmp(name, HEADER_REDRIVES) == 0)
			continue;
		if (rd_kafka_header_add(kept, name, -1, value, (ssize_t) len) !=
			RD_KAFKA_RESP_ERR_NO_ERROR)
			Assert(!"a list that is not read only");
	}
	snprintf(digits, sizeof(digits), "%" PRId64, redrives);
	if (rd_kafka_header_add(kept, HEADER_REDRIVES, -1, digits, -1) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		Assert(!"a list that is not read only");
	return kept;
}
