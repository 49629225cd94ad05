/*
 * session_state.h - what the two pumps have in common: their states
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_DB_SESSION_STATE_H
#define PGSTOCK_DB_SESSION_STATE_H

#include "common/util.h"

typedef enum PumpState
{
	PUMP_DOWN, /* waits for the next try to connect */
	PUMP_CONNECTING,
	PUMP_HANDSHAKE,	  /* finds out who is there */
	PUMP_LEADER_WAIT, /* stands by: another relay leads */
	PUMP_STREAMING,
	PUMP_DRAINING, /* stops: lets what is in flight arrive */
} PumpState;

const char *pump_state_name(PumpState state);

/* A line for a transition, *told being the state of the last line.  Tries that
 * fail again and again are told by their error, at a measured pace. */
void pump_tell(const char *module, PumpState *told, PumpState state,
			   unsigned failures);

/* A pump that waits so long for one answer or acknowledgement is not ready. */
#define PUMP_SLOW_US (5 * SEC_US)

/* How long anything may be overdue before the watchdog is left unfed. */
#define PUMP_GRACE_US (20 * SEC_US)

#endif
