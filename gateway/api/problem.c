/*
 * problem.c - a request that is answered with an error
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/problem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/sqlstate.h"

#define LOG_MODULE "api"

/* The token may do what the gateway's own role may not. */
#define ROLE_HINT                                                             \
	"The gateway's database role lacks this right: name roles of the levels " \
	"reader and admin in [postgres], and run grant_stock_access for each "    \
	"again after an update of the extension."

void
problem_answer(HttpRequest *request, ProblemId id, Buf *body)
{
	Assert(body->len > 0 && body->data[0] == '{');
	if (problems[id].status == 503)
		http_answer_header(request, "Retry-After", PROBLEM_RETRY_AFTER);
	problem_end(body);
	http_answer(request, problems[id].status, PROBLEM_TYPE, body);
}

void
problem_give_hint(HttpRequest *request, ProblemId id, const char *detail,
				  const char *hint)
{
	Buf body = {0};

	problem_begin(&body, id, detail);
	problem_add_text(&body, "sqlstate", problems[id].sqlstate);
	problem_add_text(&body, "hint", hint);
	problem_answer(request, id, &body);
}

void
problem_give(HttpRequest *request, ProblemId id, const char *detail)
{
	problem_give_hint(request, id, detail, problems[id].hint);
}

void
problem_give_later(HttpRequest *request, ProblemId id, const char *detail,
				   int64_t wait_us)
{
	char seconds[24];

	Assert(wait_us > 0 && problems[id].status != 503);
	snprintf(seconds, sizeof(seconds), "%" PRId64,
			 (wait_us + SEC_US - 1) / SEC_US);
	http_answer_header(request, "Retry-After", seconds);
	problem_give(request, id, detail);
}

ProblemId
problem_of_sqlstate(const char *sqlstate)
{
	if (sqlstate == NULL)
		return PROBLEM_INTERNAL;
	/* a standby; a library that is older than the extension */
	if (strcmp(sqlstate, "25006") == 0 || strcmp(sqlstate, "55000") == 0)
		return PROBLEM_DATABASE_AWAY;
	for (int id = 0; id < PROBLEMS; id++)
		if (problems[id].sqlstate != NULL &&
			strcmp(problems[id].sqlstate, sqlstate) == 0)
			return (ProblemId) id;
	if (strncmp(sqlstate, "22", 2) == 0)
		return PROBLEM_INVALID;
	if (sqlstate_class(sqlstate) == SQL_TRANSIENT)
		return PROBLEM_CONFLICT;
	return PROBLEM_INTERNAL;
}

void
problem_give_failure(HttpRequest *request, const PoolAnswer *answer)
{
	const PGresult *result = answer->result;
	const char	   *sqlstate = answer->sqlstate;
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
	ProblemId	id = problem_of_sqlstate(sqlstate);
	Buf			body = {0};
	char	   *text;

	Assert(PQresultStatus(result) != PGRES_TUPLES_OK);
	if (id == PROBLEM_INTERNAL)
	{
		const char *request_id = http_request_id(request);

		log_error("request failed: path=%s request_id=%s sqlstate=%s: %s",
				  request->path, request_id != NULL ? request_id : "none",
				  sqlstate != NULL ? sqlstate : "none",
				  message != NULL ? message : "no message");
		problem_give(request, id, NULL);
		return;
	}
	if (id == PROBLEM_FORBIDDEN)
		hint = ROLE_HINT;
	text = xasprintf("%s%s%s", message != NULL ? message : "",
					 detail != NULL ? ": " : "", detail != NULL ? detail : "");
	problem_begin(&body, id, text);
	problem_add_text(&body, "sqlstate", sqlstate);
	problem_add_text(&body, "hint", hint != NULL ? hint : problems[id].hint);
	problem_answer(request, id, &body);
	free(text);
}
