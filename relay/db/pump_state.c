/*
 * pump_state.c - what the two pumps have in common: their states
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "db/pump_state.h"

#include "common/log.h"

const char *
pump_state_name(PumpState state)
{
	static const char *const names[] = {
		[PUMP_DOWN] = "down",			[PUMP_CONNECTING] = "connecting",
		[PUMP_HANDSHAKE] = "handshake", [PUMP_LEADER_WAIT] = "leader_wait",
		[PUMP_STREAMING] = "streaming", [PUMP_DRAINING] = "draining",
	};

	Assert((size_t) state < Lengthof(names));
	Assert(names[state] != NULL);
	return names[state];
}

void
pump_log_state(const char *module, PumpState *logged, PumpState state,
			   unsigned failures)
{
	bool again = failures > 1 && state < PUMP_LEADER_WAIT;

	if (*logged == state)
		return;
	log_write(again ? LEVEL_DEBUG : LEVEL_INFO, module, "state from=%s to=%s",
			  pump_state_name(*logged), pump_state_name(state));
	*logged = state;
}
