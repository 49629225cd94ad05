/*
 * api.h - the API: from a request to its answer
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_API_H
#define PGSTOCK_GATEWAY_API_H

#include "api/access.h"
#include "common/metrics.h"
#include "config/config.h"
#include "http/server.h"

typedef struct Api Api;

/* Handlers for server_new(); their argument is the Api. */
extern const HttpHandlers api_handlers;

Api *api_new(Loop *loop, const Config *config, Metrics *metrics);
/* Ends the sessions, and answers what waits; NULL is fine. */
void api_end(Api *api);
/* After the server, whose requests it has. */
void api_free(Api *api);

/* Who may do what from now on; before the first request. */
void api_set_access(Api *api, const Access *access);

/* Gives what waits to the sessions; once in each turn of the loop. */
void api_turn(Api *api);

/* Whether requests can be answered now. */
bool api_is_ready(const Api *api);

/* From now on /readyz returns 503, so that no more clients are sent here. */
void api_stop(Api *api);

#endif
