/*
 * decide.c - what to do next, the part of the state that decides
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
inbox_place_at(const InboxCore *core, InboxPlacing placing)
{
	return core->assigned && !core->placed && core->placing == placing
			   ? core->offsets_at
			   : NEVER;
}

/* The call to the database that is due first. */
static InboxDue
inbox_first_due(const InboxCore *core)
{
	const InboxDue dues[] = {
		{INBOX_READ_OFFSETS, inbox_place_at(core, PLACING_READ)},
		{INBOX_STORE_PLACE,
		 core->placed ? core->learned_at : inbox_place_at(core, PLACING_STORE)},
		{core->single_failed ? INBOX_APPLY_FAILED : INBOX_APPLY,
		 core->size > 0 ? core->apply_at : NEVER},
		{INBOX_RETRY, core->retry_at},
		{INBOX_READ_METRICS,
		 core->metrics_at < core->metrics_until ? core->metrics_at : NEVER},
		{INBOX_PURGE, core->leads ? core->purge_at : NEVER},
		{INBOX_EXPIRE, core->leads ? core->expire_at : NEVER},
	};
	InboxDue first = {INBOX_WAIT, NEVER};

	for (size_t i = 0; i < Lengthof(dues); i++)
		if (dues[i].at < first.at)
			first = dues[i];
	return first;
}

static bool
inbox_is_calling(const InboxCore *core)
{
	return core->call != INBOX_WAIT;
}

static InboxAction
inbox_begin_call(InboxCore *core, InboxAction call, int64_t now)
{
	Assert(!inbox_is_calling(core) && call != INBOX_WAIT);
	Assert(core->state != PUMP_DRAINING);
	core->call = call;
	core->called_at = now;
	return call;
}

static InboxAction
inbox_next_call(InboxCore *core, int64_t now)
{
	InboxDue due;

	if (inbox_is_calling(core))
		return INBOX_WAIT;
	if (core->state == PUMP_DOWN && now >= core->connect_at)
	{
		core->state = PUMP_CONNECTING;
		return inbox_begin_call(core, INBOX_CONNECT, now);
	}
	if (core->state == PUMP_HANDSHAKE)
		return inbox_begin_call(core, INBOX_HELLO, now);
	if (core->state != PUMP_STREAMING)
		return INBOX_WAIT;
	due = inbox_first_due(core);
	return now >= due.at ? inbox_begin_call(core, due.action, now) : INBOX_WAIT;
}

/* The group's name comes from the database: no consumer before its hello. */
static bool
inbox_wants_consumer(const InboxCore *core)
{
	return core->consumes && !core->consumer_up && !core->stopping &&
		   core->state == PUMP_STREAMING;
}

/* The batch under way is completed, its offsets are committed to Kafka, then
 * the consumer leaves the group. */
static InboxAction
inbox_next_stopping(InboxCore *core, int64_t now)
{
	Assert(core->stopping);
	if (now >= core->stop_by)
		return INBOX_DONE;
	if (core->call == INBOX_APPLY || core->call == INBOX_APPLY_FAILED)
		return INBOX_WAIT;
	if (!core->consumer_up)
		return INBOX_DONE;
	if (core->commit_at != NEVER)
		return INBOX_COMMIT;
	if (!core->closing)
	{
		core->closing = true;
		core->size = core->from = core->to = core->bad_end = 0;
		return INBOX_CLOSE;
	}
	return core->readable ? INBOX_FETCH : INBOX_WAIT;
}

/* When the next survey of the broker is due. */
static int64_t
inbox_survey_at(const InboxCore *core)
{
	if (!core->consumer_up || !core->assigned || core->surveying ||
		core->state != PUMP_STREAMING)
		return NEVER;
	return core->placed ? core->survey_at
						: inbox_place_at(core, PLACING_SURVEY);
}

/* When the consumer is to be served even if its queue holds nothing. */
static int64_t
inbox_serve_at(const InboxCore *core)
{
	return core->consumer_up && core->size == 0 ? core->serve_at : NEVER;
}

/* The messages at hand are applied: offsets are looked up before reading on. */
static void
inbox_place_anew(InboxCore *core, int64_t now)
{
	Assert(core->size == 0);
	Assert(core->placed);
	core->suspend = true;
	core->disturbed = core->placed = false;
	core->learned_at = NEVER;
	core->placing = PLACING_READ;
	core->offsets_at = now + backoff_failed(&core->place_retry);
}

InboxAction
inbox_next(InboxCore *core, int64_t now)
{
	if (core->stopping)
		return inbox_next_stopping(core, now);
	if (core->disturbed && core->size == 0)
		inbox_place_anew(core, now);
	if (core->suspend && core->consumer_up)
		return INBOX_SUSPEND;
	if (inbox_wants_consumer(core) && now >= core->consumer_at)
		return INBOX_NEW_CONSUMER;
	if (core->consumer_up && core->readable && core->size == 0)
		return INBOX_FETCH;
	if (now >= inbox_serve_at(core))
		return INBOX_FETCH;
	if (core->consumer_up && now >= core->commit_at)
		return INBOX_COMMIT;
	if (now >= inbox_survey_at(core))
		return INBOX_SURVEY;
	return inbox_next_call(core, now);
}

int64_t
inbox_deadline(const InboxCore *core)
{
	int64_t at = NEVER;

	if (core->stopping)
		return core->stop_by;
	if (inbox_wants_consumer(core))
		at = Min(at, core->consumer_at);
	if (core->consumer_up)
		at = Min(at, core->commit_at);
	at = Min(at, inbox_serve_at(core));
	at = Min(at, inbox_survey_at(core));
	if (inbox_is_calling(core))
		return at;
	if (core->state == PUMP_DOWN)
		at = Min(at, core->connect_at);
	if (core->state == PUMP_STREAMING)
		at = Min(at, inbox_first_due(core).at);
	return at;
}

/* ---- readiness --------------------------------------------------------- */

bool
inbox_moves(const InboxCore *core, int64_t now)
{
	if (inbox_is_calling(core) && now >= core->called_at + PUMP_SLOW_US)
		return false;
	return core->state == PUMP_STREAMING &&
		   (core->failing_since == 0 ||
			now < core->failing_since + PUMP_SLOW_US);
}

bool
inbox_overdue(const InboxCore *core, int64_t now)
{
	int64_t at = inbox_deadline(core);

	if (inbox_is_calling(core))
		at = Min(at, core->called_at + INBOX_ANSWER_US);
	return at != NEVER && now > at && now - at > PUMP_GRACE_US;
}
