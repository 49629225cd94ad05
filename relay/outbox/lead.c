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
outbox_on_lead(OutboxCore *core, int64_t epoch, int64_t now)
{
	outbox_answered(core, OUTBOX_ASK_LEAD);
	Assert(core->state == PUMP_LEADER_WAIT);
	Assert(epoch >= 0);
	core->epoch = epoch;
	core->lead_at = now + OUTBOX_LEAD_US;
	if (epoch == 0)
	{
		backoff_succeeded(&core->db_retry);
		return;
	}
	core->state = PUMP_STREAMING;
}

bool
outbox_leads(const OutboxCore *core)
{
	return core->epoch > 0;
}

void
outbox_on_beat(OutboxCore *core, int64_t now)
{
	outbox_answered(core, OUTBOX_BEAT);
	core->beat_at = now + core->beat_us;
}

void
outbox_beat_every(OutboxCore *core, int64_t us)
{
	core->beat_us = us;
	core->beat_at = 0;
}

void
outbox_beat_now(OutboxCore *core)
{
	Assert(core->beat_us > 0);
	core->beat_at = 0;
}

/* The session is greeted, and has no question. */
bool
outbox_may_beat(const OutboxCore *core)
{
	return core->beat_us > 0 && core->asked == OUTBOX_WAIT &&
		   (core->state == PUMP_LEADER_WAIT || core->state == PUMP_STREAMING ||
			core->state == PUMP_DRAINING);
}
