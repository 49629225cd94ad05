/*
 * list.h - rows of any columns as an answer: JSON, or CSV for a spreadsheet
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_LIST_H
#define PGSTOCK_GATEWAY_LIST_H

#include <libpq-fe.h>

#include "api/request.h"

/*
 * Answers with a page.  The last column is no part of it: it is what "after"
 * has in the request for the rows that follow.  The statement returns one row
 * more than the page has, if there is one.
 */
void list_answer(const ApiRequest *request, const PGresult *result);

#endif
