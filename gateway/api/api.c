/*
 * api.c - the API: from a request to its answer
 *
 * The head decides whether a request is known and allowed.  When its body is
 * there, its fields are read, and it waits for a session in one of four queues:
 * reservations, and the other calls of each role.
 *
 * Nothing waits without hope: where the queues are full, the answer is 503 at
 * once; and each turn answers so all that waits while no session is open.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "access/rate.h"
#include "api/about.h"
#include "api/browser.h"
#include "api/call.h"
#include "api/file.h"
#include "api/live.h"
#include "api/receipts.h"
#include "api/repeat.h"
#include "api/reserve.h"
#include "api/sold_out.h"
#include "common/clock.h"
#include "config/metric_table.h"
#include "db/pool.h"

#define STATUSES_MAX	  32
#define TRACEPARENT_BYTES 55
#define FOREIGN_HINT                                                          \
	"Send a token of the gateway's file of tokens, which no page of another " \
	"site has."

/* The counter of a route and a status. */
typedef struct StatusCell
{
	unsigned status; /* 0: free */
	double	*value;
} StatusCell;

struct Api
{
	Loop		 *loop;
	LoopTimer	 *check;  /* for those that wait too long */
	bool		  checks; /* it is set */
	const Config *config;
	Metrics		 *metrics;
	const Access *access;
	Pool		 *pools[ROLES]; /* NULL: of that role there is none */
	CallQueue	  calls[ROLES];
	ReserveQueue *reserve; /* in the app's pool */
	SoldOut		 *sold_out;
	Live		 *live;
	Receipts	 *receipts;
	Pool		 *receipts_pool; /* its session */
	RateLimit	 *clients;		 /* by the token's name */
	RateLimit	 *users;
	RateLimit	 *sales;
	StatusCell	  cells[ROUTES_MAX + 1][STATUSES_MAX]; /* the last: no route */
	bool		  stopping;
};

/* ---- rates ------------------------------------------------------------- */

/* False if the name has been served too often; that was answered then. */
static bool
api_pass(const Api *api, HttpRequest *http, RateLimit *limit, double per_second,
		 const char *what, const char *name)
{
	int64_t wait = name == NULL ? 0
								: rate_take(limit, name, per_second,
											loop_now(api->loop));

	Assert(wait >= 0 && http->status == 0);
	if (wait > 0)
		problem_give_later(http, PROBLEM_RATE, what, wait);
	return wait == 0;
}

/* Of requests that reserve: their user, and their sale. */
static bool
api_pass_buyer(const Api *api, const ApiRequest *request)
{
	const Config *config = api->config;

	if (request->route->kind != ROUTE_RESERVE &&
		request->route->kind != ROUTE_TAKE)
		return true;
	return api_pass(api, request->http, api->users, config->user_rate,
					"too many requests of this user",
					request_value(request, "user_id")) &&
		   api_pass(api, request->http, api->sales, config->sale_rate,
					"too many requests for this sale",
					request_value(request, "activity_id"));
}

/* ---- the head ---------------------------------------------------------- */

/* The kinds of routes that are not served. */
static unsigned
api_without(const Api *api)
{
	return api->config->console ? 0 : KIND_BIT(ROUTE_FILE);
}

static void
api_refuse_route(HttpRequest *http, Buf *allowed, Buf *error)
{
	if (error->len > 0)
		problem_give(http, PROBLEM_INVALID, buf_str(error));
	else if (allowed->len > 0)
	{
		http_answer_header(http, "Allow", buf_str(allowed));
		problem_give(http, PROBLEM_METHOD, NULL);
	}
	else
		problem_give(http, PROBLEM_NO_ROUTE, NULL);
}

/*
 * The role whose session a request has: the least that may call its route, so
 * that a long read takes no session from reservations.  What a person does is
 * recorded as an administrator's.
 */
