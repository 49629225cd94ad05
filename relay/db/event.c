/*
 * event.c - an event of the outbox, as a row of relay_page() has it
 *
 * This runs once for each event: no formatted printing, no allocation, and the
 * date is computed once a second.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "db/event.h"

#include <string.h>
#include <time.h>

#include "extension/protocol/line_state.h"

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

/* The relay's headers repeat key, type and topic, and add some of their own. */
int64_t
event_bytes(const EventRow *row)
{
	return 1024 + 2 * ((int64_t) row->key.len + (int64_t) row->type.len) +
		   (int64_t) row->payload.len + (int64_t) row->headers.len +
		   (int64_t) row->topic.len;
}

_Static_assert(EVENT_ENDS == LINE_STATES - 1, "all but that of a live line");

int
event_end(const EventRow *row)
{
	const char *ends = line_state_letters + 1; /* after that of a live line */
	const char *letter = row->ends ? strchr(ends, row->ends) : NULL;

	Assert(line_state_letters[0] == LINE_RESERVED);
	return letter ? (int) (letter - ends) : -1;
}

const char *
event_end_text(int end)
{
	Assert(end >= 0 && end < EVENT_ENDS);
	return line_state_texts[1 + end];
}

/* The number right-aligned in exactly len digits, zeros before it. */
static void
event_put_digits(char *to, int len, uint64_t number)
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
	Assert(fraction >= 0 && fraction < SEC_US);
	if (second != cached_second)
	{
		time_t	  moment = (time_t) second;
		struct tm utc;

		gmtime_r(&moment, &utc);
		event_put_digits(cached, 4, (uint64_t) Max(utc.tm_year + 1900, 0));
		cached[4] = cached[7] = '-';
		event_put_digits(cached + 5, 2, (uint64_t) utc.tm_mon + 1);
		event_put_digits(cached + 8, 2, (uint64_t) utc.tm_mday);
		cached[10] = 'T';
		event_put_digits(cached + 11, 2, (uint64_t) utc.tm_hour);
		cached[13] = cached[16] = ':';
		event_put_digits(cached + 14, 2, (uint64_t) utc.tm_min);
		event_put_digits(cached + 17, 2, (uint64_t) utc.tm_sec);
		cached[19] = '.';
		cached_second = second;
	}
	memcpy(to, cached, 20);
	event_put_digits(to + 20, 6, (uint64_t) fraction);
	to[26] = 'Z';
}

void
event_seq_text(char *to, int64_t seq)
{
	Assert(seq >= 0);
	event_put_digits(to, EVENT_SEQ_LEN, (uint64_t) seq);
}
