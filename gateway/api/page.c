/*
 * page.c - what the gateway says of itself: health, metrics, description
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/page.h"

#include <string.h>

#include "common/json.h"
#include "common/process_metrics.h"

/* Those of the role app are what /readyz stands for. */
static const char *const page_checks[PAGE_POOLS] = {
	[ROLE_APP] = "database",
	[ROLE_READER] = "database_reader",
	[ROLE_ADMIN] = "database_admin",
	[ROLES] = "database_receipts",
};

static bool
page_all_up(const PageState *state)
{
	for (int i = 0; i < PAGE_POOLS; i++)
		if (state->pools[i] != NULL && !pool_is_up(state->pools[i]))
			return false;
	return true;
}

/* The health of each component, as health checks of other services have it.
 * The reason of a failure is in the log: it names servers and roles. */
static void
page_add_health(Buf *body, const PageState *state)
{
	static const char *const breakers[] = {
		[BREAKER_CLOSED] = "closed",
		[BREAKER_HALF_OPEN] = "half-open",
		[BREAKER_OPEN] = "open",
	};
	bool full = state->queue >= state->queue_max;

	buf_printf(body,
			   "{\"status\":\"%s\",\"version\":\"" PGSTOCK_VERSION
			   "\",\"checks\":{",
			   !state->stopping && page_all_up(state) && !full ? "ok"
															   : "failing");
	for (int i = 0; i < PAGE_POOLS; i++)
		if (state->pools[i] != NULL)
			buf_printf(body, "\"%s\":{\"status\":\"%s\",\"breaker\":\"%s\"},",
					   page_checks[i],
					   pool_is_up(state->pools[i]) ? "ok" : "failing",
					   breakers[pool_breaker(state->pools[i])]);
	buf_printf(body,
			   "\"queue\":{\"status\":\"%s\",\"waiting\":%d,\"max\":%d}}}\n",
			   full ? "failing" : "ok", state->queue, state->queue_max);
}

/* Who the client is: the name of a token, or of a user of this machine. */
static void
page_add_client(Buf *body, const PageState *state)
{
	buf_add_str(body, "{\"name\":");
	if (state->actor != NULL)
		json_add_string(body, state->actor);
	else
		buf_add_str(body, "null");
	buf_printf(body, ",\"role\":\"%s\"}\n", role_names[state->role]);
}

void
page_answer(HttpRequest *request, const Route *route, const PageState *state)
{
	Buf			body = {0};
	unsigned	status = 200;
	const char *type = "application/json";

	if (strcmp(route->path, "/metrics") == 0)
	{
		type = "text/plain; version=0.0.4";
		metrics_render(state->metrics, &body);
		process_metrics_render(&body);
	}
	else if (strcmp(route->path, "/openapi.json") == 0)
		openapi_render(state->without, &body);
	else if (strcmp(route->path, "/whoami") == 0)
		page_add_client(&body, state);
	else if (strcmp(route->path, "/health") == 0)
	{
		status = state->ready ? 200 : 503;
		page_add_health(&body, state);
	}
	else
	{
		bool live = strcmp(route->path, "/livez") == 0;

		type = "text/plain";
		status = live || state->ready ? 200 : 503;
		buf_add_str(&body, status == 200 ? "ok\n" : "not ready\n");
	}
	http_answer(request, status, type, &body);
}
