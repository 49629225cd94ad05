/*
 * test_outbox_simulation.c - two relays, one database, one broker, and
 * every fault
 *
 * A session can end without its relay knowing; then another may lead, and the
 * old leader goes on producing what it has read.  Once in idempotent mode, once
 * in transactional mode.
 *
 * Checked at each step:
 * - of each key the first occurrences arrive in the order of seq, none left
 *   out, and nothing that was rolled back arrives;
 * - the stored position passes no event that was not acknowledged to a relay,
 *   it never goes back, and only the leader's epoch moves it;
 * - an event set aside is crossed off only when Kafka has it;
 * - events in flight, pages and requests stay within their bounds, and the
 *   outbox always waits for something that will happen;
 * - a relay that sleeps, and has no notification, has seen all committed
 *   events, and a relay that is awake looks every few milliseconds;
 * - in transactional mode only events of held topics arrive again, in whatever
 *   state a relay, its connection, its producer or a commit is lost.
 * Once only the refused topics fail, the position passes all events, and all
 * events of the other topic are in Kafka.  At the end, when those topics are
 * accepted again, all committed events are in Kafka.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox_answers.h"

#define STEPS 200000

/* ---- what happens ------------------------------------------------------ */

static void
prepare_commit(Transaction *transaction)
{
	if (one_in(8))
		transaction->stage = STAGE_UNCOUNTED;
	else
		transaction->stage = world.sleeper < 0 ? STAGE_SILENT : STAGE_HINTING;
}

static void
notify_listeners(void)
{
	for (int i = 0; i < RELAYS; i++)
		relays[i].notified = relays[i].session;
}

static void
commit(Transaction *transaction)
{
	bool writes = transaction->count > 0;

	end_transaction(transaction, true);
	world.counts.silent += writes && transaction->stage == STAGE_SILENT;
	world.counts.hints += transaction->stage == STAGE_HINTING;
	if (writes && transaction->stage != STAGE_UNCOUNTED)
		world.promised = world.commits;
	if (transaction->stage == STAGE_HINTING)
		notify_listeners();
	/* the lock is released a moment after the commit is visible */
	if (transaction->stage != STAGE_SILENT || !writes)
		transaction->stage = STAGE_OPEN;
}

static void
application(void)
{
	Transaction *transaction = &world.open[below(OPEN_MAX)];

	if (one_in(50))
		world.idle = !world.idle;
	if (transaction->stage != STAGE_OPEN)
	{
		commit(transaction);
		return;
	}
	if (world.idle && !one_in(20))
		return;
	if (world.committed_count - world.firsts < BACKLOG_MAX)
		for (uint32_t n = below(4); n > 0; n--)
			insert_event(transaction);
	if (one_in(200))
		notify_listeners(); /* a notification of another channel */
	if (!one_in(3) || transaction->count == 0)
		return;
	if (one_in(8))
		end_transaction(transaction, false);
	else
		prepare_commit(transaction);
}

/* The broker takes and acknowledges records of the held page. */
static void
broker_lane(Relay *relay)
{
	uint64_t row;

	for (uint32_t n = below(40); n > 0; n--)
	{
		if (broker_take(&relay->lane, below(PARTITIONS)) == 0)
			continue;
		lose_lane(relay);
		world.counts.lane_refusals++;
	}
	for (uint32_t n = below(40);
		 n > 0 && broker_acknowledge(&relay->lane, &row); n--)
		held_on_acked(&relay->state.held, row, world.now);
}

/* ... and then reads the position; in between others may do the same. */
static void
open_transactional(Relay *relay)
{
	Producer *producer = &relay->producer;

	if (producer->number == 0)
	{
		producer->number = ++world.producers;
		return;
	}
	producer->position = world.kafka_position;
	producer->opening = false;
	outbox_on_producer_up(&relay->state, world.now);
}

