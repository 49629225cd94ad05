/*
 * http_client.h - one HTTP POST at a time, by libcurl on the loop
 *
 * Nothing in it blocks: names are looked up in a thread of libcurl's, and a
 * request that takes longer than HTTP_CLIENT_US_MAX has failed.  There are no
 * redirects, no proxy and no connection that outlives its request, so that the
 * address which is judged is the one that is talked to.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_HTTP_CLIENT_H
#define PGSTOCK_COMMON_HTTP_CLIENT_H

#include <sys/socket.h>

#include "common/loop.h"

#define HTTP_CLIENT_US_MAX	 (5 * SEC_US)
#define HTTP_CLIENT_BODY_MAX 4096 /* bytes that are kept of an answer's body */

typedef struct HttpClientRequest
{
	const char		  *url;		/* in no message of ours */
	const char		  *agent;	/* User-Agent */
	const char		  *ca;		/* file of certificates; "": the system's */
	bool			   plain;	/* http will do */
	const char *const *headers; /* NULL at its end */
	const Buf		  *body;
} HttpClientRequest;

typedef struct HttpClientResponse
{
	int			status;	 /* of HTTP; 0: no response, see error */
	const char *body;	 /* its beginning */
	const char *error;	 /* a phrase that names neither host nor path; NULL: an
						 * answer came */
	bool		refused; /* no address was allowed */
} HttpClientResponse;

typedef struct HttpClient HttpClient;
typedef bool (*HttpClientAllows)(void *arg, const struct sockaddr *address);
typedef void (*HttpClientHandler)(void *arg, const HttpClientResponse *answer);

HttpClient *http_client_new(Loop *loop, HttpClientAllows allows,
							HttpClientHandler handler, void *arg);
void		http_client_free(HttpClient *client); /* NULL is fine */

/*
 * The end is one call of the handler, never before this returns.  The request
 * need not outlive the call.
 */
void http_client_send(HttpClient *client, const HttpClientRequest *request);
void http_client_cancel(HttpClient *client); /* the handler is not called */

#endif
