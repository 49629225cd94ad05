/*
 * inbox_world.h - a database and a consumer group for the inbox's simulation
 *
 * The database: applies a batch, or a bad message alone, and deduplicates by
 * id.  A batch that holds a bad message fails.
 *
 * The group: moves partitions between the relay and a peer that applies
 * messages too; the relay notices when it serves its consumer.
 *
 * Both check what the relay does: see test_inbox_simulation.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_INBOX_WORLD_H
#define PGSTOCK_INBOX_WORLD_H

#include "unit.h"

#include <string.h>

#include "inbox/state.h"

#define PARTITIONS	 4
#define MESSAGES_MAX 200000 /* of one partition */
#define BATCH_MAX	 40
#define BACKLOG_MAX	 200 /* messages not yet taken */

typedef struct Message
{
	bool	 bad;
	bool	 failed; /* alone, by relay_apply_failed() */
	uint32_t taken;	 /* by the database: effects, or dead */
} Message;

typedef struct Partition
{
	Message *messages;
	uint32_t end;		/* messages that there are */
	uint32_t next;		/* the database's offset */
	uint32_t committed; /* Kafka's */
	bool	 ours;		/* as the group has it */
	bool	 contested; /* taken away, and the relay does not know */
	bool	 held;		/* the relay takes it for its own */
	uint32_t position;	/* of the relay's consumer */
	uint32_t applied;	/* ... and what it has to commit to Kafka */
} Partition;

typedef struct Batched
{
	uint32_t partition;
	uint32_t offset;
} Batched;

typedef struct Counts
{
	unsigned applied, duplicates, dead, failures, transient, given_up,
		rebalances, contests, stale_offsets, connections_lost, consumers_lost,
		stores, disturbances, late_surveys, crashes, stops, commits, retries;
} Counts;

typedef struct World
{
	int64_t	   now;
	bool	   peace; /* nothing fails any more */
	Counts	   counts;
	Partition  partitions[PARTITIONS];
	InboxState state;
	bool	   rebalance;			/* waits for the consumer to be served */
	bool	   reading;				/* the consumer has partitions to read */
	uint32_t   offsets[PARTITIONS]; /* the database's, when it was asked */
	Batched	   batch[BATCH_MAX];
	uint32_t   batch_count;
	bool	   surveying; /* the broker's offsets are being queried */
	bool	   slow;	  /* the database fails for a while */
} World;

static World world;

/* Something goes wrong that often, while things may. */
static inline bool
fails_one_in(uint32_t n)
{
	return !world.peace && one_in(n);
}

/* ---- the database ------------------------------------------------------ */

/* Deduplicates by id, as the real one does. */
static inline void
take(Partition *partition, uint32_t offset)
{
	Message *message = &partition->messages[offset];

	assert_true(offset <= partition->next);
	if (offset < partition->next)
	{
		assert_true(message->taken == 1);
		world.counts.duplicates++;
		return;
	}
	assert_int_equal(message->taken, 0);
	message->taken++;
	partition->next++;
	world.counts.applied++;
}

static inline bool
batch_is_bad(uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
	{
		const Batched *at = &world.batch[i];

		if (world.partitions[at->partition].messages[at->offset].bad)
			return true;
	}
	return false;
}

static inline void
apply_batch(const InboxState *inbox)
{
	for (uint32_t i = inbox->from; i < inbox->to; i++)
	{
		const Batched *at = &world.batch[i];
		Partition	  *partition = &world.partitions[at->partition];

		assert_true(at->offset == partition->next || partition->contested);
		take(partition, at->offset);
	}
}

static inline void
apply_failed(const InboxState *inbox)
{
	const Batched *at = &world.batch[inbox->from];
	Message *message = &world.partitions[at->partition].messages[at->offset];

	assert_true(inbox->to == inbox->from + 1);
	assert_true(message->bad);
	message->failed = true;
	world.counts.dead++;
	apply_batch(inbox);
}

/* The batch's transaction, as far as the server is concerned. */
static inline SqlClass
run_apply(const InboxState *inbox, bool *done)
{
	*done = false;
	if (world.slow || fails_one_in(20))
		return SQL_TRANSIENT;
	if (inbox->call == INBOX_APPLY && batch_is_bad(inbox->from, inbox->to))
		return SQL_PERMANENT;
	if (inbox->call == INBOX_APPLY)
		apply_batch(inbox);
	else
		apply_failed(inbox);
	*done = true;
	return SQL_PERMANENT;
}

/* ---- the group --------------------------------------------------------- */

static inline void
peer_works(void)
{
	Partition *partition = &world.partitions[below(PARTITIONS)];

	if (partition->ours)
		return;
	for (uint32_t n = below(6); n > 0 && partition->next < partition->end; n--)
	{
		partition->messages[partition->next]
			.failed = partition->messages[partition->next].bad;
		take(partition, partition->next);
	}
}

static inline void
move_partitions(void)
{
	for (uint32_t i = 0; i < PARTITIONS; i++)
	{
		Partition *partition = &world.partitions[i];

		partition->ours = world.peace || one_in(2);
		if (partition->held && !partition->ours && !partition->contested)
		{
			partition->contested = true;
			world.counts.contests++;
		}
	}
	world.rebalance = true;
	inbox_on_readable(&world.state);
}

static inline void
stop_reading(void)
{
	world.reading = false;
	world.batch_count = 0;
}

/* The relay has left the group, or joined it anew. */
static inline void
lose_partitions(void)
{
	for (uint32_t i = 0; i < PARTITIONS; i++)
	{
		Partition *partition = &world.partitions[i];

		partition->ours = partition->held = partition->contested = false;
	}
	world.rebalance = world.surveying = false;
	stop_reading();
}

#endif
