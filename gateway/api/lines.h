/*
 * lines.h - rows of stock_result as an answer
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_LINES_H
#define PGSTOCK_GATEWAY_LINES_H

#include <libpq-fe.h>

#include "api/request.h"

/*
 * The columns, in the order in which the statements of route_table.c name
 * them.
 */
enum
{
	LINE_ORDER_ID,
	LINE_PRODUCT_ID,
	LINE_LOCATION,
	LINE_REQUESTED,
	LINE_GRANTED,
	LINE_STATUS,
	LINE_AVAILABLE,
	LINE_EXPIRES_AT,
	LINE_VERSION,
	LINE_REPLAYED,
	LINE_COLUMNS,
};

/* A row of them: texts as PostgreSQL prints them, NULL: null. */
typedef struct Line
{
	const char *value[LINE_COLUMNS];
} Line;

/*
 * Answers with the rows from first to end - 1: the lines of one order, in
 * full; or the problem that the first line has which is refused.
 */
void lines_answer(ApiRequest *request, const PGresult *result, int first,
				  int end);

/* Answers that the only line was refused, with its status. */
void line_refuse(ApiRequest *request, const Line *line);

#endif
