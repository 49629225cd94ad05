/*
 * state.h - the outbox pump's state, and what to do next
 *
 * The deciding half of the outbox pump.  pump.c reports what happened
 * (outbox_on_..., state.c), then carries out what outbox_next() (decide.c)
 * returns until that is OUTBOX_WAIT; it does nothing else.  There is no I/O and
 * no clock in here: the time is an argument, so a simulator can take the place
 * of pump.c.
 *
 *	DOWN -> CONNECTING -> HANDSHAKE -> LEADER_WAIT -> STREAMING -> DRAINING
 *	  ^_________________________________|__________________|
 *
 * Rules that hold everything together:
 * - One query to the database at a time.  The next page is requested before the
 *   present one is produced, so the server reads while the relay produces.
 * - The position is only ever taken from the database: it is read back after
 *   each connection and after each loss of the producer, and the events in
 *   flight are forgotten.  They may be published twice, but are not lost.
 * - The position passes an event only when it and all before it are
 *   acknowledged (in_flight.h).
 * - Every queue has a limit: two pages, the events and windows in flight.
 * - The pump waits for a notification only when the database has answered that
 *   the window is empty and that it will notify; until then the pump polls.
 * - A topic that the broker refuses is held (held_topics.h): its events are set
 *   aside in the database, and that is their acknowledgement.
 *
 * In transactional mode OUTBOX_COMMIT commits the events in flight and the
 * position behind them together:
 * - A new producer fences the previous one.  So only a leader opens one, and a
 *   relay that has lost its producer takes the lead again before it opens the
 *   next: a former leader learns there that it leads no more, and does not
 *   fence the producer of the new one.
 * - A lost connection loses the producer too.
 * - The position is produced when each of its events has arrived, and the
 *   transaction takes none after that.  So whatever ends a transaction too
 *   early, it never commits a position without what the position passes.
 * - Events in flight are acknowledged when they are committed, all or none;
 *   the database's position is written behind.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_OUTBOX_STATE_H
#define PGSTOCK_OUTBOX_STATE_H

#include "common/backoff.h"
#include "db/pump_state.h"
#include "outbox/held_topics.h"
#include "outbox/in_flight.h"

#define OUTBOX_PAGES_MAX 2

/* A page ends with the row that brings its payloads and headers to this. */
#define OUTBOX_PAGE_BYTES (2 * 1024 * 1024)

/* The position is stored after this time or number of events. */
#define OUTBOX_STORE_US		(200 * MS_US)
#define OUTBOX_STORE_EVENTS 10000
/*
 * ... and this soon while a session waits for an event (wait_for_event), but in
 * one of so many parts of the time at most: a thousand waiters make it slow.
 */
#define OUTBOX_STORE_PROMPT_US	  (2 * MS_US)
#define OUTBOX_STORE_PROMPT_SHARE 2
/*
 * ... and this often when only empty windows went by: the oldest snapshot that
 * the database must remember moves on even where no event is written.
 */
#define OUTBOX_STORE_IDLE_US (60 * SEC_US)

/*
 * A transaction is committed as soon as no further row is at hand, but after
 * this time in any case, or when the ring is full.
 */
#define OUTBOX_COMMIT_US (100 * MS_US)

#define OUTBOX_LEAD_US	(1 * SEC_US)   /* between two tries to lead */
#define OUTBOX_STALL_US (120 * SEC_US) /* in flight and nothing acknowledged */

/*
 * An answer that takes longer is a lost connection: a leader that does not
 * reach its database steps down.
 */
#define OUTBOX_ANSWER_US (10 * SEC_US)

/*
 * A session without a query for so long is ended by the server, and its lead
 * with it: its relay may be frozen, while its kernel answers for it.
 */
#define OUTBOX_IDLE_MS 10000
/* So the relay sends a query at least this often. */
#define OUTBOX_BEAT_US (3 * SEC_US)

/*
 * An awake relay looks again after this time, later where there is much
 * (outbox_pace), and twice as long for each look that found nothing, up to the
 * longest; after so many it tries to sleep.  Writers do not need to wake it
 * then: a gap of a few ms costs them nothing.
 */
#define OUTBOX_AWAKE_US		500
#define OUTBOX_GATHER_US	750 /* for each event that arrives in a ms */
#define OUTBOX_AWAKE_MAX_US (10 * MS_US)
#define OUTBOX_VAIN_LOOKS	2

