/*
 * pump.c - from the outbox to Kafka
 *
 * The acting half: it carries out what decide.c returns and reports to state.c
 * what came of it; failure.c does so for what failed.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/pump_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "kafka/position_topic.h"

#define LOG_MODULE "outbox"

#define EVENT_BYTES_DEFAULT 1000000 /* until relay_hello() returns it */

static void outbox_on_conn(void *arg, PgConnectionEvent event,
						   PGresult *result);

/* ---- the producer's reports -------------------------------------------- */

static void
outbox_acked(void *arg, uint64_t id)
{
	Outbox *outbox = arg;
	int64_t created = in_flight_ack(&outbox->state.in_flight, id);

	if (created < 0)
		return;
	if (outbox->wall_us == 0)
		outbox->wall_us = clock_wall();
	metrics_observe(outbox->metrics, HISTOGRAM_COMMIT_TO_ACK,
					outbox->wall_us - created);
}

static void
outbox_arrived(void *arg, uint64_t id)
{
	outbox_on_arrived(&((Outbox *) arg)->state, id);
}

static void
outbox_served(void *arg)
{
	Outbox *outbox = arg;

	outbox->wall_us = 0;
	outbox_on_acked(&outbox->state, loop_now(outbox->loop));
	if (producer_is_known_up(outbox->producer))
		log_recovered(&outbox->producer_throttle);
}

/* Transactional: all that flies is acknowledged at once. */
static void
outbox_committed(void *arg)
{
	Outbox		   *outbox = arg;
	const InFlight *in_flight = &outbox->state.in_flight;

	Assert(outbox->state.transactional);
	while (in_flight_count(in_flight) > 0)
		outbox_acked(outbox, in_flight_first_id(in_flight));
	outbox->wall_us = 0;
	outbox_on_committed(&outbox->state, loop_now(outbox->loop));
	log_recovered(&outbox->producer_throttle);
}

static void
outbox_producer_opened(void *arg, Slice position)
{
	Outbox *outbox = arg;

	Assert(outbox->state.transactional);
	buf_clear(&outbox->kafka_position);
	outbox->kafka_has_position = position.data != NULL;
	if (outbox->kafka_has_position)
		buf_add(&outbox->kafka_position, position.data, position.len);
	outbox_on_producer_up(&outbox->state, loop_now(outbox->loop));
}

static void
outbox_producer_gone(void *arg, const char *topic, const char *why)
{
	if (topic != NULL)
		outbox_topic_refused(arg, topic, why);
	else
		outbox_producer_failed(arg, why);
}

/* ---- life -------------------------------------------------------------- */

Outbox *
outbox_new(Loop *loop, const Config *config, Metrics *metrics)
{
	static const ProducerHandlers handlers = {
		.acked = outbox_acked,
		.arrived = outbox_arrived,
		.served = outbox_served,
		.failed = outbox_producer_gone,
		.opened = outbox_producer_opened,
		.committed = outbox_committed,
	};
	static const char *const causes[] = {
		[CAUSE_NOTIFY] = "notify",
		[CAUSE_POLL] = "poll",
		[CAUSE_AWAKE] = "awake",
		[CAUSE_WRITERS] = "writers",
	};
	Outbox *outbox = xcalloc(1, sizeof(Outbox));

	_Static_assert(Lengthof(causes) == CAUSES, "a label for each cause");
	outbox->loop = loop;
	outbox->config = config;
	outbox->metrics = metrics;
	outbox->max_event_bytes = EVENT_BYTES_DEFAULT;
	outbox->conn = pg_connection_new(loop, OUTBOX_ANSWER_US, outbox_on_conn,
									 outbox);
	outbox->producer = producer_new(loop, metrics, &handlers, outbox);
	outbox->lane = held_lane_new(loop, config, metrics, &outbox->state,
								 outbox->producer);
	outbox_state_init(&outbox->state, PRODUCER_IN_FLIGHT_MAX,
					  config->mode == MODE_TRANSACTIONAL,
					  (uint64_t) getpid() ^ (uint64_t) loop_now(loop));
	outbox_beat_every(&outbox->state, OUTBOX_BEAT_US);
	outbox_reconfigured(outbox);
	for (int cause = 0; cause < CAUSES; cause++)
		outbox->wakeups[cause] = metrics_cell(metrics, METRIC_WAKEUPS, "cause",
											  causes[cause], NULL);
	*metrics_cell(metrics, METRIC_LEADER, NULL) = 0;
	*metrics_cell(metrics, METRIC_LEADER_CHANGES, NULL) = 0;
	for (int end = 0; end < EVENT_ENDS; end++)
		outbox->ends[end] = metrics_cell(metrics, METRIC_ENDS, "state",
										 event_end_text(end), NULL);
	return outbox;
}

