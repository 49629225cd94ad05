/*
 * call.h - requests that are one statement each
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_CALL_H
#define PGSTOCK_GATEWAY_CALL_H

#include "api/request.h"
#include "db/pool.h"

typedef struct CallQueue
{
	RequestQueue waiting;
	PgStatement	 statement; /* of the last work */
	PgParam		 params[FIELDS_MAX];
} CallQueue;

/* A source of the pool; arg: a CallQueue. */
bool call_next(void *arg, PoolWork *work);

#endif
