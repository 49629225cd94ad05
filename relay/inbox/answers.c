/*
 * answers.c - the database's answers to the inbox pump
 *
 * Each answer ends the call that state.call names.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox/pump_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/sqlstate.h"
#include "extension/protocol/outcome.h"

#define LOG_MODULE "inbox"

/* Reasons that have a metric of their own. */
static const struct
{
	OutcomeReason reason;
	MetricId	  metric;
} inbox_reasons[] = {
	{REASON_DIFFERS, METRIC_DIFFERENCES},
	{REASON_ID_REUSED, METRIC_DIFFERENCES},
	{REASON_ITEMS_DIFFER, METRIC_DIFFERENCES},
	{REASON_PAID_TWICE, METRIC_PAID_TWICE},
};

/*
 * Whether a class is that of failures.  A message that waits behind another
 * one of its key has not failed.
 */
static bool
inbox_is_failure(ErrorClass error_class)
{
	return error_class != ERROR_CLASS_NONE && error_class != ERROR_CLASS_QUEUE;
}

static void
inbox_take_hello(Inbox *inbox, const PGresult *result)
{
	ApiHello hello;

	if (!api_read_hello(result, &hello))
	{
		inbox_db_failed(inbox, "unexpected result of relay_hello()");
		return;
	}
	inbox->exit_code = api_judge_hello(&hello,
									   pg_connection_backend_pid(inbox->conn));
	if (inbox->exit_code != EXIT_CLEAN)
	{
		inbox->done = true;
		return;
	}
	snprintf(inbox->group, sizeof(inbox->group), "%s",
			 inbox->config->group[0] != '\0' ? inbox->config->group
											 : hello.inbox_group);
	inbox_write_options(inbox);
	inbox_on_hello(&inbox->state, loop_now(inbox->loop));
	db_log_recovered(&inbox->db_throttle);
}

static void
inbox_take_offsets(Inbox *inbox, const PGresult *result)
{
	if (inbox_on_offsets(&inbox->state, loop_now(inbox->loop)))
		consumer_take_offsets(inbox->consumer, result);
}

static void
inbox_take_stored(Inbox *inbox)
{
	bool more = inbox->state.placed
					? consumer_has_learned(inbox->consumer)
					: !consumer_surveys(inbox->consumer) &&
						  consumer_wants_change(inbox->consumer);

	inbox_on_stored(&inbox->state, more, loop_now(inbox->loop));
}

/* times: an array of milliseconds, {1,2}; NULL: none */
static void
inbox_observe_orders(Inbox *inbox, const char *times)
{
	int64_t now_us;

	if (times == NULL)
		return;
	now_us = clock_wall();
	while (times[0] == '{' || times[0] == ',')
	{
		char *end;

		metrics_observe(inbox->metrics, HISTOGRAM_ORDER,
						now_us - strtoll(times + 1, &end, 10) * MS_US);
		Assert(end > times); /* so the loop ends, whatever the text */
		times = end;
	}
}

void
inbox_begin_metrics(Inbox *inbox)
{
	static const MetricId ids[] = {METRIC_DLQ, METRIC_ARCHIVED,
								   METRIC_DIFFERENCES, METRIC_PAID_TWICE,
								   METRIC_DAMAGED};

	inbox->gauges_at = loop_now(inbox->loop);
	for (char **topic = inbox->config->topics; *topic != NULL; topic++)
	{
		for (int kind = OUTCOME_APPLIED; kind < OUTCOME_STARTED; kind++)
			*metrics_cell(inbox->metrics, METRIC_INBOX_EVENTS, "topic", *topic,
						  "result", outcome_kind_texts[kind], NULL) = 0;
		for (size_t i = 0; i < Lengthof(ids); i++)
			*metrics_cell(inbox->metrics, ids[i], "topic", *topic, NULL) = 0;
		for (int i = 0; i < ERROR_CLASSES; i++)
			if (inbox_is_failure((ErrorClass) i))
				*metrics_cell(inbox->metrics, METRIC_FAILURES, "topic", *topic,
							  "reason", error_class_texts[i], NULL) = 0;
	}
}

/*
 * The number of a text in a table of protocol/outcome.h; 0: it is not in this
 * version's, and is counted by its text.
 */
static int
inbox_find_text(const char *const *texts, int n, const char *text)
{
	int i = n - 1;

	while (i > 0 && strcmp(text, texts[i]) != 0)
		i--;
	return i;
}

static OutcomeKind
inbox_read_kind(const PGresult *result, int row)
{
	return (OutcomeKind) inbox_find_text(outcome_kind_texts, OUTCOME_KINDS,
										 PQgetvalue(result, row, 1));
}

/*
 * Each try that failed counts; of those that wait for their order the first
 * one only, for they look for it again each second.
 */
static void
inbox_count_failures(Inbox *inbox, const char *topic, const char *failure,
					 int64_t n)
{
	int error_class;

	Assert(n >= 0);
	if (failure == NULL)
		return;
	error_class = inbox_find_text(error_class_texts, ERROR_CLASSES, failure);
	if (error_class == ERROR_CLASS_QUEUE)
		return;
	if (error_class == ERROR_CLASS_ORDER && inbox->state.call == INBOX_RETRY)
		return;
	*metrics_cell(inbox->metrics, METRIC_FAILURES, "topic", topic, "reason",
				  failure, NULL) += (double) n;
}

