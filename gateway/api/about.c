/*
 * about.c - what the gateway says of itself: health, metrics, description
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/about.h"

#include "common/json.h"
#include "common/process_metrics.h"

/* Those of the role app are what /readyz stands for. */
static const char *const about_checks[ABOUT_POOLS] = {
	[ROLE_APP] = "database",
	[ROLE_READER] = "database_reader",
	[ROLE_ADMIN] = "database_admin",
	[ROLES] = "database_receipts",
};

static bool
about_all_up(const AboutState *state)
{
	for (int i = 0; i < ABOUT_POOLS; i++)
		if (state->pools[i] != NULL && !pool_is_up(state->pools[i]))
			return false;
	return true;
}

/*
 * The health of each component, as health checks of other services have it.
 * The reason of a failure is in the log: it names servers and roles.
 */
static void
about_add_health(Buf *body, const AboutState *state)
{
	static const char *const breakers[] = {
		[BREAKER_CLOSED] = "closed",
		[BREAKER_HALF_OPEN] = "half-open",
		[BREAKER_OPEN] = "open",
	};
	bool full = state->queue >= state->queue_max;

	Assert(state->queue >= 0 && state->queue_max > 0);
	buf_printf(body,
			   "{\"status\":\"%s\",\"version\":\"" PGSTOCK_VERSION
			   "\",\"checks\":{",
			   !state->stopping && about_all_up(state) && !full ? "ok"
																: "failing");
	for (int i = 0; i < ABOUT_POOLS; i++)
		if (state->pools[i] != NULL)
			buf_printf(body, "\"%s\":{\"status\":\"%s\",\"breaker\":\"%s\"},",
					   about_checks[i],
					   pool_is_up(state->pools[i]) ? "ok" : "failing",
					   breakers[pool_breaker(state->pools[i])]);
	buf_printf(body,
			   "\"queue\":{\"status\":\"%s\",\"waiting\":%d,\"max\":%d}}}\n",
			   full ? "failing" : "ok", state->queue, state->queue_max);
}

/* Who the client is: the name of a token, or of a user of this machine. */
static void
about_add_client(Buf *body, const AboutState *state)
{
	buf_add_str(body, "{\"name\":");
	if (state->actor != NULL)
		json_add_string(body, state->actor);
	else
		buf_add_str(body, "null");
	buf_printf(body, ",\"role\":\"%s\"}\n", role_names[state->role]);
}

void
about_answer(HttpRequest *request, const Route *route, const AboutState *state)
{
	Buf			body = {0};
	unsigned	status = 200;
	const char *type = "application/json";

	Assert(route->sql == NULL);
	if ((route->answers & ANSWER_NOT_READY) != 0 && !state->ready)
		status = 503;
	switch (route->about)
	{
		case ABOUT_LIVE:
		case ABOUT_READY:
			type = "text/plain";
			buf_add_str(&body, status == 200 ? "ok\n" : "not ready\n");
			break;
		case ABOUT_HEALTH:
			about_add_health(&body, state);
			break;
		case ABOUT_METRICS:
			type = "text/plain; version=0.0.4";
			metrics_render(state->metrics, &body);
			process_metrics_render(&body);
			break;
		case ABOUT_DESCRIPTION:
			openapi_render(state->without, &body);
			break;
		case ABOUT_CLIENT:
			about_add_client(&body, state);
			break;
	}
	http_answer(request, status, type, &body);
}
