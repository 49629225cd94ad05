/*
 * held_state.c - the outbox pump's state: held topics
 *
 * The part of state.c between the pump and held_topics.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/state.h"

/* No pause where the topic is held from now on: that is not to be tried again,
 * and the others need not wait. */
bool
outbox_on_refused(OutboxCore *core, const char *topic, const char *reason,
				  int64_t now)
{
	if (!held_refused(&core->held, topic, reason, now))
		return false;
	Assert(core->held.count > 0);
	outbox_on_producer_failed(core, now);
	core->producer_at = now;
	if (core->state == PUMP_LEADER_WAIT)
		core->lead_at = now;
	return true;
}

bool
outbox_on_doubted(OutboxCore *core, const char *topic, const char *reason,
				  int64_t now)
{
	bool held = held_refused(&core->held, topic, reason, now);

	Assert(held || held_has_no_room(&core->held, topic));
	return held;
}

void
outbox_on_held(OutboxCore *core)
{
	outbox_answered(core, OUTBOX_ASK_HELD);
	held_loaded(&core->held);
}

void
outbox_on_hold_stored(OutboxCore *core)
{
	outbox_answered(core, OUTBOX_HOLD);
}

void
outbox_on_asides_stored(OutboxCore *core, int64_t now)
{
	Held *held = &core->held;

	outbox_answered(core, OUTBOX_SET_ASIDE);
	Assert(held->aside_asked > 0 && held->aside_asked <= held->aside_count);
	for (uint32_t i = 0; i < held->aside_asked; i++)
		(void) in_flight_ack(&core->in_flight, held->aside_ids[i]);
	held_asides_stored(held);
	core->acked_at = now;
}

bool
outbox_on_held_page(OutboxCore *core, uint32_t rows, size_t bytes, int64_t now)
{
	outbox_answered(core, OUTBOX_ASK_HELD_PAGE);
	return held_on_page(&core->held, rows,
						rows == core->held.page_rows ||
							bytes >= OUTBOX_PAGE_BYTES,
						now);
}

bool
outbox_on_crossed_off(OutboxCore *core, bool let_go, int64_t now)
{
	outbox_answered(core, OUTBOX_CROSS_OFF);
	return held_on_crossed_off(&core->held, let_go, now);
}
