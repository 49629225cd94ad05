/*
 * held_lane.c - what the outbox pump does about held topics
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/held_lane.h"

#include <stdlib.h>

#include "common/log.h"

#define LOG_MODULE "outbox"

#define LANE_NAMED_MAX 10 /* topics in a sentence */

struct HeldLane
{
	Loop		 *loop;
	const Config *config;
	OutboxState	 *state;
	Producer	 *main;
	Producer	 *producer;
	PGresult	 *page;		   /* rows of state->held, or NULL */
	int			  event_bytes; /* of the largest event that was refused */
};

/* ---- the producer's reports -------------------------------------------- */

static void
held_lane_acked(void *arg, uint64_t id)
{
	HeldLane *lane = arg;

	held_on_acked(&lane->state->held, id, loop_now(lane->loop));
}

static void
held_lane_served(void *arg UNUSED)
{
}

static void
held_lane_failed(HeldLane *lane, const char *why)
{
	const HeldTopic *topic = lane->state->held.topic;

	log_debug("topic is still refused topic=%s reason=%s",
			  topic != NULL ? topic->name : "", why);
	held_on_lane_failed(&lane->state->held, why, loop_now(lane->loop));
	producer_close(lane->producer);
}

static void
held_lane_producer_gone(void *arg, const char *topic UNUSED, const char *why)
{
	held_lane_failed(arg, why);
}

/* ---- life -------------------------------------------------------------- */

HeldLane *
held_lane_new(Loop *loop, const Config *config, Metrics *metrics,
			  OutboxState *state, Producer *main)
{
	static const ProducerHandlers handlers = {
		.acked = held_lane_acked,
		.served = held_lane_served,
		.failed = held_lane_producer_gone,
	};
	HeldLane *lane = xcalloc(1, sizeof(HeldLane));

	lane->loop = loop;
	lane->config = config;
	lane->state = state;
	lane->main = main;
	lane->producer = producer_new(loop, metrics, &handlers, lane);
	producer_set_probing(lane->producer);
	return lane;
}

void
held_lane_free(HeldLane *lane)
{
	PQclear(lane->page);
	producer_free(lane->producer);
	free(lane);
}

/* ---- answers of the database ------------------------------------------- */

static void
held_lane_take_topics(HeldLane *lane, const PGresult *result)
{
	for (int row = 0; row < PQntuples(result); row++)
	{
		const char *topic = PQgetvalue(result, row, 0);
		const char *reason = PQgetvalue(result, row, 1);

		held_load(&lane->state->held, topic, reason, loop_now(lane->loop));
		log_warning("topic is held back topic=%s reason=%s", topic, reason);
	}
	outbox_on_held(lane->state);
}

static bool
held_lane_take_page(HeldLane *lane, PGresult *result)
{
	if (!outbox_on_held_page(lane->state, api_page_rows(result),
							 api_page_bytes(result), loop_now(lane->loop)))
		return false;
	PQclear(lane->page);
	lane->page = result;
	return true;
}

static void
held_lane_take_crossed_off(HeldLane *lane, const PGresult *result)
{
	const HeldTopic *topic = lane->state->held.topic;
	char			*name = xstrdup(topic != NULL ? topic->name : "");

	if (outbox_on_crossed_off(lane->state, api_bool(result, 0, 0),
							  loop_now(lane->loop)))
	{
		log_info("topic resumed topic=%s", name);
		producer_want_topic(lane->main, name, false);
	}
	free(name);
}

bool
held_lane_is_answer(OutboxAction question, const PGresult *result)
{
	if (question == OUTBOX_ASK_HELD)
		return PQnfields(result) >= 2;
	if (question == OUTBOX_ASK_HELD_PAGE)
		return api_page_is_sound(result);
	return PQntuples(result) == 1;
}

bool
held_lane_take_answer(HeldLane *lane, OutboxAction question, PGresult *result)
{
	if (question == OUTBOX_ASK_HELD_PAGE)
		return held_lane_take_page(lane, result);
	if (question == OUTBOX_ASK_HELD)
		held_lane_take_topics(lane, result);
	else if (question == OUTBOX_HOLD)
		outbox_on_hold_stored(lane->state);
	else if (question == OUTBOX_SET_ASIDE)
		outbox_on_asides_stored(lane->state, loop_now(lane->loop));
	else
		held_lane_take_crossed_off(lane, result);
	return false;
}

