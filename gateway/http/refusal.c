/*
 * refusal.c - what the server refuses without its handler
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "http/refusal.h"

#include <microhttpd.h>
#include <string.h>
#include <strings.h>

#include "http/body_length.h"

#define HEADERS_BYTES_MAX 8192 /* less than libmicrohttpd has room for */

const Refusal refusal_body_too_long = {PROBLEM_TOO_LONG, NULL, NULL};
const Refusal refusal_bodies_too_long =
	{PROBLEM_OVERLOADED, "the bodies of all requests are too long", NULL};

static const Refusal refusal_head_too_long = {PROBLEM_HEADERS_TOO_LONG, NULL,
											  NULL};
static const Refusal refusal_ambiguous =
	{PROBLEM_INVALID, "the headers give the length of the body twice",
	 "Send Content-Length or Transfer-Encoding, once."};
static const Refusal refusal_repeated =
	{PROBLEM_INVALID,
	 "Host, Authorization, Idempotency-Key or If-Match is there twice",
	 "Send each header once."};
static const Refusal refusal_chunks = {PROBLEM_INVALID,
									   "Transfer-Encoding needs HTTP/1.1",
									   "Send Content-Length."};

/* Which of two is meant would depend on who reads them. */
static const char *const single_headers[] = {"Host", "Authorization",
											 "Idempotency-Key", "If-Match"};

static enum MHD_Result
refusal_on_header(void *arg, enum MHD_ValueKind kind UNUSED, const char *name,
				  const char *value UNUSED)
{
	int *seen = arg;

	for (size_t i = 0; i < Lengthof(single_headers); i++)
		if (strcasecmp(name, single_headers[i]) == 0 && ++seen[i] > 1)
			return MHD_NO;
	return MHD_YES;
}

static bool
refusal_is_repeated(struct MHD_Connection *connection)
{
	int seen[Lengthof(single_headers)] = {0};

	(void) MHD_get_connection_values(connection, MHD_HEADER_KIND,
									 refusal_on_header, seen);
	for (size_t i = 0; i < Lengthof(seen); i++)
		if (seen[i] > 1)
			return true;
	return false;
}

const Refusal *
refusal_of_head(struct MHD_Connection *connection, const char *version)
{
	const union MHD_ConnectionInfo *
		head = MHD_get_connection_info(connection,
									   MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

	Assert(head != NULL);
	if (head->header_size > HEADERS_BYTES_MAX)
		return &refusal_head_too_long;
	if (body_length_is_ambiguous(connection))
		return &refusal_ambiguous;
	if (refusal_is_repeated(connection))
		return &refusal_repeated;
	if (body_length_is_chunked(connection) && strcmp(version, "HTTP/1.1") != 0)
		return &refusal_chunks;
	return NULL;
}

void
refusal_write(const Refusal *refusal, Buf *body)
{
	const Problem *problem = &problems[refusal->problem];

	Assert(refusal->problem < PROBLEMS && body->len == 0);
	problem_begin(body, refusal->problem, refusal->detail);
	problem_add_text(body, "sqlstate", problem->sqlstate);
	problem_add_text(body, "hint",
					 refusal->hint != NULL ? refusal->hint : problem->hint);
	problem_end(body);
}
