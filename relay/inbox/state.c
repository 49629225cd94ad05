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
inbox_core_init(InboxCore *core, bool consumes, uint64_t seed)
{
	*core = (InboxCore){
		.consumes = consumes,
		.commit_at = NEVER,
		.learned_at = NEVER,
		.metrics_until = 1, /* once at the start */
	};
	backoff_init(&core->db_retry, 100 * MS_US, 5 * SEC_US, seed);
	backoff_init(&core->consumer_retry, 200 * MS_US, 30 * SEC_US, seed + 1);
	backoff_init(&core->apply_retry, 20 * MS_US, 5 * SEC_US, seed + 2);
	backoff_init(&core->place_retry, 20 * MS_US, 10 * SEC_US, seed + 3);
}

/* ---- the database ------------------------------------------------------ */

static void
inbox_end_call(InboxCore *core, InboxAction call)
{
	Assert(core->call == call);
	core->call = INBOX_WAIT;
}

/* The messages that the consumer has read are of no use any more. */
static void
inbox_drop(InboxCore *core)
{
	core->size = core->from = core->to = core->bad_end = 0;
	core->single_failed = false;
	core->failing_since = 0;
	core->placed = core->disturbed = false;
	core->learned_at = NEVER;
	core->placing = PLACING_READ;
}

void
inbox_on_connected(InboxCore *core)
{
	inbox_end_call(core, INBOX_CONNECT);
	Assert(core->state == PUMP_CONNECTING);
	core->state = PUMP_HANDSHAKE;
}

void
inbox_on_down(InboxCore *core, int64_t now)
{
	core->suspend = core->suspend || core->placed || core->size > 0;
	inbox_drop(core);
	core->call = INBOX_WAIT;
	core->offsets_stale = false;
	core->state = PUMP_DOWN;
	core->connect_at = now + backoff_failed(&core->db_retry);
}

void
inbox_on_hello(InboxCore *core, int64_t now)
{
	inbox_end_call(core, INBOX_HELLO);
	Assert(core->state == PUMP_HANDSHAKE);
	core->state = PUMP_STREAMING;
	core->retry_at = core->offsets_at = now;
	core->purge_at = core->expire_at = now;
}

bool
inbox_on_offsets(InboxCore *core, int64_t now)
{
	bool good = core->assigned && !core->suspend && !core->offsets_stale;

	inbox_end_call(core, INBOX_READ_OFFSETS);
	core->offsets_stale = false;
	if (good)
	{
		core->placing = PLACING_SURVEY;
		core->offsets_at = now;
	}
	return good;
}

/* Also of a change that was to be stored: placing starts again. */
void
inbox_on_offsets_failed(InboxCore *core, int64_t now)
{
	Assert(core->call == INBOX_READ_OFFSETS || core->call == INBOX_STORE_PLACE);
	core->call = INBOX_WAIT;
	core->offsets_stale = false;
	core->learned_at = NEVER;
	if (!core->placed)
		core->placing = PLACING_READ;
	core->offsets_at = now + backoff_failed(&core->apply_retry);
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
			backoff_succeeded(&core->place_retry);
		return false;
	}
	/* the survey began before the present assignment */
	if (core->placing != PLACING_WAIT)
		return false;
	if (core->suspend || found == INBOX_TO_STORE)
	{
		core->placing = core->suspend ? PLACING_READ : PLACING_STORE;
		core->offsets_at = now;
		return false;
	}
	Assert(core->assigned && core->size == 0);
	core->placed = true;
	return true;
}

void
inbox_on_stored(InboxCore *core, bool more, int64_t now)
{
	inbox_end_call(core, INBOX_STORE_PLACE);
	if (core->placed)
		core->learned_at = more ? now : NEVER;
	else if (core->placing == PLACING_STORE && !more)
	{
		core->placing = PLACING_READ;
		core->offsets_at = now;
	}
}

void
inbox_on_retried(InboxCore *core, uint64_t rows, int64_t now)
{
	inbox_end_call(core, INBOX_RETRY);
	/* messages that waited behind these may be due now */
	core->retry_at = rows > 0 ? now : now + INBOX_RETRY_US;
	backoff_succeeded(&core->db_retry);
}

