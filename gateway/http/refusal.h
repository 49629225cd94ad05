/*
 * refusal.h - what the server refuses without its handler
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_REFUSAL_H
#define PGSTOCK_GATEWAY_REFUSAL_H

#include "http/problem_table.h"

struct MHD_Connection;

typedef struct Refusal
{
	ProblemId	problem;
	const char *detail; /* or NULL */
	const char *hint;	/* NULL: the problem's own */
} Refusal;

extern const Refusal refusal_body_too_long;
extern const Refusal refusal_bodies_too_long;

/*
 * NULL, or why the request with that head is refused: it is too long, or does
 * not say clearly where the request ends, or who sends it.  version: as in
 * HTTP/1.1.
 */
const Refusal *refusal_of_head(struct MHD_Connection *connection,
							   const char			 *version);

/* Its body. */
void refusal_write(const Refusal *refusal, Buf *body);

#endif
