/*
 * body_length.c - where the body of a request ends, by its headers
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "http/body_length.h"

#include <microhttpd.h>
#include <string.h>
#include <strings.h>

#include "http/server.h"

/* RFC 9110, 5.6.2: of what the name of a header is made */
#define TOKEN                                             \
	"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz" \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZ"

bool
body_length_is_chunked(struct MHD_Connection *connection)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
									   "Transfer-Encoding") != NULL;
}

/* Whether the client may send a body that is too long to be read to its end. */
bool
body_length_is_long(struct MHD_Connection *connection)
{
	const char *length = MHD_lookup_connection_value(connection,
													 MHD_HEADER_KIND,
													 "Content-Length");
	int64_t		bytes;

	if (body_length_is_chunked(connection))
		return true;
	return length != NULL &&
		   (!parse_number(length, &bytes) || bytes > HTTP_BODY_MAX);
}

/*
 * Of the headers that say where a body ends: those that there are, and two for
 * one that another server may read in another way.  libmicrohttpd takes a blank
 * before the colon, and a folded line, for a part of the name.
 */
static enum MHD_Result
body_length_count(void *arg, enum MHD_ValueKind kind UNUSED, const char *name,
				  const char *value)
{
	static const char *const headers[] = {"Content-Length",
										  "Transfer-Encoding"};
	int						*lengths = arg;

	if (strspn(name, TOKEN) != strlen(name))
		*lengths += 2;
	for (size_t i = 0; i < Lengthof(headers); i++)
		if (strncasecmp(name, headers[i], strlen(headers[i])) == 0)
			*lengths += name[strlen(headers[i])] == '\0' ? 1 : 2;
	/* what comes after another coding's end is not known */
	if (strcasecmp(name, headers[1]) == 0 && strcasecmp(value, "chunked") != 0)
		(*lengths)++;
	return MHD_YES;
}

/*
 * Whether two servers could find the end of the body in two places.  A proxy in
 * front of us may then take for a part of it what we would take for the next
 * request (RFC 9112, 11.2): it is refused, and its connection closed.
 */
bool
body_length_is_ambiguous(struct MHD_Connection *connection)
{
	int lengths = 0;

	(void) MHD_get_connection_values(connection, MHD_HEADER_KIND,
									 body_length_count, &lengths);
	return lengths > 1;
}
