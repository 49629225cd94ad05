/*
 * decode.h - parts of a URL: decoded, and checked to be text
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_DECODE_H
#define PGSTOCK_GATEWAY_DECODE_H

#include "common/util.h"

/* Whether the bytes are UTF-8 as RFC 3629 has it, and no NUL is among them. */
bool decode_is_text(const char *bytes, size_t len) MUST_CHECK;

/*
 * A segment of a path; NULL if it does not decode to text.  Freed by the
 * caller.
 */
char *decode_segment(const char *encoded, size_t len) MUST_CHECK;

/* A value of a query, where "+" is a blank; the same. */
char *decode_query(const char *encoded) MUST_CHECK;

/* The reverse, of any text. */
void decode_add_encoded(Buf *encoded, const char *text);

#endif
