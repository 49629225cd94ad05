/*
 * outbox_relay.h - a relay of the outbox's simulation: what outbox/pump.c does
 *
 * It carries out what the outbox under test decides, in a world that may lose
 * its session, its producer or itself at any step.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_OUTBOX_RELAY_H
#define PGSTOCK_OUTBOX_RELAY_H

#include "held_world.h"

#define RELAYS		  2
#define IN_FLIGHT_MAX 64   /* the ring's */
#define BACKLOG_MAX	  1500 /* committed events not yet in Kafka */

/* A request, as it was sent to the server. */
typedef struct Question
{
	OutboxAction what;
	Position	 position; /* window and seq of a page, or to be stored */
	uint32_t	 rows;
	int64_t		 epoch;
	bool		 begun; /* the hint lock was tried */
	HeldQuestion held;
} Question;

typedef struct Relay
{
	OutboxState state;
	bool		session;  /* the server still has it */
	bool		notified; /* and has not read a notification */
	bool		message;  /* one is on its way to the client */
	Question	question;
	Page		pages[OUTBOX_PAGES_MAX];
	uint32_t	page_count;
	Producer	producer;
	Producer	orphan; /* given up while it committed */
	int64_t		led;	/* epoch of its last producer */
	HeldPage	held_page;
	Producer	lane;
} Relay;

static Relay relays[RELAYS];

static inline void
acknowledge_all(InFlight *in_flight)
{
	while (in_flight_count(in_flight) > 0)
		(void) in_flight_ack(in_flight, in_flight_first_id(in_flight));
}

/* ---- a relay: what outbox/pump.c does ---------------------------------- */

/* The producer ends; some of what it had sent still reaches the broker. */
static void
close_producer(Producer *producer)
{
	for (uint32_t n = below(8); n > 0 && !world.away; n--)
		(void) broker_take(producer, below(PARTITIONS));
	*producer = (Producer){0};
}

/* ... a commit perhaps later. */
static void
close_main_producer(Relay *relay)
{
	if (relay->producer.committing)
		relay->orphan = relay->producer;
	close_producer(&relay->producer);
}

static void
end_session(Relay *relay)
{
	if (world.leader == relay - relays)
		world.leader = -1;
	if (world.sleeper == relay - relays)
		world.sleeper = -1;
	relay->session = relay->notified = relay->message = false;
}

/* The session ends, and the relay does not know. */
static void
cut_off(Relay *relay)
{
	end_session(relay);
	world.counts.sessions_ended++;
}

/* The server may have carried out the request although its answer is lost. */
static void
lose_connection(Relay *relay)
{
	if (relay->session && relay->state.asked == OUTBOX_STORE && one_in(2))
		store_position(&relay->question.position, relay->question.epoch);
	if (relay->session && relay->state.asked == OUTBOX_SET_ASIDE && one_in(2))
		set_aside(&relay->question.held);
	if (relay->session && relay->state.asked == OUTBOX_CROSS_OFF && one_in(2))
		(void) cross_off(&relay->question.held);
	end_session(relay);
	if (world.transactional)
		close_main_producer(relay);
	relay->page_count = 0;
	outbox_on_down(&relay->state, world.now);
	world.counts.connections_lost++;
}

static void
begin_relay(Relay *relay)
{
	*relay = (Relay){.orphan = relay->orphan};
	outbox_state_init(&relay->state, IN_FLIGHT_MAX, world.transactional,
					  roll());
	relay->state.page_rows_max = PAGE_ROWS_MAX;
	outbox_beat_every(&relay->state, OUTBOX_BEAT_US);
}

/* Ends as by kill -9; another one begins in its place. */
static void
crash(Relay *relay)
{
	end_session(relay);
	close_main_producer(relay);
	close_producer(&relay->lane);
	outbox_state_fini(&relay->state);
	begin_relay(relay);
}

static void
lose_producer(Relay *relay)
{
	close_main_producer(relay);
	relay->page_count = 0;
	outbox_on_producer_failed(&relay->state, world.now);
	world.counts.producers_lost++;
}

static void
refuse(Relay *relay, int64_t seq)
{
	close_producer(&relay->producer);
	relay->page_count = 0;
	if (!outbox_on_refused(&relay->state, topic_name(seq), "no", world.now))
		outbox_on_producer_failed(&relay->state, world.now);
	world.counts.refusals++;
}

