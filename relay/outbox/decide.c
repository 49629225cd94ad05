/*
 * decide.c - what the outbox pump does next, and until when it waits
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/state.h"

#include <math.h>

static OutboxAction
outbox_ask(OutboxState *state, OutboxAction question, int64_t now)
{
	Assert(state->asked == OUTBOX_WAIT);
	state->asked = question;
	state->asked_at = now;
	return question;
}

/* When it may be stored for a session that waits. */
static int64_t
outbox_store_prompt_at(const OutboxState *state)
{
	return state->stored_at +
		   Max(OUTBOX_STORE_PROMPT_US,
			   OUTBOX_STORE_PROMPT_SHARE * state->store_took);
}

/* When the position is to be stored; NEVER if there is nothing to store. */
static int64_t
outbox_store_due(const OutboxState *state)
{
	if (!state->in_flight.moved)
		return NEVER;
	if (state->stopping || state->in_flight.passed >= OUTBOX_STORE_EVENTS)
		return 0;
	if (in_flight_position_counts(&state->in_flight))
		return state->prompt
				   ? Min(state->store_at, outbox_store_prompt_at(state))
				   : state->store_at;
	return state->store_at + OUTBOX_STORE_IDLE_US;
}

static OutboxAction
outbox_store(OutboxState *state, int64_t now)
{
	if (!in_flight_position(&state->in_flight, &state->storing))
		Assert(!"a position to store");
	in_flight_stored(&state->in_flight);
	state->store_at = now + OUTBOX_STORE_US;
	state->stored_at = now;
	state->called = false;
	return outbox_ask(state, OUTBOX_STORE, now);
}

/*
 * A window is opened in the ring when its first page is at hand: as many as
 * there are pages may be on the way.
 */
static bool
outbox_may_ask_window(const OutboxState *state)
{
	return !state->reading && state->page_count < OUTBOX_PAGES_MAX &&
		   state->in_flight.window_count + OUTBOX_PAGES_MAX <
			   IN_FLIGHT_WINDOWS_MAX;
}

static OutboxCause
outbox_cause(const OutboxState *state)
{
	if (state->wake)
		return CAUSE_NOTIFY;
	if (state->asleep)
		return CAUSE_POLL;
	return state->vain > OUTBOX_VAIN_LOOKS ? CAUSE_WRITERS : CAUSE_AWAKE;
}

/*
 * How long after this look the next one is due, by what the look before found.
 * A look costs the same whatever it finds, and takes that from the writers: the
 * more there is, the longer it waits for more.  By the square root, so that
 * in the balance this time grows as the rate does: 1.5 ms at 2,000 events a
 * second, 7.5 ms at 10,000.
 */
static int64_t
outbox_pace(const OutboxState *state)
{
	double	gathers = sqrt((double) state->found * OUTBOX_GATHER_US * MS_US);
	int64_t pace = OUTBOX_AWAKE_US;

	for (uint32_t i = 0; i < state->vain && pace < OUTBOX_AWAKE_MAX_US; i++)
		pace *= 2;
	return Min(Max(pace, (int64_t) gathers), OUTBOX_AWAKE_MAX_US);
}

/*
 * A look for sleep holds off writers that commit meanwhile: not where there was
 * something just before.
 */
static OutboxAction
outbox_look(OutboxState *state, int64_t now)
{
	int64_t pace = outbox_pace(state);
	bool	tired;

	state->cause = outbox_cause(state);
	if (state->wake)
		state->vain = 0;
	state->wake = state->asleep = false;
	state->found = 0;
	tired = state->vain >= OUTBOX_VAIN_LOOKS;
	state->poll_at = now + Min(pace, state->poll_us);
	state->page_rows = state->page_rows_max;
	return outbox_ask(state, tired ? OUTBOX_ASK_SLEEP : OUTBOX_LOOK, now);
}

static OutboxAction
outbox_set_aside(OutboxState *state, int64_t now)
{
	held_ask_asides(&state->held);
	return outbox_ask(state, OUTBOX_SET_ASIDE, now);
}

static OutboxAction
outbox_hold(OutboxState *state, int64_t now)
{
	held_store(&state->held);
	return outbox_ask(state, OUTBOX_HOLD, now);
}

