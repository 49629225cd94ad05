/*
 * state.c - what to do next between Kafka and the inbox
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox/state.h"

#include "common/sqlstate.h"

void
inbox_core_init(InboxCore *core, bool consumes, uint64_t seed)
{
	*core = (InboxCore){
		.consumes = consumes,
		.commit_at = NEVER,
		.learned_at = NEVER,
		.metrics_until = 1, /* once at the start */
	};
	retry_init(&core->db_retry, 100 * MS_US, 5 * SEC_US, seed);
	retry_init(&core->consumer_retry, 200 * MS_US, 30 * SEC_US, seed + 1);
	retry_init(&core->apply_retry, 20 * MS_US, 5 * SEC_US, seed + 2);
	retry_init(&core->place_retry, 20 * MS_US, 10 * SEC_US, seed + 3);
}

/* ---- deciding ---------------------------------------------------------- */

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

/* The question to the database that is due first. */
static InboxDue
inbox_first_due(const InboxCore *core)
{
	const InboxDue dues[] = {
		{INBOX_ASK_OFFSETS, inbox_place_at(core, PLACING_ASK)},
		{INBOX_STORE_PLACE,
		 core->placed ? core->learned_at : inbox_place_at(core, PLACING_STORE)},
		{core->alone ? INBOX_APPLY_FAILED : INBOX_APPLY,
		 core->size > 0 ? core->apply_at : NEVER},
		{INBOX_ASK_RETRY, core->retry_at},
		{INBOX_ASK_METRICS,
		 core->metrics_at < core->metrics_until ? core->metrics_at : NEVER},
		{INBOX_ASK_PURGE, core->leads ? core->purge_at : NEVER},
		{INBOX_ASK_EXPIRE, core->leads ? core->expire_at : NEVER},
	};
	InboxDue first = {INBOX_WAIT, NEVER};

	for (size_t i = 0; i < Lengthof(dues); i++)
		if (dues[i].at < first.at)
			first = dues[i];
	return first;
}

static bool
inbox_asks(const InboxCore *core)
{
	return core->asked != INBOX_WAIT;
}

static InboxAction
inbox_ask(InboxCore *core, InboxAction question, int64_t now)
{
	Assert(!inbox_asks(core));
	core->asked = question;
	core->asked_at = now;
	return question;
}

static InboxAction
inbox_next_question(InboxCore *core, int64_t now)
{
	InboxDue due;

	if (inbox_asks(core))
		return INBOX_WAIT;
	if (core->state == PUMP_DOWN && now >= core->connect_at)
	{
		core->state = PUMP_CONNECTING;
		return inbox_ask(core, INBOX_CONNECT, now);
	}
	if (core->state == PUMP_HANDSHAKE)
		return inbox_ask(core, INBOX_ASK_HELLO, now);
	if (core->state != PUMP_STREAMING)
		return INBOX_WAIT;
	due = inbox_first_due(core);
	return now >= due.at ? inbox_ask(core, due.action, now) : INBOX_WAIT;
}

/* The group's name comes from the database: no consumer before its hello. */
static bool
inbox_wants_consumer(const InboxCore *core)
{
	return core->consumes && !core->consumer_up && !core->stopping &&
		   core->state == PUMP_STREAMING;
}

/* A batch under way is let finish, its offsets go to Kafka, then the group is
 * left. */
static InboxAction
inbox_next_stopping(InboxCore *core, int64_t now)
{
	if (now >= core->stop_by)
		return INBOX_DONE;
	if (core->asked == INBOX_APPLY || core->asked == INBOX_APPLY_FAILED)
		return INBOX_WAIT;
	if (!core->consumer_up)
		return INBOX_DONE;
	if (core->commit_at != NEVER)
		return INBOX_COMMIT;
	if (!core->closing)
	{
		core->closing = true;
		core->size = 0;
		return INBOX_CLOSE;
	}
	return core->readable ? INBOX_FETCH : INBOX_WAIT;
}

/* When the broker is to be asked what it has. */
static int64_t
inbox_survey_at(const InboxCore *core)
{
	if (!core->consumer_up || !core->assigned || core->surveying ||
		core->state != PUMP_STREAMING)
		return NEVER;
	return core->placed ? core->survey_at
						: inbox_place_at(core, PLACING_SURVEY);
}

