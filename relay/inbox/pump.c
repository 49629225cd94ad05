/*
 * pump.c - from Kafka to stock; and the upkeep of the database
 *
 * The acting half: it carries out what state.c decides and reports the results.
 * Its connection also serves the upkeep: retries of messages, the database's
 * own metrics, the purge.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox/pump_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/json.h"

#define LOG_MODULE "inbox"

static void inbox_on_conn(void *arg, PgConnectionEvent event, PGresult *result);

/* ---- life -------------------------------------------------------------- */

static void
inbox_readable(void *arg)
{
	Inbox *inbox = arg;

	inbox_on_readable(&inbox->state);
}

static void
inbox_surveyed(void *arg)
{
	Inbox			 *inbox = arg;
	const InboxState *state = &inbox->state;
	Consumer		 *consumer = inbox->consumer;
	InboxFound found = consumer_waits(consumer) ? INBOX_WAITS : INBOX_FITS;

	if (state->placed)
	{
		if (consumer_is_misplaced(consumer))
			found = INBOX_MISPLACED;
		else if (!state->disturbed)
			consumer_clear_trouble(consumer);
	}
	else if (consumer_wants_change(consumer))
		found = INBOX_TO_STORE;
	if (inbox_on_surveyed(&inbox->state, found, loop_now(inbox->loop)))
		consumer_place(consumer);
}

static void
inbox_rebalanced(void *arg, bool assigned)
{
	Inbox *inbox = arg;

	inbox_on_rebalance(&inbox->state, assigned, loop_now(inbox->loop));
	if (assigned)
		log_recovered(&inbox->consumer_throttle);
}

Inbox *
inbox_new(Loop *loop, const Config *config, Metrics *metrics)
{
	static const ConsumerHandlers handlers = {
		.readable = inbox_readable,
		.rebalance = inbox_rebalanced,
		.surveyed = inbox_surveyed,
	};
	Inbox *inbox = xcalloc(1, sizeof(Inbox));

	inbox->loop = loop;
	inbox->config = config;
	inbox->metrics = metrics;
	inbox->conn = pg_connection_new(loop, INBOX_ANSWER_US, inbox_on_conn,
									inbox);
	inbox->consumer = consumer_new(loop, metrics, &handlers, inbox);
	inbox->level_reader = level_reader_new(loop);
	inbox_new_process_id(inbox);
	inbox_state_init(&inbox->state, config->topics[0] != NULL,
					 (uint64_t) getpid() * 31 + (uint64_t) loop_now(loop));
	inbox_begin_metrics(inbox);
	return inbox;
}

void
inbox_free(Inbox *inbox)
{
	if (inbox == NULL)
		return;
	consumer_free(inbox->consumer);
	pg_connection_free(inbox->conn);
	api_batch_free(&inbox->batch);
	buf_free(&inbox->options);
	buf_free(&inbox->failed_error);
	buf_free(&inbox->trouble);
	buf_free(&inbox->upkeep_trouble);
	inbox_forget_levels(inbox);
	level_reader_free(inbox->level_reader);
	api_batch_free(&inbox->level_records);
	free(inbox);
}

void
inbox_reconfigured(Inbox *inbox)
{
	inbox_write_options(inbox);
	consumer_reconfigured(inbox->consumer, inbox->config);
	level_reader_reconfigured(inbox->level_reader, inbox->config);
}

/* ---- the database -------------------------------------------------------- */

static void
inbox_on_conn(void *arg, PgConnectionEvent event, PGresult *result)
{
	Inbox	   *inbox = arg;
	const char *sqlstate;

	switch (event)
	{
		case PG_CONNECTION_UP:
			inbox_on_connected(&inbox->state);
			break;
		case PG_CONNECTION_DOWN:
			inbox_db_failed(inbox, pg_connection_error(inbox->conn));
			break;
		case PG_CONNECTION_NOTIFY:
			break;
		case PG_CONNECTION_RESULT:
			sqlstate = api_sqlstate(result);
			if (sqlstate != NULL)
				inbox_take_error(inbox, sqlstate, result);
			else
				inbox_take_answer(inbox, result);
			PQclear(result);
			break;
	}
}

/* ---- acting ------------------------------------------------------------ */

static void
inbox_new_consumer(Inbox *inbox)
{
	Buf error = {0};

	Assert(!inbox->state.consumer_up);
	if (consumer_open(inbox->consumer, inbox->config, inbox->group, &error))
	{
		inbox_on_consumer_up(&inbox->state);
		log_info("consumes group=%s", inbox->group);
	}
	else
		inbox_consumer_failed(inbox, buf_str(&error));
	buf_free(&error);
}

