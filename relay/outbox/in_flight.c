/*
 * in_flight.c - events on their way to Kafka, and how far the position may go
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/in_flight.h"

#include <stdlib.h>

static RingSlot *
ring_slot(const Ring *ring, uint64_t id)
{
	Assert(id >= ring->head && id < ring->tail);
	return &ring->slots[id & (ring->capacity - 1)];
}

static RingWindow *
ring_window(Ring *ring, uint32_t index)
{
	Assert(index < ring->window_count);
	return &ring->windows[(ring->window_head + index) % RING_WINDOWS_MAX];
}

void
ring_init(Ring *ring, uint32_t capacity)
{
	Assert(capacity > 0 && (capacity & (capacity - 1)) == 0);
	*ring = (Ring){
		.slots = xcalloc(capacity, sizeof(RingSlot)),
		.capacity = capacity,
	};
}

void
ring_fini(Ring *ring)
{
	ring_reset(ring);
	free(ring->slots);
	*ring = (Ring){0};
}

void
ring_reset(Ring *ring)
{
	for (uint32_t i = 0; i < ring->window_count; i++)
		free(ring_window(ring, i)->text);
	ring->window_count = 0;
	free(ring->done.text);
	ring->done = (RingWindow){0};
	ring->base = ring->head = ring->tail;
	ring->unarrived = 0;
	ring->begun = ring->moved = ring->stored_partly = false;
	ring->passed = 0;
}

bool
ring_has_room(const Ring *ring)
{
	return ring->tail - ring->head < ring->capacity;
}

bool
ring_may_open(const Ring *ring)
{
	return ring->window_count < RING_WINDOWS_MAX;
}

uint32_t
ring_in_flight(const Ring *ring)
{
	return (uint32_t) (ring->tail - ring->head);
}

uint64_t
ring_first_id(const Ring *ring)
{
	return ring->head;
}

uint64_t
ring_next_id(const Ring *ring)
{
	return ring->tail;
}

/* Moves the position past all that is acknowledged without a gap. */
static void
ring_advance(Ring *ring)
{
	while (ring->window_count > 0)
	{
		RingWindow *window = ring_window(ring, 0);
		uint64_t	from = ring->head;

		while (ring->head < window->end && ring_slot(ring, ring->head)->acked)
		{
			window->seq = ring_slot(ring, ring->head)->seq;
			ring->head++;
		}
		if (ring->head > from)
		{
			ring->passed += ring->head - from;
			ring->begun = true;
			ring->moved = true;
		}
		if (!window->closed || ring->head < window->end)
			return;
		free(ring->done.text);
		ring->done = *window;
		ring->begun = false;
		ring->moved = true;
		ring->window_head = (ring->window_head + 1) % RING_WINDOWS_MAX;
		ring->window_count--;
	}
	Assert(ring->head == ring->tail);
}

void
ring_open(Ring *ring, const char *window, int64_t after_seq)
{
	Assert(ring_may_open(ring));
	Assert(after_seq >= 0);
	Assert(ring->window_count == 0 ||
		   ring_window(ring, ring->window_count - 1)->closed);

	ring->window_count++;
	*ring_window(ring, ring->window_count - 1) = (RingWindow){
		.text = xstrdup(window),
		.seq = after_seq,
		.last = after_seq,
		.end = ring->tail,
	};
}

void
ring_push(Ring *ring, int64_t seq, int64_t created_us)
{
	RingWindow *window;

	Assert(ring_has_room(ring));
	Assert(ring->window_count > 0);
	window = ring_window(ring, ring->window_count - 1);
	Assert(!window->closed && window->end == ring->tail);

	ring->tail++;
	ring->unarrived++;
	window->end = ring->tail;
	window->last = seq;
	*ring_slot(ring, ring->tail - 1) = (RingSlot){
		.seq = seq,
		.created_us = created_us,
	};
}

void
ring_close(Ring *ring)
{
	RingWindow *window;

	Assert(ring->window_count > 0);
	window = ring_window(ring, ring->window_count - 1);
	Assert(!window->closed);
	window->closed = true;
	ring_advance(ring);
}

static void
ring_arrived(Ring *ring, RingSlot *slot)
{
	if (slot->arrived)
		return;
	Assert(ring->unarrived > 0);
	slot->arrived = true;
	ring->unarrived--;
}

void
ring_arrive(Ring *ring, uint64_t id)
{
	Assert(id < ring->tail);
	if (id >= ring->base)
		ring_arrived(ring, ring_slot(ring, id));
}

uint32_t
ring_unarrived(const Ring *ring)
{
	return ring->unarrived;
}

int64_t
ring_ack(Ring *ring, uint64_t id)
{
	RingSlot *slot;

	Assert(id < ring->tail);
	if (id < ring->base)
		return -1;
	slot = ring_slot(ring, id);
	Assert(!slot->acked);
	slot->acked = true;
	ring_arrived(ring, slot);
	if (id == ring->head)
		ring_advance(ring);
	return slot->created_us;
}

RingPosition
ring_end(Ring *ring)
{
	const RingWindow *window;

	Assert(ring->window_count > 0);
	window = ring_window(ring, ring->window_count - 1);
	return (RingPosition){
		.window = window->text,
		.seq = window->last,
		.finished = window->closed,
	};
}

bool
ring_position(Ring *ring, RingPosition *position)
{
	const RingWindow *window;

	if (!ring->moved)
		return false;
	window = ring->begun ? ring_window(ring, 0) : &ring->done;
	Assert(window->text != NULL);
	*position = (RingPosition){
		.window = window->text,
		.seq = window->seq,
		.finished = !ring->begun,
	};
	return true;
}

bool
ring_position_counts(const Ring *ring)
{
	return ring->moved && (ring->passed > 0 || ring->stored_partly);
}

void
ring_stored(Ring *ring)
{
	ring->stored_partly = ring->begun;
	ring->moved = false;
	ring->passed = 0;
}