/* When the consumer is to be served, though its queue holds nothing. */
static int64_t
inbox_serve_at(const InboxCore *core)
{
	return core->consumer_up && core->size == 0 ? core->serve_at : NEVER;
}

/* What was at hand is applied: nothing more is taken from there. */
static void
inbox_place_anew(InboxCore *core, int64_t now)
{
	core->suspend = true;
	core->disturbed = core->placed = false;
	core->learned_at = NEVER;
	core->placing = PLACING_ASK;
	core->offsets_at = now + retry_failed(&core->place_retry);
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
	return inbox_next_question(core, now);
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
	if (inbox_asks(core))
		return at;
	if (core->state == PUMP_DOWN)
		at = Min(at, core->connect_at);
	if (core->state == PUMP_STREAMING)
		at = Min(at, inbox_first_due(core).at);
	return at;
}

/* ---- the database ------------------------------------------------------ */

static void
inbox_answered(InboxCore *core, InboxAction question)
{
	Assert(core->asked == question);
	core->asked = INBOX_WAIT;
}

/* What the consumer has read is of no use any more. */
static void
inbox_drop(InboxCore *core)
{
	core->size = core->from = core->to = core->bad_end = 0;
	core->alone = false;
	core->failing_since = 0;
	core->placed = core->disturbed = false;
	core->learned_at = NEVER;
	core->placing = PLACING_ASK;
}

void
inbox_on_connected(InboxCore *core)
{
	inbox_answered(core, INBOX_CONNECT);
	Assert(core->state == PUMP_CONNECTING);
	core->state = PUMP_HANDSHAKE;
}

void
inbox_on_down(InboxCore *core, int64_t now)
{
	core->suspend = core->suspend || core->placed || core->size > 0;
	inbox_drop(core);
	core->asked = INBOX_WAIT;
	core->offsets_stale = false;
	core->state = PUMP_DOWN;
	core->connect_at = now + retry_failed(&core->db_retry);
}

void
inbox_on_hello(InboxCore *core, int64_t now)
{
	inbox_answered(core, INBOX_ASK_HELLO);
	Assert(core->state == PUMP_HANDSHAKE);
	core->state = PUMP_STREAMING;
	core->retry_at = core->offsets_at = now;
	core->purge_at = core->expire_at = now;
}

bool
inbox_on_offsets(InboxCore *core, int64_t now)
{
	bool good = core->assigned && !core->suspend && !core->offsets_stale;

	inbox_answered(core, INBOX_ASK_OFFSETS);
	core->offsets_stale = false;
	if (good)
	{
		core->placing = PLACING_SURVEY;
		core->offsets_at = now;
	}
	return good;
}

/* Also of what was to be stored: all of it is asked again. */
void
inbox_on_offsets_failed(InboxCore *core, int64_t now)
{
	Assert(core->asked == INBOX_ASK_OFFSETS ||
		   core->asked == INBOX_STORE_PLACE);
	core->asked = INBOX_WAIT;
	core->offsets_stale = false;
	core->learned_at = NEVER;
	if (!core->placed)
		core->placing = PLACING_ASK;
	core->offsets_at = now + retry_failed(&core->apply_retry);
}

void
inbox_on_survey_begun(InboxCore *core)
{
	Assert(!core->surveying);
	core->surveying = true;
	if (!core->placed)
		core->placing = PLACING_WAIT;
}

bool
inbox_on_surveyed(InboxCore *core, InboxFound found, int64_t now)
{
	core->surveying = false;
	core->surveyed_at = now;
	core->survey_at = now + (found == INBOX_WAITS ? INBOX_SURVEY_US_WAIT
												  : INBOX_SURVEY_US);
	if (core->placed)
	{
		if (found == INBOX_MISPLACED)
			core->disturbed = true;
		else if (!core->disturbed && found == INBOX_FITS)
			retry_succeeded(&core->place_retry);
		return false;
	}
	/* asked before what is the case now */
	if (core->placing != PLACING_WAIT)
		return false;
	if (core->suspend || found == INBOX_TO_STORE)
	{
		core->placing = core->suspend ? PLACING_ASK : PLACING_STORE;
		core->offsets_at = now;
		return false;
	}
	core->placed = true;
	return true;
}