static void
inbox_begin_one_by_one(InboxCore *core, int64_t now)
{
	core->one_by_one_until = now + INBOX_ONE_BY_ONE_US;
	core->impatient_until = now + INBOX_IMPATIENT_US;
}

void
inbox_on_retry_error(InboxCore *core, SqlClass class, int64_t now)
{
	inbox_on_retried(core, 0, now);
	if (class == SQL_TRANSIENT)
		inbox_begin_one_by_one(core, now);
}

bool
inbox_applies_one_by_one(const InboxCore *core, int64_t now)
{
	return now < core->one_by_one_until;
}

void
inbox_on_metrics(InboxCore *core, int64_t now)
{
	inbox_end_call(core, INBOX_READ_METRICS);
	core->metrics_at = now + INBOX_METRICS_US;
}

void
inbox_on_purged(InboxCore *core, uint64_t rows, int64_t retention_us,
				int64_t now)
{
	int64_t pause = Min(INBOX_PURGE_US, retention_us / INBOX_PURGE_SHARE);

	inbox_end_call(core, INBOX_PURGE);
	core->purge_at = rows > 0 ? now : now + Max(pause, INBOX_PURGE_US_MIN);
}

/* The database returns how long no line will be due; 0: some are. */
void
inbox_on_expired(InboxCore *core, int64_t wait_us, int64_t now)
{
	inbox_end_call(core, INBOX_EXPIRE);
	core->expire_at = now + Min(Max(wait_us, 0), INBOX_EXPIRE_US_MAX);
}

void
inbox_on_metrics_wanted(InboxCore *core, int64_t now)
{
	core->metrics_until = now + INBOX_METRICS_KEEP_US;
	core->survey_at = Min(core->survey_at,
						  core->surveyed_at + INBOX_SURVEY_US_MIN);
}

/* Without a connection there will be none. */
bool
inbox_gauges_are_new(const InboxCore *core, int64_t now)
{
	return core->metrics_at > now || core->state == PUMP_DOWN ||
		   core->state == PUMP_CONNECTING || core->stopping;
}

/* ---- the batch --------------------------------------------------------- */

/* The next try: half of the range that holds a bad message, or the rest. */
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
	Assert(core->call == INBOX_APPLY || core->call == INBOX_APPLY_FAILED);
	Assert(core->from < core->to && core->to <= core->size);
	Assert(applied <= core->to - core->from);
	core->call = INBOX_WAIT;
	backoff_succeeded(&core->apply_retry);
	backoff_succeeded(&core->db_retry);
	core->failing_since = 0;
	core->single_failed = false;
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
	Assert(core->call == INBOX_APPLY || core->call == INBOX_APPLY_FAILED);
	Assert(core->from < core->to && core->to <= core->size);
	core->call = INBOX_WAIT;

	if (class == SQL_PERMANENT && core->to - core->from > 1)
	{
		core->bad_end = core->to;
		inbox_next_range(core);
		core->apply_at = now;
		return;
	}
	if (class == SQL_PERMANENT && !core->single_failed)
	{
		core->single_failed = true;
		core->apply_at = now;
		return;
	}
	if (core->failing_since == 0)
		core->failing_since = now;
	core->apply_at = now + backoff_failed(&core->apply_retry);
	if (class == SQL_TRANSIENT &&
		(now - core->failing_since >= INBOX_PATIENCE_US ||
		 now < core->impatient_until))
		inbox_begin_one_by_one(core, now);
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
	core->consumer_at = now + backoff_failed(&core->consumer_retry);
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
	core->offsets_stale = core->call == INBOX_READ_OFFSETS;
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
	Assert(core->placed && core->assigned);
	backoff_succeeded(&core->consumer_retry);
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

/* ---- leading and stopping ---------------------------------------------- */

void
inbox_on_leads(InboxCore *core, bool leads)
{
	core->leads = leads;
}

void
inbox_on_stop(InboxCore *core, int64_t stop_by)
{
	core->stopping = true;
	core->stop_by = stop_by;
	if (core->state == PUMP_STREAMING)
		core->state = PUMP_DRAINING;
}
