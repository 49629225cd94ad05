/*
 * server.h - HTTP for an API: requests with a body, answered now or later
 *
 * Connections are kept alive.  A request is announced by its head, run when all
 * of it has arrived, and answered by http_answer() from the handler or, later,
 * from anywhere in the loop.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_SERVER_H
#define PGSTOCK_GATEWAY_SERVER_H

#include <sys/types.h>

#include "common/loop.h"
#include "http/tls.h"

/*
 * Of the clients that are connected, not all may have a request that waits: a
 * further one's is answered at once (http_request_may_wait), and a client that
 * waits for nothing can give up its place to it.
 */
#define SERVER_CONNECTIONS_MAX	   4096
#define SERVER_WAITING_MAX		   3584
#define SERVER_ADDRESS_WAITING_MAX 2688	   /* those of one address */
#define HTTP_BODY_MAX			   1048576 /* bytes; a longer one: status 413 */
#define HTTP_HEADERS_MAX		   8 /* of an answer, besides Content-Type */

struct MHD_Connection;

typedef struct HttpHeader
{
	const char *name; /* a literal */
	char	   *value;
} HttpHeader;

typedef struct HttpRequest
{
	const char *method;
	const char *path; /* as it was sent: not decoded */
	Buf			body;
	int64_t		began_at; /* its first line had arrived */
	int64_t		answered_at;
	void	   *context;  /* the handler's own */
	bool		bodiless; /* by the handler: its body is not kept */
	/* the answer */
	unsigned	status; /* 0: not yet */
	const char *type;	/* a literal */
	Buf			answer;
	size_t		unread; /* bytes of it, until all were sent */
	HttpHeader	headers[HTTP_HEADERS_MAX];
	int			header_count;
	/* of server.c only */
	struct Server		  *server;
	struct MHD_Connection *connection;
	bool				   last; /* by its head: the connection ends with it */
	bool				   running;	  /* all of it has arrived */
	bool				   suspended; /* waits for its answer */
} HttpRequest;

typedef struct HttpHandlers
{
	/* The head has arrived: may answer, or want no body: it is not kept. */
	void (*head)(void *arg, HttpRequest *request);
	/* All of it has arrived: answers now or later. */
	void (*run)(void *arg, HttpRequest *request);
	/* It was answered, or the client has gone: the last call. */
	void (*over)(void *arg, HttpRequest *request);
} HttpHandlers;

typedef struct Server Server;

/*
 * fd: of listener.h, closed by server_free().  tls: NULL, or what connections
 * are encrypted by.  NULL, and a sentence in *error, for lack of memory or
 * files.
 */
Server *server_new(Loop *loop, int fd, Tls *tls, const HttpHandlers *handlers,
				   void *arg, Buf *error) MUST_CHECK;

bool server_has_tls(const Server *server);
/* For connections that are opened from now on; of a server that has TLS. */
void server_set_tls(Server *server, Tls *tls);

/* Sends what was answered since; once in each turn of the loop. */
void server_turn(Server *server);

/*
 * Connections that wait to be accepted are the last ones, and each ends with
 * its answer.
 */
void server_drain(Server *server);
bool server_is_drained(const Server *server);
void server_free(Server *server); /* NULL is fine */

/* Open connections, for metrics. */
unsigned server_connections(const Server *server);

/* NULL if the request has no such header. */
const char *http_request_header(const HttpRequest *request, const char *name);
/*
 * What the client calls the request, by X-Request-Id; NULL: nothing, or nothing
 * that is fit for a log.
 */
const char *http_request_id(const HttpRequest *request);
/* Of the query, not decoded; NULL if there is none. */
const char *http_request_query(const HttpRequest *request, const char *name);

/*
 * Calls for each parameter of the query, until that returns false: neither is
 * decoded; value: NULL if the name has no "=" behind it.
 */
typedef bool (*HttpQueryVisit)(void *arg, const char *name, const char *value);
void http_request_visit_query(const HttpRequest *request, HttpQueryVisit visit,
							  void *arg);

/*
 * Whom the certificate of the client is for (tls.h), until the connection ends;
 * NULL: it is not encrypted.
 */
char *const *http_request_names(const HttpRequest *request);
/* False if the client is not on this machine, by a Unix socket; its user. */
bool http_request_peer(const HttpRequest *request, uid_t *user) MUST_CHECK;

/*
 * Whether the client has closed its connection while it waited: known without
 * TLS, and where it has sent nothing more.
 */
bool http_request_is_gone(const HttpRequest *request);

/*
 * Whether it may wait for its answer: not too many do, of its address and of
 * all.
 */
bool http_request_may_wait(const HttpRequest *request) MUST_CHECK;

/* The body is not needed any more: it counts against what all may have. */
void http_request_free_body(HttpRequest *request);

/* type: a literal.  Takes the body's memory; may be called once. */
void http_answer(HttpRequest *request, unsigned status, const char *type,
				 Buf *body);
/* Before http_answer().  Copies the value. */
void http_answer_header(HttpRequest *request, const char *name,
						const char *value);

#endif
