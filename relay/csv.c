/*
 * csv.c - comma-separated values that are safe to open as a spreadsheet
 *
 * RFC 4180.  Every cell is quoted, so that neither a blank nor a semicolon nor
 * a line end changes where it stops.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "csv.h"

#include <string.h>

void
csv_add_cell(Buf *line, const char *text)
{
	if (line->len > 0)
		buf_add_str(line, ",");
	buf_add_str(line, "\"");
	if (text != NULL && text[0] != '\0' &&
		strchr("=+-@\t\r\n", text[0]) != NULL)
		buf_add_str(line, "'");
	for (; text != NULL && text[0] != '\0';)
	{
		size_t len = strcspn(text, "\"");

		buf_add(line, text, len);
		text += len;
		if (text[0] == '"')
		{
			buf_add_str(line, "\"\"");
			text++;
		}
	}
	buf_add_str(line, "\"");
}

void
csv_end_line(Buf *line)
{
	buf_add_str(line, "\r\n");
}
