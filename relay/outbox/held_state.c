/*
 * held_state.c - the outbox pump's state: held topics
 *
 * The part of state.c between the pump and held_topics.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/state.h"

/*
 * No pause where the topic is held from now on: that is not to be tried again,
 * and the others need not wait.
 */
bool
outbox_on_refused(OutboxState *state, const char *topic, const char *reason,
				  int64_t now)
{
	if (!held_refused(&state->held, topic, reason, now))
		return false;
	Assert(state->held.count > 0);
	held_count_refusal(&state->held, now);
	outbox_on_producer_failed(state, now);
	state->producer_at = now;
	if (state->pump == PUMP_LEADER_WAIT)
		state->lead_at = now;
	return true;
}

bool
outbox_on_doubted(OutboxState *state, const char *topic, const char *reason,
				  int64_t now)
{
	bool held = held_refused(&state->held, topic, reason, now);

	Assert(held || held_has_no_room(&state->held, topic));
	return held;
}

void
outbox_on_held(OutboxState *state)
{
	outbox_answered(state, OUTBOX_ASK_HELD);
	held_loaded(&state->held);
}

void
outbox_on_hold_stored(OutboxState *state)
{
	outbox_answered(state, OUTBOX_HOLD);
}

void
outbox_on_asides_stored(OutboxState *state, int64_t now)
{
	Held *held = &state->held;

	outbox_answered(state, OUTBOX_SET_ASIDE);
	Assert(held->aside_asked > 0 && held->aside_asked <= held->aside_count);
	for (uint32_t i = 0; i < held->aside_asked; i++)
		(void) in_flight_ack(&state->in_flight, held->aside_ids[i]);
	held_asides_stored(held);
	state->acked_at = now;
}

bool
outbox_on_held_page(OutboxState *state, uint32_t rows, size_t bytes,
					int64_t now)
{
	outbox_answered(state, OUTBOX_ASK_HELD_PAGE);
	return held_on_page(&state->held, rows,
						rows == state->held.page_rows ||
							bytes >= OUTBOX_PAGE_BYTES,
						now);
}

bool
outbox_on_crossed_off(OutboxState *state, bool resumed, int64_t now)
{
	outbox_answered(state, OUTBOX_CROSS_OFF);
	return held_on_crossed_off(&state->held, resumed, now);
}