static void
inbox_count_reason(Inbox *inbox, const char *topic, const char *text, int64_t n)
{
	int reason = inbox_find_text(outcome_reason_texts, OUTCOME_REASONS, text);

	for (size_t i = 0; i < Lengthof(inbox_reasons); i++)
		if (reason == (int) inbox_reasons[i].reason)
			*metrics_cell(inbox->metrics, inbox_reasons[i].metric, "topic",
						  topic, NULL) += (double) n;
}

/*
 * Counts the messages of one row of results; the number of those that have a
 * result.  A message that is tried again and waits on is counted as waiting by
 * its first try only.
 */
static uint32_t
inbox_count_result(Inbox *inbox, const PGresult *result, int row)
{
	const char *topic = PQgetvalue(result, row, 0);
	const char *word = PQgetvalue(result, row, 1);
	const char *reason = PQgetvalue(result, row, 2);
	int64_t		n = api_int(result, row, 3);
	const char *message = api_text(result, row, 5);
	OutcomeKind kind = inbox_read_kind(result, row);
	bool		waits = kind == OUTCOME_WAITING;

	Assert(n >= 0);
	if (kind == OUTCOME_STARTED)
		return 0;
	if (!waits || inbox->state.call != INBOX_RETRY)
		*metrics_cell(inbox->metrics, METRIC_INBOX_EVENTS, "topic", topic,
					  "result", word, NULL) += (double) n;
	if (kind == OUTCOME_DEAD)
	{
		*metrics_cell(inbox->metrics, METRIC_DLQ, "topic", topic,
					  NULL) += (double) n;
		*metrics_cell(inbox->metrics, METRIC_ARCHIVED, "topic", topic,
					  NULL) += (double) n;
	}
	inbox_count_reason(inbox, topic, reason, n);
	for (int64_t i = 0; !waits && i < n; i++)
		metrics_observe(inbox->metrics, HISTOGRAM_ATTEMPTS,
						api_int(result, row, 4));
	inbox_observe_orders(inbox, api_text(result, row, 6));
	inbox_count_failures(inbox, topic, api_text(result, row, 7), n);
	log_write(message != NULL ? LEVEL_WARNING : LEVEL_DEBUG, LOG_MODULE,
			  "messages topic=%s result=%s reason=%s n=%" PRId64 "%s%s", topic,
			  word, reason, n, message != NULL ? " " : "",
			  message != NULL ? message : "");
	return (uint32_t) n;
}

static uint32_t
inbox_count_results(Inbox *inbox, const PGresult *result)
{
	uint32_t sum = 0;

	for (int row = 0; row < PQntuples(result); row++)
		sum += inbox_count_result(inbox, result, row);
	return sum;
}

/* Whether tries were put on record, so that the next call begins them. */
static bool
inbox_is_recorded(const PGresult *result)
{
	return PQntuples(result) > 0 &&
		   inbox_read_kind(result, 0) == OUTCOME_STARTED;
}

static void
inbox_take_applied(Inbox *inbox, const PGresult *result)
{
	InboxState *state = &inbox->state;
	uint32_t	applied = inbox_count_results(inbox, result);
	bool		recorded = inbox_is_recorded(result);

	Assert(state->from < state->to && state->to <= state->size);
	if (applied > state->to - state->from || (recorded && applied > 0))
	{
		inbox_db_failed(inbox, "unexpected result of relay_apply()");
		return;
	}
	inbox->apply_recorded = recorded;
	metrics_observe(inbox->metrics, HISTOGRAM_INBOX,
					loop_now(inbox->loop) - inbox->called_at);
	Assert(state->from + applied <= state->size);
	for (uint32_t i = state->from; i < state->from + applied; i++)
		consumer_applied(inbox->consumer, i);
	if (inbox_on_applied(state, applied, loop_now(inbox->loop)))
		consumer_drop(inbox->consumer);
	buf_clear(&inbox->trouble);
	log_recovered(&inbox->apply_throttle);
}

static void
inbox_take_metrics(Inbox *inbox, const PGresult *result)
{
	metrics_database_begin(inbox->metrics);
	for (int row = 0; row < PQntuples(result); row++)
		metrics_database_add(inbox->metrics, PQgetvalue(result, row, 0),
							 PQgetvalue(result, row, 1),
							 strtod(PQgetvalue(result, row, 2), NULL));
	inbox->gauges_at = loop_now(inbox->loop);
	inbox_on_metrics(&inbox->state, inbox->gauges_at);
}

/* The one number of an answer; 0 if it has none. */
static uint64_t
inbox_number(const PGresult *result)
{
	return PQntuples(result) == 1 ? (uint64_t) api_int(result, 0, 0) : 0;
}

