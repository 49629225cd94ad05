/*
 * answers.c - what the database answered to the outbox pump
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/pump_private.h"

#include <stdlib.h>
#include <string.h>

#define LOG_MODULE "outbox"

/*
 * pgstock.max_event_bytes may be raised at any time; a producer has one limit
 * as long as it lives.
 */
void
outbox_take_limit(Outbox *outbox, int64_t max_event_bytes)
{
	Assert(outbox->max_event_bytes <= EVENT_BYTES_MAX);
	max_event_bytes = Min(max_event_bytes, EVENT_BYTES_MAX);
	if (max_event_bytes <= outbox->max_event_bytes)
		return;
	outbox->max_event_bytes = (int) max_event_bytes;
	if (outbox->state.producer_up || outbox->state.producer_opening)
		outbox_producer_failed(outbox, "the size limit of events was raised");
}

static void
outbox_take_beat(Outbox *outbox, const PGresult *result)
{
	int64_t now = loop_now(outbox->loop);

	outbox_on_beat(&outbox->state, now);
	outbox_take_limit(outbox, api_int(result, 0, 0));
}

static void
outbox_take_hello(Outbox *outbox, const PGresult *result)
{
	ApiHello hello;
	ExitCode code;

	if (!api_read_hello(result, &hello))
	{
		outbox_db_failed(outbox, "unexpected result of relay_hello()");
		return;
	}
	code = api_judge_hello(&hello, pg_connection_backend_pid(outbox->conn));
	if (code != EXIT_CLEAN)
	{
		outbox_exit(outbox, code);
		return;
	}
	log_info("connected server_version=%d extension_version=%s database=%s "
			 "preloaded=%s",
			 pg_connection_server_version(outbox->conn),
			 hello.extension_version, hello.database,
			 hello.preloaded ? "yes" : "no");
	buf_clear(&outbox->source);
	buf_printf(&outbox->source, "/pgstock/%s", hello.database);
	buf_clear(&outbox->source_id);
	buf_add_str(&outbox->source_id, hello.incarnation);
	if (outbox->state.transactional)
	{
		free(outbox->incarnation);
		outbox->incarnation = xstrdup(hello.incarnation);
	}
	outbox_take_limit(outbox, hello.max_event_bytes);
	outbox_on_step_done(&outbox->state, loop_now(outbox->loop));
}

static void
outbox_take_echo(Outbox *outbox)
{
	if (!outbox->echo_arrived)
		log_warning("notifications do not arrive: events wait for "
					"poll_interval");
	outbox_on_step_done(&outbox->state, loop_now(outbox->loop));
}

/* Also where dead letters go: they leave through the outbox like all else. */
static void
outbox_take_topics(Outbox *outbox, const PGresult *result)
{
	const char *levels = outbox->config->levels_topic;

	if (levels[0] != '\0')
		producer_want_topic(outbox->producer, levels, true);
	for (int row = 0; row < PQntuples(result); row++)
		producer_want_topic(outbox->producer, PQgetvalue(result, row, 0),
							false);
	for (char **topic = outbox->config->topics; *topic != NULL; topic++)
	{
		char *dlq = config_dlq_topic(outbox->config, *topic);

		producer_want_topic(outbox->producer, dlq, false);
		free(dlq);
	}
	outbox_on_step_done(&outbox->state, loop_now(outbox->loop));
}

static void
outbox_take_lead(Outbox *outbox, const PGresult *result)
{
	bool leads = PQntuples(result) == 1 && !PQgetisnull(result, 0, 0);

	outbox_on_lead(&outbox->state, leads ? api_int(result, 0, 0) : 0,
				   loop_now(outbox->loop));
	buf_clear(&outbox->trouble);
	db_log_recovered(&outbox->db_throttle);
}

static bool
outbox_take_page(Outbox *outbox, PGresult *result)
{
	uint32_t rows = api_page_rows(result);
	EventRow last = {0};

	Assert(outbox->page_count < OUTBOX_PAGES_MAX);
	if (rows > 0)
		api_page_row(result, rows - 1, &last);
	if (!outbox_on_page(&outbox->state, rows, api_page_bytes(result), last.seq))
		return false;
	outbox->pages[outbox->page_count++] = result;
	return true;
}

