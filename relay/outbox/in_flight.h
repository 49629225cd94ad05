/*
 * in_flight.h - events on their way to Kafka, and how far the position may go
 *
 * Events enter in the order in which they are produced and leave in that
 * order; acknowledgements arrive in any order.  The position passes an event
 * only when it and all before it are acknowledged.  Windows (see
 * docs/relay-protocol.md) are a queue beside the events: one is done when its
 * last event is passed and it was closed.
 *
 * Pure: no clock, no I/O, all memory allocated at the start.
 *
 * Invariants: head <= tail <= head + capacity; the windows' event ranges are
 * adjacent and cover head .. tail; all but the youngest window are closed;
 * unarrived counts the slots that are neither arrived nor acknowledged.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_OUTBOX_IN_FLIGHT_H
#define PGSTOCK_OUTBOX_IN_FLIGHT_H

#include "common/util.h"

/* windows with events in flight; each holds a text of some hundred bytes */
#define RING_WINDOWS_MAX 64

typedef struct RingSlot
{
	int64_t seq;		/* the event's, rising within a window */
	int64_t created_us; /* when it was written, for the latency */
	bool	acked;		/* Kafka has it */
	bool	arrived;	/* ... within a transaction that is not committed */
} RingSlot;

typedef struct RingWindow
{
	char	*text;	 /* opaque, owned */
	int64_t	 seq;	 /* all up to here is passed */
	int64_t	 last;	 /* seq of its last event so far */
	uint64_t end;	 /* id after its last event so far */
	bool	 closed; /* no further event will come */
} RingWindow;

typedef struct Ring
{
	RingSlot  *slots;	 /* capacity of them, by id */
	uint32_t   capacity; /* a power of two */
	uint64_t   base;	 /* ids below it belong to before a reset */
	uint64_t   head;	 /* oldest event not passed */
	uint64_t   tail;	 /* next id */
	uint32_t   unarrived;
	RingWindow windows[RING_WINDOWS_MAX]; /* a ring too */
	uint32_t   window_head;				  /* index of the oldest */
	uint32_t   window_count;
	RingWindow done;		  /* the last one passed; text NULL: none yet */
	bool	   begun;		  /* events of the oldest window are passed */
	bool	   moved;		  /* the position differs from the stored one */
	bool	   stored_partly; /* the stored one is within a window */
	uint64_t   passed;		  /* events passed since it was stored */
} Ring;

typedef struct RingPosition
{
	const char *window; /* borrowed until the ring changes */
	int64_t		seq;
	bool		finished;
} RingPosition;

void ring_init(Ring *ring, uint32_t capacity);
void ring_fini(Ring *ring);

/* Forgets all events and windows; acknowledgements still to come for them are
 * known by their ids and ignored. */
void ring_reset(Ring *ring);

bool	 ring_has_room(const Ring *ring);
bool	 ring_may_open(const Ring *ring);
uint32_t ring_in_flight(const Ring *ring); /* events not passed */

void	 ring_open(Ring *ring, const char *window, int64_t after_seq);
uint64_t ring_next_id(const Ring *ring);
void	 ring_push(Ring *ring, int64_t seq, int64_t created_us);
void	 ring_close(Ring *ring);

/* When the acknowledged event was written; -1 if it was forgotten. */
int64_t ring_ack(Ring *ring, uint64_t id);

/* The event is in the broker's log, and counts when it is committed. */
void ring_arrive(Ring *ring, uint64_t id);

/* Events in flight that are neither in the broker's log nor acknowledged. */
uint32_t ring_unarrived(const Ring *ring);

/* The oldest event not passed; with ring_next_id() all that are in flight. */
uint64_t ring_first_id(const Ring *ring);

/* The position behind all that was pushed, acknowledged or not; something is
 * in flight. */
RingPosition ring_end(Ring *ring);

/* The position, if it differs from the stored one. */
bool ring_position(Ring *ring, RingPosition *position) MUST_CHECK;

/* Whether the difference is more than empty windows, which can wait. */
bool ring_position_counts(const Ring *ring);

/* The position was handed to the database.  If that fails, everything starts
 * again from what is stored there: ring_reset(). */
void ring_stored(Ring *ring);

#endif
