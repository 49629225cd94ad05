/*
 * http.h - a few pages over HTTP, served by the loop
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_HTTP_H
#define PGSTOCK_HTTP_H

#include "loop.h"

typedef struct HttpAnswer
{
	unsigned	status;
	const char *type; /* Content-Type */
	Buf			body; /* freed by http.c */
} HttpAnswer;

/* Fills the answer for a path; one that is not touched is 404. */
typedef void (*HttpHandler)(void *arg, const char *path, HttpAnswer *answer);

typedef struct Http Http;

/* listen: host:port or [host]:port, numeric; NULL and the reason in *error if
 * that address cannot be had. */
Http *http_new(Loop *loop, const char *listen, HttpHandler handler, void *arg,
			   Buf *error) MUST_CHECK;
/* Whether it is such an address. */
bool http_check_listen(const char *listen, Buf *error) MUST_CHECK;

void http_free(Http *http);

#endif