static void
lose_lane(Relay *relay)
{
	close_producer(&relay->lane);
	held_on_lane_failed(&relay->state.held, "no", world.now);
}

/* A relay that fences the earlier producer has just got the lead. */
static void
make_producer(Relay *relay)
{
	assert_true(!world.transactional || relay->state.epoch > relay->led);
	relay->led = relay->state.epoch;
	close_main_producer(relay);
	relay->page_count = 0;
	if (fails_one_in(4))
	{
		outbox_on_producer_failed(&relay->state, world.now);
		world.counts.producers_not_made++;
	}
	else if (world.transactional)
		relay->producer.opening = true;
	else
		outbox_on_producer_up(&relay->state, world.now);
}

/* Something is on its way, and then there is room again. */
static bool
is_full(const Relay *relay)
{
	const Producer *producer = &relay->producer;

	if (!world.transactional)
		return producer->count == PRODUCER_MAX;
	return producer->count > 0 &&
		   !producer->flying[producer->count - 1].taken && fails_one_in(200);
}

static Position
parse_position(const OutboxPosition *stored, int64_t epoch)
{
	Position position = parse_window(stored->window);

	position.seq = stored->seq;
	position.finished = stored->finished;
	position.epoch = epoch;
	return position;
}

static void
commit_produced(Relay *relay)
{
	OutboxState			*outbox = &relay->state;
	const OutboxPosition end = in_flight_end(&outbox->in_flight);

	assert_true(relay->producer.count > 0 &&
				relay->producer.count <= in_flight_count(&outbox->in_flight));
	for (uint32_t i = 0; i < relay->producer.count; i++)
		assert_true(relay->producer.flying[i].reported);
	if (is_full(relay))
	{
		outbox_on_producer_full(outbox, world.now);
		world.counts.full++;
		return;
	}
	relay->producer.position = parse_position(&end, outbox->epoch);
	relay->producer.committing = true;
	outbox_on_committing(outbox, world.now);
}

static void
make_lane(Relay *relay)
{
	close_producer(&relay->lane);
	if (fails_one_in(4))
		held_on_lane_failed(&relay->state.held, "none", world.now);
	else
		relay->state.held.lane_up = true;
}

static void
produce_held(Relay *relay)
{
	Held *held = &relay->state.held;

	while (held_may_send(held))
	{
		int64_t seq = relay->held_page.seqs[held->sent];

		assert_true(held->sent < relay->held_page.rows);
		if (relay->lane.count == PRODUCER_MAX)
		{
			held->lane_full = true;
			return;
		}
		relay->lane.flying[relay->lane.count++] = (Flying){
			.id = held->sent,
			.seq = seq,
		};
		held_on_sent(held, seq);
	}
}

/* True: the row goes to Kafka. */
static bool
row_flows(Relay *relay, int64_t seq, bool *page_done)
{
	switch (held_route(&relay->state.held, topic_name(seq)))
	{
		case HELD_FLOWS:
			return true;
		case HELD_ASIDE:
			*page_done = outbox_on_aside(&relay->state, seq, 0, world.now);
			break;
		case HELD_WAITS:
			break;
	}
	return false;
}

static void
drop_page(Relay *relay)
{
	relay->page_count--;
	relay->pages[0] = relay->pages[1];
}

static void
produce(Relay *relay)
{
	OutboxState *outbox = &relay->state;
	int64_t		 row;

	assert_true(!world.transactional || relay->producer.number > 0);
	while ((row = outbox_row(outbox)) >= 0)
	{
		int64_t seq = relay->pages[0].seqs[row];
		bool	page_done = false;

		assert_true(row < relay->pages[0].rows);
		if (!row_flows(relay, seq, &page_done))
		{
			if (page_done)
			{
				drop_page(relay);
				return;
			}
			continue;
		}
		if (is_refused(seq) && one_in(3))
		{
			refuse(relay, seq);
			return;
		}
		if (is_full(relay))
		{
			outbox_on_producer_full(outbox, world.now);
			world.counts.full++;
			return;
		}
		relay->producer.flying[relay->producer.count++] = (Flying){
			.id = in_flight_next_id(&outbox->in_flight),
			.seq = seq,
		};
		if (outbox_on_produced(outbox, seq, 0, 1, world.now))
		{
			drop_page(relay);
			return;
		}
	}
}

