/*-------------------------------------------------------------------------
 *
 * base/utf8.c
 *	  Between Kafka's UTF-8 and the database's encoding.
 *
 * What leaves is converted and may raise an error: its writer is there to read
 * it.  What enters must not: a character that the database cannot hold makes a
 * message poison, not a batch fail.  Neither must a text for people, such as an
 * error's message, which repeats bytes of its data: what of it is no text is
 * replaced.
 *
 * Every encoding that a server may have holds ASCII as it is.  So ASCII needs
 * no conversion: MULE_INTERNAL has none, and looking one up costs more than
 * reading most texts.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"

#include "base/base.h"
#include "base/utf8.h"

/* Of one character. */
#define MAX_UTF8_BYTES 4

StaticAssertDecl(MAX_UTF8_BYTES <= MAX_MULTIBYTE_CHAR_LEN,
				 "the server has room for a character of UTF-8");

static bool
utf8_is_ascii(const char *string, int length)
{
	Assert(length >= 0);
	for (int i = 0; i < length; i++)
	{
		if (IS_HIGHBIT_SET(string[i]))
			return false;
	}
	return true;
}

/* Converts without raising an error; NULL if that cannot be done. */
static char *
utf8_convert(const char *string, int length, int from, int to)
{
	Oid	  conversion = FindDefaultConversionProc(from, to);
	Size  size = (Size) length * MAX_CONVERSION_GROWTH + 1;
	char *converted;

	Assert(from != to && (from == PG_UTF8 || to == PG_UTF8));
	Assert(from != PG_SQL_ASCII && to != PG_SQL_ASCII);
	/* A value may have any size, and its text four times that. */
	if (!OidIsValid(conversion) || size > INT_MAX)
		return NULL;
	converted = palloc_extended(size, MCXT_ALLOC_HUGE);
	if (pg_do_encoding_conversion_buf(conversion, from, to,
									  (unsigned char *) string, length,
									  (unsigned char *) converted, (int) size,
									  true) != length)
		return NULL;
	return converted;
}

/*
 * The text in the server's encoding, or NULL if it does not fit into it.  Some
 * conversions make one character of two (a yen sign becomes a backslash in
 * EUC_JP, which would end a JSON string elsewhere, and two ids would be one):
 * a text that does not convert back to itself does not fit either.
 */
char *
text_from_utf8(const char *utf8, int length)
{
	int	  encoding = GetDatabaseEncoding();
	char *converted;
	char *back;

	if (memchr(utf8, 0, length) != NULL)
		return NULL;
	if (utf8_is_ascii(utf8, length))
		return pnstrdup(utf8, length);
	if (!pg_verify_mbstr(PG_UTF8, utf8, length, true))
		return NULL;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return pnstrdup(utf8, length);
	converted = utf8_convert(utf8, length, PG_UTF8, encoding);
	if (converted == NULL)
		return NULL;
	back = utf8_convert(converted, strlen(converted), encoding, PG_UTF8);
	return back != NULL && strcmp(back, pnstrdup(utf8, length)) == 0 ? converted
																	 : NULL;
}

/* The server's text as UTF-8; sets its length. */
char *
text_to_utf8(const char *string, int length, int *utf8_length)
{
	char *utf8;

	*utf8_length = length;
	if (utf8_is_ascii(string, length))
		return (char *) string;
	utf8 = pg_server_to_any((char *) string, length, PG_UTF8);
	if (utf8 != string)
		*utf8_length = strlen(utf8);
	Assert(pg_verify_mbstr(PG_UTF8, utf8, *utf8_length, true));
	return utf8;
}

/* Whether text_to_utf8 takes it: in SQL_ASCII a text may be any bytes. */
bool
text_is_convertible(const char *string)
{
	int encoding = GetDatabaseEncoding();
	int length = strlen(string);

	if (utf8_is_ascii(string, length))
		return true;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return pg_verify_mbstr(PG_UTF8, string, length, true);
	return pg_verify_mbstr(encoding, string, length, true) &&
		   utf8_convert(string, length, encoding, PG_UTF8) != NULL;
}