typedef enum OutboxAction
{
	OUTBOX_WAIT, /* nothing before outbox_deadline() */
	OUTBOX_CONNECT,
	OUTBOX_ASK_HELLO, /* the versions, the database, its incarnation */
	OUTBOX_ASK_LISTEN,
	OUTBOX_ASK_ECHO,   /* does a notification arrive here? */
	OUTBOX_ASK_TOPICS, /* what may be published to */
	OUTBOX_ASK_LEAD,
	OUTBOX_BEAT, /* we are there; what may have changed in the database? */
	OUTBOX_ASK_POSITION,
	OUTBOX_LOOK,		  /* the window after state->window, its first page */
	OUTBOX_ASK_SLEEP,	  /* that window, and if it is empty to be woken */
	OUTBOX_ASK_PAGE,	  /* of state->window, above state->page_after */
	OUTBOX_STORE,		  /* state->storing */
	OUTBOX_ASK_HELD,	  /* which topics are held */
	OUTBOX_HOLD,		  /* state->held.storing */
	OUTBOX_SET_ASIDE,	  /* the first state->held.aside_asked */
	OUTBOX_ASK_HELD_PAGE, /* of state->held.topic */
	OUTBOX_CROSS_OFF,	  /* held_cross_off() */
	OUTBOX_NEW_LANE,
	OUTBOX_CLOSE_LANE,
	OUTBOX_PRODUCE_HELD, /* rows of the held page */
	OUTBOX_PRODUCE,		 /* rows of the oldest page */
	OUTBOX_COMMIT, /* events in flight, all arrived, and in_flight_end() */
	OUTBOX_NEW_PRODUCER, /* a new producer in place of the old one */
	OUTBOX_DONE,		 /* drained */
} OutboxAction;

/* One answer to OUTBOX_ASK_PAGE.  The rows themselves are kept by pump.c. */
typedef struct OutboxPage
{
	char	*opens;		/* window that begins here, owned, or NULL */
	int64_t	 after_seq; /* where it begins, if so */
	uint32_t rows;
	uint32_t done; /* rows produced */
	bool	 last; /* the window ends here */
} OutboxPage;

/* What made it look. */
typedef enum OutboxCause
{
	CAUSE_NOTIFY,  /* a notification */
	CAUSE_POLL,	   /* no notification for poll_us, asleep */
	CAUSE_AWAKE,   /* there were events just before */
	CAUSE_WRITERS, /* could not sleep: a transaction was committing */
	CAUSES,		   /* their number */
} OutboxCause;

typedef struct OutboxState
{
	/* settings */
	int64_t	 poll_us;		/* look at least this often */
	uint32_t page_rows_max; /* rows to request at once */
	bool	 transactional; /* never changes */

	/* the database */
	PumpState	 pump;	/* of its session */
	OutboxAction asked; /* unanswered question; OUTBOX_WAIT: none */
	int64_t		 asked_at;
	int64_t		 connect_at; /* next try, while DOWN */
	OutboxAction step;		 /* next question of the handshake, or WAIT */
	Backoff		 db_retry;
	int64_t		 lead_at; /* next try to lead */
	int64_t		 beat_us; /* between two beats; 0: none */
	int64_t		 beat_at;
	int64_t		 epoch; /* of our latest lead; 0: we do not lead */

	/* reading */
	bool		positioned; /* window and seq come from this connection */
	bool		reading;	/* window has more pages to request */
	bool		opened;		/* a page of window was already taken */
	char	   *window;		/* the present one, owned */
	int64_t		page_after; /* seq after which its next page begins */
	uint32_t	page_rows;	/* requested at once */
	bool		wake;		/* a notification has arrived */
	bool		asleep;		/* the database will send one */
	uint64_t	found;		/* rows, since the last look */
	uint32_t	vain;		/* looks since the last one that found something */
	int64_t		poll_at;	/* look then even without one */
	OutboxCause cause;		/* of the last look */

	/* producing */
	OutboxPage pages[OUTBOX_PAGES_MAX];
	uint32_t   page_count;
	InFlight   in_flight;
	bool	   producer_up;
	bool	   producer_opening; /* requested */
	int64_t	   producer_at;		 /* next try to make one */
	Backoff	   producer_retry;
	bool	   producer_full; /* until something is acknowledged */
	int64_t	   acked_at;	  /* last sign of life while events fly */
	bool	   closing;		  /* the transaction takes no further event */
	bool	   committing;
	int64_t	   begun_at; /* first event of this transaction, if any flies */

	/* held topics */
	Held held;

	/* the position */
	OutboxPosition storing;	   /* what OUTBOX_STORE stores */
	int64_t		   store_at;   /* not before, unless many events, or prompt */
	int64_t		   stored_at;  /* last time that it was to be stored */
	int64_t		   store_took; /* ... and how long that lasted, in us */
	bool		   prompt;	   /* a session waits for it */
	bool		   called;	   /* one has begun to, since stored_at */

	/* stopping */
	bool	stopping;
	int64_t stop_by; /* leave then whatever is in flight */
} OutboxState;

void outbox_state_init(OutboxState *state, uint32_t in_flight_max,
					   bool transactional, uint64_t seed);
void outbox_state_fini(OutboxState *state);

