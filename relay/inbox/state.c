/*
 * state.c - what to do next between Kafka and the inbox
 *
 * The events: each records what happened.  decide.c has the decisions.
 *
 * Invariants of a batch, while there is one: from < to <= size, and a message
 * that fails permanently is below bad_end.  Without one all four are 0.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox/state.h"

#include "common/sqlstate.h"

void
inbox_state_init(InboxState *state, bool consumes, uint64_t seed)
{
	*state = (InboxState){
		.consumes = consumes,
		.commit_at = NEVER,
		.learned_at = NEVER,
		.metrics_until = 1, /* once at the start */
	};
	backoff_init(&state->db_retry, 100 * MS_US, DB_RETRY_US_MAX, seed);
	backoff_init(&state->consumer_retry, 200 * MS_US, 30 * SEC_US, seed + 1);
	backoff_init(&state->apply_retry, 20 * MS_US, 5 * SEC_US, seed + 2);
	backoff_init(&state->place_retry, 20 * MS_US, 10 * SEC_US, seed + 3);
}

/* ---- the database ------------------------------------------------------ */

static void
inbox_end_call(InboxState *state, InboxAction call)
{
	Assert(state->call == call);
	state->call = INBOX_WAIT;
}

/* The messages that the consumer has read are of no use any more. */
static void
inbox_drop(InboxState *state)
{
	state->size = state->from = state->to = state->bad_end = 0;
	state->single_failed = false;
	state->failing_since = 0;
	state->placed = state->disturbed = false;
	state->learned_at = NEVER;
	state->placing = PLACING_READ;
}

void
inbox_on_connected(InboxState *state)
{
	inbox_end_call(state, INBOX_CONNECT);
	Assert(state->pump == PUMP_CONNECTING);
	state->pump = PUMP_HANDSHAKE;
}

void
inbox_on_down(InboxState *state, int64_t now)
{
	int64_t tried_at = state->pump == PUMP_CONNECTING ? state->called_at : now;

	state->suspend = state->suspend || state->placed || state->size > 0;
	inbox_drop(state);
	state->call = INBOX_WAIT;
	state->offsets_stale = false;
	state->pump = PUMP_DOWN;
	state->connect_at = Max(now, tried_at + backoff_failed(&state->db_retry));
}

void
inbox_on_hello(InboxState *state, int64_t now)
{
	inbox_end_call(state, INBOX_HELLO);
	Assert(state->pump == PUMP_HANDSHAKE);
	state->pump = PUMP_STREAMING;
	state->retry_at = state->offsets_at = now;
	state->purge_at = state->expire_at = state->levels_at = now;
}

bool
inbox_on_offsets(InboxState *state, int64_t now)
{
	bool good = state->assigned && !state->suspend && !state->offsets_stale;

	inbox_end_call(state, INBOX_READ_OFFSETS);
	state->offsets_stale = false;
	if (good)
	{
		state->placing = PLACING_SURVEY;
		state->offsets_at = now;
	}
	return good;
}

/* Also of a change that was to be stored: placing starts again. */
void
inbox_on_offsets_failed(InboxState *state, int64_t now)
{
	Assert(state->call == INBOX_READ_OFFSETS ||
		   state->call == INBOX_STORE_PLACE);
	state->call = INBOX_WAIT;
	state->offsets_stale = false;
	state->learned_at = NEVER;
	if (!state->placed)
		state->placing = PLACING_READ;
	state->offsets_at = now + backoff_failed(&state->apply_retry);
}

void
inbox_on_survey_begun(InboxState *state)
{
	Assert(!state->surveying);
	state->surveying = true;
	if (!state->placed)
		state->placing = PLACING_WAIT;
}

bool
inbox_on_surveyed(InboxState *state, InboxFound found, int64_t now)
{
	state->surveying = false;
	state->surveyed_at = now;
	state->survey_at = now + (found == INBOX_WAITS ? INBOX_SURVEY_US_WAIT
												   : INBOX_SURVEY_US);
	if (state->placed)
	{
		if (found == INBOX_MISPLACED)
			state->disturbed = true;
		else if (!state->disturbed && found == INBOX_FITS)
			backoff_succeeded(&state->place_retry);
		return false;
	}
	/* the survey began before the present assignment */
	if (state->placing != PLACING_WAIT)
		return false;
	if (state->suspend || found == INBOX_TO_STORE)
	{
		state->placing = state->suspend ? PLACING_READ : PLACING_STORE;
		state->offsets_at = now;
		return false;
	}
	Assert(state->assigned && state->size == 0);
	state->placed = true;
	return true;
}