/*
 * A JSON text in ASCII, as any encoding holds it: a character is another way to
 * write its code.  The text is valid, so all that is not ASCII is in strings.
 */
char *
json_as_ascii(const char *utf8, int length)
{
	const unsigned char *at = (const unsigned char *) utf8;
	const unsigned char *end = at + length;
	StringInfoData		 json;

	initStringInfo(&json);
	while (at < end)
	{
		pg_wchar code = utf8_to_unicode(at);

		Assert(pg_utf_mblen(at) <= end - at);
		if (code < 0x80)
			appendStringInfoChar(&json, (char) code);
		else if (code < 0x10000)
			appendStringInfo(&json, "\\u%04x", code);
		else
			appendStringInfo(&json, "\\u%04x\\u%04x",
							 0xd800 + ((code - 0x10000) >> 10),
							 0xdc00 + ((code - 0x10000) & 0x3ff));
		at += pg_utf_mblen(at);
	}
	Assert(utf8_is_ascii(json.data, json.len));
	return json.data;
}

/*
 * Whether the server converts from UTF-8 at all: into SQL_ASCII, which is any
 * bytes, and into MULE_INTERNAL it does not, and its JSON parser then takes no
 * escape of a character that is not ASCII.
 */
bool
encoding_has_conversion(void)
{
	int encoding = GetDatabaseEncoding();

	return encoding == PG_UTF8 ||
		   OidIsValid(FindDefaultConversionProc(PG_UTF8, encoding));
}

/* The code of the four digits of an escape. */
static pg_wchar
utf8_escaped_code(const char *digits)
{
	Assert(strspn(digits, "0123456789abcdefABCDEF") >= 4);
	return (pg_wchar) strtoul(pnstrdup(digits, 4), NULL, 16);
}

/*
 * A JSON text with its characters that are not ASCII written out.  The text is
 * valid: an escape is whole, and of a surrogate both halves are there.
 */
char *
json_without_escapes(const char *utf8, int length)
{
	const char	  *end = utf8 + length;
	StringInfoData json;

	initStringInfo(&json);
	for (const char *at = utf8; at < end;)
	{
		pg_wchar	  code = 0;
		int			  size = *at == '\\' ? 2 : 1;
		unsigned char character[MAX_UTF8_BYTES + 1] = {0};

		if (size == 2 && at[1] == 'u')
		{
			size = 6;
			code = utf8_escaped_code(at + 2);
			if (is_utf16_surrogate_first(code))
			{
				pg_wchar half = utf8_escaped_code(at + 8);

				Assert(is_utf16_surrogate_second(half));
				code = surrogate_pair_to_codepoint(code, half);
				size = 12;
			}
		}
		if (code < 0x80)
			appendBinaryStringInfo(&json, at, size);
		else
			appendStringInfoString(&json,
								   (char *) unicode_to_utf8(code, character));
		Assert(size <= end - at);
		at += size;
	}
	return json.data;
}

/* A text without what is not ASCII, where that cannot be had. */
char *
text_as_ascii(const char *string)
{
	char *ascii = pstrdup(string);

	for (char *at = ascii; *at != '\0'; at++)
	{
		if (IS_HIGHBIT_SET(*at))
			*at = '?';
	}
	return ascii;
}

/*
 * A text for people, which can leave whatever it was: without its bytes that
 * are no text, and cut where it is too long, with a mark at the cut.
 */
char *
text_printable(const char *string)
{
	int	  length = strlen(string);
	char *plain = text_is_convertible(string) ? pstrdup(string)
											  : text_as_ascii(string);

	Assert(strlen(plain) == (size_t) length);
	if (length <= STOCK_TEXT_BYTES_MAX)
		return plain;
	return psprintf("%.*s ... (cut: it has %d bytes)",
					pg_mbcliplen(plain, length, STOCK_TEXT_BYTES_MAX), plain,
					length);
}