static Role
api_session_role(const Api *api, Role route, Role client)
{
	if (route == ROLE_APP && client == ROLE_ADMIN &&
		api->pools[ROLE_ADMIN] != NULL)
		return ROLE_ADMIN;
	return api->pools[route] != NULL ? route : ROLE_APP;
}

/*
 * What is wrong with a request that a page of a browser may be behind, and that
 * no token vouches for; NULL: nothing.
 */
static const char *
api_foreign(const Api *api, const HttpRequest *http)
{
	bool tokens = access_needs_token(api->access);

	if (tokens && http_request_header(http, "Authorization") != NULL)
		return NULL;
	if (!tokens && http_request_header(http, "Origin") != NULL)
		return "without tokens, pages of a browser are not served";
	if (!tokens && !browser_names_this_machine(http))
		return "without tokens, the header Host must name this machine: "
			   "localhost, or a loopback address";
	return browser_is_elsewhere(http)
			   ? "a page of another site has sent the request"
			   : NULL;
}

/* False if the client may not; that was answered then. */
static bool
api_allow(const Api *api, ApiRequest *request)
{
	HttpRequest *http = request->http;
	const char	*foreign;
	const char	*actor;
	Role		 role;

	Assert(http->status == 0 && request->actor == NULL);
	if (request->route->open)
		return true;
	if (!access_find(api->access, http, &role, &actor))
	{
		http_answer_header(http, "WWW-Authenticate", "Bearer");
		problem_give(http, PROBLEM_UNAUTHENTICATED, NULL);
		return false;
	}
	foreign = api_foreign(api, http);
	if (foreign != NULL)
	{
		problem_give_hint(http, PROBLEM_FORBIDDEN, foreign, FOREIGN_HINT);
		return false;
	}
	/* a reload may replace the access while the request waits */
	if (actor != NULL)
		request->actor = xstrdup(actor);
	request->client_role = role;
	/* without tokens, who reaches the gateway is a reader too */
	request->rights = ROLE_BIT(role) |
					  (access_needs_token(api->access) ? 0
													   : ROLE_BIT(ROLE_READER));
	if ((request->rights & request->route->roles) == 0)
		problem_give(http, PROBLEM_FORBIDDEN, NULL);
	else if (route_role(request->route) == ROLE_ADMIN &&
			 api->pools[ROLE_ADMIN] == NULL)
		problem_give(http, PROBLEM_FORBIDDEN,
					 "the gateway has no session for administrators: set "
					 "admin_conninfo in [postgres]");
	request->role = api_session_role(api, route_role(request->route), role);
	return http->status == 0 &&
		   api_pass(api, http, api->clients, api->config->client_rate,
					"too many requests of this client",
					request->actor != NULL ? request->actor : "");
}

/* W3C: what is no traceparent is ignored. */
static const char *
api_trace(const HttpRequest *http)
{
	const char *trace = http_request_header(http, "traceparent");

	return trace != NULL && strlen(trace) == TRACEPARENT_BYTES &&
				   strspn(trace, "0123456789abcdef-") == TRACEPARENT_BYTES
			   ? trace
			   : NULL;
}

/* What the client gave to recognize its request by comes back. */
static void
api_return_id(HttpRequest *http)
{
	const char *id = http_request_id(http);

	if (id != NULL)
		http_answer_header(http, "X-Request-Id", id);
}

static void
api_head(void *arg, HttpRequest *http)
{
	Api		   *api = arg;
	ApiRequest *request = xcalloc(1, sizeof(ApiRequest));
	Buf			allowed = {0};
	Buf			error = {0};

	Assert(http->context == NULL);
	request->http = http;
	http->context = request;
	api_return_id(http);
	request->route = route_find(http->method, http->path, api_without(api),
								&request->values, &allowed, &error);
	if (request->route == NULL)
		api_refuse_route(http, &allowed, &error);
	else if (api_allow(api, request) && repeat_check_headers(request))
	{
		request->trace = api_trace(http);
		http->bodiless = !fields_have_body(request->route->fields);
	}
	Assert(request->route != NULL || http->status != 0);
	buf_free(&allowed);
	buf_free(&error);
}

