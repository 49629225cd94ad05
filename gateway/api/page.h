/*
 * page.h - what the gateway says of itself: health, metrics, description
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_PAGE_H
#define PGSTOCK_GATEWAY_PAGE_H

#include "api/route.h"
#include "common/metrics.h"
#include "db/pool.h"

typedef struct PageState
{
	bool		ready;
	bool		stopping;
	PoolBreaker breaker; /* of the clients' sessions */
	int			queue;	 /* requests that wait */
	int			queue_max;
	Metrics	   *metrics;
	const char *actor; /* the client's name, or NULL */
	Role		role;
} PageState;

/* Answers a ROUTE_PAGE. */
void page_answer(HttpRequest *request, const Route *route,
				 const PageState *state);

#endif
