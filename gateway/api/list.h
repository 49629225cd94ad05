/*
 * list.h - rows of any columns as an answer: JSON, or CSV for a spreadsheet
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_LIST_H
#define PGSTOCK_GATEWAY_LIST_H

#include <libpq-fe.h>

#include "api/form.h"
#include "api/request.h"

/*
 * The field of the rows of a page, and what a statement has of its parameter:
 * the rows, and where its last sentence has no other LIMIT, one more.
 */
#define LIST_LIMIT                                               \
	{                                                            \
		"limit", IN_QUERY, FIELD_LIMIT, false,                   \
			"rows of the answer; default: " STRING_OF(FORM_ROWS) \
	}
#define LIST_PAGE(parameter) \
	"coalesce(" parameter "::int, " STRING_OF(FORM_ROWS) ")"
#define LIST_ROWS(parameter) " LIMIT " LIST_PAGE(parameter) " + 1"

/*
 * Answers with a page.  The last column is no part of it: it is what "after"
 * has in the request for the rows that follow.  The statement returns one row
 * more than the page has, if there is one.
 */
void list_answer(const ApiRequest *request, const PGresult *result);

#endif
