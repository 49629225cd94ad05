/*
 * column.c - a value of a row as JSON
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/column.h"

#include <string.h>

#include "common/json.h"

/* PostgreSQL's types: their oids never change. */
enum
{
	TYPE_BOOL = 16,
	TYPE_INT8 = 20,
	TYPE_INT4 = 23,
	TYPE_JSON = 114,
	TYPE_TIMESTAMPTZ = 1184,
	TYPE_JSONB = 3802,
};

bool
column_add_time(Buf *text, const char *value)
{
	size_t date = strcspn(value, " ");
	size_t time = strcspn(value + date, "+");

	if (value[date] == '\0' || value[date + time] == '\0')
		return false;
	Assert(time >= 1); /* the blank */
	buf_add(text, value, date);
	buf_add_str(text, "T");
	buf_add(text, value + date + 1, time - 1);
	buf_add_str(text, "Z");
	return true;
}

void
column_add_text(Buf *text, const PGresult *result, int row, int column)
{
	const char *value = PQgetvalue(result, row, column);

	Assert(row < PQntuples(result) && column < PQnfields(result));
	if (PQgetisnull(result, row, column))
		return;
	switch (PQftype(result, column))
	{
		case TYPE_BOOL:
			buf_add_str(text, value[0] == 't' ? "true" : "false");
			break;
		case TYPE_TIMESTAMPTZ:
			(void) column_add_time(text, value);
			break;
		default:
			buf_add_str(text, value);
			break;
	}
}

void
column_add_json(Buf *json, const PGresult *result, int row, int column)
{
	Buf	 text = {0};
	bool bare = false; /* JSON as it is */

	column_add_text(&text, result, row, column);
	switch (PQftype(result, column))
	{
		case TYPE_BOOL:
		case TYPE_INT8:
		case TYPE_INT4:
		case TYPE_JSON:
		case TYPE_JSONB:
			bare = true;
			break;
		case TYPE_TIMESTAMPTZ:
			bare = text.len == 0;
			break;
		default:
			break;
	}
	if (PQgetisnull(result, row, column) || (bare && text.len == 0))
		buf_add_str(json, "null");
	else if (bare)
		buf_add(json, text.data, text.len);
	else
		json_add_string(json, buf_str(&text));
	buf_free(&text);
}
