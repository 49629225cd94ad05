/*
 * held_topics.h - topics whose events the broker refuses, and their return
 *
 * A refused record would delay every event behind it.  So its topic is held:
 * its events are set aside in the database, which counts as an acknowledgement
 * for the position, and other topics go on.  From time to time a held topic is
 * tried by a producer of its own, the lane, so that another refusal does not
 * affect the other topics:
 *
 *	IDLE -> READING -> FLYING -> CROSSING -> READING ... -> IDLE
 *
 * A page is read, produced, acknowledged, crossed off; then the next is read.
 * When a page is not full, the topic is closing: the outbox waits before the
 * topic's next event, rather than setting it aside, until the events set aside
 * meanwhile are published too.  Then none is left, and the topic resumes.
 *
 * Rules that hold it together:
 * - A page begins with the oldest event there is.  An event that was set aside
 *   late can be older than those read before; so only the database decides
 *   where the next page begins.
 * - A page is read only when all events set aside are stored.
 * - The first page after a failure is one event: an event that is refused again
 *   and again fails no others with it.
 * - A topic is not tried before the refused event was read again and set aside:
 *   the topic would look empty.
 * - A topic resumes only by the page that was read while the outbox waited.
 *
 * The deciding half, pure like state.h, of which it is a part.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_OUTBOX_HELD_TOPICS_H
#define PGSTOCK_OUTBOX_HELD_TOPICS_H

#include "common/backoff.h"

/*
 * With so many topics held, no event is sent to a topic that is not known to
 * exist: each further refusal delays all other topics for seconds, and an
 * application may name as many topics as it likes.
 */
#define HELD_SUSPECTS 4

/*
 * After so many refusals in that time, no event is sent to a topic that has not
 * taken one before: one that exists may be refused too, and each refusal costs
 * all topics a producer.
 */
#define HELD_REFUSALS_MAX 4
#define HELD_REFUSALS_US  (60 * SEC_US)

/*
 * A further topic is not held: the outbox waits for it, as for a broker that is
 * down, until one of these topics is resumed or its events are discarded.
 */
#define HELD_TOPICS_MAX 10000

#define HELD_ASIDES_MAX 1024 /* set aside and not yet stored */
#define HELD_PAGE_ROWS	500

/* A try without any acknowledgement for so long has failed. */
#define HELD_TRY_US (10 * SEC_US)

/* The outbox waits no longer for a topic that is closing. */
#define HELD_CLOSING_US (1 * SEC_US)

typedef struct HeldTopic
{
	char   *name;
	char   *reason;	  /* of the last refusal */
	bool	unstored; /* the reason is not in the database yet */
	bool	unseen;	  /* no event of it was read again since the refusal */
	Backoff retry;
	int64_t try_at;
} HeldTopic;

typedef enum LaneState
{
	LANE_IDLE,
	LANE_READING,	/* a page is to be requested, or was */
	LANE_PRODUCING, /* its rows are produced and acknowledged */
	LANE_CROSSING,	/* what was acknowledged is to be crossed off, or is */
} LaneState;

/* What to do with a row. */
typedef enum HeldRoute
{
	HELD_FLOWS, /* to Kafka */
	HELD_ASIDE,
	HELD_WAITS,
} HeldRoute;

typedef struct Held
{
	bool		known;	/* topics are those of the database */
	HeldTopic **topics; /* by name */
	uint32_t	count;
	HeldTopic  *storing; /* its reason is being stored */
	uint64_t	seed;
	uint32_t	refusals; /* of the main producer's records */
	int64_t		refusals_since;

	/* set aside and not yet stored, in the ring under these ids */
	int64_t	 aside_seqs[HELD_ASIDES_MAX];
	uint64_t aside_ids[HELD_ASIDES_MAX];
	uint32_t aside_count;
	uint32_t aside_asked; /* the first so many are being stored */

	/* the lane */
	LaneState  state;
	HeldTopic *topic;	  /* that is tried; NULL while idle */
	bool	   lane_up;	  /* there is a producer */
	bool	   lane_full; /* until something is acknowledged */
	bool	   waits;	  /* the outbox does, before a row */
	uint32_t   page_rows;
	uint32_t   rows;	/* of the page */
	uint32_t   sent;	/* of them */
	uint32_t   arrived; /* of those */
	bool	   last;	/* the page has all there was */
	bool	   failed;	/* the try ends with what has arrived */
	bool	   closing;
	bool	   resuming; /* the query that resumes it was sent */
	int64_t	   closing_by;
	int64_t	   fails_at; /* unless something is acknowledged */
	int64_t	   seqs[HELD_PAGE_ROWS];
	bool	   acked[HELD_PAGE_ROWS];
} Held;

void held_init(Held *held, uint64_t seed);
void held_fini(Held *held);

/* The connection is lost: all this is to be learned again. */
void held_reset(Held *held);

/* No further tries: the relay shuts down. */
void held_stop(Held *held);

/* The topics that the database holds are all loaded. */
void held_loaded(Held *held);

/*
 * From the database; or refused now, false if it was held already or if
 * HELD_TOPICS_MAX others are.
 */
void held_load(Held *held, const char *topic, const char *reason, int64_t now);
bool held_refused(Held *held, const char *topic, const char *reason,
				  int64_t now);

/* Whether a topic is not held and cannot be. */
bool held_has_no_room(const Held *held, const char *topic);

/*
 * Whether a topic not known to exist is to be held without a try; and one that
 * is, but has not taken an event.
 */
bool held_suspects(const Held *held);
bool held_is_wary(const Held *held, int64_t now);

/* A topic was refused at the cost of the main producer. */
void held_count_refusal(Held *held, int64_t now);

/* Whether a reason is to be stored; that of held->storing is. */
bool held_has_unstored(const Held *held);
void held_store(Held *held);

/* HELD_WAITS: until held->waits is false. */
HeldRoute held_route(Held *held, const char *topic) MUST_CHECK;

/* An event's place in the ring, to be acknowledged when it is stored. */
void held_put_aside(Held *held, uint64_t id, int64_t seq);

/*
 * All that there are by now are to be stored; they are.  The ids of the latter
 * are the first held->aside_asked until then.
 */
void held_ask_asides(Held *held);
void held_asides_stored(Held *held);

/* What is due by the clock; and a try of a topic, if one is due. */
void	held_tick(Held *held, int64_t now);
void	held_start(Held *held, int64_t now);
int64_t held_deadline(const Held *held, bool may_start);

/* False: the rows are of no use. */
bool held_on_page(Held *held, uint32_t rows, bool full, int64_t now) MUST_CHECK;
bool held_may_send(const Held *held);
void held_on_sent(Held *held, int64_t seq);
void held_on_acked(Held *held, uint64_t row, int64_t now);
/*
 * The lane's producer is there; it takes no more until an acknowledgement; it
 * was closed, as the lane is idle.
 */
void held_on_lane_up(Held *held);
void held_on_lane_full(Held *held);
void held_on_lane_closed(Held *held);
void held_on_lane_failed(Held *held, const char *reason, int64_t now);

/* The seqs to be crossed off come first in held->seqs; how many. */
uint32_t held_cross_off(Held *held);
/* True: the topic resumes, and is freed. */
bool held_on_crossed_off(Held *held, bool resumed, int64_t now);

#endif