/* Changes the settings; a shorter poll holds at once. */
void outbox_on_settings(OutboxState *state, int64_t poll_us,
						uint32_t page_rows_max, int64_t now);

OutboxAction outbox_next(OutboxState *state, int64_t now) MUST_CHECK;
int64_t		 outbox_deadline(const OutboxState *state);

/*
 * Predicates: a report of the producer is outstanding; there is something to
 * commit, and nothing in its way.
 */
bool outbox_awaits_report(const OutboxState *state);
bool outbox_may_commit(const OutboxState *state);

/* the lead, in lead.c; epoch 0: another relay leads */
void outbox_on_lead(OutboxState *state, int64_t epoch, int64_t now);
bool outbox_leads(const OutboxState *state);

/* From now on; a beat is due at once, or as soon as one may be sent. */
void outbox_beat_every(OutboxState *state, int64_t us);
void outbox_on_beat(OutboxState *state, int64_t now);
bool outbox_may_beat(const OutboxState *state);

/* the database */
void outbox_on_connected(OutboxState *state, int64_t now);
void outbox_on_down(OutboxState *state, int64_t now);
void outbox_on_step_done(OutboxState *state, int64_t now);
void outbox_on_position(OutboxState *state, const char *window, int64_t seq,
						bool finished, int64_t now);
/*
 * The first part of the answer to OUTBOX_LOOK, the window.  True: the second
 * part follows at once, by outbox_on_page().
 */
bool outbox_on_window(OutboxState *state, const char *window) MUST_CHECK;
/* asleep: the window is empty, and outbox_on_wake() will follow */
void outbox_on_sleep(OutboxState *state, const char *window, bool asleep,
					 int64_t now);
/* waited: sessions wait for later positions */
void outbox_on_stored(OutboxState *state, bool waited, int64_t now);
void outbox_on_wake(OutboxState *state);
/* A session waits for an event: the position is stored as soon as it moves. */
void outbox_on_waiter(OutboxState *state);

/*
 * Bytes: of payloads and headers.  False: the rows are of no use (there are
 * none, or the producer was lost meanwhile) and need not be kept.
 */
bool outbox_on_page(OutboxState *state, uint32_t rows, size_t bytes,
					int64_t last_seq) MUST_CHECK;

/* the producer */
void outbox_on_producer_up(OutboxState *state, int64_t now);
void outbox_on_producer_failed(OutboxState *state, int64_t now);
void outbox_on_producer_full(OutboxState *state, int64_t now);
void outbox_on_producer_room(OutboxState *state);
void outbox_on_acked(OutboxState *state, int64_t now);
/* Transactional: the event is in Kafka, and counts when it is committed. */
void outbox_on_arrived(OutboxState *state, uint64_t id);

/* A commit has begun; it is done, and all that flew is acknowledged. */
void outbox_on_committing(OutboxState *state, int64_t now);
void outbox_on_committed(OutboxState *state, int64_t now);

/* The row of the oldest page to be produced or set aside now, or -1. */
int64_t outbox_row(const OutboxState *state);

/*
 * The row was taken by the producer, or is to be set aside (held_route); true
 * if its page is finished with.
 */
bool outbox_on_produced(OutboxState *state, int64_t seq, int64_t created_us,
						uint32_t bytes, int64_t now) MUST_CHECK;
bool outbox_on_aside(OutboxState *state, int64_t seq, int64_t created_us,
					 int64_t now) MUST_CHECK;

/*
 * The producer is lost because the broker refused a record of this topic.
 * False: that is nothing new, and a failure like another.
 */
bool outbox_on_refused(OutboxState *state, const char *topic,
					   const char *reason, int64_t now) MUST_CHECK;

/*
 * Nothing of this topic was sent yet, and nothing is to be: it is held, and
 * the producer goes on.  False: too many topics are held, which is a failure
 * like another.
 */
bool outbox_on_doubted(OutboxState *state, const char *topic,
					   const char *reason, int64_t now) MUST_CHECK;

/* held topics; before outbox_on_held(), held_load() for each */
void outbox_on_held(OutboxState *state);
void outbox_on_hold_stored(OutboxState *state);
void outbox_on_asides_stored(OutboxState *state, int64_t now);
bool outbox_on_held_page(OutboxState *state, uint32_t rows, size_t bytes,
						 int64_t now) MUST_CHECK;
bool outbox_on_crossed_off(OutboxState *state, bool resumed,
						   int64_t now) MUST_CHECK;

void outbox_on_stop(OutboxState *state, int64_t stop_by);

/* For the files of the state: the question has its answer. */
void outbox_answered(OutboxState *state, OutboxAction question);

/* for /readyz, metrics and the watchdog */
bool outbox_makes_progress(const OutboxState *state, int64_t now);
bool outbox_overdue(const OutboxState *state, int64_t now);

#endif
