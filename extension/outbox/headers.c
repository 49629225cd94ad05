/*-------------------------------------------------------------------------
 *
 * outbox/headers.c
 *	  Kafka headers as one bytea: names and values of any bytes, in order,
 *	  repeated names included.
 *
 * For each header a 16-bit length of the name, the name, a 32-bit length of
 * the value (-1: null), the value; network byte order.  The relay reads and
 * writes the same form (docs/relay-protocol.md).
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "libpq/pqformat.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "outbox/outbox.h"

PG_FUNCTION_INFO_V1(pgstock_headers_json);
PG_FUNCTION_INFO_V1(pgstock_bytes_text);

/* The headers, packed; NULL if there are none. */
bytea *
headers_pack(List *headers)
{
	StringInfoData buffer;
	ListCell	  *cell;

	if (headers == NIL)
		return NULL;
	pq_begintypsend(&buffer);
	foreach(cell, headers)
	{
		Header *header = lfirst(cell);

		Assert(header->name_len >= 0 && header->name_len <= PG_UINT16_MAX);
		Assert(header->value == NULL || header->value_len >= 0);
		pq_sendint16(&buffer, (uint16) header->name_len);
		pq_sendbytes(&buffer, header->name, header->name_len);
		pq_sendint32(&buffer, header->value ? header->value_len : -1);
		if (header->value != NULL)
			pq_sendbytes(&buffer, header->value, header->value_len);
	}
	return pq_endtypsend(&buffer);
}

/* The headers of a packed value; they point into it. */
List *
headers_unpack(bytea *packed)
{
	StringInfoData buffer;
	List		  *headers = NIL;

	if (packed == NULL)
		return NIL;
	buffer.data = VARDATA_ANY(packed);
	buffer.len = VARSIZE_ANY_EXHDR(packed);
	buffer.maxlen = buffer.len;
	buffer.cursor = 0;
	while (buffer.cursor < buffer.len)
	{
		Header *header = palloc0(sizeof(Header));

		/* pq_getmsg… raise "insufficient data" on a truncated value. */
		header->name_len = (uint16) pq_getmsgint(&buffer, 2);
		header->name = pq_getmsgbytes(&buffer, header->name_len);
		header->value_len = (int) pq_getmsgint(&buffer, 4);
		if (header->value_len >= 0)
			header->value = pq_getmsgbytes(&buffer, header->value_len);
		else
			header->value_len = 0;
		headers = lappend(headers, header);
	}
	Assert(buffer.cursor == buffer.len);
	return headers;
}

/* The first header of that name, or NULL. */
const Header *
headers_find(List *headers, const char *name)
{
	ListCell *cell;
	int		  length = strlen(name);

	foreach(cell, headers)
	{
		Header *header = lfirst(cell);

		if (header->name_len == length &&
			memcmp(header->name, name, length) == 0)
			return header;
	}
	return NULL;
}

/* The headers without those of that name. */
List *
headers_remove(List *headers, const char *name)
{
	const Header *header;

	while ((header = headers_find(headers, name)) != NULL)
		headers = list_delete_ptr(headers, unconstify(Header *, header));
	return headers;
}

/* The headers of a JSON object of strings. */
List *
headers_from_jsonb(Jsonb *object)
{
	JsonbIterator	  *it = JsonbIteratorInit(&object->root);
	JsonbValue		   key;
	JsonbValue		   value;
	JsonbIteratorToken token;
	List			  *headers = NIL;

	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("headers must be a JSON object")));
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		Header *header;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		Assert(key.type == jbvString);
		header = palloc0(sizeof(Header));
		header->name = text_to_utf8(key.val.string.val, key.val.string.len,
									&header->name_len);
		if (header->name_len < 1 || header->name_len > STOCK_ID_BYTES_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a header's name must have between 1 and %d bytes",
							STOCK_ID_BYTES_MAX)));
		if (value.type == jbvString)
		{
			header->value = text_to_utf8(value.val.string.val,
										 value.val.string.len,
										 &header->value_len);
		}
		else if (value.type != jbvNull)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("header \"%.*s\" is not a string",
								   header->name_len, header->name)));
		headers = lappend(headers, header);
	}
	return headers;
}

/* ---- For people ---- */

/* Bytes as text if they are text in the server's encoding, else as hex. */
char *
bytes_printable(const char *bytes, int length)
{
	char *string = text_from_utf8(bytes, length);
	char *hex;

	if (string != NULL)
		return string;
	hex = palloc(length * 2 + 3);
	hex[0] = '\\';
	hex[1] = 'x';
	hex_encode(bytes, length, hex + 2);
	hex[length * 2 + 2] = '\0';
	return hex;
}

/* bytes_text(bytea) RETURNS text */
Datum
pgstock_bytes_text(PG_FUNCTION_ARGS)
{
	bytea *bytes = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_TEXT_P(cstring_to_text(
		bytes_printable(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes))));
}

/* Packed headers, or NULL, as a JSON object. */
char *
headers_json(bytea *packed)
{
	List		  *headers = packed ? headers_unpack(packed) : NIL;
	StringInfoData json;
	ListCell	  *cell;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	foreach(cell, headers)
	{
		Header *header = lfirst(cell);

		if (foreach_current_index(cell) > 0)
			appendStringInfoChar(&json, ',');
		escape_json(&json, bytes_printable(header->name, header->name_len));
		appendStringInfoChar(&json, ':');
		if (header->value == NULL)
			appendStringInfoString(&json, "null");
		else
			escape_json(&json,
						bytes_printable(header->value, header->value_len));
	}
	appendStringInfoChar(&json, '}');
	return json.data;
}

/* headers_json(bytea) RETURNS jsonb */
Datum
pgstock_headers_json(PG_FUNCTION_ARGS)
{
	bytea *packed = PG_ARGISNULL(0) ? NULL : PG_GETARG_BYTEA_PP(0);

	return DirectFunctionCall1(jsonb_in, CStringGetDatum(headers_json(packed)));
}
