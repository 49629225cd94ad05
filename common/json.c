/*
 * json.c - text as JSON
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/json.h"

#include <string.h>

#include "common/safe_text.h"

void
json_add_string(Buf *json, const char *text)
{
	size_t len = strlen(text);

	buf_add_str(json, "\"");
	while (len > 0)
	{
		int32_t code;
		size_t	size = safe_decode(text, len, &code);

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
