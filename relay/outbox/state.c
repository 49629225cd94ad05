/*
 * state.c - the outbox pump's state: what has happened
 *
 * decide.c decides what follows from it, and calls this file, never the other
 * way round.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/state.h"

#include <stdlib.h>
#include <string.h>

void
outbox_state_init(OutboxState *state, uint32_t in_flight_max,
				  bool transactional, uint64_t seed)
{
	*state = (OutboxState){
		.poll_us = SEC_US,
		.page_rows_max = 1000,
		.transactional = transactional,
	};
	in_flight_init(&state->in_flight, in_flight_max);
	backoff_init(&state->db_retry, 100 * MS_US, DB_RETRY_US_MAX, seed);
	backoff_init(&state->producer_retry, 200 * MS_US, 30 * SEC_US, ~seed);
	held_init(&state->held, seed);
}

/* Forgets events read and in flight; the position is read back. */
static void
outbox_rewind(OutboxState *state)
{
	for (uint32_t i = 0; i < state->page_count; i++)
		free(state->pages[i].opens);
	state->page_count = 0;
	state->positioned = state->reading = state->asleep = false;
	state->producer_full = state->closing = state->committing = false;
	in_flight_reset(&state->in_flight);
}

void
outbox_state_fini(OutboxState *state)
{
	outbox_rewind(state);
	held_fini(&state->held);
	free(state->window);
	in_flight_fini(&state->in_flight);
	*state = (OutboxState){0};
}

void
outbox_on_settings(OutboxState *state, int64_t poll_us, uint32_t page_rows_max,
				   int64_t now)
{
	Assert(poll_us > 0 && page_rows_max > 0);
	state->poll_us = poll_us;
	state->page_rows_max = page_rows_max;
	state->poll_at = Min(state->poll_at, now + poll_us);
}

/* ---- predicates -------------------------------------------------------- */

/*
 * A report of the producer is outstanding.  A full producer counts: after a
 * lost connection it may hold events that are no longer in flight here.
 */
bool
outbox_awaits_report(const OutboxState *state)
{
	return state->producer_full || in_flight_count(&state->in_flight) > 0;
}

/*
 * Every event that the position passes has arrived: in Kafka, or, set aside, in
 * the database.
 */
bool
outbox_may_commit(const OutboxState *state)
{
	return state->closing && !state->producer_full &&
		   in_flight_unarrived(&state->in_flight) == 0;
}

/* ---- the database ------------------------------------------------------ */

void
outbox_answered(OutboxState *state, OutboxAction question)
{
	Assert(state->asked == question);
	state->asked = OUTBOX_WAIT;
}

void
outbox_on_connected(OutboxState *state, int64_t now UNUSED)
{
	outbox_answered(state, OUTBOX_CONNECT);
	Assert(state->pump == PUMP_CONNECTING);
	state->pump = PUMP_HANDSHAKE;
	state->step = OUTBOX_ASK_HELLO;
}

void
outbox_on_down(OutboxState *state, int64_t now)
{
	int64_t tried_at = state->pump == PUMP_CONNECTING ? state->asked_at : now;

	outbox_rewind(state);
	if (state->transactional)
		state->producer_up = state->producer_opening = false;
	held_reset(&state->held);
	state->asked = OUTBOX_WAIT;
	state->epoch = 0;
	state->prompt = state->called = false; /* they call the next leader */
	state->pump = PUMP_DOWN;
	/*
	 * Between the beginnings of two tries: one that waited for a frozen server
	 * was pause enough.
	 */
	state->connect_at = Max(now, tried_at + backoff_failed(&state->db_retry));
}

/* The handshake's question after this one; OUTBOX_WAIT: it was the last. */
static OutboxAction
outbox_step_after(OutboxAction step)
{
	if (step == OUTBOX_ASK_HELLO)
		return OUTBOX_ASK_LISTEN;
	if (step == OUTBOX_ASK_LISTEN)
		return OUTBOX_ASK_ECHO;
	if (step == OUTBOX_ASK_ECHO)
		return OUTBOX_ASK_TOPICS;
	Assert(step == OUTBOX_ASK_TOPICS);
	return OUTBOX_WAIT;
}

void
outbox_on_step_done(OutboxState *state, int64_t now)
{
	outbox_answered(state, state->step);
	Assert(state->pump == PUMP_HANDSHAKE);
	state->step = outbox_step_after(state->step);
	if (state->step != OUTBOX_WAIT)
		return;
	state->pump = PUMP_LEADER_WAIT;
	state->lead_at = now;
}