void
outbox_free(Outbox *outbox)
{
	if (outbox == NULL)
		return;
	outbox_drop_pages(outbox);
	producer_free(outbox->producer);
	held_lane_free(outbox->lane);
	pg_connection_free(outbox->conn);
	outbox_state_fini(&outbox->state);
	free(outbox->incarnation);
	buf_free(&outbox->kafka_position);
	buf_free(&outbox->record);
	buf_free(&outbox->source);
	buf_free(&outbox->source_id);
	buf_free(&outbox->trouble);
	free(outbox);
}

void
outbox_reconfigured(Outbox *outbox)
{
	outbox_on_settings(&outbox->state, outbox->config->poll_interval_us,
					   (uint32_t) outbox->config->batch_rows,
					   loop_now(outbox->loop));
	producer_reconfigured(outbox->producer, outbox->config);
	held_lane_reconfigured(outbox->lane);
	/* the thread that opens one keeps what it began with */
	if (outbox->state.producer_opening)
		outbox_producer_failed(outbox, "it was opened before the reload");
}

/* ---- the database ------------------------------------------------------ */

static void
outbox_on_conn(void *arg, PgConnectionEvent event, PGresult *result)
{
	Outbox	   *outbox = arg;
	const char *sqlstate;

	switch (event)
	{
		case PG_CONNECTION_UP:
			outbox_on_connected(&outbox->state, loop_now(outbox->loop));
			break;
		case PG_CONNECTION_DOWN:
			if (api_pooler_refused(pg_connection_error(outbox->conn)))
				outbox_exit(outbox, api_refuse_pooler());
			outbox_db_failed(outbox, pg_connection_error(outbox->conn));
			break;
		case PG_CONNECTION_NOTIFY:
			outbox->echo_arrived = true;
			outbox_on_wake(&outbox->state);
			if (pg_connection_has_payload(outbox->conn))
				outbox_on_waiter(&outbox->state);
			break;
		case PG_CONNECTION_RESULT:
			sqlstate = api_sqlstate(result);
			if (sqlstate != NULL)
				outbox_take_error(outbox, sqlstate, result);
			else if (outbox_take_answer(outbox, result))
				break;
			PQclear(result);
			break;
	}
}

/* ---- doing ------------------------------------------------------------- */

static void
outbox_new_producer(Outbox *outbox)
{
	Buf error = {0};

	producer_close(outbox->producer);
	outbox_drop_pages(outbox);
	if (!producer_open(outbox->producer, outbox->config,
					   outbox->max_event_bytes, outbox->incarnation, &error))
		outbox_producer_failed(outbox, buf_str(&error));
	else if (!outbox->state.transactional)
		outbox_on_producer_up(&outbox->state, loop_now(outbox->loop));
	buf_free(&error);
}

/* The event stays where it is, and is set aside when it is looked at again. */
static void
outbox_doubt(Outbox *outbox, const char *topic, const char *why)
{
	if (outbox_on_doubted(&outbox->state, topic, why, loop_now(outbox->loop)))
		log_warning("topic is held back topic=%s reason=%s", topic, why);
	else
		outbox_too_many_held(outbox, topic, why);
}

static void
outbox_refused(Outbox *outbox, const EventRow *row, ProducerResult result)
{
	char  id[EVENT_UUID_LEN];
	char *why;

	event_uuid_text(id, row->id.data);
	why = xasprintf("event cannot be produced: %s event_id=%.*s seq=%" PRId64,
					producer_refusal(outbox->producer), EVENT_UUID_LEN, id,
					row->seq);
	if (result == PRODUCER_NO_TOPIC)
		outbox_doubt(outbox, row->topic.data, why);
	else
		outbox_topic_refused(outbox, row->topic.data, why);
	free(why);
}

/*
 * The limit was higher when the event was written, whatever it is now, and
 * whatever our session knows of it: the next producer takes the event.
 */
static void
outbox_too_large(Outbox *outbox, const EventRow *row)
{
	int64_t bytes = event_bytes(row);

	Assert(bytes > 0);
	if (bytes <= outbox->max_event_bytes || bytes > EVENT_BYTES_MAX)
		outbox_refused(outbox, row, PRODUCER_TOO_LARGE);
	else
		outbox_take_limit(outbox, bytes);
}