void
inbox_on_stored(InboxCore *core, bool more, int64_t now)
{
	inbox_answered(core, INBOX_STORE_PLACE);
	if (core->placed)
		core->learned_at = more ? now : NEVER;
	else if (core->placing == PLACING_STORE && !more)
	{
		core->placing = PLACING_ASK;
		core->offsets_at = now;
	}
}

void
inbox_on_retried(InboxCore *core, uint64_t rows, int64_t now)
{
	inbox_answered(core, INBOX_ASK_RETRY);
	/* what was tried may have woken what queued behind it */
	core->retry_at = rows > 0 ? now : now + INBOX_RETRY_US;
	retry_succeeded(&core->db_retry);
}

static void
inbox_be_careful(InboxCore *core, int64_t now)
{
	core->careful_until = now + INBOX_CAREFUL_US;
	core->wary_until = now + INBOX_WARY_US;
}

void
inbox_on_retry_error(InboxCore *core, SqlClass class, int64_t now)
{
	inbox_on_retried(core, 0, now);
	if (class == SQL_TRANSIENT)
		inbox_be_careful(core, now);
}

bool
inbox_is_careful(const InboxCore *core, int64_t now)
{
	return now < core->careful_until;
}

void
inbox_on_metrics(InboxCore *core, int64_t now)
{
	inbox_answered(core, INBOX_ASK_METRICS);
	core->metrics_at = now + INBOX_METRICS_US;
}

void
inbox_on_purged(InboxCore *core, uint64_t rows, int64_t retention_us,
				int64_t now)
{
	int64_t pause = Min(INBOX_PURGE_US, retention_us / INBOX_PURGE_SHARE);

	inbox_answered(core, INBOX_ASK_PURGE);
	core->purge_at = rows > 0 ? now : now + Max(pause, INBOX_PURGE_US_MIN);
}

/* The database says when there will be something to do; 0: there is more. */
void
inbox_on_expired(InboxCore *core, int64_t wait_us, int64_t now)
{
	inbox_answered(core, INBOX_ASK_EXPIRE);
	core->expire_at = now + Min(Max(wait_us, 0), INBOX_EXPIRE_US_MAX);
}

void
inbox_on_metrics_wanted(InboxCore *core, int64_t now)
{
	core->metrics_until = now + INBOX_METRICS_KEEP_US;
	core->survey_at = Min(core->survey_at,
						  core->surveyed_at + INBOX_SURVEY_US_MIN);
}

/* Where the database cannot be asked there will be none. */
bool
inbox_gauges_are_new(const InboxCore *core, int64_t now)
{
	return core->metrics_at > now || core->state == PUMP_DOWN ||
		   core->state == PUMP_CONNECTING || core->stopping;
}

/* ---- the batch --------------------------------------------------------- */

/* The next try: the half that is known to hold a bad message, or the rest. */
static void
inbox_next_range(InboxCore *core)
{
	uint32_t bad = core->bad_end > core->from ? core->bad_end - core->from : 0;

	if (bad == 0)
		core->to = core->size;
	else
		core->to = core->from + Max(bad / 2, 1);
	Assert(core->from < core->to && core->to <= core->size);
}

bool
inbox_on_applied(InboxCore *core, uint32_t applied, int64_t now)
{
	Assert(core->asked == INBOX_APPLY || core->asked == INBOX_APPLY_FAILED);
	Assert(core->from < core->to && core->to <= core->size);
	Assert(applied <= core->to - core->from);
	core->asked = INBOX_WAIT;
	retry_succeeded(&core->apply_retry);
	retry_succeeded(&core->db_retry);
	core->failing_since = 0;
	core->alone = false;
	core->from += applied;
	core->apply_at = now;
	if (core->commit_at == NEVER)
		core->commit_at = now + INBOX_COMMIT_US;
	if (core->from == core->size)
	{
		core->size = core->from = core->to = core->bad_end = 0;
		return true;
	}
	inbox_next_range(core);
	return false;
}

