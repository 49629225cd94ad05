/*
 * file.h - the files of the console
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_FILE_H
#define PGSTOCK_GATEWAY_FILE_H

#include "api/route.h"

/* Answers a ROUTE_FILE.  name: NULL for the page itself. */
void file_answer(HttpRequest *request, const Route *route, const char *name);

#endif
