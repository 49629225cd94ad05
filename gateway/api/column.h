/*
 * column.h - a value of a row as JSON
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_COLUMN_H
#define PGSTOCK_GATEWAY_COLUMN_H

#include <libpq-fe.h>

#include "common/util.h"

/*
 * Appends the value as JSON has its type: a number, true, an object, a string;
 * a time as RFC 3339 has it.
 */
void column_add_json(Buf *json, const PGresult *result, int row, int column);

/* The same as text: nothing for null. */
void column_add_text(Buf *text, const PGresult *result, int row, int column);

/*
 * A time that PostgreSQL printed under DateStyle ISO and TimeZone UTC.  False,
 * and nothing is appended, if it is infinite.
 */
bool column_add_time(Buf *text, const char *value);

#endif