/* ---- the body ---------------------------------------------------------- */

/* Of one role: a queue of long reads keeps no reservation out. */
static int
api_waiting(const Api *api, Role role)
{
	int count = api->calls[role].waiting.count;

	if (role == ROLE_APP)
		count += reserve_queue_count(api->reserve) +
				 sold_out_count(api->sold_out);
	return count;
}

static int
api_waiting_of_all(const Api *api)
{
	int count = 0;

	for (int role = 0; role < ROLES; role++)
		count += api_waiting(api, (Role) role);
	return count;
}

/* The longest queue of a role. */
static int
api_waiting_most(const Api *api)
{
	int count = 0;

	for (int role = 0; role < ROLES; role++)
		count = Max(count, api_waiting(api, (Role) role));
	return count;
}

static void
api_wait_for_session(Api *api, ApiRequest *request)
{
	/* reservations are gathered in one queue, whose ever they are */
	Role role = request->route->kind == ROUTE_RESERVE ? ROLE_APP
													  : request->role;
	bool full;

	Assert(request->http->status == 0 && request->next == NULL);
	request->waits_since = clock_monotonic();
	if (!api->checks)
		loop_timer_set(api->check, loop_now(api->loop) + SEC_US);
	api->checks = true;
	full = api_waiting(api, role) >= api->config->queue_max ||
		   !http_request_may_wait(request->http);

	if (api->pools[ROLE_APP] == NULL)
		problem_give(request->http, PROBLEM_DATABASE_AWAY, NULL);
	else if (request->route->kind == ROUTE_TAKE &&
			 sold_out_take(api->sold_out, request, !full))
		return;
	else if (full)
		problem_give(request->http, PROBLEM_OVERLOADED, NULL);
	else if (request->route->kind == ROUTE_LIVE)
		live_add(api->live, request);
	else if (request->route->kind == ROUTE_EVENT && receipts_want(request))
		receipts_add(api->receipts, request);
	else if (request->route->kind == ROUTE_RESERVE)
		reserve_queue_add(api->reserve, request);
	else
		request_queue_add(&api->calls[request->role].waiting, request);
}

static void
api_show_pool(const Api *api, const Pool *pool, const char *name)
{
	if (pool == NULL)
		return;
	*metrics_cell(api->metrics, METRIC_SESSIONS, "pool", name,
				  NULL) = pool_open_count(pool);
	*metrics_cell(api->metrics, METRIC_BUSY_SESSIONS, "pool", name,
				  NULL) = pool_busy_count(pool);
	*metrics_cell(api->metrics, METRIC_BREAKER, "pool", name,
				  NULL) = pool_breaker(pool);
}

static void
api_show_metrics(const Api *api)
{
	*metrics_cell(api->metrics, METRIC_READY, NULL) = api_is_ready(api);
	*metrics_cell(api->metrics, METRIC_QUEUE, NULL) = api_waiting_of_all(api);
	for (int role = 0; role < ROLES; role++)
		api_show_pool(api, api->pools[role], role_names[role]);
	api_show_pool(api, api->receipts_pool, "receipts");
}

static void
api_run(void *arg, HttpRequest *http)
{
	Api		   *api = arg;
	ApiRequest *request = http->context;
	Buf			error = {0};

	Assert(request->route != NULL && http->status == 0);
	if (request->route->kind == ROUTE_FILE)
		file_answer(http, request->route, request->values.text[0]);
	else if (request->route->kind == ROUTE_ABOUT &&
			 api->pools[ROLE_APP] != NULL)
	{
		AboutState state = {
			.ready = api_is_ready(api),
			.stopping = api->stopping,
			.pools = {[ROLES] = api->receipts_pool},
			.queue = api_waiting_most(api),
			.queue_max = (int) api->config->queue_max,
			.metrics = api->metrics,
			.actor = request->actor,
			.role = request->client_role,
			.without = api_without(api),
		};

		for (int role = 0; role < ROLES; role++)
			state.pools[role] = api->pools[role];
		api_show_metrics(api);
		about_answer(http, request->route, &state);
	}
	else if (!fields_read(request->route->fields, http, &request->values,
						  &error))
		problem_give(http, PROBLEM_INVALID, buf_str(&error));
	else if ((request->rights &
			  route_roles(request->route, &request->values)) == 0)
		problem_give(http, PROBLEM_FORBIDDEN, NULL);
	else if (api_pass_buyer(api, request))
		api_wait_for_session(api, request);
	http_request_free_body(http);
	buf_free(&error);
}

