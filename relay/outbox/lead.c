/*
 * lead.c - the outbox pump's state: the lead
 *
 * The relay whose session holds the database's lock on the lead publishes the
 * outbox (sql/lead.sql); the others stand by, in LEADER_WAIT, and ask for it
 * every OUTBOX_LEAD_US.  Each lead has an epoch, without which no position can
 * be stored: a relay whose session was ended may not know that yet.
 *
 * The lock ends with the session.  The server ends it after OUTBOX_IDLE_MS
 * without a query, so the relay sends a beat in time.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/state.h"

void
outbox_on_lead(OutboxState *state, int64_t epoch, int64_t now)
{
	outbox_answered(state, OUTBOX_ASK_LEAD);
	Assert(state->pump == PUMP_LEADER_WAIT);
	Assert(epoch >= 0);
	state->epoch = epoch;
	state->lead_at = now + OUTBOX_LEAD_US;
	if (epoch == 0)
	{
		backoff_succeeded(&state->db_retry);
		return;
	}
	state->pump = PUMP_STREAMING;
}

bool
outbox_leads(const OutboxState *state)
{
	return state->epoch > 0;
}

void
outbox_on_beat(OutboxState *state, int64_t now)
{
	outbox_answered(state, OUTBOX_BEAT);
	state->beat_at = now + state->beat_us;
}

void
outbox_beat_every(OutboxState *state, int64_t us)
{
	state->beat_us = us;
	state->beat_at = 0;
}

/* The session is greeted, and has no question. */
bool
outbox_may_beat(const OutboxState *state)
{
	return state->beat_us > 0 && state->asked == OUTBOX_WAIT &&
		   (state->pump == PUMP_LEADER_WAIT || state->pump == PUMP_STREAMING ||
			state->pump == PUMP_DRAINING);
}
