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

const Refusal refusal_body_too_long = {413, "too-long", "The body is too long",
									   "Send fewer items in one request."};
const Refusal refusal_bodies_too_long =
	{503, "overloaded", "The bodies of all requests are too long",
	 "Repeat the request after Retry-After."};

static const Refusal refusal_head_too_long = {431, "too-long",
											  "The headers are too long",
											  "Send fewer or shorter headers."};
static const Refusal refusal_ambiguous =
	{400, "invalid", "The headers give the length of the body twice",
	 "Send Content-Length or Transfer-Encoding, once."};
static const Refusal refusal_chunks = {400, "invalid",
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
	buf_printf(body,
			   "{\"type\":\"urn:pgstock:problem:%s\",\"title\":\"%s\","
			   "\"status\":%u,\"hint\":\"%s\"}\n",
			   refusal->name, refusal->title, refusal->status, refusal->hint);
}
