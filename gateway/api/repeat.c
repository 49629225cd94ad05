/*
 * repeat.c - how a client repeats a request whose answer it did not get
 *
 * By its key, or its order, what sells takes effect once.  What changes stock
 * on hand, sales and failed messages has no key: a client that sent one, and
 * trusted it, would receive the same goods twice.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/repeat.h"

#include <stdlib.h>
#include <string.h>

#define KEY		"Idempotency-Key"
#define VERSION "If-Match"

static bool
repeat_has_field(const Route *route, const char *name)
{
	for (const Field *field = route->fields; field->name != NULL; field++)
		if (strcmp(field->name, name) == 0)
			return true;
	return false;
}

bool
repeat_is_read(const Route *route)
{
	return (route->roles & ROLES_READ) == ROLES_READ;
}

static void
repeat_refuse(const ApiRequest *request, const char *header, const char *hint)
{
	char *detail = xasprintf("the header \"%s\" has no effect on this request",
							 header);

	Assert(request->http->status == 0);
	problem_give_hint(request->http, PROBLEM_INVALID, detail, hint);
	free(detail);
}

bool
repeat_check_headers(const ApiRequest *request)
{
	const Route		  *route = request->route;
	const HttpRequest *http = request->http;

	if (http_request_header(http, VERSION) != NULL &&
		!repeat_has_field(route, VERSION))
		repeat_refuse(request, VERSION,
					  "Leave it out: only POST "
					  "/products/{product_id}/stock/set compares versions.");
	else if (http_request_header(http, KEY) != NULL && !repeat_is_read(route) &&
			 !repeat_has_field(route, KEY))
		repeat_refuse(request, KEY,
					  route->kind == ROUTE_TAKE
						  ? "Leave it out: the purchase's order_id is its key."
						  : "Leave it out; where no answer comes, read the "
							"stock, sale or message before you repeat the "
							"request.");
	return http->status == 0;
}

const char *
repeat_hint(const Route *route)
{
	if (repeat_is_read(route))
		return "Repeat the request: it changes nothing.";
	if (route->kind == ROUTE_TAKE || repeat_has_field(route, KEY))
		return problems[PROBLEM_OUTCOME_UNKNOWN].hint;
	return "Read the stock, sale or message before you repeat the request: it "
		   "may have taken effect, and would be done again.";
}
