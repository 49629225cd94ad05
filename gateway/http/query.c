/*
 * query.c - the headers and the query of a request
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <microhttpd.h>
#include <string.h>

#include "http/server.h"

#define REQUEST_ID_MAX 128
#define REQUEST_ID_LEGAL                           \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQR" \
	"STUVWXYZ0123456789._:@=+/-"

typedef struct QueryVisitor
{
	HttpQueryVisit visit;
	void		  *arg;
} QueryVisitor;

const char *
http_request_header(const HttpRequest *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND,
									   name);
}

const char *
http_request_id(const HttpRequest *request)
{
	const char *id = http_request_header(request, "X-Request-Id");
	size_t		len = id != NULL ? strlen(id) : 0;

	return len > 0 && len <= REQUEST_ID_MAX &&
				   strspn(id, REQUEST_ID_LEGAL) == len
			   ? id
			   : NULL;
}

const char *
http_request_query(const HttpRequest *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection,
									   MHD_GET_ARGUMENT_KIND, name);
}

static enum MHD_Result
query_on_parameter(void *arg, enum MHD_ValueKind kind UNUSED, const char *name,
				   const char *value)
{
	const QueryVisitor *visitor = arg;

	return visitor->visit(visitor->arg, name, value) ? MHD_YES : MHD_NO;
}

void
http_request_visit_query(const HttpRequest *request, HttpQueryVisit visit,
						 void *arg)
{
	QueryVisitor visitor = {.visit = visit, .arg = arg};

	(void) MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND,
									 query_on_parameter, &visitor);
}
