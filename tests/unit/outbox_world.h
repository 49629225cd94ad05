/*
 * outbox_world.h - a database and a broker for the outbox's simulation
 *
 * The database: transactions take keys, draw seqs, commit or abort in any
 * order.  A window "a-b" holds what the commits a + 1 .. b wrote.
 *
 * The broker: partitions, each of which takes a producer's records in their
 * order; what is taken is acknowledged later, in any order, or never, if the
 * producer is lost before.
 *
 * With transactions: the records of one count when it is committed, with the
 * position that goes with them.  A later producer fences all earlier ones and
 * ends what they left open; before that, a commit whose producer is gone may
 * still take effect, or not.
 *
 * A topic may refuse events (held_world.h).
 *
 * Both check what the relays send: see test_outbox_simulation.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_OUTBOX_WORLD_H
#define PGSTOCK_OUTBOX_WORLD_H

#include "unit.h"

#include <string.h>

#include "outbox/state.h"

#define KEYS			40
#define PARTITIONS		4
#define TOPICS			3
#define PRODUCER_MAX	80 /* records that a producer takes */
#define OPEN_MAX		6  /* open transactions */
#define OPEN_EVENTS_MAX 12 /* of one transaction */
#define PAGE_ROWS_MAX	24
#define EVENTS_MAX		1000000

typedef struct Event
{
	uint32_t key;
	uint32_t commit; /* 0: open or rolled back */
	uint32_t nth;	 /* among the committed ones of its key */
	bool	 acked;	 /* by Kafka, to a relay */
	bool	 aside;	 /* in the database, for its topic is held */
	bool	 was_aside;
} Event;

/* Where a transaction is: extension/outbox/wakeup.c. */
typedef enum Stage
{
	STAGE_OPEN,
	STAGE_SILENT,	 /* about to commit, or just visible; holds the hint lock */
	STAGE_HINTING,	 /* about to commit, and to notify */
	STAGE_UNCOUNTED, /* the same without a notification: COMMIT PREPARED */
} Stage;

typedef enum Refuses
{
	REFUSES_NONE,
	REFUSES_ALL,
	REFUSES_LARGE, /* some events */
} Refuses;

typedef struct Transaction
{
	int64_t	 seqs[OPEN_EVENTS_MAX];
	uint32_t count;
	Stage	 stage;
} Transaction;

typedef struct Position
{
	uint32_t from; /* window: commits above this */
	uint32_t to;   /* ... and up to this */
	int64_t	 seq;
	bool	 finished;
	int64_t	 epoch; /* of the lead that stored it; 0: there is none */
} Position;

typedef struct Page
{
	int64_t	 seqs[PAGE_ROWS_MAX];
	uint32_t rows;
} Page;

typedef struct Flying
{
	uint64_t id;
	int64_t	 seq;
	bool	 taken; /* by the broker: it is in the log */
	bool	 reported;
} Flying;

typedef struct Producer
{
	Flying	 flying[PRODUCER_MAX]; /* in the order of production */
	uint32_t count;
	/* transactional */
	bool	 opening;
	bool	 committing;
	int64_t	 number;   /* the latest is not fenced; 0: none, or not yet */
	Position position; /* read when it was opened; then: to be committed */
} Producer;

/* How often each thing happened; none may be missing from a run. */
typedef struct Counts
{
	unsigned commits;
	unsigned rollbacks;
	unsigned pages;
	unsigned stores;
	unsigned connections_lost;
	unsigned sessions_ended; /* unknown to their relay */
	unsigned producers_lost;
	unsigned producers_not_made;
	unsigned stalls;
	unsigned full;
	unsigned crashes;
	unsigned stops;
	unsigned outages;
	unsigned silent; /* commits without a notification, while no relay slept */
	unsigned hints;
	unsigned sleeps;
	unsigned in_the_way; /* no sleep: a silent one was about to commit */
	unsigned found;		 /* no sleep: there were events */
	unsigned refusals;
	unsigned lane_refusals; /* of those */
	unsigned asides;
	unsigned resumed; /* topics that were held, and are no more */
} Counts;

typedef struct TransactionCounts
{
	unsigned committed;
	unsigned unconfirmed; /* committed, and its relay does not know */
	unsigned late;		  /* ... because it had given the producer up */
	unsigned aborted;
	unsigned fenced;
	unsigned by_row; /* positions of which the database's was further */
} TransactionCounts;