void
inbox_on_stored(InboxState *state, bool more, int64_t now)
{
	inbox_end_call(state, INBOX_STORE_PLACE);
	if (state->placed)
		state->learned_at = more ? now : NEVER;
	else if (state->placing == PLACING_STORE && !more)
	{
		state->placing = PLACING_READ;
		state->offsets_at = now;
	}
}

void
inbox_on_retried(InboxState *state, uint64_t rows, int64_t now)
{
	inbox_end_call(state, INBOX_RETRY);
	/* messages that waited behind these may be due now */
	state->retry_at = rows > 0 ? now : now + INBOX_RETRY_US;
	backoff_succeeded(&state->db_retry);
}

static void
inbox_begin_one_by_one(InboxState *state, int64_t now)
{
	state->one_by_one_until = now + INBOX_ONE_BY_ONE_US;
	state->impatient_until = now + INBOX_IMPATIENT_US;
}

void
inbox_on_retry_error(InboxState *state, SqlClass class, int64_t now)
{
	inbox_on_retried(state, 0, now);
	if (class == SQL_TRANSIENT)
		inbox_begin_one_by_one(state, now);
}

bool
inbox_applies_one_by_one(const InboxState *state, int64_t now)
{
	return now < state->one_by_one_until;
}

void
inbox_on_metrics(InboxState *state, int64_t now)
{
	inbox_end_call(state, INBOX_READ_METRICS);
	state->metrics_at = now + INBOX_METRICS_US;
}

void
inbox_on_purged(InboxState *state, uint64_t rows, int64_t retention_us,
				int64_t now)
{
	int64_t pause = Min(INBOX_PURGE_US, retention_us / INBOX_PURGE_SHARE);

	inbox_end_call(state, INBOX_PURGE);
	state->purge_at = rows > 0 ? now : now + Max(pause, INBOX_PURGE_US_MIN);
}

/* The database returns how long no line will be due; 0: some are. */
void
inbox_on_expired(InboxState *state, int64_t wait_us, int64_t now)
{
	inbox_end_call(state, INBOX_EXPIRE);
	state->expire_at = now + Min(Max(wait_us, 0), INBOX_EXPIRE_US_MAX);
}

/* By the beginning of the step: so there are not more of them in a second. */
void
inbox_on_levels(InboxState *state, int64_t pace_us, bool idle, int64_t now)
{
	inbox_end_call(state, INBOX_LEVELS);
	if (pace_us == 0)
		state->levels_at = NEVER;
	else if (idle)
		state->levels_at = now + Max(pace_us, INBOX_LEVELS_US_IDLE);
	else
		state->levels_at = Max(state->called_at + pace_us, now);
}

void
inbox_on_levels_read(InboxState *state, int64_t now)
{
	inbox_end_call(state, INBOX_LEVELS);
	state->levels_at = now;
}

void
inbox_on_levels_failed(InboxState *state, int64_t now)
{
	inbox_end_call(state, INBOX_LEVELS);
	state->levels_at = now + INBOX_FAILED_US;
}

void
inbox_on_metrics_wanted(InboxState *state, int64_t now)
{
	state->metrics_until = now + INBOX_METRICS_KEEP_US;
	state->survey_at = Min(state->survey_at,
						   state->surveyed_at + INBOX_SURVEY_US_MIN);
}

/* Without a connection there will be none. */
bool
inbox_gauges_are_new(const InboxState *state, int64_t now)
{
	return state->metrics_at > now || state->pump == PUMP_DOWN ||
		   state->pump == PUMP_CONNECTING || state->stopping;
}

/* ---- the batch --------------------------------------------------------- */

/* The next try: half of the range that holds a bad message, or the rest. */
static void
inbox_next_range(InboxState *state)
{
	uint32_t bad = state->bad_end > state->from ? state->bad_end - state->from
												: 0;

	if (bad == 0)
		state->to = state->size;
	else
		state->to = state->from + Max(bad / 2, 1);
	Assert(state->from < state->to && state->to <= state->size);
}

