/*
 * in_flight.c - events on their way to Kafka, and how far the position may go
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/in_flight.h"

#include <stdlib.h>

/* The invariants that in_flight.h states, but for the windows' ranges. */
static void
in_flight_check(const InFlight *in_flight)
{
	Assert(in_flight->base <= in_flight->head);
	Assert(in_flight->head <= in_flight->tail);
	Assert(in_flight->tail - in_flight->head <= in_flight->capacity);
	Assert(in_flight->unarrived <= in_flight->tail - in_flight->head);
	Assert(in_flight->unarrived > 0 || in_flight->bytes == 0);
	Assert(in_flight->window_count <= IN_FLIGHT_WINDOWS_MAX);
	Assert(in_flight->window_count > 0 || in_flight->head == in_flight->tail);
	Assert(in_flight->begun || in_flight->done.text != NULL ||
		   !in_flight->moved);
}

static InFlightEvent *
in_flight_slot(const InFlight *in_flight, uint64_t id)
{
	Assert(id >= in_flight->head && id < in_flight->tail);
	return &in_flight->slots[id & (in_flight->capacity - 1)];
}

static InFlightWindow *
in_flight_window(InFlight *in_flight, uint32_t index)
{
	Assert(index < in_flight->window_count);
	return &in_flight->windows[(in_flight->window_head + index) %
							   IN_FLIGHT_WINDOWS_MAX];
}

void
in_flight_init(InFlight *in_flight, uint32_t capacity)
{
	Assert(capacity > 0 && (capacity & (capacity - 1)) == 0);
	*in_flight = (InFlight){
		.slots = xcalloc(capacity, sizeof(InFlightEvent)),
		.capacity = capacity,
	};
}

void
in_flight_fini(InFlight *in_flight)
{
	in_flight_reset(in_flight);
	free(in_flight->slots);
	*in_flight = (InFlight){0};
}

void
in_flight_reset(InFlight *in_flight)
{
	for (uint32_t i = 0; i < in_flight->window_count; i++)
		free(in_flight_window(in_flight, i)->text);
	in_flight->window_count = 0;
	free(in_flight->done.text);
	in_flight->done = (InFlightWindow){0};
	in_flight->base = in_flight->head = in_flight->tail;
	in_flight->unarrived = 0;
	in_flight->bytes = 0;
	in_flight->begun = in_flight->moved = in_flight->stored_partly = false;
	in_flight->passed = 0;
	in_flight_check(in_flight);
}

bool
in_flight_has_room(const InFlight *in_flight)
{
	return in_flight->tail - in_flight->head < in_flight->capacity &&
		   in_flight->bytes < IN_FLIGHT_BYTES_MAX;
}

bool
in_flight_may_open(const InFlight *in_flight)
{
	return in_flight->window_count < IN_FLIGHT_WINDOWS_MAX;
}

uint32_t
in_flight_count(const InFlight *in_flight)
{
	return (uint32_t) (in_flight->tail - in_flight->head);
}

uint64_t
in_flight_first_id(const InFlight *in_flight)
{
	return in_flight->head;
}

uint64_t
in_flight_next_id(const InFlight *in_flight)
{
	return in_flight->tail;
}

/* Moves the position past all that is acknowledged without a gap. */
static void
in_flight_advance(InFlight *in_flight)
{
	while (in_flight->window_count > 0)
	{
		InFlightWindow *window = in_flight_window(in_flight, 0);
		uint64_t		from = in_flight->head;

		while (in_flight->head < window->end &&
			   in_flight_slot(in_flight, in_flight->head)->acked)
		{
			window->seq = in_flight_slot(in_flight, in_flight->head)->seq;
			in_flight->head++;
		}
		if (in_flight->head > from)
		{
			in_flight->passed += in_flight->head - from;
			in_flight->begun = true;
			in_flight->moved = true;
		}
		if (!window->closed || in_flight->head < window->end)
			return;
		free(in_flight->done.text);
		in_flight->done = *window;
		in_flight->begun = false;
		in_flight->moved = true;
		in_flight->window_head = (in_flight->window_head + 1) %
								 IN_FLIGHT_WINDOWS_MAX;
		in_flight->window_count--;
	}
	Assert(in_flight->head == in_flight->tail);
}

