/*
 * decide.c - what the outbox pump does next, and until when it waits
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/state.h"

#include <math.h>

static OutboxAction
outbox_ask(OutboxCore *core, OutboxAction question, int64_t now)
{
	Assert(core->asked == OUTBOX_WAIT);
	core->asked = question;
	core->asked_at = now;
	return question;
}

/* When the position is to be stored; NEVER if there is nothing to store. */
static int64_t
outbox_store_due(const OutboxCore *core)
{
	if (!core->in_flight.moved)
		return NEVER;
	if (core->stopping || core->in_flight.passed >= OUTBOX_STORE_EVENTS)
		return 0;
	if (in_flight_position_counts(&core->in_flight))
		return core->store_at;
	return core->store_at + OUTBOX_STORE_IDLE_US;
}

static OutboxAction
outbox_store(OutboxCore *core, int64_t now)
{
	if (!in_flight_position(&core->in_flight, &core->storing))
		Assert(!"a position to store");
	in_flight_stored(&core->in_flight);
	core->store_at = now + OUTBOX_STORE_US;
	return outbox_ask(core, OUTBOX_STORE, now);
}

/* A window is opened in the ring when its first page is at hand: as many as
 * there are pages may be on the way. */
static bool
outbox_may_ask_window(const OutboxCore *core)
{
	return !core->reading && core->page_count < OUTBOX_PAGES_MAX &&
		   core->in_flight.window_count + OUTBOX_PAGES_MAX <
			   IN_FLIGHT_WINDOWS_MAX;
}

static OutboxCause
outbox_cause(const OutboxCore *core)
{
	if (core->wake)
		return CAUSE_NOTIFY;
	if (core->asleep)
		return CAUSE_POLL;
	return core->vain > OUTBOX_VAIN_LOOKS ? CAUSE_WRITERS : CAUSE_AWAKE;
}

/*
 * How long after this look the next one is due, by what the look before found.
 * A look costs the same whatever it finds, and takes that from the writers: the
 * more there is, the longer it waits for more.  By the square root, so that
 * in the balance this time grows as the rate does: 1.5 ms at 2,000 events a
 * second, 7.5 ms at 10,000.
 */
static int64_t
outbox_pace(const OutboxCore *core)
{
	double	gathers = sqrt((double) core->found * OUTBOX_GATHER_US * MS_US);
	int64_t pace = OUTBOX_AWAKE_US;

	for (uint32_t i = 0; i < core->vain && pace < OUTBOX_AWAKE_MAX_US; i++)
		pace *= 2;
	return Min(Max(pace, (int64_t) gathers), OUTBOX_AWAKE_MAX_US);
}

/* A look for sleep holds off writers that commit meanwhile: not where there was
 * something just before. */
static OutboxAction
outbox_look(OutboxCore *core, int64_t now)
{
	int64_t pace = outbox_pace(core);
	bool	tired;

	core->cause = outbox_cause(core);
	if (core->wake)
		core->vain = 0;
	core->wake = core->asleep = false;
	core->found = 0;
	tired = core->vain >= OUTBOX_VAIN_LOOKS;
	core->poll_at = now + Min(pace, core->poll_us);
	core->page_rows = core->page_rows_max;
	return outbox_ask(core, tired ? OUTBOX_ASK_SLEEP : OUTBOX_LOOK, now);
}

static OutboxAction
outbox_set_aside(OutboxCore *core, int64_t now)
{
	held_ask_asides(&core->held);
	return outbox_ask(core, OUTBOX_SET_ASIDE, now);
}

static OutboxAction
outbox_hold(OutboxCore *core, int64_t now)
{
	held_store(&core->held);
	return outbox_ask(core, OUTBOX_HOLD, now);
}

/* The next question about held topics; storing them is the first. */
static OutboxAction
outbox_held_question(OutboxCore *core, int64_t now)
{
	if (core->held.aside_count > 0)
		return outbox_set_aside(core, now);
	held_start(&core->held, now);
	if (core->held.state == LANE_READING)
		return outbox_ask(core, OUTBOX_ASK_HELD_PAGE, now);
	if (core->held.state == LANE_CROSSING)
		return outbox_ask(core, OUTBOX_CROSS_OFF, now);
	return OUTBOX_WAIT;
}