static void
ask_held(Relay *relay, OutboxAction action)
{
	Held		 *held = &relay->state.held;
	HeldQuestion *question = &relay->question.held;

	if (action == OUTBOX_HOLD)
		question->topic = topic_number(held->storing->name);
	if (action == OUTBOX_ASK_HELD_PAGE || action == OUTBOX_CROSS_OFF)
		question->topic = topic_number(held->topic->name);
	if (action == OUTBOX_ASK_HELD_PAGE)
		relay->question.rows = held->page_rows;
	if (action == OUTBOX_SET_ASIDE)
		question->count = held->aside_asked;
	if (action == OUTBOX_CROSS_OFF)
		question->count = held_cross_off(held);
	question->resume = held->resuming;
	memcpy(question->seqs,
		   action == OUTBOX_SET_ASIDE ? held->aside_seqs : held->seqs,
		   question->count * sizeof(int64_t));
}

static void
ask(Relay *relay, OutboxAction action)
{
	const OutboxState *outbox = &relay->state;

	relay->question = (Question){.what = action, .epoch = outbox->epoch};
	if (action == OUTBOX_ASK_PAGE || action == OUTBOX_LOOK ||
		action == OUTBOX_ASK_SLEEP)
		relay->question.position = parse_window(outbox->window);
	if (action == OUTBOX_ASK_PAGE)
		relay->question.position.seq = outbox->page_after;
	if (action == OUTBOX_ASK_PAGE || action == OUTBOX_LOOK)
	{
		assert_true(outbox->page_rows <= PAGE_ROWS_MAX);
		relay->question.rows = outbox->page_rows;
	}
	if (action == OUTBOX_STORE)
		relay->question.position = parse_position(&outbox->storing,
												  outbox->epoch);
	ask_held(relay, action);
}

static void
check_bounds(const Relay *relay)
{
	const OutboxState *outbox = &relay->state;
	uint32_t		   pages = 0;

	assert_true(in_flight_count(&outbox->in_flight) <= IN_FLIGHT_MAX);
	assert_true(outbox->page_count <= OUTBOX_PAGES_MAX);
	for (uint32_t i = 0; i < outbox->page_count; i++)
		pages += outbox->pages[i].rows > 0;
	if (outbox->positioned)
		assert_int_equal(pages, relay->page_count);
	assert_true(outbox_deadline(outbox) > world.now);
}

/* A relay that has no room, or waits for an answer, need not look. */
static void
check_sleep(const Relay *relay)
{
	const OutboxState *outbox = &relay->state;

	if (outbox->pump != PUMP_STREAMING || !outbox->positioned ||
		outbox->asked != OUTBOX_WAIT || outbox->reading ||
		outbox->page_count > 0 ||
		outbox->in_flight.window_count + OUTBOX_PAGES_MAX >=
			IN_FLIGHT_WINDOWS_MAX)
		return;
	if (!outbox->asleep)
		assert_true(outbox_deadline(outbox) <= world.now + OUTBOX_AWAKE_MAX_US);
	else if (relay->session && !relay->notified && !relay->message)
		assert_true(parse_window(outbox->window).to >= world.promised);
}

static void
turn(Relay *relay)
{
	for (int actions = 0;; actions++)
	{
		bool		 had_producer = relay->state.producer_up;
		OutboxAction action = outbox_next(&relay->state, world.now);

		assert_true(actions < 1000);
		world.counts.stalls += had_producer && !relay->state.producer_up;
		if (action == OUTBOX_WAIT)
			break;
		else if (action == OUTBOX_DONE)
		{
			crash(relay);
			world.counts.stops++;
		}
		else if (action == OUTBOX_PRODUCE)
			produce(relay);
		else if (action == OUTBOX_COMMIT)
			commit_produced(relay);
		else if (action == OUTBOX_NEW_PRODUCER)
			make_producer(relay);
		else if (action == OUTBOX_NEW_LANE)
			make_lane(relay);
		else if (action == OUTBOX_PRODUCE_HELD)
			produce_held(relay);
		else if (action == OUTBOX_CLOSE_LANE)
		{
			close_producer(&relay->lane);
			relay->state.held.lane_up = false;
		}
		else
			ask(relay, action);
	}
	check_bounds(relay);
	check_sleep(relay);
}

#endif