static void
end_commit(Relay *relay)
{
	Producer *producer = &relay->producer;

	if (producer->number != world.producers)
	{
		world.transactions.fenced++;
		lose_producer(relay);
		return;
	}
	if (fails_one_in(20))
	{
		producer->committing = false;
		world.transactions.aborted++;
		lose_producer(relay);
		return;
	}
	broker_commit(producer);
	if (fails_one_in(20))
	{
		producer->committing = false; /* its last commit */
		world.transactions.unconfirmed++;
		lose_producer(relay);
		return;
	}
	producer->count = 0;
	producer->committing = false;
	acknowledge_all(&relay->state.in_flight);
	outbox_on_committed(&relay->state, world.now);
}

/* All its records are in Kafka, or will be. */
static bool
can_commit(const Producer *producer)
{
	for (uint32_t i = 0; i < producer->count; i++)
		if (!producer->flying[i].taken && is_refused(producer->flying[i].seq))
			return false;
	return producer->number == world.producers;
}

static void
broker_of_transactions(Relay *relay)
{
	Producer *producer = &relay->producer;
	int64_t	  refused;
	uint64_t  id;

	if (relay->orphan.committing && one_in(8))
	{
		if (can_commit(&relay->orphan) && one_in(2))
		{
			broker_commit(&relay->orphan);
			world.transactions.late++;
		}
		relay->orphan.committing = false;
	}
	if (producer->opening && one_in(3))
		open_transactional(relay);
	for (uint32_t n = below(20); n > 0 && producer->count > 0; n--)
	{
		refused = broker_take(producer, below(PARTITIONS));
		if (refused > 0)
		{
			producer->committing = false; /* it is lost */
			refuse(relay, refused);
			return;
		}
		outbox_on_acked(&relay->state, world.now);
	}
	for (uint32_t n = below(20); n > 0 && broker_report(producer, &id); n--)
		outbox_on_arrived(&relay->state, id);
	if (!producer->committing)
		return;
	if (relay->session && fails_one_in(200))
		cut_off(relay);
	if (one_in(relay->session ? 3 : 60))
		end_commit(relay);
}

static void
broker(Relay *relay)
{
	uint64_t id;
	int64_t	 refused;

	if (fails_one_in(3000))
	{
		world.away = !world.away;
		world.counts.outages += world.away;
	}
	if (world.away)
		return;
	broker_lane(relay);
	if (world.transactional)
	{
		broker_of_transactions(relay);
		return;
	}
	for (uint32_t n = below(40); n > 0; n--)
	{
		refused = broker_take(&relay->producer, below(PARTITIONS));
		if (refused > 0)
			refuse(relay, refused);
	}
	for (uint32_t n = below(40);
		 n > 0 && broker_acknowledge(&relay->producer, &id); n--)
	{
		(void) in_flight_ack(&relay->state.in_flight, id);
		outbox_on_acked(&relay->state, world.now);
	}
}

static void
trouble(Relay *relay)
{
	uint32_t kind = below(13);

	if (kind < 4 && relay->state.pump != PUMP_DOWN)
		lose_connection(relay);
	else if (kind < 7 && relay->session)
		cut_off(relay);
	else if (kind < 9 && relay->state.producer_up)
		lose_producer(relay);
	else if (kind == 10)
	{
		crash(relay);
		world.counts.crashes++;
	}
	else if (kind == 12 && relay->state.held.lane_up)
		lose_lane(relay);
	else if (kind == 11 && !relay->state.stopping)
		outbox_on_stop(&relay->state, world.now + 10 * SEC_US);
}

/* Mostly a moment; now and then until a relay has something to do. */
static void
pass_time(void)
{
	int64_t next = NEVER;

	world.now += below(20000);
	if (!one_in(50))
		return;
	for (int i = 0; i < RELAYS; i++)
		next = Min(next, outbox_deadline(&relays[i].state));
	if (next != NEVER)
		world.now = Max(world.now, next);
}

