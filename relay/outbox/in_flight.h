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
 * unarrived counts the slots that are neither arrived nor acknowledged, and
 * bytes is the sum of theirs.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_OUTBOX_IN_FLIGHT_H
#define PGSTOCK_OUTBOX_IN_FLIGHT_H

#include "common/util.h"

/* windows with events in flight; each holds a text of some hundred bytes */
#define IN_FLIGHT_WINDOWS_MAX 64
/*
 * with so many bytes on their way, no further event follows; librdkafka's own
 * limit counts neither keys nor headers
 */
#define IN_FLIGHT_BYTES_MAX ((uint64_t) 16 * 1024 * 1024)

typedef struct InFlightEvent
{
	int64_t	 seq;		 /* the event's, rising within a window */
	int64_t	 created_us; /* when it was written, for the latency */
	uint32_t bytes;		 /* of its record */
	bool	 acked;		 /* Kafka has it */
	bool	 arrived;	 /* ... within a transaction that is not committed */
} InFlightEvent;

typedef struct InFlightWindow
{
	char	*text;	 /* opaque, owned */
	int64_t	 seq;	 /* all up to here is passed */
	int64_t	 last;	 /* seq of its last event so far */
	uint64_t end;	 /* id after its last event so far */
	bool	 closed; /* no further event will come */
} InFlightWindow;

typedef struct InFlight
{
	InFlightEvent *slots;	 /* capacity of them, by id */
	uint32_t	   capacity; /* a power of two */
	uint64_t	   base;	 /* ids below it belong to before a reset */
	uint64_t	   head;	 /* oldest event not passed */
	uint64_t	   tail;	 /* next id */
	uint32_t	   unarrived;
	uint64_t	   bytes;						   /* of the unarrived ones */
	InFlightWindow windows[IN_FLIGHT_WINDOWS_MAX]; /* a ring too */
	uint32_t	   window_head;					   /* index of the oldest */
	uint32_t	   window_count;
	InFlightWindow done;		  /* the last one passed; text NULL: none yet */
	bool		   begun;		  /* events of the oldest window are passed */
	bool		   moved;		  /* the position differs from the stored one */
	bool		   stored_partly; /* the stored one is within a window */
	uint64_t	   passed;		  /* events passed since it was stored */
} InFlight;

typedef struct OutboxPosition
{
	const char *window; /* borrowed until the ring changes */
	int64_t		seq;
	bool		finished;
} OutboxPosition;

void in_flight_init(InFlight *in_flight, uint32_t capacity);
void in_flight_fini(InFlight *in_flight);

/*
 * Forgets all events and windows.  Later acknowledgements for them are
 * recognized by their ids and ignored.
 */
void in_flight_reset(InFlight *in_flight);

bool	 in_flight_has_room(const InFlight *in_flight);
bool	 in_flight_may_open(const InFlight *in_flight);
uint32_t in_flight_count(const InFlight *in_flight); /* events not passed */

void in_flight_open(InFlight *in_flight, const char *window, int64_t after_seq);
uint64_t in_flight_next_id(const InFlight *in_flight);
void	 in_flight_push(InFlight *in_flight, int64_t seq, int64_t created_us,
						uint32_t bytes);
void	 in_flight_close(InFlight *in_flight);

/* When the acknowledged event was written; -1 if it was forgotten. */
int64_t in_flight_ack(InFlight *in_flight, uint64_t id);

/* The event is in the broker's log, and counts when it is committed. */
void in_flight_arrive(InFlight *in_flight, uint64_t id);

/* Events in flight that are neither in the broker's log nor acknowledged. */
uint32_t in_flight_unarrived(const InFlight *in_flight);

/* The oldest event not passed; those from it to in_flight_next_id() fly. */
uint64_t in_flight_first_id(const InFlight *in_flight);

/*
 * The position behind all that was pushed, acknowledged or not; something is
 * in flight.
 */
OutboxPosition in_flight_end(InFlight *in_flight);

/* The position, if it differs from the stored one. */
bool in_flight_position(InFlight	   *in_flight,
						OutboxPosition *position) MUST_CHECK;

/* Whether the difference is more than empty windows, which can wait. */
bool in_flight_position_counts(const InFlight *in_flight);

/*
 * The position was handed to the database.  If that fails, everything starts
 * again from what is stored there: in_flight_reset().
 */
void in_flight_stored(InFlight *in_flight);

#endif
