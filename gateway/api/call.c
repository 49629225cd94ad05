/*
 * call.c - requests that are one statement each
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/call.h"

#include <stdlib.h>
#include <string.h>

#include "api/lines.h"
#include "api/list.h"
#include "api/repeat.h"

#define STALE_MAX 2 /* how often a request is sent again for that */

/* Columns of a ROUTE_JSON. */
enum
{
	JSON_STATUS,
	JSON_BODY,
	JSON_VERSION, /* of the entity tag, or NULL */
	JSON_COLUMNS,
};

static void
call_answer_json(ApiRequest *request, const PGresult *result)
{
	Buf		body = {0};
	int64_t status;

	Assert(PQntuples(result) == 1 && PQnfields(result) == JSON_COLUMNS);
	if (!parse_number(PQgetvalue(result, 0, JSON_STATUS), &status))
		status = 500;
	if (status == 404)
	{
		problem_give(request->http, request->route->missing, NULL);
		return;
	}
	if (!PQgetisnull(result, 0, JSON_VERSION))
	{
		char *tag = xasprintf("\"%s\"", PQgetvalue(result, 0, JSON_VERSION));

		http_answer_header(request->http, "ETag", tag);
		free(tag);
	}
	buf_printf(&body, "%s\n", PQgetvalue(result, 0, JSON_BODY));
	Assert(status >= 200 && status < 600);
	http_answer(request->http, (unsigned) status, "application/json", &body);
}

static void
call_done(void *arg, const PoolAnswer *answer)
{
	ApiRequest	   *request = arg;
	const PGresult *result = answer->result;
	CallQueue	   *queue = answer->source;

	if (answer->stale && request->stale++ < STALE_MAX)
		request_queue_put_back_one(&queue->waiting, request);
	else if (result == NULL)
		problem_give_hint(request->http, PROBLEM_OUTCOME_UNKNOWN, answer->error,
						  repeat_hint(request->route));
	else if (PQresultStatus(result) != PGRES_TUPLES_OK)
		problem_give_failure(request->http, answer);
	else if (request->route->kind == ROUTE_JSON ||
			 request->route->kind == ROUTE_EVENT)
		call_answer_json(request, result);
	else if (request->route->kind == ROUTE_LIST)
		list_answer(request, result);
	else
		lines_answer(request, result, 0, PQntuples(result));
}

bool
call_next(void *arg, PoolWork *work)
{
	CallQueue  *queue = arg;
	ApiRequest *request = request_queue_take_present(&queue->waiting);

	if (request == NULL)
		return false;
	queue->statement = route_statement(request->route, &request->values);
	Assert(queue->statement.nparams <= (int) Lengthof(queue->params));
	for (int i = 0; i < queue->statement.nparams; i++)
		queue->params[i] = (PgParam){.data = request->values.text[i]};
	*work = (PoolWork){
		.statement = &queue->statement,
		.params = queue->params,
		.actor = request->actor,
		.trace = request->trace,
		.patience_us = route_role(request->route) == ROLE_APP
						   ? 0
						   : POOL_PATIENCE_US,
		.done = call_done,
		.arg = request,
	};
	return true;
}
