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
outbox_core_init(OutboxCore *core, uint32_t in_flight_max, bool transactional,
				 uint64_t seed)
{
	*core = (OutboxCore){
		.poll_us = SEC_US,
		.page_rows_max = 1000,
		.transactional = transactional,
	};
	in_flight_init(&core->in_flight, in_flight_max);
	backoff_init(&core->db_retry, 100 * MS_US, 5 * SEC_US, seed);
	backoff_init(&core->producer_retry, 200 * MS_US, 30 * SEC_US, ~seed);
	held_init(&core->held, seed);
}

/* Forgets events read and in flight; the position is read back. */
static void
outbox_rewind(OutboxCore *core)
{
	for (uint32_t i = 0; i < core->page_count; i++)
		free(core->pages[i].opens);
	core->page_count = 0;
	core->positioned = core->reading = core->asleep = false;
	core->producer_full = core->closing = core->committing = false;
	in_flight_reset(&core->in_flight);
}

void
outbox_core_fini(OutboxCore *core)
{
	outbox_rewind(core);
	held_fini(&core->held);
	free(core->window);
	in_flight_fini(&core->in_flight);
	*core = (OutboxCore){0};
}

void
outbox_on_settings(OutboxCore *core, int64_t poll_us, uint32_t page_rows_max,
				   int64_t now)
{
	Assert(poll_us > 0 && page_rows_max > 0);
	core->poll_us = poll_us;
	core->page_rows_max = page_rows_max;
	core->poll_at = Min(core->poll_at, now + poll_us);
}

/* ---- predicates -------------------------------------------------------- */

/* A report of the producer is outstanding.  A full producer counts: after a
 * lost connection it may hold events that are no longer in flight here. */
bool
outbox_flies(const OutboxCore *core)
{
	return core->producer_full || in_flight_count(&core->in_flight) > 0;
}

/*
 * Every event that the position passes has arrived: in Kafka, or, set aside, in
 * the database.
 */
bool
outbox_may_commit(const OutboxCore *core)
{
	return core->closing && !core->producer_full &&
		   in_flight_unarrived(&core->in_flight) == 0;
}

/* ---- the database ------------------------------------------------------ */

void
outbox_answered(OutboxCore *core, OutboxAction question)
{
	Assert(core->asked == question);
	core->asked = OUTBOX_WAIT;
}

void
outbox_on_connected(OutboxCore *core, int64_t now UNUSED)
{
	outbox_answered(core, OUTBOX_CONNECT);
	Assert(core->state == PUMP_CONNECTING);
	core->state = PUMP_HANDSHAKE;
	core->step = OUTBOX_ASK_HELLO;
}