static void
step(void)
{
	Relay *relay = &relays[below(RELAYS)];

	if (!world.peace)
		application();
	change_minds();
	broker(relay);
	if (one_in(2))
		answer(relay);
	notify(relay);
	if (fails_one_in(300))
		trouble(relay);
	pass_time();
	for (int i = 0; i < RELAYS; i++)
		turn(&relays[i]);
}

/* ---- a run ------------------------------------------------------------- */

static void
show(const Counts *counts)
{
	printf("%u events, %u commits, %u rollbacks, %u pages, %u stores, %u "
		   "repeats\n",
		   world.committed_count, counts->commits, counts->rollbacks,
		   counts->pages, counts->stores, world.repeats);
	printf("%u refusals, %u of held topics, %u events set aside, %u topics "
		   "resumed\n",
		   counts->refusals, counts->lane_refusals, counts->asides,
		   counts->resumed);
	printf("lost %u connections, %u sessions, %u producers; %u not made, %u "
		   "stalled, %u full; %u crashes, %u stops, %u outages\n",
		   counts->connections_lost, counts->sessions_ended,
		   counts->producers_lost, counts->producers_not_made, counts->stalls,
		   counts->full, counts->crashes, counts->stops, counts->outages);
	printf("%u silent commits, %u hints; %u sleeps, no sleep %u times for "
		   "writers, %u for events\n",
		   counts->silent, counts->hints, counts->sleeps, counts->in_the_way,
		   counts->found);
}

static void
check_counts(const void *counts, size_t size)
{
	for (size_t i = 0; i < size / sizeof(unsigned); i++)
		assert_true(((const unsigned *) counts)[i] > 0);
}

static void
run(const char *simulation, bool transactional)
{
	int left = 200000;

	begin_world(simulation);
	world.transactional = transactional;
	held_world = (HeldWorld){.events = xcalloc(EVENTS_MAX, sizeof(int64_t))};
	for (int i = 0; i < RELAYS; i++)
	{
		relays[i] = (Relay){0};
		begin_relay(&relays[i]);
	}
	for (int i = 0; i < STEPS; i++)
		step();
	for (int i = 0; i < OPEN_MAX; i++)
	{
		end_transaction(&world.open[i], true);
		world.open[i].stage = STAGE_OPEN;
	}
	world.peace = true;
	world.away = false;
	for (int topic = 1; topic < TOPICS; topic++)
		world.refuses[topic] = REFUSES_ALL;
	while (!all_is_passed() || !flowing_topic_is_published())
	{
		assert_true(left-- > 0);
		step();
	}
	memset(world.refuses, 0, sizeof(world.refuses));
	while (!all_is_passed() || world.firsts < world.committed_count ||
		   !nothing_is_held())
	{
		assert_true(left-- > 0);
		step();
	}
	show(&world.counts);
	check_counts(&world.counts, sizeof(Counts));
	for (int i = 0; i < RELAYS; i++)
		outbox_state_fini(&relays[i].state);
	free(held_world.events);
	end_world();
}

static void
whatever_fails_nothing_is_skipped_or_out_of_order(void **state UNUSED)
{
	run("outbox simulation", false);
	assert_true(world.repeats > 0);
}

static void
in_transactions_whatever_fails_nothing_is_doubled_either(void **state UNUSED)
{
	const TransactionCounts *counts = &world.transactions;

	run("outbox simulation with transactions", true);
	printf("%u committed, %u of them unconfirmed and %u late; %u aborted, %u "
		   "fenced; %u times the row was further\n",
		   counts->committed, counts->unconfirmed, counts->late,
		   counts->aborted, counts->fenced, counts->by_row);
	check_counts(counts, sizeof(TransactionCounts));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_fails_nothing_is_skipped_or_out_of_order),
		cmocka_unit_test(
			in_transactions_whatever_fails_nothing_is_doubled_either),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
