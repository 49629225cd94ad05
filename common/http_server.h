/*
 * http_server.h - a few pages over HTTP, served by the loop
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_HTTP_SERVER_H
#define PGSTOCK_COMMON_HTTP_SERVER_H

#include "common/loop.h"

/* As a status: the handler is called again, after http_server_wake() or 2 s. */
#define HTTP_SERVER_LATER 0

typedef struct HttpServerResponse
{
	unsigned	status;
	const char *type;	  /* Content-Type */
	Buf			body;	  /* freed by http_server.c */
	bool		may_wait; /* the status may be HTTP_SERVER_LATER */
} HttpServerResponse;

/* Fills the answer for a path; one that is not touched is 404. */
typedef void (*HttpServerHandler)(void *arg, const char *path,
								  HttpServerResponse *answer);

typedef struct HttpServer HttpServer;

/*
 * listen: as in listener.h.  NULL if it cannot listen there: the reason is in
 * *error and in errno (EINVAL: that is no address).
 */
HttpServer *http_server_new(Loop *loop, const char *listen,
							HttpServerHandler handler, void *arg,
							Buf *error) MUST_CHECK;

/* Calls the handler again for all requests that wait; NULL is fine. */
void http_server_wake(HttpServer *server);

void http_server_free(HttpServer *server);

#endif
