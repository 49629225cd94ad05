/*
 * json.c - text as JSON
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/json.h"

#include <string.h>

#include "common/safe_text.h"

void
json_add_name(Buf *json, const char *name)
{
	buf_add_str(json, "\"");
	buf_add_str(json, name);
	buf_add_str(json, "\":");
}

/* How many bytes stand for themselves, up to one that may not. */
static size_t
json_plain_bytes(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && text[n] >= ' ' && text[n] <= '~' && text[n] != '"' &&
		   text[n] != '\\')
		n++;
	return n;
}

void
json_add_string(Buf *json, const char *text)
{
	size_t len = strlen(text);

	buf_add_str(json, "\"");
	for (;;)
	{
		size_t	plain = json_plain_bytes(text, len);
		int32_t code;
		size_t	size;

		buf_add(json, text, plain);
		text += plain;
		len -= plain;
		if (len == 0)
			break;
		size = safe_decode(text, len, &code);
		Assert(size >= 1 && size <= len);
		if (code == '"' || code == '\\')
			buf_printf(json, "\\%c", (char) code);
		else if (code < 0)
			buf_add_str(json, "\\ufffd");
		else if (safe_is_plain(code))
			buf_add(json, text, size);
		else if (code < 0x10000)
			buf_printf(json, "\\u%04x", (unsigned) code);
		else
			buf_printf(json, "\\u%04x\\u%04x",
					   0xd800 | (unsigned) (code - 0x10000) >> 10,
					   0xdc00 | ((unsigned) (code - 0x10000) & 0x3ff));
		text += size;
		len -= size;
	}
	buf_add_str(json, "\"");
}