/* ---- the end ----------------------------------------------------------- */

/* Looked up once: metrics_cell() compares labels. */
static double *
api_counter(Api *api, const Route *route, const HttpRequest *http)
{
	StatusCell *cells = api->cells[route != NULL ? route - routes : ROUTES_MAX];
	char		status[16];
	int			i = 0;

	while (cells[i].status != 0 && cells[i].status != http->status)
		i++;
	Assert(i < STATUSES_MAX - 1);
	if (cells[i].status != 0)
		return cells[i].value;
	snprintf(status, sizeof(status), "%u", http->status);
	cells[i].status = http->status;
	cells[i].value = metrics_cell(api->metrics, METRIC_REQUESTS, "route",
								  route != NULL ? route->path : "none",
								  "method",
								  route != NULL ? route->method : "none",
								  "status", status, NULL);
	return cells[i].value;
}

static void
api_over(void *arg, HttpRequest *http)
{
	Api		   *api = arg;
	ApiRequest *request = http->context;

	if (http->status != 0)
	{
		(*api_counter(api, request != NULL ? request->route : NULL, http))++;
		metrics_observe(api->metrics, HISTOGRAM_DURATION,
						loop_now(api->loop) - http->began_at);
	}
	if (request == NULL)
		return; /* its head was refused */
	if (request->route != NULL && request->route->kind == ROUTE_TAKE &&
		(request->insufficient || http->status < 300))
		sold_out_note(api->sold_out, request);
	Assert(request->http == http);
	values_free(&request->values);
	free(request->actor);
	free(request);
}

const HttpHandlers api_handlers = {
	.head = api_head,
	.run = api_run,
	.over = api_over,
};

/* ---- turns and life ---------------------------------------------------- */

static void
api_on_check(void *arg)
{
	Api	   *api = arg;
	int64_t now = clock_monotonic();

	reserve_queue_expire(api->reserve, now);
	for (int role = 0; role < ROLES; role++)
		request_queue_expire(&api->calls[role].waiting, now);
	api->checks = api_waiting_of_all(api) > 0;
	if (api->checks)
		loop_timer_set(api->check, loop_now(api->loop) + SEC_US);
}

static Pool *
api_reader_pool(const Api *api)
{
	Pool *pool = api->pools[ROLE_READER];

	return pool != NULL ? pool : api->pools[ROLE_APP];
}

/* What waits for a pool that has lost its last session took no effect. */
static void
api_fail_waiting(Api *api)
{
	if (!pool_is_up(api->pools[ROLE_APP]))
	{
		reserve_queue_fail(api->reserve, PROBLEM_DATABASE_AWAY, NULL);
		sold_out_fail(api->sold_out, PROBLEM_DATABASE_AWAY, NULL);
	}
	if (!pool_is_up(api->receipts_pool))
		receipts_fail(api->receipts, PROBLEM_DATABASE_AWAY);
	if (!pool_is_up(api_reader_pool(api)))
		live_fail(api->live, PROBLEM_DATABASE_AWAY);
	for (int role = 0; role < ROLES; role++)
		if (api->pools[role] != NULL && !pool_is_up(api->pools[role]))
			request_queue_fail(&api->calls[role].waiting, PROBLEM_DATABASE_AWAY,
							   NULL);
}

