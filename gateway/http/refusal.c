/*
 * refusal.c - what the server refuses without its handler
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "http/refusal.h"

#include <microhttpd.h>
#include <string.h>

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
static const Refusal refusal_chunks = {PROBLEM_INVALID,
									   "Transfer-Encoding needs HTTP/1.1",
									   "Send Content-Length."};

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
	if (body_length_is_chunked(connection) && strcmp(version, "HTTP/1.1") != 0)
		return &refusal_chunks;
	return NULL;
}

void
refusal_write(const Refusal *refusal, Buf *body)
{
	const Problem *problem = &problems[refusal->problem];

	problem_begin(body, refusal->problem, refusal->detail);
	problem_add_text(body, "sqlstate", problem->sqlstate);
	problem_add_text(body, "hint",
					 refusal->hint != NULL ? refusal->hint : problem->hint);
	problem_end(body);
}