typedef struct World
{
	int64_t			  now;
	bool			  peace; /* nothing fails any more */
	bool			  transactional;
	Counts			  counts;
	TransactionCounts transactions;
	unsigned		  repeats; /* events that reached Kafka again */
	/* the database */
	Event	   *events; /* by seq; 0 is not used */
	int64_t		last_seq;
	int64_t	   *committed; /* seqs in the order of their commits */
	uint32_t	committed_count;
	uint32_t   *commit_ends; /* by commit: how many were committed then */
	uint32_t	commits;
	Transaction open[OPEN_MAX];
	bool		key_taken[KEYS]; /* by an open transaction */
	uint32_t	key_commits[KEYS];
	Position	position;
	int64_t		epoch;
	int			leader;	   /* index of a relay, or -1 */
	bool		idle;	   /* the application does little */
	uint32_t	all_acked; /* the first so many of committed are */
	int			sleeper;   /* index of the relay with the hint lock, or -1 */
	uint32_t promised; /* the latest commit that is not to be slept through */
	/* the broker */
	uint32_t key_firsts[KEYS]; /* events of the key that are there */
	uint32_t firsts;
	bool	 away;
	Refuses	 refuses[TOPICS];
	int64_t	 producers; /* transactional ones so far */
	Position kafka_position;
} World;

static World world;

static inline uint32_t
topic_of(int64_t seq)
{
	return world.events[seq].key % PARTITIONS % TOPICS;
}

static inline bool
is_refused(int64_t seq)
{
	Refuses refuses = world.refuses[topic_of(seq)];

	return refuses == REFUSES_ALL ||
		   (refuses == REFUSES_LARGE && seq % 16 == 0);
}

static inline bool
is_passed(int64_t seq)
{
	return world.events[seq].acked || world.events[seq].aside;
}

/* Something goes wrong that often, while things may. */
static inline bool
fails_one_in(uint32_t n)
{
	return !world.peace && one_in(n);
}

/* ---- the database ------------------------------------------------------ */

static inline void
insert_event(Transaction *transaction)
{
	uint32_t key = below(KEYS);
	bool	 mine = false;

	for (uint32_t i = 0; i < transaction->count; i++)
		mine |= world.events[transaction->seqs[i]].key == key;
	if (transaction->count == OPEN_EVENTS_MAX ||
		(world.key_taken[key] && !mine))
		return;
	world.key_taken[key] = true;
	assert_true(world.last_seq + 1 < EVENTS_MAX);
	world.events[++world.last_seq] = (Event){.key = key};
	transaction->seqs[transaction->count++] = world.last_seq;
}

static inline void
end_transaction(Transaction *transaction, bool commits)
{
	if (transaction->count == 0)
		return;
	world.commits += commits;
	for (uint32_t i = 0; i < transaction->count; i++)
	{
		Event *event = &world.events[transaction->seqs[i]];

		world.key_taken[event->key] = false;
		if (!commits)
			continue;
		event->commit = world.commits;
		event->nth = world.key_commits[event->key]++;
		world.committed[world.committed_count++] = transaction->seqs[i];
	}
	world.commit_ends[world.commits] = world.committed_count;
	transaction->count = 0;
	world.counts.commits += commits;
	world.counts.rollbacks += !commits;
}

static inline Position
parse_window(const char *text)
{
	Position position = {0};
	char	*end;

	position.from = (uint32_t) strtoul(text, &end, 10);
	assert_true(*end == '-');
	position.to = (uint32_t) strtoul(end + 1, &end, 10);
	assert_true(*end == '\0');
	assert_true(position.from <= position.to);
	assert_true(position.to <= world.commits);
	return position;
}

static inline int
compare_seqs(const void *a, const void *b)
{
	int64_t left = *(const int64_t *) a;
	int64_t right = *(const int64_t *) b;

	return (left > right) - (left < right);
}

static inline Page
read_page(const Position *after, uint32_t max_rows)
{
	uint32_t from = world.commit_ends[after->from];
	uint32_t count = world.commit_ends[after->to] - from;
	int64_t *seqs = xcalloc(count + 1, sizeof(int64_t));
	Page	 page = {0};

	memcpy(seqs, world.committed + from, count * sizeof(int64_t));
	qsort(seqs, count, sizeof(int64_t), compare_seqs);
	for (uint32_t i = 0; i < count && page.rows < max_rows; i++)
		if (seqs[i] > after->seq)
			page.seqs[page.rows++] = seqs[i];
	free(seqs);
	world.counts.pages++;
	return page;
}

