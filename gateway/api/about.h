/*
 * about.h - what the gateway says of itself: health, metrics, description
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_ABOUT_H
#define PGSTOCK_GATEWAY_ABOUT_H

#include "api/route.h"
#include "common/metrics.h"
#include "db/pool.h"

#define ABOUT_POOLS (ROLES + 1) /* by role, and that of receipts */

typedef struct AboutState
{
	bool		ready;
	bool		stopping;
	const Pool *pools[ABOUT_POOLS]; /* app, reader, admin, receipts; or NULL */
	int			queue;				/* requests that wait */
	int			queue_max;
	Metrics	   *metrics;
	const char *actor; /* the client's name, or NULL */
	Role		role;
	unsigned	without; /* kinds of routes that are not served */
} AboutState;

/* Answers a ROUTE_ABOUT. */
void about_answer(HttpRequest *request, const Route *route,
				  const AboutState *state);

#endif