static void
outbox_set_window(OutboxState *state, const char *window)
{
	Assert(window != NULL);
	free(state->window);
	state->window = xstrdup(window);
	state->opened = false;
}

void
outbox_on_position(OutboxState *state, const char *window, int64_t seq,
				   bool finished, int64_t now)
{
	outbox_answered(state, OUTBOX_ASK_POSITION);
	Assert(!state->positioned && state->page_count == 0);
	if (state->pump != PUMP_STREAMING || !state->producer_up)
		return;
	outbox_set_window(state, window);
	state->positioned = true;
	state->reading = !finished;
	state->page_after = finished ? 0 : seq;
	state->wake = false;
	state->vain = 0;
	state->poll_at = now;
	state->store_at = now + OUTBOX_STORE_US;
}

/* Opens and closes windows around pages that have no row left. */
static void
outbox_settle(OutboxState *state)
{
	while (state->page_count > 0)
	{
		OutboxPage *page = &state->pages[0];

		if (page->opens != NULL)
		{
			in_flight_open(&state->in_flight, page->opens, page->after_seq);
			free(page->opens);
			page->opens = NULL;
		}
		if (page->done < page->rows)
			return;
		if (page->last)
			in_flight_close(&state->in_flight);
		state->page_count--;
		memmove(&state->pages[0], &state->pages[1],
				state->page_count * sizeof(OutboxPage));
	}
}

static void
outbox_add_page(OutboxState *state, uint32_t rows, bool last)
{
	Assert(state->page_count < OUTBOX_PAGES_MAX);
	state->pages[state->page_count++] = (OutboxPage){
		.opens = state->opened ? NULL : xstrdup(state->window),
		.after_seq = state->page_after,
		.rows = rows,
		.last = last,
	};
	state->opened = true;
	state->reading = !last;
	outbox_settle(state);
}

/* False: the producer was lost since the question was sent. */
static bool
outbox_take_window(OutboxState *state, const char *window)
{
	backoff_succeeded(&state->db_retry);
	if (!state->positioned)
		return false;
	Assert(!state->reading);
	outbox_set_window(state, window);
	state->reading = true;
	state->page_after = 0;
	return true;
}

/* The answer to a look has two parts.  The second one, the page, ends it. */
bool
outbox_on_window(OutboxState *state, const char *window)
{
	Assert(state->asked == OUTBOX_LOOK);
	if (outbox_take_window(state, window))
		return true;
	outbox_answered(state, OUTBOX_LOOK);
	return false;
}

void
outbox_on_sleep(OutboxState *state, const char *window, bool asleep,
				int64_t now)
{
	outbox_answered(state, OUTBOX_ASK_SLEEP);
	if (!outbox_take_window(state, window) || !asleep)
		return;
	outbox_add_page(state, 0, true);
	state->asleep = true;
	state->vain = OUTBOX_VAIN_LOOKS;
	state->poll_at = now + state->poll_us;
}

void
outbox_on_stored(OutboxState *state, bool waited, int64_t now)
{
	outbox_answered(state, OUTBOX_STORE);
	state->store_took = now - state->stored_at;
	/* it may have begun to wait after the answer was computed */
	state->prompt = waited || state->called;
}

void
outbox_on_waiter(OutboxState *state)
{
	state->prompt = state->called = true;
}

void
outbox_on_wake(OutboxState *state)
{
	state->wake = true;
}

bool
outbox_on_page(OutboxState *state, uint32_t rows, size_t bytes,
			   int64_t last_seq)
{
	bool look = state->asked == OUTBOX_LOOK;
	bool last = rows < state->page_rows && bytes < OUTBOX_PAGE_BYTES;

	outbox_answered(state, look ? OUTBOX_LOOK : OUTBOX_ASK_PAGE);
	if (!state->positioned || state->pump != PUMP_STREAMING)
		return false;
	Assert(!look || !state->opened); /* it is the window's first page */
	Assert(state->reading && state->page_count < OUTBOX_PAGES_MAX);
	Assert(rows <= state->page_rows);
	Assert(rows == 0 || last_seq > state->page_after);

	state->found += rows;
	if (rows > 0)
		state->vain = 0;
	else if (!state->opened)
		state->vain++;
	outbox_add_page(state, rows, last);
	if (rows > 0)
		state->page_after = last_seq;
	return rows > 0;
}

