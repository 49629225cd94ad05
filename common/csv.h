/*
 * csv.h - comma-separated values that are safe to open as a spreadsheet
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_CSV_H
#define PGSTOCK_COMMON_CSV_H

#include "common/util.h"

/*
 * A further cell of a line.  A spreadsheet takes a cell that begins with one of
 * = + - @ tab CR for a formula, and any client that may write to a topic can
 * begin a text so: such a cell gets an apostrophe before it.  NULL: an empty
 * cell.
 */
void csv_add_cell(Buf *line, const char *text);

void csv_end_line(Buf *line);

#endif
