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

/* A line that the client's report of a failed request leads to. */
static void
problem_log(const HttpRequest *request, ProblemId id, const char *sqlstate,
			const char *text)
{
	const char *request_id = http_request_id(request);

	Assert(problems[id].status >= 500);
	log_write(problems[id].status == 500 ? LEVEL_ERROR : LEVEL_WARNING,
			  LOG_MODULE,
			  "request failed: status=%u type=%s path=%s request_id=%s "
			  "sqlstate=%s: %s",
			  problems[id].status, problems[id].name, request->path,
			  request_id != NULL ? request_id : "none",
			  sqlstate != NULL ? sqlstate : "none",
			  text != NULL ? text : "no message");
}

static void
problem_write(HttpRequest *request, ProblemId id, const char *sqlstate,
			  const char *detail, const char *hint)
{
	Buf body = {0};

	problem_begin(&body, id, detail);
	problem_add_text(&body, "sqlstate", sqlstate);
	problem_add_text(&body, "hint", hint);
	problem_answer(request, id, &body);
}

void
problem_give_hint(HttpRequest *request, ProblemId id, const char *detail,
				  const char *hint)
{
	if (id == PROBLEM_INTERNAL || id == PROBLEM_OUTCOME_UNKNOWN)
		problem_log(request, id, NULL, detail);
	problem_write(request, id, problems[id].sqlstate, detail, hint);
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
	char	   *text;

	Assert(PQresultStatus(result) != PGRES_TUPLES_OK);
	/* a server that became a standby fails all of them, and does so quickly */
	if (problems[id].status >= 500 && id != PROBLEM_DATABASE_AWAY)
		problem_log(request, id, sqlstate, message);
	if (id == PROBLEM_INTERNAL) /* what the message says is not for clients */
	{
		problem_write(request, id, problems[id].sqlstate, NULL,
					  problems[id].hint);
		return;
	}
	if (id == PROBLEM_FORBIDDEN)
		hint = ROLE_HINT;
	text = xasprintf("%s%s%s", message != NULL ? message : "",
					 detail != NULL ? ": " : "", detail != NULL ? detail : "");
	problem_write(request, id, sqlstate, text,
				  hint != NULL ? hint : problems[id].hint);
	free(text);
}