static void
inbox_fetch(Inbox *inbox)
{
	InboxState	 *state = &inbox->state;
	ConsumerTaken taken = consumer_take(inbox->consumer);

	Assert(state->consumer_up);
	if (taken == CONSUMER_FAILED)
	{
		inbox_consumer_failed(inbox, consumer_error(inbox->consumer));
		return;
	}
	/* read before the partitions were suspended: they will be read again */
	if (!state->placed)
		consumer_drop(inbox->consumer);
	inbox_on_fetched(state, consumer_count(inbox->consumer),
					 taken == CONSUMER_DRAINED, loop_now(inbox->loop));
	if (consumer_is_disturbed(inbox->consumer))
		inbox_on_disturbed(state);
	if (consumer_has_learned(inbox->consumer))
		inbox_on_learned(state, loop_now(inbox->loop));
	if (state->closing && consumer_has_left(inbox->consumer))
	{
		consumer_close(inbox->consumer);
		inbox_on_closed(state);
	}
}

/* Fills the parameters with messages from .. to - 1. */
static void
inbox_fill_batch(Inbox *inbox, uint32_t from, uint32_t to)
{
	ApiMessage message;

	Assert(from < to && to <= inbox->state.size);
	Assert(inbox->state.size == consumer_count(inbox->consumer));
	api_batch_begin(&inbox->batch);
	for (uint32_t i = from; i < to; i++)
	{
		/* a name of more than 64 KiB; the other headers are passed on */
		if (!consumer_message(inbox->consumer, i, &message))
			log_warning("header omitted: its name is too long topic=%s "
						"partition=%d offset=%" PRId64,
						message.topic.data, message.partition, message.offset);
		api_batch_add(&inbox->batch, &message);
	}
	inbox->called_at = loop_now(inbox->loop);
}

static void
inbox_apply(Inbox *inbox)
{
	inbox_fill_batch(inbox, inbox->state.from, inbox->state.to);
	api_call_apply(inbox->conn, &inbox->batch, inbox_update_options(inbox));
}

static void
inbox_apply_failed(Inbox *inbox)
{
	Assert(inbox->state.single_failed);
	inbox_fill_batch(inbox, inbox->state.from, inbox->state.from + 1);
	api_call_apply_failed(inbox->conn, &inbox->batch, buf_str(&inbox->options),
						  inbox->failed_sqlstate,
						  buf_str(&inbox->failed_error));
}

static void
inbox_store_place(Inbox *inbox)
{
	ConsumerChange change;

	Assert(inbox->state.call == INBOX_STORE_PLACE);
	if (!inbox->state.placed)
		consumer_next_change(inbox->consumer, &change);
	else if (!consumer_next_learned(inbox->consumer, &change))
		change = (ConsumerChange){.kind = CONSUMER_LEARNED,
								  .topic = xstrdup("")};
	switch (change.kind)
	{
		case CONSUMER_BEGINS:
			api_call_begin_topic(inbox->conn, change.topic, change.partitions,
								 change.offsets, change.count);
			break;
		case CONSUMER_MOVES:
			api_call_move_offset(inbox->conn, change.topic, change.partition,
								 change.was, change.next, change.last_missing,
								 change.reason);
			break;
		case CONSUMER_LEARNED:
			api_call_fingerprint(inbox->conn, change.topic, change.partition,
								 change.next, change.fingerprint.text);
			break;
	}
	consumer_change_free(&change);
}

static void
inbox_do(Inbox *inbox, InboxAction action)
{
	const Config *config = inbox->config;
	InboxState	 *state = &inbox->state;

	switch (action)
	{
		case INBOX_CONNECT:
			db_connect(inbox->conn, config, "on", 0);
			break;
		case INBOX_HELLO:
			api_call(inbox->conn, API_HELLO);
			break;
		case INBOX_NEW_CONSUMER:
			inbox_new_consumer(inbox);
			break;
		case INBOX_SUSPEND:
			consumer_suspend(inbox->consumer);
			inbox_on_suspended(state);
			break;
		case INBOX_READ_OFFSETS:
			api_call_offsets(inbox->conn, config->topics);
			break;
		case INBOX_SURVEY:
			consumer_survey(inbox->consumer, config->first_offset);
			inbox_on_survey_begun(state);
			break;
		case INBOX_STORE_PLACE:
			inbox_store_place(inbox);
			break;
		case INBOX_FETCH:
			inbox_fetch(inbox);
			break;
		case INBOX_APPLY:
			inbox_apply(inbox);
			break;
		case INBOX_APPLY_FAILED:
			inbox_apply_failed(inbox);
			break;
		case INBOX_RETRY:
			api_call_retry(inbox->conn, INBOX_RETRY_ROWS,
						   inbox_update_options(inbox));
			break;
		case INBOX_READ_METRICS:
			api_call(inbox->conn, API_METRICS);
			break;
		case INBOX_PURGE:
			api_call_purge(inbox->conn, config->retention_us,
						   config->dedup_retention_us, INBOX_PURGE_ROWS);
			break;
		case INBOX_EXPIRE:
			api_call_expire(inbox->conn, INBOX_EXPIRE_ROWS);
			break;
		case INBOX_LEVELS:
			inbox_step_levels(inbox);
			break;
		case INBOX_COMMIT:
			consumer_commit(inbox->consumer);
			inbox_on_committed(state);
			break;
		case INBOX_CLOSE:
			consumer_leave(inbox->consumer);
			break;
		case INBOX_DONE:
			Assert(state->stopping);
			inbox->done = true;
			break;
		case INBOX_WAIT:
			break;
	}
}