/* The number of rows that were purged, and which steps of the upkeep fail. */
static void
inbox_take_upkeep(Inbox *inbox, const PGresult *result)
{
	int64_t		now = loop_now(inbox->loop);
	const char *trouble = NULL;
	uint64_t	rows = 0;

	if (PQntuples(result) == 1 && PQnfields(result) >= 2)
	{
		rows = (uint64_t) api_int(result, 0, 0);
		trouble = api_text(result, 0, 1);
	}
	buf_clear(&inbox->upkeep_trouble);
	if (trouble != NULL)
	{
		buf_add_str(&inbox->upkeep_trouble, trouble);
		log_throttled(&inbox->upkeep_throttle, now, LEVEL_WARNING, LOG_MODULE,
					  "upkeep fails: %s", trouble);
	}
	inbox_on_purged(&inbox->state, rows, inbox->config->retention_us, now);
}

void
inbox_take_answer(Inbox *inbox, const PGresult *result)
{
	InboxState *state = &inbox->state;
	int64_t		now = loop_now(inbox->loop);

	switch (state->call)
	{
		case INBOX_HELLO:
			inbox_take_hello(inbox, result);
			break;
		case INBOX_READ_OFFSETS:
			inbox_take_offsets(inbox, result);
			break;
		case INBOX_STORE_PLACE:
			inbox_take_stored(inbox);
			break;
		case INBOX_APPLY:
		case INBOX_APPLY_FAILED:
			inbox_take_applied(inbox, result);
			break;
		case INBOX_RETRY:
			inbox_count_results(inbox, result);
			inbox->retry_recorded = inbox_is_recorded(result);
			inbox_on_retried(state, (uint64_t) PQntuples(result), now);
			break;
		case INBOX_READ_METRICS:
			inbox_take_metrics(inbox, result);
			break;
		case INBOX_PURGE:
			inbox_take_upkeep(inbox, result);
			break;
		case INBOX_EXPIRE:
			inbox_on_expired(state, (int64_t) inbox_number(result), now);
			break;
		case INBOX_LEVELS:
			inbox_take_levels(inbox, result);
			break;
		case INBOX_WAIT:
		case INBOX_CONNECT:
		case INBOX_NEW_CONSUMER:
		case INBOX_SUSPEND:
		case INBOX_SURVEY:
		case INBOX_FETCH:
		case INBOX_COMMIT:
		case INBOX_CLOSE:
		case INBOX_DONE:
			Assert(!"a question to the database");
	}
}

/* ---- errors ------------------------------------------------------------ */

static void
inbox_take_apply_error(Inbox *inbox, const char *sqlstate, const char *text)
{
	InboxState *state = &inbox->state;
	SqlClass class = sqlstate_class(sqlstate);

	Assert(state->from < state->to && state->to <= state->size);
	if (state->call == INBOX_APPLY)
	{
		snprintf(inbox->failed_sqlstate, sizeof(inbox->failed_sqlstate), "%s",
				 sqlstate);
		buf_clear(&inbox->failed_error);
		buf_add_str(&inbox->failed_error, text);
		buf_str(&inbox->failed_error);
	}
	inbox_set_trouble(inbox, "batch", text);
	log_throttled(&inbox->apply_throttle, loop_now(inbox->loop), LEVEL_WARNING,
				  LOG_MODULE, "could not apply messages: %s sqlstate=%s n=%u",
				  text, sqlstate, state->to - state->from);
	inbox_on_apply_error(state, class, loop_now(inbox->loop));
}

/* The error that an answer is.  Upkeep that failed waits for its next turn. */
void
inbox_take_error(Inbox *inbox, const char *sqlstate, const PGresult *result)
{
	InboxState *state = &inbox->state;
	int64_t		now = loop_now(inbox->loop);
	char	   *text = api_error_text(result);

	Assert(sqlstate != NULL);
	if (api_ends_session(result))
	{
		inbox_new_process_id(inbox);
		inbox_write_options(inbox);
	}
	if (state->call == INBOX_APPLY || state->call == INBOX_APPLY_FAILED)
		inbox_take_apply_error(inbox, sqlstate, text);
	else if (state->call == INBOX_HELLO)
		inbox_db_failed(inbox, text);
	else
	{
		log_throttled(&inbox->upkeep_throttle, now, LEVEL_WARNING, LOG_MODULE,
					  "upkeep failed: %s sqlstate=%s", text, sqlstate);
		if (state->call == INBOX_READ_OFFSETS ||
			state->call == INBOX_STORE_PLACE)
			inbox_on_offsets_failed(state, now);
		else if (state->call == INBOX_RETRY)
			inbox_on_retry_error(state, sqlstate_class(sqlstate), now);
		else if (state->call == INBOX_READ_METRICS)
			inbox_on_metrics(state, now);
		else if (state->call == INBOX_EXPIRE)
			inbox_on_expired(state, INBOX_FAILED_US, now);
		else if (state->call == INBOX_LEVELS)
			inbox_take_levels_error(inbox);
		else
		{
			buf_clear(&inbox->upkeep_trouble);
			buf_add_str(&inbox->upkeep_trouble, text);
			inbox_on_purged(state, 0, inbox->config->retention_us, now);
		}
	}
	free(text);
}
