/*
 * safe_text.c - text of foreign origin, made safe to print
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/safe_text.h"

#include <string.h>

/* RFC 3629: the shortest form, no surrogates, up to 0x10FFFF. */
size_t
safe_decode(const char *text, size_t len, int32_t *code)
{
	static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char		 first = (unsigned char) text[0];
	size_t				 size = first < 0x80			 ? 1
								: (first & 0xe0) == 0xc0 ? 2
								: (first & 0xf0) == 0xe0 ? 3
								: (first & 0xf8) == 0xf0 ? 4
														 : 0;

	Assert(len > 0);
	*code = -1;
	if (size == 0 || size > len)
		return 1;
	*code = size == 1 ? first : first & (0x7f >> size);
	for (size_t i = 1; i < size; i++)
	{
		unsigned char next = (unsigned char) text[i];

		if ((next & 0xc0) != 0x80)
		{
			*code = -1;
			return 1;
		}
		*code = *code << 6 | (next & 0x3f);
	}
	if (*code >= least[size] && *code <= 0x10ffff &&
		(*code < 0xd800 || *code > 0xdfff))
		return size;
	*code = -1;
	return 1;
}

/*
 * Not C0, DEL and C1; not the marks that turn the direction of writing, with
 * which "archived" may look like "waiting"; not Unicode's own line ends, nor
 * the byte order mark and the tags, which are invisible.
 */
bool
safe_is_plain(int32_t code)
{
	return code >= 0x20 && !(code >= 0x7f && code <= 0x9f) && code != 0x061c &&
		   code != 0x200e && code != 0x200f &&
		   !(code >= 0x2028 && code <= 0x202e) &&
		   !(code >= 0x2066 && code <= 0x2069) && code != 0xfeff &&
		   !(code >= 0xe0000 && code <= 0xe007f);
}

void
safe_add(Buf *to, const char *text, size_t len)
{
	while (len > 0)
	{
		int32_t code;
		size_t	size = safe_decode(text, len, &code);

		Assert(size > 0 && size <= len);
		if (safe_is_plain(code))
			buf_add(to, text, size);
		else if (code == '\n' || code == '\r' || code == '\t')
			buf_add_str(to, code == '\n'   ? "\\n"
							: code == '\r' ? "\\r"
										   : "\\t");
		else if (code < 0x80)
			buf_printf(to, "\\x%02x", (unsigned char) text[0]);
		else
			buf_printf(to, "\\u{%x}", (unsigned) code);
		text += size;
		len -= size;
	}
}

void
safe_vline(FILE *to, const char *label, const char *format, va_list args)
{
	Buf text = {0};
	Buf line = {0};

	buf_add_str(&text, label);
	buf_vline(&text, format, args);
	safe_add(&line, buf_str(&text), text.len);
	Assert(strchr(buf_str(&line), '\n') == NULL);
	fprintf(to, "%s\n", buf_str(&line));
	buf_free(&text);
	buf_free(&line);
}

void
safe_line(FILE *to, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	safe_vline(to, "", format, args);
	va_end(args);
}