/* The next question about held topics; storing them is the first. */
static OutboxAction
outbox_held_question(OutboxState *state, int64_t now)
{
	if (state->held.aside_count > 0)
		return outbox_set_aside(state, now);
	held_start(&state->held, now);
	if (state->held.state == LANE_READING)
		return outbox_ask(state, OUTBOX_ASK_HELD_PAGE, now);
	if (state->held.state == LANE_CROSSING)
		return outbox_ask(state, OUTBOX_CROSS_OFF, now);
	return OUTBOX_WAIT;
}

/* The next query to the database while streaming. */
static OutboxAction
outbox_next_question(OutboxState *state, int64_t now)
{
	OutboxAction question;

	if (!state->held.known)
		return outbox_ask(state, OUTBOX_ASK_HELD, now);
	if (held_has_unstored(&state->held))
		return outbox_hold(state, now);
	if (!state->positioned)
		return state->producer_up ? outbox_ask(state, OUTBOX_ASK_POSITION, now)
								  : OUTBOX_WAIT;
	if (now >= outbox_store_due(state))
		return outbox_store(state, now);
	question = outbox_held_question(state, now);
	if (question != OUTBOX_WAIT)
		return question;
	if (state->reading && state->page_count < OUTBOX_PAGES_MAX)
	{
		state->page_rows = state->page_rows_max;
		return outbox_ask(state, OUTBOX_ASK_PAGE, now);
	}
	if (outbox_may_ask_window(state) && (state->wake || now >= state->poll_at))
		return outbox_look(state, now);
	return OUTBOX_WAIT;
}

static bool
outbox_may_close(const OutboxState *state)
{
	return state->transactional && !state->closing && !state->committing &&
		   in_flight_count(&state->in_flight) > 0;
}

/*
 * A single event does not wait; under load a transaction takes the events that
 * arrived while the one before was committed.
 */
static bool
outbox_close_due(const OutboxState *state, int64_t now)
{
	return outbox_may_close(state) &&
		   ((state->page_count == 0 && !state->reading) || state->stopping ||
			!in_flight_has_room(&state->in_flight) ||
			now >= state->begun_at + OUTBOX_COMMIT_US);
}

static bool
outbox_commit_due(OutboxState *state, int64_t now)
{
	if (in_flight_count(&state->in_flight) == 0)
		state->closing = false; /* all of it was set aside */
	else if (outbox_close_due(state, now))
		state->closing = true;
	return outbox_may_commit(state);
}

static OutboxAction
outbox_next_streaming(OutboxState *state, int64_t now)
{
	OutboxAction action = OUTBOX_WAIT;

	Assert(state->epoch > 0);
	if (state->asked == OUTBOX_WAIT)
		action = outbox_next_question(state, now);
	if (action != OUTBOX_WAIT)
		return action;
	if (outbox_commit_due(state, now))
		return OUTBOX_COMMIT;
	if (state->held.state == LANE_PRODUCING && !state->held.lane_up)
		return OUTBOX_NEW_LANE;
	if (held_may_send(&state->held))
		return OUTBOX_PRODUCE_HELD;
	return outbox_row(state) >= 0 ? OUTBOX_PRODUCE : OUTBOX_WAIT;
}

/* Only events in flight may still arrive, and their position be stored. */
static OutboxAction
outbox_next_draining(OutboxState *state, int64_t now)
{
	bool arrived = in_flight_count(&state->in_flight) == 0 ||
				   !state->producer_up;

	if (now >= state->stop_by)
		return OUTBOX_DONE;
	if (outbox_commit_due(state, now))
		return OUTBOX_COMMIT;
	if (state->asked != OUTBOX_WAIT)
		return OUTBOX_WAIT;
	if (state->positioned && state->held.aside_count > 0)
		return held_has_unstored(&state->held) ? outbox_hold(state, now)
											   : outbox_set_aside(state, now);
	if (state->positioned && state->in_flight.moved &&
		(arrived || now >= state->store_at))
		return outbox_store(state, now);
	return arrived ? OUTBOX_DONE : OUTBOX_WAIT;
}

static bool
outbox_may_open_producer(const OutboxState *state)
{
	return !state->stopping && !state->producer_up &&
		   !state->producer_opening &&
		   (!state->transactional || state->pump == PUMP_STREAMING);
}

