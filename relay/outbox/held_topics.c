/*
 * held_topics.c - topics whose events the broker refuses, and their return
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/held_topics.h"

#include <stdlib.h>
#include <string.h>

void
held_init(Held *held, uint64_t seed)
{
	*held = (Held){.seed = seed};
}

static void
held_free_topic(HeldTopic *topic)
{
	free(topic->name);
	free(topic->reason);
	free(topic);
}

static void
held_idle(Held *held)
{
	held->state = LANE_IDLE;
	held->topic = NULL;
	held->closing = held->resuming = held->failed = false;
	held->waits = false;
}

void
held_reset(Held *held)
{
	held_idle(held);
	for (uint32_t i = 0; i < held->count; i++)
		held_free_topic(held->topics[i]);
	held->count = 0;
	held->known = false;
	held->aside_count = held->aside_asked = 0;
}

void
held_fini(Held *held)
{
	held_reset(held);
	free(held->topics);
	*held = (Held){0};
}

void
held_stop(Held *held)
{
	held_idle(held);
	for (uint32_t i = 0; i < held->count; i++)
		held->topics[i]->try_at = NEVER;
}

/* ---- topics ------------------------------------------------------------ */

/* The place of the first topic whose name is not before this one. */
static uint32_t
held_place(const Held *held, const char *name)
{
	uint32_t from = 0;
	uint32_t to = held->count;

	while (from < to)
	{
		uint32_t middle = from + (to - from) / 2;

		if (strcmp(held->topics[middle]->name, name) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

static HeldTopic *
held_find(const Held *held, const char *name)
{
	uint32_t place = held_place(held, name);

	if (place == held->count || strcmp(held->topics[place]->name, name) != 0)
		return NULL;
	return held->topics[place];
}

/* More may have been stored by a relay that had another limit. */
bool
held_has_no_room(const Held *held, const char *name)
{
	return held->count >= HELD_TOPICS_MAX && held_find(held, name) == NULL;
}

bool
held_suspects(const Held *held)
{
	return held->count >= HELD_SUSPECTS;
}

bool
held_is_wary(const Held *held, int64_t now)
{
	return held->refusals >= HELD_REFUSALS_MAX &&
		   now < held->refusals_since + HELD_REFUSALS_US;
}

void
held_count_refusal(Held *held, int64_t now)
{
	if (held->refusals == 0 || now >= held->refusals_since + HELD_REFUSALS_US)
	{
		held->refusals = 0;
		held->refusals_since = now;
	}
	held->refusals++;
}

static HeldTopic *
held_add(Held *held, const char *name)
{
	HeldTopic *topic = xcalloc(1, sizeof(HeldTopic));
	uint32_t   place = held_place(held, name);

	topic->name = xstrdup(name);
	backoff_init(&topic->retry, SEC_US, 30 * SEC_US, held->seed++);
	held->topics = xrealloc(held->topics,
							(held->count + 1) * sizeof(HeldTopic *));
	memmove(&held->topics[place + 1], &held->topics[place],
			(held->count - place) * sizeof(HeldTopic *));
	held->topics[place] = topic;
	held->count++;
	return topic;
}

static void
held_set_reason(HeldTopic *topic, const char *reason)
{
	free(topic->reason);
	topic->reason = xstrdup(reason);
}

void
held_load(Held *held, const char *name, const char *reason, int64_t now)
{
	HeldTopic *topic;

	Assert(!held->known && held_find(held, name) == NULL);
	topic = held_add(held, name);
	held_set_reason(topic, reason);
	topic->try_at = now;
}

void
held_loaded(Held *held)
{
	Assert(!held->known);
	held->known = true;
}

static void
held_refuse(HeldTopic *topic, const char *reason, int64_t now)
{
	held_set_reason(topic, reason);
	topic->unstored = true;
	topic->try_at = now + backoff_failed(&topic->retry);
}

bool
held_refused(Held *held, const char *name, const char *reason, int64_t now)
{
	HeldTopic *topic;

	if (!held->known || held_find(held, name) != NULL ||
		held_has_no_room(held, name))
		return false;
	topic = held_add(held, name);
	topic->unseen = true;
	held_refuse(topic, reason, now);
	return true;
}

static HeldTopic *
held_unstored(const Held *held)
{
	for (uint32_t i = 0; i < held->count; i++)
		if (held->topics[i]->unstored)
			return held->topics[i];
	return NULL;
}

bool
held_has_unstored(const Held *held)
{
	return held_unstored(held) != NULL;
}

void
held_store(Held *held)
{
	held->storing = held_unstored(held);
	Assert(held->storing != NULL);
	held->storing->unstored = false;
}

static void
held_resume(Held *held, HeldTopic *topic)
{
	uint32_t place = held_place(held, topic->name);

	Assert(held->topics[place] == topic);
	held->count--;
	memmove(&held->topics[place], &held->topics[place + 1],
			(held->count - place) * sizeof(HeldTopic *));
	held_free_topic(topic);
}

/* ---- setting aside ----------------------------------------------------- */

HeldRoute
held_route(Held *held, const char *name)
{
	HeldTopic *topic = held_find(held, name);

	Assert(!held->waits);
	if (topic == NULL)
		return HELD_FLOWS;
	held->waits = (held->closing && topic == held->topic) ||
				  held->aside_count == HELD_ASIDES_MAX;
	if (held->waits)
		return HELD_WAITS;
	topic->unseen = false;
	return HELD_ASIDE;
}

void
held_put_aside(Held *held, uint64_t id, int64_t seq)
{
	Assert(held->aside_count < HELD_ASIDES_MAX);
	held->aside_ids[held->aside_count] = id;
	held->aside_seqs[held->aside_count] = seq;
	held->aside_count++;
}

void
held_ask_asides(Held *held)
{
	Assert(held->aside_count > 0 && held->aside_asked == 0);
	held->aside_asked = held->aside_count;
}

/*
 * Those from before a rewind are stored too: they are read again, and to set
 * aside twice is no harm.
 */
void
held_asides_stored(Held *held)
{
	uint32_t rest = held->aside_count - held->aside_asked;

	Assert(held->aside_asked > 0 && held->aside_asked <= held->aside_count);
	memmove(held->aside_ids, held->aside_ids + held->aside_asked,
			rest * sizeof(uint64_t));
	memmove(held->aside_seqs, held->aside_seqs + held->aside_asked,
			rest * sizeof(int64_t));
	held->aside_count = rest;
	held->aside_asked = 0;
	held->waits = false;
}

/* ---- the lane ---------------------------------------------------------- */

static void
held_fail(Held *held, const char *reason, int64_t now)
{
	Assert(held->state == LANE_PRODUCING);
	held_refuse(held->topic, reason, now);
	if (held->arrived == 0)
	{
		held_idle(held);
		return;
	}
	held->failed = true;
	held->closing = held->waits = false;
	held->state = LANE_CROSSING;
}

/* What holds between two reports. */
static void
held_check(const Held *held)
{
	Assert((held->state == LANE_IDLE) == (held->topic == NULL));
	Assert(!held->closing || held->topic != NULL);
	Assert(!held->resuming || held->state == LANE_CROSSING);
	Assert(!held->failed || held->state == LANE_CROSSING);
	Assert(held->aside_asked <= held->aside_count);
	Assert(held->aside_count <= HELD_ASIDES_MAX);
	Assert(held->state != LANE_PRODUCING || held->arrived < held->rows);
}

void
held_tick(Held *held, int64_t now)
{
	held_check(held);
	if (held->closing && !held->resuming && now >= held->closing_by)
		held->closing = held->waits = false;
	if (held->state == LANE_PRODUCING && now >= held->fails_at)
		held_fail(held, "the broker does not answer", now);
}

/*
 * Topics refused less often are tried first, so that topics which the broker
 * never accepts do not delay the others.
 */
static bool
held_is_before(const HeldTopic *topic, const HeldTopic *other)
{
	if (topic->retry.failures != other->retry.failures)
		return topic->retry.failures < other->retry.failures;
	return topic->try_at < other->try_at;
}

void
held_start(Held *held, int64_t now)
{
	if (held->state != LANE_IDLE)
		return;
	for (uint32_t i = 0; i < held->count; i++)
	{
		HeldTopic *topic = held->topics[i];

		if (!topic->unseen && now >= topic->try_at &&
			(held->topic == NULL || held_is_before(topic, held->topic)))
			held->topic = topic;
	}
	if (held->topic == NULL)
		return;
	held->state = LANE_READING;
	held->page_rows = 1;
}

int64_t
held_deadline(const Held *held, bool may_start)
{
	int64_t at = NEVER;

	if (held->closing && !held->resuming)
		at = Min(at, held->closing_by);
	if (held->state == LANE_PRODUCING)
		at = Min(at, held->fails_at);
	for (uint32_t i = 0;
		 may_start && held->state == LANE_IDLE && i < held->count; i++)
		if (!held->topics[i]->unseen)
			at = Min(at, held->topics[i]->try_at);
	return at;
}

static void
held_close(Held *held, int64_t now)
{
	if (held->closing)
		return;
	held->closing = true;
	held->closing_by = now + HELD_CLOSING_US;
}

bool
held_on_page(Held *held, uint32_t rows, bool full, int64_t now)
{
	if (held->state != LANE_READING)
		return false;
	Assert(rows <= HELD_PAGE_ROWS);
	held->rows = rows;
	held->sent = held->arrived = 0;
	held->last = !full;
	held->lane_full = false;
	held->fails_at = now + HELD_TRY_US;
	memset(held->acked, 0, sizeof(held->acked));
	if (rows > 0)
		held->state = LANE_PRODUCING;
	else if (held->closing)
		held->state = LANE_CROSSING;
	else
		held_close(held, now);
	return rows > 0;
}

bool
held_may_send(const Held *held)
{
	return held->state == LANE_PRODUCING && held->lane_up && !held->lane_full &&
		   held->sent < held->rows;
}

void
held_on_sent(Held *held, int64_t seq)
{
	Assert(held_may_send(held));
	held->seqs[held->sent++] = seq;
}

void
held_on_acked(Held *held, uint64_t row, int64_t now)
{
	if (held->state != LANE_PRODUCING)
		return;
	Assert(row < held->sent && !held->acked[row]);
	held->acked[row] = true;
	held->lane_full = false;
	held->arrived++;
	held->fails_at = now + HELD_TRY_US;
	if (held->arrived == held->rows)
		held->state = LANE_CROSSING;
}

void
held_on_lane_up(Held *held)
{
	Assert(!held->lane_up && held->state == LANE_PRODUCING);
	held->lane_up = true;
}

void
held_on_lane_full(Held *held)
{
	Assert(held->lane_up);
	held->lane_full = true;
}

void
held_on_lane_closed(Held *held)
{
	Assert(held->state == LANE_IDLE);
	held->lane_up = false;
}

void
held_on_lane_failed(Held *held, const char *reason, int64_t now)
{
	held->lane_up = false;
	if (held->state == LANE_PRODUCING)
		held_fail(held, reason, now);
}

uint32_t
held_cross_off(Held *held)
{
	uint32_t count = 0;

	Assert(held->state == LANE_CROSSING);
	for (uint32_t row = 0; row < held->sent; row++)
		if (held->acked[row])
			held->seqs[count++] = held->seqs[row];
	Assert(count == held->arrived);
	held->resuming = held->closing && held->last;
	return count;
}

bool
held_on_crossed_off(Held *held, bool resumed, int64_t now)
{
	if (held->state != LANE_CROSSING)
		return false;
	if (resumed)
	{
		Assert(held->resuming);
		held_resume(held, held->topic);
		held_idle(held);
		return true;
	}
	if (held->failed)
	{
		held_idle(held);
		return false;
	}
	held->resuming = false;
	backoff_succeeded(&held->topic->retry);
	held->page_rows = HELD_PAGE_ROWS;
	held->state = LANE_READING;
	if (held->last)
		held_close(held, now);
	return false;
}