/* False: not now, or never. */
static bool
outbox_is_trusted(Outbox *outbox, const EventRow *row)
{
	const Held *held = &outbox->state.held;
	int64_t		now = loop_now(outbox->loop);

	if (!held_suspects(held) && !held_is_wary(held, now))
		return true;
	switch (producer_topic_state(outbox->producer, row->topic))
	{
		case TOPIC_TRUSTED:
			return true;
		case TOPIC_PRESENT:
			if (!held_is_wary(held, now))
				return true;
			outbox_doubt(outbox, row->topic.data,
						 "it has not taken an event yet, and many topics were "
						 "refused just now");
			return false;
		case TOPIC_ASKED:
			outbox_on_producer_full(&outbox->state, now);
			return false;
		case TOPIC_DOUBTED:
			break;
	}
	outbox_doubt(outbox, row->topic.data,
				 "the broker does not say that it is there, and many topics "
				 "are held");
	return false;
}

static void
outbox_commit(Outbox *outbox)
{
	OutboxState			*state = &outbox->state;
	const OutboxPosition end = in_flight_end(&state->in_flight);
	int64_t				 now = loop_now(outbox->loop);

	Assert(state->transactional && state->epoch > 0);
	position_write(&outbox->record, &(PositionRecord){
										.window = end.window,
										.seq = end.seq,
										.finished = end.finished,
										.epoch = state->epoch,
										.held = state->held.count > 0,
									});
	switch (producer_commit(outbox->producer,
							(Slice){outbox->record.data, outbox->record.len}))
	{
		case PRODUCER_FULL:
			outbox_on_producer_full(state, now);
			break;
		case PRODUCER_TOO_LARGE:
		case PRODUCER_NO_TOPIC:
		case PRODUCER_REFUSED:
			outbox_producer_failed(outbox, producer_refusal(outbox->producer));
			break;
		case PRODUCER_TAKEN:
			outbox_on_committing(state, now);
			break;
	}
}

/* The database judges the record that the position topic had. */
static void
outbox_ask_position(Outbox *outbox)
{
	Slice kafka = {NULL, 0};

	if (outbox->kafka_has_position)
		kafka = (Slice){buf_str(&outbox->kafka_position),
						outbox->kafka_position.len};
	if (outbox->state.transactional)
		api_call_position(outbox->conn, kafka);
	else
		api_call(outbox->conn, API_POSITION);
}

static void
outbox_page_done(Outbox *outbox)
{
	Assert(outbox->page_count > 0);
	PQclear(outbox->pages[0]);
	outbox->page_count--;
	memmove(&outbox->pages[0], &outbox->pages[1],
			outbox->page_count * sizeof(PGresult *));
}

static void
outbox_count_end(Outbox *outbox, const EventRow *row)
{
	int end = event_end(row);

	if (end >= 0)
		*outbox->ends[end] += 1;
}

static EventSource
outbox_source(const Outbox *outbox)
{
	return (EventSource){
		.name = {outbox->source.data, outbox->source.len},
		.incarnation = {outbox->source_id.data, outbox->source_id.len},
	};
}

/* False: not now. */
static bool
outbox_send(Outbox *outbox, const EventRow *row)
{
	const EventSource source = outbox_source(outbox);
	ProducerResult	  result;

	if (!outbox_is_trusted(outbox, row))
		return false;
	result = producer_send(outbox->producer, row,
						   in_flight_next_id(&outbox->state.in_flight),
						   (unsigned) outbox->config->header_profile, source);
	switch (result)
	{
		case PRODUCER_FULL:
			outbox_on_producer_full(&outbox->state, loop_now(outbox->loop));
			break;
		case PRODUCER_TOO_LARGE:
			outbox_too_large(outbox, row);
			break;
		case PRODUCER_NO_TOPIC:
		case PRODUCER_REFUSED:
			outbox_refused(outbox, row, result);
			break;
		case PRODUCER_TAKEN:
			break;
	}
	return result == PRODUCER_TAKEN;
}