void
held_lane_reconfigured(HeldLane *lane)
{
	producer_reconfigured(lane->producer, lane->config);
}

/* ---- doing ------------------------------------------------------------- */

static void
held_lane_open(HeldLane *lane, int max_event_bytes)
{
	Buf error = {0};

	Assert(max_event_bytes > 0 && lane->state->held.topic != NULL);
	producer_close(lane->producer);
	if (producer_open(lane->producer, lane->config,
					  Max(max_event_bytes, lane->event_bytes), NULL, &error))
		held_on_lane_up(&lane->state->held);
	else
		held_lane_failed(lane, buf_str(&error));
	buf_free(&error);
}

static void
held_lane_produce(HeldLane *lane, EventSource source)
{
	Held	*held = &lane->state->held;
	EventRow event;

	Assert(lane->page != NULL && api_page_rows(lane->page) == held->rows);
	while (held_may_send(held))
	{
		api_page_row(lane->page, held->sent, &event);
		switch (producer_send(lane->producer, &event, held->sent,
							  (unsigned) lane->config->header_profile, source))
		{
			case PRODUCER_FULL:
				held_on_lane_full(held);
				break;
			case PRODUCER_TOO_LARGE: /* for this producer: see pump.c */
				lane->event_bytes = Max(lane->event_bytes,
										(int) Min(event_bytes(&event),
												  EVENT_BYTES_MAX));
				held_lane_failed(lane, producer_refusal(lane->producer));
				break;
			case PRODUCER_NO_TOPIC:
			case PRODUCER_REFUSED:
				held_lane_failed(lane, producer_refusal(lane->producer));
				break;
			case PRODUCER_TAKEN:
				held_on_sent(held, event.seq);
				break;
		}
	}
}

static void
held_lane_cross_off(HeldLane *lane, PgConnection *conn)
{
	Held	*held = &lane->state->held;
	uint32_t count = held_cross_off(held);

	Assert(held->topic != NULL && count <= held->sent);
	api_call_cross_off(conn, held->topic->name, held->seqs, count,
					   held->resuming, lane->state->epoch);
}

void
held_lane_do(HeldLane *lane, OutboxAction action, PgConnection *conn,
			 int max_event_bytes, EventSource source)
{
	Held   *held = &lane->state->held;
	int64_t epoch = lane->state->epoch;

	if (action == OUTBOX_ASK_HELD)
		api_call(conn, API_HELD);
	else if (action == OUTBOX_HOLD)
	{
		Assert(held->storing != NULL && epoch > 0);
		api_call_hold(conn, held->storing->name, held->storing->reason, epoch);
	}
	else if (action == OUTBOX_SET_ASIDE)
	{
		Assert(held->aside_asked > 0 && epoch > 0);
		api_call_set_aside(conn, held->aside_seqs, held->aside_asked, epoch);
	}
	else if (action == OUTBOX_ASK_HELD_PAGE)
		api_call_held_page(conn, held->topic->name, held->page_rows,
						   OUTBOX_PAGE_BYTES);
	else if (action == OUTBOX_CROSS_OFF)
		held_lane_cross_off(lane, conn);
	else if (action == OUTBOX_NEW_LANE)
		held_lane_open(lane, max_event_bytes);
	else if (action == OUTBOX_PRODUCE_HELD)
		held_lane_produce(lane, source);
	else
	{
		Assert(action == OUTBOX_CLOSE_LANE);
		producer_close(lane->producer);
		held_on_lane_closed(held);
	}
}

/* ---- state ------------------------------------------------------------- */

void
held_lane_describe(const HeldLane *lane, Buf *sentence)
{
	const Held *held = &lane->state->held;

	for (uint32_t i = 0; i < Min(held->count, LANE_NAMED_MAX); i++)
		buf_printf(sentence, "%s%s (%s)", i == 0 ? ", held topics: " : ", ",
				   held->topics[i]->name, held->topics[i]->reason);
	if (held->count > LANE_NAMED_MAX)
		buf_printf(sentence, " and %u others", held->count - LANE_NAMED_MAX);
}
