/*
 * problem_table.h - every kind of error, and how its body begins
 *
 * Each has one name, one status and one meaning; docs/gateway.md lists them.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_PROBLEM_TABLE_H
#define PGSTOCK_GATEWAY_PROBLEM_TABLE_H

#include "common/util.h"

#define PROBLEM_TYPE		"application/problem+json"
#define PROBLEM_RETRY_AFTER "1" /* seconds, of each that is status 503 */

typedef enum ProblemId
{
	PROBLEM_INVALID,
	PROBLEM_UNAUTHENTICATED,
	PROBLEM_FORBIDDEN,
	PROBLEM_NO_ROUTE,
	PROBLEM_METHOD,
	PROBLEM_TOO_LONG,
	PROBLEM_HEADERS_TOO_LONG,
	PROBLEM_INSUFFICIENT,
	PROBLEM_UNKNOWN_PRODUCT,
	PROBLEM_USER_LIMIT,
	PROBLEM_UNKNOWN_ORDER,
	PROBLEM_UNKNOWN_EVENT,
	PROBLEM_UNKNOWN_MESSAGE,
	PROBLEM_WRONG_STATE,
	PROBLEM_EXPIRED,
	PROBLEM_KEY_REUSED,
	PROBLEM_SALE_NOT_OPEN,
	PROBLEM_SHORTFALL,
	PROBLEM_STALE_VERSION,
	PROBLEM_RATE,
	PROBLEM_OVERLOADED,
	PROBLEM_DATABASE_AWAY,
	PROBLEM_OUTCOME_UNKNOWN,
	PROBLEM_CONFLICT,
	PROBLEM_TIMEOUT,
	PROBLEM_INTERNAL,
	PROBLEMS, /* their number */
} ProblemId;

typedef struct Problem
{
	unsigned	status;
	const char *name; /* urn:pgstock:problem:NAME is its type */
	const char *title;
	const char *sqlstate; /* that it answers to, or NULL */
	const char *hint;	  /* the next step, or NULL */
} Problem;

extern const Problem problems[PROBLEMS];

/* Begins a body, as RFC 9457 has it; its members are not at their end. */
void problem_begin(Buf *body, ProblemId id, const char *detail);
/* A member; NULL: none. */
void problem_add_text(Buf *body, const char *name, const char *value);
void problem_end(Buf *body);

#endif