static inline void
check_position(const Position *new)
{
	const Position *old = &world.position;
	uint32_t sure = world.commit_ends[new->finished ? new->to : new->from];

	assert_true(
		new->from > old->from ||
		(new->from == old->from &&new->to ==
		 old->to &&new->finished >= old->finished &&new->seq >= old->seq) ||
		(new->from == old->from && old->from == old->to));
	while (world.all_acked < world.committed_count &&
		   is_passed(world.committed[world.all_acked]))
		world.all_acked++;
	assert_true(sure <= world.all_acked);
	for (uint32_t i = sure; i < world.commit_ends[new->to]; i++)
		assert_true(world.committed[i] > new->seq ||
					is_passed(world.committed[i]));
}

/* Only a session that leads gets here, so the epoch is the present one. */
static inline void
store_position(const Position *position, int64_t epoch)
{
	assert_true(epoch == world.epoch);
	check_position(position);
	world.position = *position;
	world.position.epoch = epoch;
	world.counts.stores++;
}

/* ---- the broker -------------------------------------------------------- */

static inline void
append(int64_t seq)
{
	const Event *event = &world.events[seq];
	uint32_t	*firsts = &world.key_firsts[event->key];

	assert_true(event->commit > 0);
	assert_true(event->nth <= *firsts);
	assert_true(!world.transactional || event->nth == *firsts ||
				event->was_aside);
	if (event->nth == *firsts)
	{
		++*firsts;
		world.firsts++;
	}
	else
		world.repeats++;
}

/* Transactional: what was sent is there, all of it or none. */
static inline void
broker_commit(Producer *producer)
{
	assert_true(producer->number == world.producers);
	for (uint32_t i = 0; i < producer->count; i++)
	{
		append(producer->flying[i].seq);
		world.events[producer->flying[i].seq].acked = true;
	}
	world.kafka_position = producer->position;
	world.transactions.committed++;
}

/*
 * The partition takes the producer's next record, if there is one; a seq that
 * it refuses, or 0.
 */
static inline int64_t
broker_take(Producer *producer, uint32_t partition)
{
	for (uint32_t i = 0; i < producer->count; i++)
	{
		Flying *flying = &producer->flying[i];

		if (flying->taken ||
			world.events[flying->seq].key % PARTITIONS != partition)
			continue;
		if (is_refused(flying->seq))
			return flying->seq;
		if (producer->number == 0)
			append(flying->seq);
		flying->taken = true;
		return 0;
	}
	return 0;
}

/* Transactional: reports a record that was taken, once. */
static inline bool
broker_report(Producer *producer, uint64_t *id)
{
	for (uint32_t i = 0; i < producer->count; i++)
	{
		Flying *flying = &producer->flying[i];

		if (!flying->taken || flying->reported)
			continue;
		flying->reported = true;
		*id = flying->id;
		return true;
	}
	return false;
}

/* Acknowledges any record that was taken; false if there is none. */
static inline bool
broker_acknowledge(Producer *producer, uint64_t *id)
{
	uint32_t begin = below(Max(producer->count, 1));

	for (uint32_t n = 0; n < producer->count; n++)
	{
		uint32_t i = (begin + n) % producer->count;
		Flying	*flying = &producer->flying[i];

		if (!flying->taken)
			continue;
		*id = flying->id;
		world.events[flying->seq].acked = true;
		producer->count--;
		memmove(flying, flying + 1, (producer->count - i) * sizeof(Flying));
		return true;
	}
	return false;
}

/* ---- life ------------------------------------------------------------- */

static inline void
begin_world(const char *simulation)
{
	world = (World){.now = SEC_US, .leader = -1, .sleeper = -1};
	begin_dice(simulation);
	world.position.finished = true;
	world.events = xcalloc(EVENTS_MAX, sizeof(Event));
	world.committed = xcalloc(EVENTS_MAX, sizeof(int64_t));
	world.commit_ends = xcalloc(EVENTS_MAX, sizeof(uint32_t));
}

static inline void
end_world(void)
{
	free(world.events);
	free(world.committed);
	free(world.commit_ends);
}

static inline bool
all_is_passed(void)
{
	const Position *position = &world.position;

	return world.commit_ends[position->finished ? position->to
												: position->from] ==
		   world.committed_count;
}

/* All events of the topic that is never refused. */
static inline bool
flowing_topic_is_published(void)
{
	for (uint32_t key = 0; key < KEYS; key++)
		if (key % PARTITIONS % TOPICS == 0 &&
			world.key_firsts[key] < world.key_commits[key])
			return false;
	return true;
}

#endif