/* The next query to the database while streaming. */
static OutboxAction
outbox_next_question(OutboxCore *core, int64_t now)
{
	OutboxAction question;

	if (!core->held.known)
		return outbox_ask(core, OUTBOX_ASK_HELD, now);
	if (held_has_unstored(&core->held))
		return outbox_hold(core, now);
	if (!core->positioned)
		return core->producer_up ? outbox_ask(core, OUTBOX_ASK_POSITION, now)
								 : OUTBOX_WAIT;
	if (now >= outbox_store_due(core))
		return outbox_store(core, now);
	question = outbox_held_question(core, now);
	if (question != OUTBOX_WAIT)
		return question;
	if (core->reading && core->page_count < OUTBOX_PAGES_MAX)
	{
		core->page_rows = core->page_rows_max;
		return outbox_ask(core, OUTBOX_ASK_PAGE, now);
	}
	if (outbox_may_ask_window(core) && (core->wake || now >= core->poll_at))
		return outbox_look(core, now);
	return OUTBOX_WAIT;
}

static bool
outbox_may_close(const OutboxCore *core)
{
	return core->transactional && !core->closing && !core->committing &&
		   in_flight_count(&core->in_flight) > 0;
}

/*
 * A single event does not wait; under load a transaction takes the events that
 * arrived while the one before was committed.
 */
static bool
outbox_close_due(const OutboxCore *core, int64_t now)
{
	return outbox_may_close(core) &&
		   ((core->page_count == 0 && !core->reading) || core->stopping ||
			!in_flight_has_room(&core->in_flight) ||
			now >= core->begun_at + OUTBOX_COMMIT_US);
}

static bool
outbox_commit_due(OutboxCore *core, int64_t now)
{
	if (in_flight_count(&core->in_flight) == 0)
		core->closing = false; /* all of it was set aside */
	else if (outbox_close_due(core, now))
		core->closing = true;
	return outbox_may_commit(core);
}

static OutboxAction
outbox_next_streaming(OutboxCore *core, int64_t now)
{
	OutboxAction action = OUTBOX_WAIT;

	Assert(core->epoch > 0);
	if (core->asked == OUTBOX_WAIT)
		action = outbox_next_question(core, now);
	if (action != OUTBOX_WAIT)
		return action;
	if (outbox_commit_due(core, now))
		return OUTBOX_COMMIT;
	if (core->held.state == LANE_FLYING && !core->held.lane_up)
		return OUTBOX_NEW_LANE;
	if (held_may_send(&core->held))
		return OUTBOX_PRODUCE_HELD;
	return outbox_row(core) >= 0 ? OUTBOX_PRODUCE : OUTBOX_WAIT;
}

/* Only events in flight may still arrive, and their position be stored. */
static OutboxAction
outbox_next_draining(OutboxCore *core, int64_t now)
{
	bool arrived = in_flight_count(&core->in_flight) == 0 || !core->producer_up;

	if (now >= core->stop_by)
		return OUTBOX_DONE;
	if (outbox_commit_due(core, now))
		return OUTBOX_COMMIT;
	if (core->asked != OUTBOX_WAIT)
		return OUTBOX_WAIT;
	if (core->positioned && core->held.aside_count > 0)
		return held_has_unstored(&core->held) ? outbox_hold(core, now)
											  : outbox_set_aside(core, now);
	if (core->positioned && core->in_flight.moved &&
		(arrived || now >= core->store_at))
		return outbox_store(core, now);
	return arrived ? OUTBOX_DONE : OUTBOX_WAIT;
}

static bool
outbox_may_open_producer(const OutboxCore *core)
{
	return !core->stopping && !core->producer_up && !core->producer_opening &&
		   (!core->transactional || core->state == PUMP_STREAMING);
}