/* What holds between two reports, whatever they are. */
static void
outbox_check(const OutboxState *state)
{
	Assert(!state->positioned || state->producer_up);
	Assert(!state->reading || state->positioned);
	Assert(!state->asleep || state->positioned);
	Assert(state->page_count == 0 || state->positioned);
	Assert(state->page_count <= OUTBOX_PAGES_MAX);
	Assert(!state->producer_up || !state->producer_opening);
	Assert(!state->closing || (state->transactional && !state->committing));
	Assert(!state->committing || (state->transactional && state->producer_up));
	Assert(state->epoch > 0 || !state->positioned);
	Assert(state->pump != PUMP_DOWN || state->asked == OUTBOX_WAIT);
	Assert((state->pump == PUMP_CONNECTING) ==
		   (state->asked == OUTBOX_CONNECT));
}

OutboxAction
outbox_next(OutboxState *state, int64_t now)
{
	outbox_check(state);
	if (state->stopping && state->pump != PUMP_DRAINING)
		return OUTBOX_DONE;
	if (state->producer_up && outbox_awaits_report(state) &&
		now >= state->acked_at + OUTBOX_STALL_US)
		outbox_on_producer_failed(state, now);
	if (outbox_may_open_producer(state) && now >= state->producer_at)
	{
		state->producer_opening = true;
		return OUTBOX_NEW_PRODUCER;
	}
	held_tick(&state->held, now);
	if (state->held.state == LANE_IDLE && state->held.lane_up)
		return OUTBOX_CLOSE_LANE;

	if (outbox_may_beat(state) && now >= state->beat_at)
		return outbox_ask(state, OUTBOX_BEAT, now);

	switch (state->pump)
	{
		case PUMP_DOWN:
			if (now < state->connect_at)
				return OUTBOX_WAIT;
			state->pump = PUMP_CONNECTING;
			return outbox_ask(state, OUTBOX_CONNECT, now);
		case PUMP_CONNECTING:
			return OUTBOX_WAIT;
		case PUMP_HANDSHAKE:
			return state->asked == OUTBOX_WAIT
					   ? outbox_ask(state, state->step, now)
					   : OUTBOX_WAIT;
		case PUMP_LEADER_WAIT:
			return state->asked == OUTBOX_WAIT && now >= state->lead_at
					   ? outbox_ask(state, OUTBOX_ASK_LEAD, now)
					   : OUTBOX_WAIT;
		case PUMP_STREAMING:
			return outbox_next_streaming(state, now);
		case PUMP_DRAINING:
			return outbox_next_draining(state, now);
	}
	Assert(!"a known state");
}

/* A held topic may be tried as soon as it is due. */
static bool
outbox_may_try(const OutboxState *state)
{
	return state->pump == PUMP_STREAMING && state->positioned &&
		   state->asked == OUTBOX_WAIT;
}

int64_t
outbox_deadline(const OutboxState *state)
{
	int64_t at = state->stopping ? state->stop_by : NEVER;

	if (outbox_may_open_producer(state))
		at = Min(at, state->producer_at);
	if (state->producer_up && outbox_awaits_report(state))
		at = Min(at, state->acked_at + OUTBOX_STALL_US);
	at = Min(at, held_deadline(&state->held, outbox_may_try(state)));
	if (outbox_may_close(state))
		at = Min(at, state->begun_at + OUTBOX_COMMIT_US);
	if (state->pump == PUMP_DOWN)
		return Min(at, state->connect_at);
	if (outbox_may_beat(state))
		at = Min(at, state->beat_at);
	if (state->asked != OUTBOX_WAIT)
		return at;
	if (state->pump == PUMP_LEADER_WAIT)
		return Min(at, state->lead_at);
	if (state->pump == PUMP_DRAINING && state->in_flight.moved)
		return Min(at, state->store_at);
	if (state->pump != PUMP_STREAMING || !state->positioned)
		return at;
	at = Min(at, outbox_store_due(state));
	if (outbox_may_ask_window(state))
		at = Min(at, state->poll_at);
	return at;
}

bool
outbox_overdue(const OutboxState *state, int64_t now)
{
	int64_t at = outbox_deadline(state);

	if (state->asked != OUTBOX_WAIT)
		at = Min(at, state->asked_at + OUTBOX_ANSWER_US);
	return at != NEVER && now > at && now - at > PUMP_GRACE_US;
}
