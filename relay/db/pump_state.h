/*
 * pump_state.h - what the two pumps have in common: their states
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_DB_PUMP_STATE_H
#define PGSTOCK_DB_PUMP_STATE_H

#include "common/util.h"

typedef enum PumpState
{
	PUMP_DOWN, /* waits for the next try to connect */
	PUMP_CONNECTING,
	PUMP_HANDSHAKE,	  /* reads versions and identity */
	PUMP_LEADER_WAIT, /* stands by: another relay leads */
	PUMP_STREAMING,
	PUMP_DRAINING, /* shutting down: waiting for in-flight messages */
} PumpState;

const char *pump_state_name(PumpState state);

/*
 * Logs a transition; *logged is the state of the last line.  The caller logs
 * the error of repeated failures to connect, throttled.
 */
void pump_log_state(const char *module, PumpState *logged, PumpState state,
					unsigned failures);

/*
 * The longest pause between two tries to connect: after a fail-over the new
 * primary is found this soon.
 */
#define DB_RETRY_US_MAX SEC_US

/* A pump that waits so long for one answer or acknowledgement is not ready. */
#define PUMP_SLOW_US (5 * SEC_US)

/* How long anything may be overdue before the watchdog is left unfed. */
#define PUMP_GRACE_US (20 * SEC_US)

#endif