/* ---- the producer ------------------------------------------------------ */

void
outbox_on_producer_up(OutboxState *state, int64_t now)
{
	if (!state->producer_opening)
		return;
	Assert(!state->producer_up);
	state->producer_opening = false;
	state->producer_up = true;
	state->acked_at = now;
}

void
outbox_on_producer_failed(OutboxState *state, int64_t now)
{
	outbox_rewind(state);
	state->producer_up = state->producer_opening = false;
	state->producer_at = now + backoff_failed(&state->producer_retry);
	if (!state->transactional || state->pump != PUMP_STREAMING)
		return;
	state->pump = PUMP_LEADER_WAIT;
	state->lead_at = state->producer_at;
}

void
outbox_on_producer_full(OutboxState *state, int64_t now)
{
	if (!outbox_awaits_report(state))
		state->acked_at = now;
	state->producer_full = true;
}

void
outbox_on_producer_room(OutboxState *state)
{
	state->producer_full = false;
}

void
outbox_on_acked(OutboxState *state, int64_t now)
{
	if (!state->producer_up)
		return;
	state->producer_full = false;
	state->acked_at = now;
	if (!state->transactional)
		backoff_succeeded(&state->producer_retry);
}

void
outbox_on_arrived(OutboxState *state, uint64_t id)
{
	in_flight_arrive(&state->in_flight, id);
}

void
outbox_on_committing(OutboxState *state, int64_t now)
{
	Assert(state->closing && outbox_may_commit(state));
	state->closing = false;
	state->committing = true;
	state->acked_at = now;
}

void
outbox_on_committed(OutboxState *state, int64_t now)
{
	if (!state->committing)
		return;
	Assert(state->producer_up && in_flight_count(&state->in_flight) == 0);
	state->committing = false;
	state->acked_at = now;
	backoff_succeeded(&state->producer_retry);
}

int64_t
outbox_row(const OutboxState *state)
{
	if (state->page_count == 0 || state->pump != PUMP_STREAMING ||
		state->producer_full || state->closing || state->committing ||
		state->held.waits || !in_flight_has_room(&state->in_flight))
		return -1;
	Assert(state->producer_up && state->positioned);
	Assert(state->pages[0].done < state->pages[0].rows);
	return state->pages[0].done;
}

/* The row at hand was produced or set aside. */
static bool
outbox_on_row(OutboxState *state, int64_t seq, int64_t created_us,
			  uint32_t bytes, int64_t now)
{
	uint32_t pages = state->page_count;

	Assert(pages > 0 && state->pages[0].done < state->pages[0].rows);
	if (in_flight_count(&state->in_flight) == 0)
		state->acked_at = state->begun_at = now;
	in_flight_push(&state->in_flight, seq, created_us, bytes);
	state->pages[0].done++;
	if (state->pages[0].done < state->pages[0].rows)
		return false;
	outbox_settle(state);
	Assert(state->page_count < pages);
	return true;
}

bool
outbox_on_produced(OutboxState *state, int64_t seq, int64_t created_us,
				   uint32_t bytes, int64_t now)
{
	return outbox_on_row(state, seq, created_us, bytes, now);
}

bool
outbox_on_aside(OutboxState *state, int64_t seq, int64_t created_us,
				int64_t now)
{
	held_put_aside(&state->held, in_flight_next_id(&state->in_flight), seq);
	return outbox_on_row(state, seq, created_us, 0, now);
}

/* ---- stopping, and progress -------------------------------------------- */

void
outbox_on_stop(OutboxState *state, int64_t stop_by)
{
	state->stopping = true;
	state->stop_by = stop_by;
	held_stop(&state->held);
	if (state->pump == PUMP_STREAMING)
		state->pump = PUMP_DRAINING;
}

bool
outbox_makes_progress(const OutboxState *state, int64_t now)
{
	if (state->asked != OUTBOX_WAIT && now >= state->asked_at + PUMP_SLOW_US)
		return false;
	if (state->pump == PUMP_LEADER_WAIT)
		return state->epoch == 0; /* else its producer was lost */
	return state->pump == PUMP_STREAMING && state->positioned &&
		   (!outbox_awaits_report(state) ||
			now < state->acked_at + PUMP_SLOW_US);
}
