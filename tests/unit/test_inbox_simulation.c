/*
 * test_inbox_simulation.c - a relay that consumes, a peer in its group, and
 * every fault
 *
 * The database takes batches in one transaction with the next offsets; a bad
 * message fails each batch that it is in.  The group moves partitions between
 * the relay and a peer; the relay notices when it serves its consumer, and by
 * then the peer may be at work.
 *
 * Checked at each step:
 * - no message is left out, and none is delivered twice unless the group had
 *   given the partition to the peer meanwhile;
 * - every bad message ends in relay_apply_failed(), alone, and no good one;
 * - no offset is committed to Kafka before the database has it;
 * - a partition is read only from the database's offset, and the inbox always
 *   waits for something that will happen.
 * At the end, when nothing fails any more, every message was taken once.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox_world.h"

#define STEPS 200000

/* ---- the consumer: what consumer.c does -------------------------------- */

static void
serve_rebalance(void)
{
	inbox_on_rebalance(&world.state, false, world.now);
	for (uint32_t i = 0; i < PARTITIONS; i++)
	{
		Partition *partition = &world.partitions[i];

		partition->held = partition->ours;
		partition->contested = false;
		partition->applied = 0;
	}
	world.rebalance = false;
	stop_reading();
	inbox_on_rebalance(&world.state, true, world.now);
	world.counts.rebalances++;
}

/* The next message of any partition from that one on; false if none has. */
static bool
fetch_one(uint32_t first)
{
	for (uint32_t n = 0; world.reading && n < PARTITIONS; n++)
	{
		uint32_t   index = (first + n) % PARTITIONS;
		Partition *partition = &world.partitions[index];

		if (!partition->held || partition->position == partition->end)
			continue;
		world.batch[world.batch_count++] = (Batched){
			.partition = index,
			.offset = partition->position++,
		};
		return true;
	}
	return false;
}

static void
fetch(void)
{
	uint32_t wanted = below(BATCH_MAX) + 1;
	bool	 drained = false;

	world.batch_count = 0;
	if (fails_one_in(500))
	{
		lose_partitions();
		inbox_on_consumer_failed(&world.state, world.now);
		world.counts.consumers_lost++;
		return;
	}
	if (world.rebalance)
		serve_rebalance();
	while (world.batch_count < wanted && !drained)
		drained = !fetch_one(below(PARTITIONS));
	inbox_on_fetched(&world.state, world.batch_count, drained, world.now);
	if (world.state.placed && fails_one_in(100))
	{
		inbox_on_disturbed(&world.state);
		world.counts.disturbances++;
	}
	if (world.state.closing && one_in(3))
	{
		lose_partitions();
		inbox_on_closed(&world.state);
	}
	else if (world.state.closing)
		inbox_on_readable(&world.state);
}

static void
take_offsets(void)
{
	if (!inbox_on_offsets(&world.state, world.now))
		world.counts.stale_offsets++;
}

static InboxFound
what_is_found(void)
{
	if (world.state.placed)
		return fails_one_in(10) ? INBOX_MISPLACED : INBOX_FITS;
	return fails_one_in(5) ? INBOX_TO_STORE : INBOX_FITS;
}

static void
end_survey(void)
{
	bool late = !world.state.placed && world.state.placing != PLACING_WAIT;

	world.surveying = false;
	world.counts.late_surveys += late;
	if (!inbox_on_surveyed(&world.state, what_is_found(), world.now))
		return;
	assert_true(!late && world.state.consumer_up && world.state.assigned);
	for (uint32_t i = 0; i < PARTITIONS; i++)
		world.partitions[i].position = world.offsets[i];
	/* librdkafka ignores an assignment of a consumer that is leaving */
	world.reading = !world.state.closing;
	inbox_on_readable(&world.state);
}

static void
commit_offsets(void)
{
	for (uint32_t i = 0; i < PARTITIONS; i++)
	{
		Partition *partition = &world.partitions[i];

		assert_true(partition->applied <= partition->next);
		if (partition->applied > 0)
			partition->committed = partition->applied;
	}
	inbox_on_committed(&world.state);
	world.counts.commits++;
}

/* ---- the relay: what inbox/pump.c does -------------------------------- */

static void
begin_relay(void)
{
	inbox_state_init(&world.state, true, roll());
	inbox_on_leads(&world.state, true, world.now);
}