void
inbox_on_apply_error(InboxCore *core, SqlClass class, int64_t now)
{
	Assert(core->asked == INBOX_APPLY || core->asked == INBOX_APPLY_FAILED);
	Assert(core->from < core->to && core->to <= core->size);
	core->asked = INBOX_WAIT;

	if (class == SQL_PERMANENT && core->to - core->from > 1)
	{
		core->bad_end = core->to;
		inbox_next_range(core);
		core->apply_at = now;
		return;
	}
	if (class == SQL_PERMANENT && !core->alone)
	{
		core->alone = true;
		core->apply_at = now;
		return;
	}
	if (core->failing_since == 0)
		core->failing_since = now;
	core->apply_at = now + retry_failed(&core->apply_retry);
	if (class == SQL_TRANSIENT &&
		(now - core->failing_since >= INBOX_PATIENCE_US ||
		 now < core->wary_until))
		inbox_be_careful(core, now);
	if (now - core->failing_since >= INBOX_GIVE_UP_US)
	{
		core->suspend = true;
		core->offsets_at = core->apply_at;
		inbox_drop(core);
	}
}

/* ---- the consumer ------------------------------------------------------ */

void
inbox_on_consumer_up(InboxCore *core)
{
	Assert(!core->consumer_up);
	core->consumer_up = true;
	core->readable = true;
	core->assigned = core->placed = core->suspend = false;
}

void
inbox_on_consumer_failed(InboxCore *core, int64_t now)
{
	inbox_drop(core);
	core->consumer_up = core->assigned = core->suspend = false;
	core->surveying = false;
	core->commit_at = NEVER;
	core->consumer_at = now + retry_failed(&core->consumer_retry);
}

void
inbox_on_readable(InboxCore *core)
{
	core->readable = true;
}

void
inbox_on_rebalance(InboxCore *core, bool assigned, int64_t now)
{
	inbox_drop(core);
	core->suspend = false;
	core->assigned = assigned;
	core->offsets_at = now;
	core->offsets_stale = core->asked == INBOX_ASK_OFFSETS;
}

void
inbox_on_suspended(InboxCore *core)
{
	Assert(core->suspend);
	core->suspend = false;
}

void
inbox_on_fetched(InboxCore *core, uint32_t messages, bool drained, int64_t now)
{
	Assert(core->size == 0);
	core->readable = !drained;
	core->serve_at = now + INBOX_SERVE_US;
	if (messages == 0)
		return;
	Assert(core->placed);
	retry_succeeded(&core->consumer_retry);
	core->size = core->to = messages;
	core->from = core->bad_end = 0;
	core->apply_at = now;
}

void
inbox_on_disturbed(InboxCore *core)
{
	core->disturbed = core->placed;
}

void
inbox_on_learned(InboxCore *core, int64_t now)
{
	core->learned_at = core->placed ? now : NEVER;
}

void
inbox_on_committed(InboxCore *core)
{
	core->commit_at = NEVER;
}

void
inbox_on_closed(InboxCore *core)
{
	core->consumer_up = false;
	core->assigned = core->placed = false;
}

/* ---- stopping, and how it goes ----------------------------------------- */

void
inbox_on_stop(InboxCore *core, int64_t stop_by)
{
	core->stopping = true;
	core->stop_by = stop_by;
	if (core->state == PUMP_STREAMING)
		core->state = PUMP_DRAINING;
}

bool
inbox_moves(const InboxCore *core, int64_t now)
{
	if (inbox_asks(core) && now >= core->asked_at + PUMP_SLOW_US)
		return false;
	return core->state == PUMP_STREAMING &&
		   (core->failing_since == 0 ||
			now < core->failing_since + PUMP_SLOW_US);
}

bool
inbox_overdue(const InboxCore *core, int64_t now)
{
	int64_t at = inbox_deadline(core);

	if (inbox_asks(core))
		at = Min(at, core->asked_at + INBOX_ANSWER_US);
	return at != NEVER && now > at && now - at > PUMP_GRACE_US;
}
