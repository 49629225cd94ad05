/*
 * request.h - a request to the API, and queues of them
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_REQUEST_H
#define PGSTOCK_GATEWAY_REQUEST_H

#include "api/problem.h"
#include "api/route.h"

#define REQUEST_WAIT_US (10 * SEC_US) /* in a queue, at most */

typedef struct ApiRequest
{
	HttpRequest		  *http;
	const Route		  *route;
	Values			   values;
	Role			   client_role;	 /* the token's */
	unsigned		   rights;		 /* the client's: a set of roles */
	char			  *actor;		 /* the token's name, or NULL */
	Role			   role;		 /* of the session that it runs in */
	const char		  *trace;		 /* header traceparent, or NULL */
	bool			   insufficient; /* it was refused for lack of stock */
	int64_t			   waits_since;	 /* for a session, or a look at its sale */
	int				   stale;		 /* sessions that it met so (db/pool.h) */
	uint64_t		   product;		 /* a cache of api/locked.c's */
	bool			   product_known;
	struct ApiRequest *next; /* in its queue */
} ApiRequest;

/* The value of a field; NULL: null, or its route has no such field. */
const char *request_value(const ApiRequest *request, const char *name);

/* First in, first out. */
typedef struct RequestQueue
{
	ApiRequest *first;
	ApiRequest *last;
	int			count;
} RequestQueue;

void		request_queue_add(RequestQueue *queue, ApiRequest *request);
ApiRequest *request_queue_take(RequestQueue *queue); /* NULL: it is empty */

/* To send it: those whose client has gone are answered, not returned. */
ApiRequest *request_queue_take_present(RequestQueue *queue);

/* In front of those that wait: they were taken before. */
void request_queue_put_back(RequestQueue *queue, RequestQueue *taken);
void request_queue_put_back_one(RequestQueue *queue, ApiRequest *request);

/* Answers all that wait with a problem. */
void request_queue_fail(RequestQueue *queue, ProblemId id, const char *detail);

/* The same to those that have waited for longer than REQUEST_WAIT_US. */
void request_queue_expire(RequestQueue *queue, int64_t now);

#endif