/* Ends as by kill -9; another one begins in its place. */
static void
crash(void)
{
	lose_partitions();
	begin_relay();
}

/* The server may have carried out the request although its answer is lost. */
static void
lose_connection(void)
{
	bool done;

	if ((world.state.call == INBOX_APPLY ||
		 world.state.call == INBOX_APPLY_FAILED) &&
		one_in(2))
		(void) run_apply(&world.state, &done);
	inbox_on_down(&world.state, world.now);
	world.counts.connections_lost++;
}

static void
answer_apply(void)
{
	InboxState *inbox = &world.state;
	bool		done;
	SqlClass class = run_apply(inbox, &done);
	bool suspended = inbox->suspend;

	if (!done)
	{
		inbox_on_apply_error(inbox, class, world.now);
		world.counts.failures += class == SQL_PERMANENT;
		world.counts.transient += class == SQL_TRANSIENT;
		world.counts.given_up += inbox->suspend && !suspended;
		return;
	}
	for (uint32_t i = inbox->from; i < inbox->to; i++)
	{
		const Batched *at = &world.batch[i];

		world.partitions[at->partition].applied = at->offset + 1;
	}
	if (inbox_on_applied(inbox, inbox->to - inbox->from, world.now))
		world.batch_count = 0;
}

static void
answer(void)
{
	InboxState *inbox = &world.state;

	if (inbox->call == INBOX_CONNECT && !fails_one_in(4))
		inbox_on_connected(inbox);
	else if (inbox->call == INBOX_CONNECT)
		lose_connection();
	else if (inbox->call == INBOX_HELLO)
		inbox_on_hello(inbox, world.now);
	else if ((inbox->call == INBOX_READ_OFFSETS ||
			  inbox->call == INBOX_STORE_PLACE) &&
			 fails_one_in(10))
		inbox_on_offsets_failed(inbox, world.now);
	else if (inbox->call == INBOX_READ_OFFSETS)
		take_offsets();
	else if (inbox->call == INBOX_STORE_PLACE)
	{
		inbox_on_stored(inbox, fails_one_in(4), world.now);
		world.counts.stores++;
	}
	else if (inbox->call == INBOX_RETRY)
	{
		inbox_on_retried(inbox, one_in(4) ? INBOX_RETRY_ROWS : 0, world.now);
		world.counts.retries++;
	}
	else if (inbox->call == INBOX_READ_METRICS)
		inbox_on_metrics(inbox, world.now);
	else if (inbox->call == INBOX_PURGE)
		inbox_on_purged(inbox, one_in(4) ? INBOX_PURGE_ROWS : 0, 3600 * SEC_US,
						world.now);
	else if (inbox->call == INBOX_EXPIRE)
		inbox_on_expired(inbox, one_in(4) ? 0 : SEC_US, world.now);
	else if (inbox->call == INBOX_LEVELS && fails_one_in(4))
		inbox_on_levels_failed(inbox, world.now);
	else if (inbox->call == INBOX_LEVELS)
		inbox_on_levels(inbox, 200 * MS_US, one_in(2), world.now);
	else if (inbox->call != INBOX_WAIT)
		answer_apply();
}

static void
act(InboxAction action)
{
	if (action == INBOX_READ_OFFSETS)
		for (uint32_t i = 0; i < PARTITIONS; i++)
			world.offsets[i] = world.partitions[i].next;
	else if (action == INBOX_NEW_CONSUMER && fails_one_in(4))
		inbox_on_consumer_failed(&world.state, world.now);
	else if (action == INBOX_NEW_CONSUMER)
	{
		inbox_on_consumer_up(&world.state);
		move_partitions();
	}
	else if (action == INBOX_SUSPEND)
	{
		stop_reading();
		inbox_on_suspended(&world.state);
	}
	else if (action == INBOX_SURVEY)
	{
		assert_true(!world.surveying);
		world.surveying = true;
		inbox_on_survey_begun(&world.state);
	}
	else if (action == INBOX_FETCH)
		fetch();
	else if (action == INBOX_COMMIT)
		commit_offsets();
	else if (action == INBOX_CLOSE)
		stop_reading();
	else if (action == INBOX_DONE)
	{
		crash();
		world.counts.stops++;
	}
}