void
outbox_on_down(OutboxCore *core, int64_t now)
{
	outbox_rewind(core);
	if (core->transactional)
		core->producer_up = core->producer_opening = false;
	held_reset(&core->held);
	core->asked = OUTBOX_WAIT;
	core->epoch = 0;
	core->state = PUMP_DOWN;
	core->connect_at = now + backoff_failed(&core->db_retry);
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
outbox_on_step_done(OutboxCore *core, int64_t now)
{
	outbox_answered(core, core->step);
	Assert(core->state == PUMP_HANDSHAKE);
	core->step = outbox_step_after(core->step);
	if (core->step != OUTBOX_WAIT)
		return;
	core->state = PUMP_LEADER_WAIT;
	core->lead_at = now;
}

static void
outbox_set_window(OutboxCore *core, const char *window)
{
	Assert(window != NULL);
	free(core->window);
	core->window = xstrdup(window);
	core->opened = false;
}

void
outbox_on_position(OutboxCore *core, const char *window, int64_t seq,
				   bool finished, int64_t now)
{
	outbox_answered(core, OUTBOX_ASK_POSITION);
	Assert(!core->positioned && core->page_count == 0);
	if (core->state != PUMP_STREAMING || !core->producer_up)
		return;
	outbox_set_window(core, window);
	core->positioned = true;
	core->reading = !finished;
	core->page_after = finished ? 0 : seq;
	core->wake = false;
	core->vain = 0;
	core->poll_at = now;
	core->store_at = now + OUTBOX_STORE_US;
}

/* Opens and closes windows around pages that have no row left. */
static void
outbox_settle(OutboxCore *core)
{
	while (core->page_count > 0)
	{
		OutboxPage *page = &core->pages[0];

		if (page->opens != NULL)
		{
			in_flight_open(&core->in_flight, page->opens, page->after_seq);
			free(page->opens);
			page->opens = NULL;
		}
		if (page->done < page->rows)
			return;
		if (page->last)
			in_flight_close(&core->in_flight);
		core->page_count--;
		memmove(&core->pages[0], &core->pages[1],
				core->page_count * sizeof(OutboxPage));
	}
}

static void
outbox_add_page(OutboxCore *core, uint32_t rows, bool last)
{
	Assert(core->page_count < OUTBOX_PAGES_MAX);
	core->pages[core->page_count++] = (OutboxPage){
		.opens = core->opened ? NULL : xstrdup(core->window),
		.after_seq = core->page_after,
		.rows = rows,
		.last = last,
	};
	core->opened = true;
	core->reading = !last;
	outbox_settle(core);
}

/* False: the producer was lost since the question was sent. */
static bool
outbox_take_window(OutboxCore *core, const char *window)
{
	backoff_succeeded(&core->db_retry);
	if (!core->positioned)
		return false;
	Assert(!core->reading);
	outbox_set_window(core, window);
	core->reading = true;
	core->page_after = 0;
	return true;
}

/* The answer to a look has two parts.  The second one, the page, ends it. */
bool
outbox_on_window(OutboxCore *core, const char *window)
{
	Assert(core->asked == OUTBOX_LOOK);
	if (outbox_take_window(core, window))
		return true;
	outbox_answered(core, OUTBOX_LOOK);
	return false;
}

void
outbox_on_sleep(OutboxCore *core, const char *window, bool asleep, int64_t now)
{
	outbox_answered(core, OUTBOX_ASK_SLEEP);
	if (!outbox_take_window(core, window) || !asleep)
		return;
	outbox_add_page(core, 0, true);
	core->asleep = true;
	core->vain = OUTBOX_VAIN_LOOKS;
	core->poll_at = now + core->poll_us;
}

void
outbox_on_stored(OutboxCore *core, int64_t now UNUSED)
{
	outbox_answered(core, OUTBOX_STORE);
}

void
outbox_on_wake(OutboxCore *core)
{
	core->wake = true;
}

bool
outbox_on_page(OutboxCore *core, uint32_t rows, size_t bytes, int64_t last_seq)
{
	bool look = core->asked == OUTBOX_LOOK;
	bool last = rows < core->page_rows && bytes < OUTBOX_PAGE_BYTES;

	outbox_answered(core, look ? OUTBOX_LOOK : OUTBOX_ASK_PAGE);
	if (!core->positioned || core->state != PUMP_STREAMING)
		return false;
	Assert(!look || !core->opened); /* it is the window's first page */
	Assert(core->reading && core->page_count < OUTBOX_PAGES_MAX);
	Assert(rows <= core->page_rows);
	Assert(rows == 0 || last_seq > core->page_after);

	core->found += rows;
	if (rows > 0)
		core->vain = 0;
	else if (!core->opened)
		core->vain++;
	outbox_add_page(core, rows, last);
	if (rows > 0)
		core->page_after = last_seq;
	return rows > 0;
}

/* ---- the producer ------------------------------------------------------ */

void
outbox_on_producer_up(OutboxCore *core, int64_t now)
{
	if (!core->producer_opening)
		return;
	Assert(!core->producer_up);
	core->producer_opening = false;
	core->producer_up = true;
	core->acked_at = now;
}

void
outbox_on_producer_failed(OutboxCore *core, int64_t now)
{
	outbox_rewind(core);
	core->producer_up = core->producer_opening = false;
	core->producer_at = now + backoff_failed(&core->producer_retry);
	if (!core->transactional || core->state != PUMP_STREAMING)
		return;
	core->state = PUMP_LEADER_WAIT;
	core->lead_at = core->producer_at;
}

void
outbox_on_producer_full(OutboxCore *core, int64_t now)
{
	if (!outbox_flies(core))
		core->acked_at = now;
	core->producer_full = true;
}

void
outbox_on_producer_room(OutboxCore *core)
{
	core->producer_full = false;
}

void
outbox_on_acked(OutboxCore *core, int64_t now)
{
	if (!core->producer_up)
		return;
	core->producer_full = false;
	core->acked_at = now;
	if (!core->transactional)
		backoff_succeeded(&core->producer_retry);
}

void
outbox_on_arrived(OutboxCore *core, uint64_t id)
{
	in_flight_arrive(&core->in_flight, id);
}

void
outbox_on_committing(OutboxCore *core, int64_t now)
{
	Assert(core->closing && outbox_may_commit(core));
	core->closing = false;
	core->committing = true;
	core->acked_at = now;
}

void
outbox_on_committed(OutboxCore *core, int64_t now)
{
	if (!core->committing)
		return;
	Assert(core->producer_up && in_flight_count(&core->in_flight) == 0);
	core->committing = false;
	core->acked_at = now;
	backoff_succeeded(&core->producer_retry);
}

int64_t
outbox_row(const OutboxCore *core)
{
	if (core->page_count == 0 || core->state != PUMP_STREAMING ||
		core->producer_full || core->closing || core->committing ||
		core->held.waits || !in_flight_has_room(&core->in_flight))
		return -1;
	Assert(core->producer_up && core->positioned);
	Assert(core->pages[0].done < core->pages[0].rows);
	return core->pages[0].done;
}

/* The row at hand was produced or set aside. */
static bool
outbox_on_row(OutboxCore *core, int64_t seq, int64_t created_us, int64_t now)
{
	uint32_t pages = core->page_count;

	Assert(pages > 0 && core->pages[0].done < core->pages[0].rows);
	if (in_flight_count(&core->in_flight) == 0)
		core->acked_at = core->begun_at = now;
	in_flight_push(&core->in_flight, seq, created_us);
	core->pages[0].done++;
	if (core->pages[0].done < core->pages[0].rows)
		return false;
	outbox_settle(core);
	Assert(core->page_count < pages);
	return true;
}

bool
outbox_on_produced(OutboxCore *core, int64_t seq, int64_t created_us,
				   int64_t now)
{
	return outbox_on_row(core, seq, created_us, now);
}

bool
outbox_on_aside(OutboxCore *core, int64_t seq, int64_t created_us, int64_t now)
{
	held_put_aside(&core->held, in_flight_next_id(&core->in_flight), seq);
	return outbox_on_row(core, seq, created_us, now);
}

/* ---- stopping, and progress -------------------------------------------- */

void
outbox_on_stop(OutboxCore *core, int64_t stop_by)
{
	core->stopping = true;
	core->stop_by = stop_by;
	held_stop(&core->held);
	if (core->state == PUMP_STREAMING)
		core->state = PUMP_DRAINING;
}

bool
outbox_moves(const OutboxCore *core, int64_t now)
{
	if (core->asked != OUTBOX_WAIT && now >= core->asked_at + PUMP_SLOW_US)
		return false;
	if (core->state == PUMP_LEADER_WAIT)
		return core->epoch == 0; /* else its producer was lost */
	return core->state == PUMP_STREAMING && core->positioned &&
		   (!outbox_flies(core) || now < core->acked_at + PUMP_SLOW_US);
}
