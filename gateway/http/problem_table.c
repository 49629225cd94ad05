/*
 * problem_table.c - every kind of error, and how its body begins
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "http/problem_table.h"

#include "common/json.h"

const Problem problems[PROBLEMS] = {
	[PROBLEM_INVALID] = {400, "invalid", "The request is not valid", "22023",
						 "Correct what \"detail\" names."},
	[PROBLEM_UNAUTHENTICATED] =
		{401, "unauthenticated", "A valid access token is needed", NULL,
		 "Send the header Authorization: Bearer TOKEN."},
	[PROBLEM_FORBIDDEN] = {403, "forbidden", "The token's role may not do this",
						   "42501", "Use a token of another role."},
	[PROBLEM_NO_ROUTE] = {404, "no-route", "There is no such resource", NULL,
						  "GET /openapi.json lists the resources."},
	[PROBLEM_METHOD] = {405, "method", "The resource has no such method", NULL,
						"The header Allow lists its methods."},
	[PROBLEM_TOO_LONG] = {413, "too-long", "The body is too long", NULL,
						  "Send fewer items in one request."},
	[PROBLEM_HEADERS_TOO_LONG] = {431, "too-long", "The headers are too long",
								  NULL, "Send fewer or shorter headers."},
	[PROBLEM_INSUFFICIENT] = {409, "insufficient", "There is not enough stock",
							  "SK001",
							  "Request fewer pieces, or try again after more "
							  "stock has been received."},
	[PROBLEM_UNKNOWN_PRODUCT] = {404, "unknown-product",
								 "There is no such product", "SK002",
								 "Check its id and location, or add it by "
								 "receiving stock."},
	[PROBLEM_USER_LIMIT] = {409, "user-limit",
							"The user has reached the sale's limit", "SK003",
							NULL},
	[PROBLEM_UNKNOWN_ORDER] = {404, "unknown-order", "There is no such order",
							   "SK004", "Check the id of the order."},
	[PROBLEM_UNKNOWN_EVENT] = {404, "unknown-event", "There is no such event",
							   NULL,
							   "Its transaction has not committed, or its "
							   "retention has ended."},
	[PROBLEM_UNKNOWN_MESSAGE] =
		{404, "unknown-message", "There is no such failed message", "P0002",
		 "GET /failed lists the failed messages and their states."},
	[PROBLEM_WRONG_STATE] = {409, "wrong-state",
							 "The order's state does not allow this", "SK005",
							 "GET /orders/{order_id} shows its state."},
	[PROBLEM_EXPIRED] = {409, "expired", "The reservation has expired", "SK006",
						 "Reserve again."},
	[PROBLEM_KEY_REUSED] = {422, "key-reused",
							"The key belongs to another request", "SK007",
							"Repeat the same request, or use a new key; "
							"without a key, the id of the order is one."},
	[PROBLEM_SALE_NOT_OPEN] = {409, "sale-not-open", "The sale is not open",
							   "SK008", NULL},
	[PROBLEM_SHORTFALL] = {409, "shortfall",
						   "The order expired, and its stock was sold", NULL,
						   "Refund the payment."},
	[PROBLEM_STALE_VERSION] = {412, "stale-version",
							   "The stock has changed since", "SK011",
							   "Read it again, and repeat with its new ETag."},
	[PROBLEM_RATE] = {429, "rate", "Too many requests", NULL,
					  "Repeat the request after Retry-After."},
	[PROBLEM_OVERLOADED] = {503, "overloaded", "Too many requests are waiting",
							NULL, "Repeat the request after Retry-After."},
	[PROBLEM_DATABASE_AWAY] = {503, "database-away",
							   "The database cannot be reached", NULL,
							   "Repeat the request after Retry-After."},
	[PROBLEM_OUTCOME_UNKNOWN] =
		{503, "outcome-unknown",
		 "The connection to the database broke before its answer", NULL,
		 "Repeat the same request with the same order_id and key: what took "
		 "effect is then answered, and not done again."},
	[PROBLEM_CONFLICT] = {503, "conflict",
						  "The request met another one, and took no effect",
						  "40001", "Repeat the request after Retry-After."},
	[PROBLEM_TIMEOUT] = {503, "timeout",
						 "The database took too long, and did nothing", "57014",
						 "Ask for less, or repeat the request after "
						 "Retry-After."},
	[PROBLEM_INTERNAL] = {500, "internal", "The gateway or database failed",
						  "XX000",
						  "The gateway's log has the reason, with the "
						  "request's X-Request-Id."},
};

void
problem_begin(Buf *body, ProblemId id, const char *detail)
{
	const Problem *problem = &problems[id];

	Assert(id < PROBLEMS && problem->status >= 400 && body->len == 0);
	buf_printf(body,
			   "{\"type\":\"urn:pgstock:problem:%s\",\"title\":\"%s\","
			   "\"status\":%u",
			   problem->name, problem->title, problem->status);
	problem_add_text(body, "detail", detail);
}

void
problem_add_text(Buf *body, const char *name, const char *value)
{
	Assert(body->len > 0); /* it was begun */
	if (value == NULL)
		return;
	buf_add_str(body, ",");
	json_add_name(body, name);
	json_add_string(body, value);
}

void
problem_end(Buf *body)
{
	buf_add_str(body, "}\n");
}