int64_t
inbox_turn(Inbox *inbox, bool leads)
{
	InboxAction action = INBOX_WAIT;

	inbox_on_leads(&inbox->state, leads, loop_now(inbox->loop));
	if (!leads)
		inbox_forget_levels(inbox);
	do
	{
		pump_log_state(LOG_MODULE, &inbox->logged_state, inbox->state.pump,
					   inbox->state.db_retry.failures);
		if (inbox->done)
			return NEVER;
		action = inbox_next(&inbox->state, loop_now(inbox->loop));
		inbox_do(inbox, action);
	} while (action != INBOX_WAIT);
	return inbox_deadline(&inbox->state);
}

void
inbox_stop(Inbox *inbox, int64_t stop_by)
{
	inbox_on_stop(&inbox->state, stop_by);
}

/* ---- readiness and metrics --------------------------------------------- */

bool
inbox_is_done(const Inbox *inbox)
{
	return inbox->done;
}

int
inbox_exit_code(const Inbox *inbox)
{
	Assert(inbox->done || inbox->exit_code == EXIT_CLEAN);
	return inbox->exit_code;
}

PumpState
inbox_pump_state(const Inbox *inbox)
{
	return inbox->state.pump;
}

bool
inbox_is_overdue(const Inbox *inbox)
{
	return !inbox->done && inbox_overdue(&inbox->state, loop_now(inbox->loop));
}

void
inbox_refresh_metrics(Inbox *inbox)
{
	int64_t now = loop_now(inbox->loop);

	inbox_on_metrics_wanted(&inbox->state, now);
	*metrics_cell(inbox->metrics, METRIC_GAUGES_AGE,
				  NULL) = (double) (now - inbox->gauges_at) / SEC_US;
	inbox_measure_levels(inbox);
	consumer_measure_lag(inbox->consumer);
}

bool
inbox_metrics_are_new(const Inbox *inbox)
{
	return inbox_gauges_are_new(&inbox->state, loop_now(inbox->loop));
}

/* A member without partitions is ready as well: other members have them. */
bool
inbox_is_ready(Inbox *inbox, Buf *sentence)
{
	const InboxState *state = &inbox->state;
	bool moves = inbox_makes_progress(state, loop_now(inbox->loop));
	bool joined = !state->consumes || state->assigned;

	buf_printf(sentence, "inbox: %s", pump_state_name(state->pump));
	if (!state->consumes)
		buf_add_str(sentence, ", no topics to consume");
	else if (!joined)
		buf_add_str(sentence, ", not yet in the consumer group");
	else if (!consumer_is_assigned(inbox->consumer))
		buf_add_str(sentence, ", stands by without partitions");
	consumer_describe_trouble(inbox->consumer, sentence);
	if (inbox->state.leads && inbox->upkeep_trouble.len > 0)
		buf_printf(sentence, ", upkeep fails: %s",
				   buf_str(&inbox->upkeep_trouble));
	if (!moves && inbox->trouble.len > 0)
		buf_printf(sentence, ", %s", buf_str(&inbox->trouble));
	return moves && joined;
}

void
inbox_status_json(Inbox *inbox, Buf *json)
{
	Buf	 sentence = {0};
	bool ready = inbox_is_ready(inbox, &sentence);

	buf_printf(json,
			   "{\"status\":\"%s\",\"state\":\"%s\",\"assigned\":%s,"
			   "\"batch\":%u,\"detail\":",
			   ready ? "ok" : "failing", pump_state_name(inbox->state.pump),
			   inbox->state.assigned ? "true" : "false", inbox->state.size);
	json_add_string(json, buf_str(&sentence));
	buf_add_str(json, "}");
	buf_free(&sentence);
}