void
api_turn(Api *api)
{
	Assert(api->pools[ROLE_APP] != NULL);
	api_fail_waiting(api);
	for (int role = 0; role < ROLES; role++)
		if (api->pools[role] != NULL)
			pool_turn(api->pools[role]);
	pool_turn(api->receipts_pool);
}

bool
api_is_ready(const Api *api)
{
	return pool_is_up(api->pools[ROLE_APP]) && !api->stopping;
}

void
api_stop(Api *api)
{
	Assert(!api->stopping);
	api->stopping = true;
	receipts_stop(api->receipts);
}

void
api_set_access(Api *api, const Access *access)
{
	api->access = access;
}

Api *
api_new(Loop *loop, const Config *config, Metrics *metrics)
{
	Api *api = xcalloc(1, sizeof(Api));

	Assert(config->pool > 0 && config->queue_max > 0);
	api->loop = loop;
	api->config = config;
	api->metrics = metrics;
	api->check = loop_timer_new(loop, api_on_check, api);
	api->clients = rate_new();
	api->users = rate_new();
	api->sales = rate_new();
	api->reserve = reserve_queue_new(&config->batch_max, metrics,
									 HISTOGRAM_BATCH);
	api->sold_out = sold_out_new(api->calls,
								 metrics_cell(metrics, METRIC_SOLD_OUT, NULL),
								 metrics_cell(metrics, METRIC_SALE_LOOKS,
											  NULL));
	api->pools[ROLE_APP] = pool_new(loop, &config->conninfo,
									(int) config->pool);
	/* one session is left for calls, whatever reservations wait for */
	pool_add_source(api->pools[ROLE_APP], reserve_next, api->reserve,
					(int) Max(config->pool - 1, 1));
	pool_add_source(api->pools[ROLE_APP], reserve_next_locked, api->reserve, 1);
	pool_add_source(api->pools[ROLE_APP], sold_out_next, api->sold_out, 1);
	if (config->reader_conninfo[0] != '\0')
		api->pools[ROLE_READER] = pool_new(loop, &config->reader_conninfo,
										   (int) config->pool);
	if (config->admin_conninfo[0] != '\0')
		api->pools[ROLE_ADMIN] = pool_new(loop, &config->admin_conninfo, 1);
	for (int role = 0; role < ROLES; role++)
		if (api->pools[role] != NULL)
			pool_add_source(api->pools[role], call_next, &api->calls[role],
							(int) config->pool);
	api->receipts = receipts_new(loop);
	api->receipts_pool = pool_new(loop, &config->conninfo, 1);
	pool_add_source(api->receipts_pool, receipts_next, api->receipts, 1);
	api->live = live_new(loop);
	pool_add_source(api_reader_pool(api), live_next, api->live, 1);
	return api;
}

void
api_end(Api *api)
{
	if (api == NULL)
		return;
	for (int role = 0; role < ROLES; role++)
	{
		pool_free(api->pools[role]);
		api->pools[role] = NULL;
		request_queue_fail(&api->calls[role].waiting, PROBLEM_DATABASE_AWAY,
						   NULL);
	}
	pool_free(api->receipts_pool);
	api->receipts_pool = NULL;
	receipts_fail(api->receipts, PROBLEM_DATABASE_AWAY);
	live_fail(api->live, PROBLEM_DATABASE_AWAY);
	reserve_queue_fail(api->reserve, PROBLEM_DATABASE_AWAY, NULL);
	sold_out_fail(api->sold_out, PROBLEM_DATABASE_AWAY, NULL);
	Assert(api_waiting_of_all(api) == 0); /* each has its answer */
}

void
api_free(Api *api)
{
	if (api == NULL)
		return;
	Assert(api->pools[ROLE_APP] == NULL);
	reserve_queue_free(api->reserve);
	sold_out_free(api->sold_out);
	live_free(api->live);
	receipts_free(api->receipts);
	loop_timer_free(api->check);
	rate_free(api->clients);
	rate_free(api->users);
	rate_free(api->sales);
	free(api);
}
