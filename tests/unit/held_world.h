/*
 * held_world.h - a broker that refuses topics, and a database that stores the
 * events set aside, for the outbox's simulation
 *
 * Each partition is one of a topic; a topic may refuse all its events, or the
 * large ones among them.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_HELD_WORLD_H
#define PGSTOCK_HELD_WORLD_H

#include "outbox_world.h"

#define HELD_READ_MAX 100 /* rows of a page: its bytes are full then */

typedef struct HeldWorld
{
	bool	 topics[TOPICS]; /* held, as the database has it */
	int64_t *events;		 /* seqs that are set aside, unsorted */
	uint32_t count;
} HeldWorld;

static HeldWorld held_world;

/* A request about held topics, as it was sent to the server. */
typedef struct HeldQuestion
{
	uint32_t topic;
	int64_t	 seqs[HELD_ASIDES_MAX];
	uint32_t count;
	bool	 resume;
} HeldQuestion;

typedef struct HeldPage
{
	int64_t	 seqs[HELD_READ_MAX];
	uint32_t rows;
} HeldPage;

static inline uint32_t
topic_number(const char *name)
{
	assert_true(name[0] == 't');
	return (uint32_t) (name[1] - '0');
}

static inline const char *
topic_name(int64_t seq)
{
	static const char *const names[TOPICS] = {"t0", "t1", "t2"};

	return names[topic_of(seq)];
}

/* ---- the database ------------------------------------------------------ */

static inline void
set_aside(const HeldQuestion *question)
{
	for (uint32_t i = 0; i < question->count; i++)
	{
		Event *event = &world.events[question->seqs[i]];

		assert_true(event->commit > 0);
		for (uint32_t j = 0; j < i; j++)
			assert_true(question->seqs[j] != question->seqs[i]);
		assert_true(held_world.topics[topic_of(question->seqs[i])]);
		world.counts.asides++;
		if (event->aside)
			continue;
		event->aside = event->was_aside = true;
		held_world.events[held_world.count++] = question->seqs[i];
	}
}

static inline HeldPage
read_held(uint32_t topic, uint32_t max_rows)
{
	HeldPage page = {0};

	qsort(held_world.events, held_world.count, sizeof(int64_t), compare_seqs);
	max_rows = Min(max_rows, HELD_READ_MAX);
	for (uint32_t i = 0; i < held_world.count && page.rows < max_rows; i++)
		if (topic_of(held_world.events[i]) == topic)
			page.seqs[page.rows++] = held_world.events[i];
	return page;
}

static inline void
forget_aside(int64_t seq)
{
	assert_true(world.events[seq].acked);
	world.events[seq].aside = false;
	for (uint32_t i = 0; i < held_world.count; i++)
		if (held_world.events[i] == seq)
			held_world.events[i] = held_world.events[--held_world.count];
}

static inline bool
cross_off(const HeldQuestion *question)
{
	for (uint32_t i = 0; i < question->count; i++)
		forget_aside(question->seqs[i]);
	if (!question->resume || read_held(question->topic, 1).rows > 0)
		return false;
	held_world.topics[question->topic] = false;
	world.counts.resumed++;
	return true;
}

/* ---- the broker -------------------------------------------------------- */

/* Topic 0 is never refused. */
static inline void
change_minds(void)
{
	Refuses *refuses = &world.refuses[1 + below(TOPICS - 1)];

	if (!fails_one_in(*refuses == REFUSES_NONE ? 1000 : 300))
		return;
	*refuses = *refuses == REFUSES_NONE ? REFUSES_ALL + below(2) : REFUSES_NONE;
}

static inline bool
nothing_is_held(void)
{
	for (uint32_t topic = 0; topic < TOPICS; topic++)
		if (held_world.topics[topic])
			return false;
	return held_world.count == 0;
}

#endif