/* Whether an answer has the rows that its question asks for. */
static bool
outbox_is_answer(OutboxAction question, const PGresult *result)
{
	static const int columns[] = {
		[OUTBOX_BEAT] = 1,	[OUTBOX_ASK_POSITION] = 3, [OUTBOX_ASK_SLEEP] = 2,
		[OUTBOX_STORE] = 1, [OUTBOX_DONE] = 0,
	};

	Assert(question < Lengthof(columns));
	if (question >= OUTBOX_ASK_HELD && question <= OUTBOX_CROSS_OFF)
		return held_lane_is_answer(question, result);
	if (question == OUTBOX_LOOK)
		return api_look_window(result) != NULL;
	if (question == OUTBOX_ASK_PAGE)
		return api_page_is_sound(result);
	return columns[question] == 0 ||
		   (PQntuples(result) == 1 && !PQgetisnull(result, 0, 0) &&
			PQnfields(result) >= columns[question]);
}

bool
outbox_take_answer(Outbox *outbox, PGresult *result)
{
	OutboxState *state = &outbox->state;
	int64_t		 now = loop_now(outbox->loop);

	if (!outbox_is_answer(state->asked, result))
	{
		outbox_db_failed(outbox, "unexpected result from the database");
		return false;
	}
	switch (state->asked)
	{
		case OUTBOX_ASK_HELLO:
			outbox_take_hello(outbox, result);
			break;
		case OUTBOX_ASK_LISTEN:
			outbox->echo_arrived = false;
			outbox_on_step_done(state, now);
			break;
		case OUTBOX_ASK_ECHO:
			outbox_take_echo(outbox);
			break;
		case OUTBOX_ASK_TOPICS:
			outbox_take_topics(outbox, result);
			break;
		case OUTBOX_ASK_LEAD:
			outbox_take_lead(outbox, result);
			break;
		case OUTBOX_BEAT:
			outbox_take_beat(outbox, result);
			break;
		case OUTBOX_ASK_POSITION:
			outbox_on_position(state, PQgetvalue(result, 0, 0),
							   api_int(result, 0, 1), api_bool(result, 0, 2),
							   now);
			break;
		case OUTBOX_LOOK:
			return outbox_on_window(state, api_look_window(result)) &&
				   outbox_take_page(outbox, result);
		case OUTBOX_ASK_SLEEP:
			outbox_on_sleep(state, PQgetvalue(result, 0, 0),
							api_bool(result, 0, 1), now);
			break;
		case OUTBOX_ASK_PAGE:
			return outbox_take_page(outbox, result);
		case OUTBOX_STORE:
			outbox_on_stored(state, api_bool(result, 0, 0), now);
			break;
		case OUTBOX_ASK_HELD:
		case OUTBOX_HOLD:
		case OUTBOX_SET_ASIDE:
		case OUTBOX_ASK_HELD_PAGE:
		case OUTBOX_CROSS_OFF:
			return held_lane_take_answer(outbox->lane, state->asked, result);
		case OUTBOX_WAIT:
		case OUTBOX_CONNECT:
		case OUTBOX_NEW_LANE:
		case OUTBOX_CLOSE_LANE:
		case OUTBOX_PRODUCE_HELD:
		case OUTBOX_PRODUCE:
		case OUTBOX_COMMIT:
		case OUTBOX_NEW_PRODUCER:
		case OUTBOX_DONE:
			Assert(!"a question to the database");
	}
	return false;
}

/*
 * A position that is foreign or damaged stops the whole relay: nothing may be
 * skipped, nothing consumed, before a person has decided.  So does an outbox
 * that another program publishes: no relay leads, which the upkeep needs.
 */
void
outbox_take_error(Outbox *outbox, const char *sqlstate, const PGresult *result)
{
	char *text = api_error_text(result);

	if (strcmp(sqlstate, API_FOREIGN_POSITION) == 0 ||
		strcmp(sqlstate, API_DAMAGED_POSITION) == 0 ||
		strcmp(sqlstate, API_OTHER_PUBLISHER) == 0)
	{
		log_error("%s", text);
		outbox_exit(outbox, EXIT_RUNTIME);
	}
	else
	{
		char *why = xasprintf("%s (SQLSTATE %s)", text, sqlstate);

		outbox_db_failed(outbox, why);
		free(why);
	}
	free(text);
}
