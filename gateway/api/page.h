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

#define PAGE_POOLS (ROLES + 1) /* by role, and that of receipts */

typedef struct PageState
{
	bool		ready;
	bool		stopping;
	const Pool *pools[PAGE_POOLS]; /* app, reader, admin, receipts; or NULL */
	int			queue;			   /* requests that wait */
	int			queue_max;
	Metrics	   *metrics;
	const char *actor; /* the client's name, or NULL */
	Role		role;
	unsigned	without; /* kinds of routes that are not served */
} PageState;

/* Answers a ROUTE_PAGE. */
void page_answer(HttpRequest *request, const Route *route,
				 const PageState *state);

#endif
