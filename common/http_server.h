/*
 * http_server.h - a few pages over HTTP, served by the loop
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_HTTP_SERVER_H
#define PGSTOCK_COMMON_HTTP_SERVER_H

#include "common/loop.h"

#define HTTP_LATER 0 /* as status: ask again after http_wake(), or 2 s */

typedef struct HttpAnswer
{
	unsigned	status;
	const char *type;	  /* Content-Type */
	Buf			body;	  /* freed by http_server.c */
	bool		may_wait; /* the status may be HTTP_LATER */
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

/* Asks again for all answers that were to come later; NULL is fine. */
void http_wake(Http *http);

void http_free(Http *http);

#endif