/* What holds between two reports, whatever they are. */
static void
outbox_check(const OutboxCore *core)
{
	Assert(!core->positioned || core->producer_up);
	Assert(!core->reading || core->positioned);
	Assert(!core->asleep || core->positioned);
	Assert(core->page_count == 0 || core->positioned);
	Assert(core->page_count <= OUTBOX_PAGES_MAX);
	Assert(!core->producer_up || !core->producer_opening);
	Assert(!core->closing || (core->transactional && !core->committing));
	Assert(!core->committing || (core->transactional && core->producer_up));
	Assert(core->epoch > 0 || !core->positioned);
	Assert(core->state != PUMP_DOWN || core->asked == OUTBOX_WAIT);
	Assert((core->state == PUMP_CONNECTING) == (core->asked == OUTBOX_CONNECT));
}

OutboxAction
outbox_next(OutboxCore *core, int64_t now)
{
	outbox_check(core);
	if (core->stopping && core->state != PUMP_DRAINING)
		return OUTBOX_DONE;
	if (core->producer_up && outbox_flies(core) &&
		now >= core->acked_at + OUTBOX_STALL_US)
		outbox_on_producer_failed(core, now);
	if (outbox_may_open_producer(core) && now >= core->producer_at)
	{
		core->producer_opening = true;
		return OUTBOX_NEW_PRODUCER;
	}
	held_tick(&core->held, now);
	if (core->held.state == LANE_IDLE && core->held.lane_up)
		return OUTBOX_CLOSE_LANE;

	if (outbox_may_beat(core) && now >= core->beat_at)
		return outbox_ask(core, OUTBOX_BEAT, now);

	switch (core->state)
	{
		case PUMP_DOWN:
			if (now < core->connect_at)
				return OUTBOX_WAIT;
			core->state = PUMP_CONNECTING;
			return outbox_ask(core, OUTBOX_CONNECT, now);
		case PUMP_CONNECTING:
			return OUTBOX_WAIT;
		case PUMP_HANDSHAKE:
			return core->asked == OUTBOX_WAIT
					   ? outbox_ask(core, core->step, now)
					   : OUTBOX_WAIT;
		case PUMP_LEADER_WAIT:
			return core->asked == OUTBOX_WAIT && now >= core->lead_at
					   ? outbox_ask(core, OUTBOX_ASK_LEAD, now)
					   : OUTBOX_WAIT;
		case PUMP_STREAMING:
			return outbox_next_streaming(core, now);
		case PUMP_DRAINING:
			return outbox_next_draining(core, now);
	}
	Assert(!"a known state");
}

/* A held topic may be tried as soon as it is due. */
static bool
outbox_may_try(const OutboxCore *core)
{
	return core->state == PUMP_STREAMING && core->positioned &&
		   core->asked == OUTBOX_WAIT;
}

int64_t
outbox_deadline(const OutboxCore *core)
{
	int64_t at = core->stopping ? core->stop_by : NEVER;

	if (outbox_may_open_producer(core))
		at = Min(at, core->producer_at);
	if (core->producer_up && outbox_flies(core))
		at = Min(at, core->acked_at + OUTBOX_STALL_US);
	at = Min(at, held_deadline(&core->held, outbox_may_try(core)));
	if (outbox_may_close(core))
		at = Min(at, core->begun_at + OUTBOX_COMMIT_US);
	if (core->state == PUMP_DOWN)
		return Min(at, core->connect_at);
	if (outbox_may_beat(core))
		at = Min(at, core->beat_at);
	if (core->asked != OUTBOX_WAIT)
		return at;
	if (core->state == PUMP_LEADER_WAIT)
		return Min(at, core->lead_at);
	if (core->state == PUMP_DRAINING && core->in_flight.moved)
		return Min(at, core->store_at);
	if (core->state != PUMP_STREAMING || !core->positioned)
		return at;
	at = Min(at, outbox_store_due(core));
	if (outbox_may_ask_window(core))
		at = Min(at, core->poll_at);
	return at;
}

bool
outbox_overdue(const OutboxCore *core, int64_t now)
{
	int64_t at = outbox_deadline(core);

	if (core->asked != OUTBOX_WAIT)
		at = Min(at, core->asked_at + OUTBOX_ANSWER_US);
	return at != NEVER && now > at && now - at > PUMP_GRACE_US;
}