void
in_flight_open(InFlight *in_flight, const char *window, int64_t after_seq)
{
	Assert(in_flight_may_open(in_flight));
	Assert(after_seq >= 0);
	Assert(in_flight->window_count == 0 ||
		   in_flight_window(in_flight, in_flight->window_count - 1)->closed);

	in_flight->window_count++;
	*in_flight_window(in_flight,
					  in_flight->window_count - 1) = (InFlightWindow){
		.text = xstrdup(window),
		.seq = after_seq,
		.last = after_seq,
		.end = in_flight->tail,
	};
}

void
in_flight_push(InFlight *in_flight, int64_t seq, int64_t created_us,
			   uint32_t bytes)
{
	InFlightWindow *window;

	Assert(in_flight_has_room(in_flight));
	Assert(in_flight->window_count > 0);
	window = in_flight_window(in_flight, in_flight->window_count - 1);
	Assert(!window->closed && window->end == in_flight->tail);

	in_flight->tail++;
	in_flight->unarrived++;
	in_flight->bytes += bytes;
	window->end = in_flight->tail;
	window->last = seq;
	*in_flight_slot(in_flight, in_flight->tail - 1) = (InFlightEvent){
		.seq = seq,
		.created_us = created_us,
		.bytes = bytes,
	};
	in_flight_check(in_flight);
}

void
in_flight_close(InFlight *in_flight)
{
	InFlightWindow *window;

	Assert(in_flight->window_count > 0);
	window = in_flight_window(in_flight, in_flight->window_count - 1);
	Assert(!window->closed);
	window->closed = true;
	in_flight_advance(in_flight);
	in_flight_check(in_flight);
}

static void
in_flight_arrived(InFlight *in_flight, InFlightEvent *slot)
{
	if (slot->arrived)
		return;
	Assert(in_flight->unarrived > 0 && in_flight->bytes >= slot->bytes);
	slot->arrived = true;
	in_flight->unarrived--;
	in_flight->bytes -= slot->bytes;
}

void
in_flight_arrive(InFlight *in_flight, uint64_t id)
{
	Assert(id < in_flight->tail);
	if (id >= in_flight->base)
		in_flight_arrived(in_flight, in_flight_slot(in_flight, id));
}

uint32_t
in_flight_unarrived(const InFlight *in_flight)
{
	return in_flight->unarrived;
}

int64_t
in_flight_ack(InFlight *in_flight, uint64_t id)
{
	InFlightEvent *slot;

	Assert(id < in_flight->tail);
	if (id < in_flight->base)
		return -1;
	slot = in_flight_slot(in_flight, id);
	Assert(!slot->acked);
	slot->acked = true;
	in_flight_arrived(in_flight, slot);
	if (id == in_flight->head)
		in_flight_advance(in_flight);
	in_flight_check(in_flight);
	return slot->created_us;
}

OutboxPosition
in_flight_end(InFlight *in_flight)
{
	const InFlightWindow *window;

	Assert(in_flight->window_count > 0);
	window = in_flight_window(in_flight, in_flight->window_count - 1);
	return (OutboxPosition){
		.window = window->text,
		.seq = window->last,
		.finished = window->closed,
	};
}

bool
in_flight_position(InFlight *in_flight, OutboxPosition *position)
{
	const InFlightWindow *window;

	if (!in_flight->moved)
		return false;
	window = in_flight->begun ? in_flight_window(in_flight, 0)
							  : &in_flight->done;
	Assert(window->text != NULL);
	*position = (OutboxPosition){
		.window = window->text,
		.seq = window->seq,
		.finished = !in_flight->begun,
	};
	return true;
}

bool
in_flight_position_counts(const InFlight *in_flight)
{
	return in_flight->moved &&
		   (in_flight->passed > 0 || in_flight->stored_partly);
}

void
in_flight_stored(InFlight *in_flight)
{
	in_flight->stored_partly = in_flight->begun;
	in_flight->moved = false;
	in_flight->passed = 0;
}
