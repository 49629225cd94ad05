/*
 * csv.c - comma-separated values that are safe to open as a spreadsheet
 *
 * RFC 4180.  Every cell is quoted, so that neither a blank nor a semicolon nor
 * a line end changes where it stops.
 *
 * A spreadsheet runs a cell that begins like a formula, and where the reader's
 * language separates by semicolons (or a tab is chosen) it takes a part of a
 * cell of ours for a whole one: all after the first quoted cell of a line is
 * then plain text up to the next ';', tab or line end.  So a formula's first
 * character gets an apostrophe at all of these places, quotes and blanks before
 * it or not.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/csv.h"

#include <string.h>

/* With = + - @, also with the wide ones of East Asia. */
static bool
csv_begins_formula(const char *text)
{
	static const char *const marks[] = {
		"=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20",
	};

	text += strspn(text, " \"");
	for (size_t i = 0; i < Lengthof(marks); i++)
		if (strncmp(text, marks[i], strlen(marks[i])) == 0)
			return true;
	return false;
}

/* Every cell is quoted, so a line of cells ends with a quote. */
static bool
csv_is_closed(const Buf *line)
{
	return line->len > 1 && line->data[line->len - 1] == '"';
}

void
csv_add_cell(Buf *line, const char *text)
{
	bool begins = true; /* a cell, for some reader */

	Assert(line->len == 0 || csv_is_closed(line));
	if (line->len > 0)
		buf_add_str(line, ",");
	buf_add_str(line, "\"");
	for (const char *c = text; c != NULL && c[0] != '\0'; c++)
	{
		bool separates = strchr(";\t\r\n|", c[0]) != NULL;

		if (begins && (csv_begins_formula(c) ||
					   (c == text && strchr("\t\r\n", c[0]) != NULL)))
			buf_add_str(line, "'");
		buf_add_str(line, c[0] == '"' ? "\"" : "");
		buf_add(line, c, 1);
		begins = separates;
	}
	buf_add_str(line, "\"");
}

void
csv_end_line(Buf *line)
{
	Assert(csv_is_closed(line));
	buf_add_str(line, "\r\n");
}