static void
turn(void)
{
	InboxAction action;

	for (int actions = 0;
		 (action = inbox_next(&world.state, world.now)) != INBOX_WAIT;
		 actions++)
	{
		assert_true(actions < 1000);
		act(action);
	}
	assert_true(!world.reading || world.state.placed);
	assert_int_equal(world.state.size, world.batch_count);
	assert_true(inbox_deadline(&world.state) > world.now);
}

/* ---- what happens ------------------------------------------------------ */

static void
produce(void)
{
	Partition *partition = &world.partitions[below(PARTITIONS)];

	for (uint32_t n = below(8); n > 0; n--)
	{
		if (partition->end - partition->next >= BACKLOG_MAX)
			return;
		assert_true(partition->end < MESSAGES_MAX);
		partition->messages[partition->end++].bad = one_in(30);
	}
	inbox_on_readable(&world.state);
}

static void
trouble(void)
{
	uint32_t kind = below(12);

	if (kind < 4 && world.state.pump != PUMP_DOWN)
		lose_connection();
	else if (kind < 8 && world.state.consumer_up)
		move_partitions();
	else if (kind == 8)
		world.slow = true;
	else if (kind == 9)
	{
		crash();
		world.counts.crashes++;
	}
	else if (kind == 10 && !world.state.stopping)
		inbox_on_stop(&world.state, world.now + 10 * SEC_US);
}

static void
step(void)
{
	int64_t next;

	if (!world.peace)
		produce();
	if (!world.peace || one_in(100))
		peer_works();
	if (one_in(2))
		answer();
	if (world.surveying && one_in(3))
		end_survey();
	if (fails_one_in(300))
		trouble();
	/* the group may rebalance again before the offsets arrive */
	if (world.state.call == INBOX_READ_OFFSETS && fails_one_in(4))
		move_partitions();
	if (one_in(200))
		world.slow = false;
	world.now += below(20000);
	turn();
	next = inbox_deadline(&world.state);
	if (one_in(world.slow ? 4 : 50) && next != NEVER)
		world.now = Max(world.now, next);
	turn();
}

/* ---- a run ------------------------------------------------------------- */

static bool
all_is_taken(void)
{
	for (uint32_t i = 0; i < PARTITIONS; i++)
		if (world.partitions[i].next < world.partitions[i].end)
			return false;
	return true;
}

static void
check_messages(void)
{
	for (uint32_t i = 0; i < PARTITIONS; i++)
		for (uint32_t offset = 0; offset < world.partitions[i].end; offset++)
		{
			const Message *message = &world.partitions[i].messages[offset];

			assert_int_equal(message->taken, 1);
			assert_int_equal(message->failed, message->bad);
		}
}

static void
show(const Counts *counts)
{
	printf("%u messages applied, %u duplicates, %u dead, %u failures, %u "
		   "transient, %u given up, %u commits, %u retries\n",
		   counts->applied, counts->duplicates, counts->dead, counts->failures,
		   counts->transient, counts->given_up, counts->commits,
		   counts->retries);
	printf("%u rebalances, %u contests, %u stale offsets; lost %u "
		   "connections, %u consumers; %u crashes, %u stops\n",
		   counts->rebalances, counts->contests, counts->stale_offsets,
		   counts->connections_lost, counts->consumers_lost, counts->crashes,
		   counts->stops);
}

static void
whatever_fails_every_message_is_taken_once(void **state UNUSED)
{
	const unsigned *counts = (const unsigned *) &world.counts;
	int				left = 100000;

	world = (World){.now = SEC_US};
	begin_dice("inbox simulation");
	for (uint32_t i = 0; i < PARTITIONS; i++)
		world.partitions[i].messages = xcalloc(MESSAGES_MAX, sizeof(Message));
	begin_relay();
	for (int i = 0; i < STEPS; i++)
		step();
	world.peace = true;
	while (!all_is_taken())
	{
		assert_true(left-- > 0);
		step();
	}
	show(&world.counts);
	check_messages();
	/* each of these has happened; a batch given up is too rare to require */
	world.counts.given_up++;
	for (size_t i = 0; i < sizeof(Counts) / sizeof(unsigned); i++)
		assert_true(counts[i] > 0);
	for (uint32_t i = 0; i < PARTITIONS; i++)
		free(world.partitions[i].messages);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_fails_every_message_is_taken_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
