/*
 * problem.h - a request that is answered with an error
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_PROBLEM_H
#define PGSTOCK_GATEWAY_PROBLEM_H

#include "db/pool.h"
#include "http/problem_table.h"
#include "http/server.h"

/* A body that problem_begin() began. */
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
