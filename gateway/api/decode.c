/*
 * decode.c - parts of a URL: decoded, and checked to be text
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/decode.h"

#include <stdlib.h>
#include <string.h>

#include "common/safe_text.h"

/* RFC 3986: what is never encoded */
#define UNRESERVED                                         \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" \
	"0123456789-._~"

bool
decode_is_text(const char *bytes, size_t len)
{
	while (len > 0)
	{
		int32_t code;
		size_t	size = safe_decode(bytes, len, &code);

		if (code <= 0)
			return false;
		bytes += size;
		len -= size;
	}
	return true;
}

/* -1: not a hexadecimal digit */
static int
decode_digit(char digit)
{
	static const char digits[] = "0123456789abcdefABCDEF";
	const char		 *found = digit != '\0' ? strchr(digits, digit) : NULL;

	if (found == NULL)
		return -1;
	return (int) (found - digits) - (found - digits > 15 ? 6 : 0);
}

/* The byte that "%hh" stands for; -1 if that is not what is here. */
static int
decode_escape(const char *at, size_t left)
{
	int high = left >= 3 ? decode_digit(at[1]) : -1;
	int low = high >= 0 ? decode_digit(at[2]) : -1;

	return low >= 0 ? high * 16 + low : -1;
}

static char *
decode(const char *encoded, size_t len, bool plus)
{
	char  *decoded = xmalloc(len + 1);
	size_t n = 0;
	bool   good = true;

	for (size_t i = 0; i < len && good; i++)
	{
		int byte = (unsigned char) encoded[i];

		if (byte == '+' && plus)
			byte = ' ';
		else if (byte == '%')
		{
			byte = decode_escape(encoded + i, len - i);
			good = byte >= 0;
			i += 2;
		}
		decoded[n++] = (char) byte;
	}
	Assert(n <= len); /* what is decoded is not longer */
	decoded[n] = '\0';
	if (good && decode_is_text(decoded, n))
		return decoded;
	free(decoded);
	return NULL;
}

char *
decode_segment(const char *encoded, size_t len)
{
	return decode(encoded, len, false);
}

char *
decode_query(const char *encoded)
{
	return decode(encoded, strlen(encoded), true);
}

void
decode_add_encoded(Buf *encoded, const char *text)
{
	for (; *text != '\0'; text++)
		if (strchr(UNRESERVED, *text) != NULL)
			buf_add(encoded, text, 1);
		else
			buf_printf(encoded, "%%%02X", (unsigned) (unsigned char) *text);
}
