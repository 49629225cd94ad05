/*
 * problem.h - errors, as RFC 9457 has them
 *
 * Each kind of error has one name, one status and one meaning; docs/gateway.md
 * lists them.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_PROBLEM_H
#define PGSTOCK_GATEWAY_PROBLEM_H

#include "db/pool.h"
#include "http/server.h"

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

/* Begins a body; members may be added to it before problem_answer(). */
void problem_begin(Buf *body, ProblemId id, const char *detail);
void problem_add_text(Buf *body, const char *name, const char *value);
void problem_answer(HttpRequest *request, ProblemId id, Buf *body);

/* The same, with Retry-After: so many microseconds, rounded up to seconds. */
void problem_give_later(HttpRequest *request, ProblemId id, const char *detail,
						int64_t wait_us);

/* A problem without members of its own. */
void problem_give(HttpRequest *request, ProblemId id, const char *detail);
/* The same with another next step. */
void problem_give_hint(HttpRequest *request, ProblemId id, const char *detail,
					   const char *hint);

/* Which problem an error of the database is. */
ProblemId problem_of_sqlstate(const char *sqlstate) MUST_CHECK;
void	  problem_give_failure(HttpRequest *request, const PoolAnswer *answer);

#endif