/* As many rows of the oldest page as there is room for. */
static void
outbox_produce(Outbox *outbox)
{
	OutboxState *state = &outbox->state;
	int64_t		 now = loop_now(outbox->loop);
	int64_t		 row;
	EventRow	 event;
	bool		 page_done = false;

	/* a page that is empty in the state has no rows here */
	Assert(outbox->page_count > 0 && outbox->page_count <= state->page_count);
	while (!page_done && (row = outbox_row(state)) >= 0)
	{
		api_page_row(outbox->pages[0], (uint32_t) row, &event);
		switch (held_route(&state->held, event.topic.data))
		{
			case HELD_WAITS:
				return;
			case HELD_ASIDE:
				page_done = outbox_on_aside(state, event.seq, event.created_us,
											now);
				break;
			case HELD_FLOWS:
				if (!outbox_send(outbox, &event))
					return;
				page_done = outbox_on_produced(state, event.seq,
											   event.created_us,
											   (uint32_t) event_bytes(&event),
											   now);
				break;
		}
		outbox_count_end(outbox, &event);
	}
	if (page_done)
		outbox_page_done(outbox);
}

static void
outbox_call_look(Outbox *outbox, OutboxAction question)
{
	const OutboxState *state = &outbox->state;
	const char
		*publish_after = config_publish_afters[outbox->config->publish_after];

	Assert(state->cause < CAUSES && state->window != NULL);
	*outbox->wakeups[state->cause] += 1;
	if (question == OUTBOX_ASK_SLEEP)
		api_call_sleep(outbox->conn, state->window, publish_after);
	else
		api_call_look(outbox->conn, state->window, publish_after,
					  state->page_rows, OUTBOX_PAGE_BYTES);
}

static void
outbox_do(Outbox *outbox, OutboxAction action)
{
	static const ApiCall calls[] = {
		[OUTBOX_ASK_HELLO] = API_HELLO, [OUTBOX_ASK_LISTEN] = API_LISTEN,
		[OUTBOX_ASK_ECHO] = API_ECHO,	[OUTBOX_ASK_TOPICS] = API_TOPICS,
		[OUTBOX_ASK_LEAD] = API_LEAD,	[OUTBOX_BEAT] = API_BEAT,
	};
	const OutboxState *state = &outbox->state;

	switch (action)
	{
		case OUTBOX_CONNECT:
			db_connect(outbox->conn, outbox->config,
					   outbox->config->publish_after == PUBLISH_LOCAL ? "local"
																	  : "on",
					   OUTBOX_IDLE_MS);
			break;
		case OUTBOX_ASK_HELLO:
		case OUTBOX_ASK_LISTEN:
		case OUTBOX_ASK_ECHO:
		case OUTBOX_ASK_TOPICS:
		case OUTBOX_ASK_LEAD:
		case OUTBOX_BEAT:
			api_call(outbox->conn, calls[action]);
			break;
		case OUTBOX_ASK_POSITION:
			outbox_ask_position(outbox);
			break;
		case OUTBOX_LOOK:
		case OUTBOX_ASK_SLEEP:
			outbox_call_look(outbox, action);
			break;
		case OUTBOX_ASK_PAGE:
			Assert(state->window != NULL);
			api_call_page(outbox->conn, state->window, state->page_after,
						  state->page_rows, OUTBOX_PAGE_BYTES);
			break;
		case OUTBOX_STORE:
			Assert(state->epoch > 0 && state->storing.window != NULL);
			api_call_store(outbox->conn, state->storing.window,
						   state->storing.seq, state->storing.finished,
						   state->epoch);
			break;
		case OUTBOX_ASK_HELD:
		case OUTBOX_HOLD:
		case OUTBOX_SET_ASIDE:
		case OUTBOX_ASK_HELD_PAGE:
		case OUTBOX_CROSS_OFF:
		case OUTBOX_NEW_LANE:
		case OUTBOX_CLOSE_LANE:
		case OUTBOX_PRODUCE_HELD:
			held_lane_do(outbox->lane, action, outbox->conn,
						 outbox->max_event_bytes, outbox_source(outbox));
			break;
		case OUTBOX_PRODUCE:
			outbox_produce(outbox);
			break;
		case OUTBOX_COMMIT:
			outbox_commit(outbox);
			break;
		case OUTBOX_NEW_PRODUCER:
			outbox_new_producer(outbox);
			break;
		case OUTBOX_DONE:
			Assert(state->stopping);
			outbox->done = true;
			break;
		case OUTBOX_WAIT:
			break;
	}
}

int64_t
outbox_turn(Outbox *outbox)
{
	OutboxAction action = OUTBOX_WAIT;

	do
	{
		outbox_log_state(outbox);
		if (outbox->done)
			return NEVER;
		action = outbox_next(&outbox->state, loop_now(outbox->loop));
		outbox_do(outbox, action);
	} while (action != OUTBOX_WAIT);
	return outbox_deadline(&outbox->state);
}

void
outbox_stop(Outbox *outbox, int64_t stop_by)
{
	outbox_on_stop(&outbox->state, stop_by);
}
