/*
 * decide.c - what the inbox pump does next, and until when it waits
 *
 * Invariant: where inbox_next() returns INBOX_WAIT, it does so until an event
 * is reported or inbox_deadline() is reached.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox/state.h"

typedef struct InboxDue
{
	InboxAction action;
	int64_t		at;
} InboxDue;

static int64_t
inbox_place_at(const InboxState *state, InboxPlacing placing)
{
	return state->assigned && !state->placed && state->placing == placing
			   ? state->offsets_at
			   : NEVER;
}

/* The call to the database that is due first. */
static InboxDue
inbox_first_due(const InboxState *state)
{
	const InboxDue dues[] = {
		{INBOX_READ_OFFSETS, inbox_place_at(state, PLACING_READ)},
		{INBOX_STORE_PLACE, state->placed
								? state->learned_at
								: inbox_place_at(state, PLACING_STORE)},
		{state->single_failed ? INBOX_APPLY_FAILED : INBOX_APPLY,
		 state->size > 0 ? state->apply_at : NEVER},
		{INBOX_RETRY, state->retry_at},
		{INBOX_READ_METRICS,
		 state->metrics_at < state->metrics_until ? state->metrics_at : NEVER},
		{INBOX_PURGE, state->leads ? state->purge_at : NEVER},
		{INBOX_EXPIRE, state->leads ? state->expire_at : NEVER},
		{INBOX_LEVELS, state->leads ? state->levels_at : NEVER},
	};
	InboxDue first = {INBOX_WAIT, NEVER};

	for (size_t i = 0; i < Lengthof(dues); i++)
		if (dues[i].at < first.at)
			first = dues[i];
	return first;
}

static bool
inbox_is_calling(const InboxState *state)
{
	return state->call != INBOX_WAIT;
}

static InboxAction
inbox_begin_call(InboxState *state, InboxAction call, int64_t now)
{
	Assert(!inbox_is_calling(state) && call != INBOX_WAIT);
	Assert(state->pump != PUMP_DRAINING);
	state->call = call;
	state->called_at = now;
	return call;
}

static InboxAction
inbox_next_call(InboxState *state, int64_t now)
{
	InboxDue due;

	if (inbox_is_calling(state))
		return INBOX_WAIT;
	if (state->pump == PUMP_DOWN && now >= state->connect_at)
	{
		state->pump = PUMP_CONNECTING;
		return inbox_begin_call(state, INBOX_CONNECT, now);
	}
	if (state->pump == PUMP_HANDSHAKE)
		return inbox_begin_call(state, INBOX_HELLO, now);
	if (state->pump != PUMP_STREAMING)
		return INBOX_WAIT;
	due = inbox_first_due(state);
	return now >= due.at ? inbox_begin_call(state, due.action, now)
						 : INBOX_WAIT;
}

/* The group's name comes from the database: no consumer before its hello. */
static bool
inbox_wants_consumer(const InboxState *state)
{
	return state->consumes && !state->consumer_up && !state->stopping &&
		   state->pump == PUMP_STREAMING;
}

/*
 * The batch under way is completed, its offsets are committed to Kafka, then
 * the consumer leaves the group.
 */
static InboxAction
inbox_next_stopping(InboxState *state, int64_t now)
{
	Assert(state->stopping);
	if (now >= state->stop_by)
		return INBOX_DONE;
	if (state->call == INBOX_APPLY || state->call == INBOX_APPLY_FAILED)
		return INBOX_WAIT;
	if (!state->consumer_up)
		return INBOX_DONE;
	if (state->commit_at != NEVER)
		return INBOX_COMMIT;
	if (!state->closing)
	{
		state->closing = true;
		state->size = state->from = state->to = state->bad_end = 0;
		return INBOX_CLOSE;
	}
	return state->readable ? INBOX_FETCH : INBOX_WAIT;
}

/* When the next survey of the broker is due. */
static int64_t
inbox_survey_at(const InboxState *state)
{
	if (!state->consumer_up || !state->assigned || state->surveying ||
		state->pump != PUMP_STREAMING)
		return NEVER;
	return state->placed ? state->survey_at
						 : inbox_place_at(state, PLACING_SURVEY);
}

/* When the consumer is to be served even if its queue holds nothing. */
static int64_t
inbox_serve_at(const InboxState *state)
{
	return state->consumer_up && state->size == 0 ? state->serve_at : NEVER;
}

/* The messages at hand are applied: offsets are looked up before reading on. */
static void
inbox_place_anew(InboxState *state, int64_t now)
{
	Assert(state->size == 0);
	Assert(state->placed);
	state->suspend = true;
	state->disturbed = state->placed = false;
	state->learned_at = NEVER;
	state->placing = PLACING_READ;
	state->offsets_at = now + backoff_failed(&state->place_retry);
}

InboxAction
inbox_next(InboxState *state, int64_t now)
{
	if (state->stopping)
		return inbox_next_stopping(state, now);
	if (state->disturbed && state->size == 0)
		inbox_place_anew(state, now);
	if (state->suspend && state->consumer_up)
		return INBOX_SUSPEND;
	if (inbox_wants_consumer(state) && now >= state->consumer_at)
		return INBOX_NEW_CONSUMER;
	if (state->consumer_up && state->readable && state->size == 0)
		return INBOX_FETCH;
	if (now >= inbox_serve_at(state))
		return INBOX_FETCH;
	if (state->consumer_up && now >= state->commit_at)
		return INBOX_COMMIT;
	if (now >= inbox_survey_at(state))
		return INBOX_SURVEY;
	return inbox_next_call(state, now);
}

int64_t
inbox_deadline(const InboxState *state)
{
	int64_t at = NEVER;

	if (state->stopping)
		return state->stop_by;
	if (inbox_wants_consumer(state))
		at = Min(at, state->consumer_at);
	if (state->consumer_up)
		at = Min(at, state->commit_at);
	at = Min(at, inbox_serve_at(state));
	at = Min(at, inbox_survey_at(state));
	if (inbox_is_calling(state))
		return at;
	if (state->pump == PUMP_DOWN)
		at = Min(at, state->connect_at);
	if (state->pump == PUMP_STREAMING)
		at = Min(at, inbox_first_due(state).at);
	return at;
}

/* ---- readiness --------------------------------------------------------- */

bool
inbox_makes_progress(const InboxState *state, int64_t now)
{
	if (inbox_is_calling(state) && now >= state->called_at + PUMP_SLOW_US)
		return false;
	return state->pump == PUMP_STREAMING &&
		   (state->failing_since == 0 ||
			now < state->failing_since + PUMP_SLOW_US);
}

bool
inbox_overdue(const InboxState *state, int64_t now)
{
	int64_t at = inbox_deadline(state);

	if (inbox_is_calling(state))
		at = Min(at, state->called_at + INBOX_ANSWER_US);
	return at != NEVER && now > at && now - at > PUMP_GRACE_US;
}
