/*-------------------------------------------------------------------------
 *
 * encoding.c
 *	  Between Kafka's UTF-8 and the database's encoding.
 *
 * What leaves is converted and may raise an error: its writer is there to read
 * it.  What enters must not: a character that the database cannot hold makes a
 * message poison, not a batch fail.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"

#include "pgstock.h"

/* The text in the server's encoding, or NULL if it does not fit into it. */
char *
text_from_utf8(const char *utf8, int length)
{
	int	  encoding = GetDatabaseEncoding();
	Oid	  conversion;
	int	  size = length * MAX_CONVERSION_GROWTH + 1;
	char *converted;

	if (memchr(utf8, 0, length) != NULL ||
		!pg_verify_mbstr(PG_UTF8, utf8, length, true))
		return NULL;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return pnstrdup(utf8, length);
	conversion = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(conversion))
		return NULL;
	converted = palloc(size);
	if (pg_do_encoding_conversion_buf(conversion, PG_UTF8, encoding,
									  (unsigned char *) utf8, length,
									  (unsigned char *) converted, size,
									  true) != length)
		return NULL;
	return converted;
}

/* The server's text as UTF-8; sets its length. */
char *
text_to_utf8(const char *string, int length, int *utf8_length)
{
	char *utf8 = pg_server_to_any((char *) string, length, PG_UTF8);

	*utf8_length = utf8 == string ? length : (int) strlen(utf8);
	return utf8;
}
