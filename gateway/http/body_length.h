/*
 * body_length.h - where the body of a request ends, by its headers
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_BODY_LENGTH_H
#define PGSTOCK_GATEWAY_BODY_LENGTH_H

#include "common/util.h"

struct MHD_Connection;

/* Whether two servers could find its end in two places. */
bool body_length_is_ambiguous(struct MHD_Connection *connection) MUST_CHECK;

/* Whether it may be too long to be read to its end. */
bool body_length_is_long(struct MHD_Connection *connection) MUST_CHECK;

/* Whether it comes by chunks, and not with its length. */
bool body_length_is_chunked(struct MHD_Connection *connection) MUST_CHECK;

#endif