bool
inbox_on_applied(InboxState *state, uint32_t applied, int64_t now)
{
	Assert(state->call == INBOX_APPLY || state->call == INBOX_APPLY_FAILED);
	Assert(state->from < state->to && state->to <= state->size);
	Assert(applied <= state->to - state->from);
	state->call = INBOX_WAIT;
	backoff_succeeded(&state->apply_retry);
	backoff_succeeded(&state->db_retry);
	state->failing_since = 0;
	state->single_failed = false;
	state->from += applied;
	state->apply_at = now;
	if (state->commit_at == NEVER)
		state->commit_at = now + INBOX_COMMIT_US;
	if (state->from == state->size)
	{
		state->size = state->from = state->to = state->bad_end = 0;
		return true;
	}
	inbox_next_range(state);
	return false;
}

void
inbox_on_apply_error(InboxState *state, SqlClass class, int64_t now)
{
	Assert(state->call == INBOX_APPLY || state->call == INBOX_APPLY_FAILED);
	Assert(state->from < state->to && state->to <= state->size);
	state->call = INBOX_WAIT;

	if (class == SQL_PERMANENT && state->to - state->from > 1)
	{
		state->bad_end = state->to;
		inbox_next_range(state);
		state->apply_at = now;
		return;
	}
	if (class == SQL_PERMANENT && !state->single_failed)
	{
		state->single_failed = true;
		state->apply_at = now;
		return;
	}
	if (state->failing_since == 0)
		state->failing_since = now;
	state->apply_at = now + backoff_failed(&state->apply_retry);
	if (class == SQL_TRANSIENT &&
		(now - state->failing_since >= INBOX_PATIENCE_US ||
		 now < state->impatient_until))
		inbox_begin_one_by_one(state, now);
	if (now - state->failing_since >= INBOX_GIVE_UP_US)
	{
		state->suspend = true;
		state->offsets_at = state->apply_at;
		inbox_drop(state);
	}
}

/* ---- the consumer ------------------------------------------------------ */

void
inbox_on_consumer_up(InboxState *state)
{
	Assert(!state->consumer_up);
	state->consumer_up = true;
	state->readable = true;
	state->assigned = state->placed = state->suspend = false;
}

void
inbox_on_consumer_failed(InboxState *state, int64_t now)
{
	inbox_drop(state);
	state->consumer_up = state->assigned = state->suspend = false;
	state->surveying = false;
	state->commit_at = NEVER;
	state->consumer_at = now + backoff_failed(&state->consumer_retry);
}

void
inbox_on_readable(InboxState *state)
{
	state->readable = true;
}

void
inbox_on_rebalance(InboxState *state, bool assigned, int64_t now)
{
	inbox_drop(state);
	state->suspend = false;
	state->assigned = assigned;
	state->offsets_at = now;
	state->offsets_stale = state->call == INBOX_READ_OFFSETS;
}

void
inbox_on_suspended(InboxState *state)
{
	Assert(state->suspend);
	state->suspend = false;
}

void
inbox_on_fetched(InboxState *state, uint32_t messages, bool drained,
				 int64_t now)
{
	Assert(state->size == 0);
	state->readable = !drained;
	state->serve_at = now + INBOX_SERVE_US;
	if (messages == 0)
		return;
	Assert(state->placed && state->assigned);
	backoff_succeeded(&state->consumer_retry);
	state->size = state->to = messages;
	state->from = state->bad_end = 0;
	state->apply_at = now;
}

void
inbox_on_disturbed(InboxState *state)
{
	state->disturbed = state->placed;
}

void
inbox_on_learned(InboxState *state, int64_t now)
{
	state->learned_at = state->placed ? now : NEVER;
}

void
inbox_on_committed(InboxState *state)
{
	state->commit_at = NEVER;
}

void
inbox_on_closed(InboxState *state)
{
	state->consumer_up = false;
	state->assigned = state->placed = false;
}

/* ---- leading and stopping ---------------------------------------------- */

void
inbox_on_leads(InboxState *state, bool leads, int64_t now)
{
	if (leads && !state->leads)
		state->levels_at = now;
	state->leads = leads;
}

void
inbox_on_stop(InboxState *state, int64_t stop_by)
{
	state->stopping = true;
	state->stop_by = stop_by;
	if (state->pump == PUMP_STREAMING)
		state->pump = PUMP_DRAINING;
}
