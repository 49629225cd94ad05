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

void
refusal_answer(HttpRequest *request, unsigned status, const char *name,
			   const char *title, const char *hint)
{
	Buf body = {0};

	buf_printf(&body,
			   "{\"type\":\"urn:pgstock:problem:%s\",\"title\":\"%s\","
			   "\"status\":%u,\"hint\":\"%s\"}\n",
			   name, title, status, hint);
	if (status == 503)
		http_answer_header(request, "Retry-After", "1");
	http_answer(request, status, "application/problem+json", &body);
}

/* Of the head. */
static size_t
refusal_header_bytes(const HttpRequest *request)
{
	return MHD_get_connection_info(request->connection,
								   MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)
		->header_size;
}

bool
refusal_check_head(HttpRequest *request, const char *version)
{
	if (refusal_header_bytes(request) > HEADERS_BYTES_MAX)
		refusal_answer(request, 431, "too-long", "The headers are too long",
					   "Send fewer or shorter headers.");
	else if (body_length_is_ambiguous(request->connection))
		refusal_answer(request, 400, "invalid",
					   "The headers give the length of the body twice",
					   "Send Content-Length or Transfer-Encoding, once.");
	else if (body_length_is_chunked(request->connection) &&
			 strcmp(version, "HTTP/1.1") != 0)
		refusal_answer(request, 400, "invalid",
					   "Transfer-Encoding needs HTTP/1.1",
					   "Send Content-Length.");
	return request->status == 0;
}
