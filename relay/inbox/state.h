/*
 * state.h - what to do next between Kafka and the inbox
 *
 * The deciding half of the inbox pump, as outbox/state.h is of the other one:
 * pump.c reports events (inbox_on_...), gets the next action (inbox_next) and
 * carries it out.  No I/O, no clock.
 *
 * Only state.c and decide.c write the fields of an InboxState; all others
 * read them.
 *
 * Rules that hold everything together:
 * - Messages are consumed only from the offsets that the database has stored.
 *   While these are not known (no connection, a new assignment, a batch given
 *   up, a partition with another history) the consumer is given no partition;
 *   then relay_offsets() returns where to begin, and the broker whether it has
 *   these offsets.
 * - One batch at a time, one transaction for a batch or the part of it that the
 *   database applies at once.  What failed with a transient error is tried
 *   again as it is; what failed with a permanent one is halved until the
 *   message that causes it is the only one.
 * - Offsets are committed to Kafka after the database has committed them.
 * - The oldest action that is due comes first: no kind of work starves another.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_INBOX_STATE_H
#define PGSTOCK_INBOX_STATE_H

#include "common/backoff.h"
#include "common/sqlstate.h"
#include "db/pump_state.h"

#define INBOX_RETRY_US		 (1 * SEC_US)  /* between tries of what waits */
#define INBOX_RETRY_ROWS	 100		   /* tried by one call */
#define INBOX_PURGE_US		 (60 * SEC_US) /* purge, by the leader ... */
#define INBOX_PURGE_SHARE	 8 /* ... and so often in a retention ... */
#define INBOX_PURGE_US_MIN	 (1 * SEC_US)  /* ... but not more often */
#define INBOX_FAILED_US		 (1 * SEC_US)  /* until it is tried again */
#define INBOX_PURGE_ROWS	 1000		   /* of each kind, by one call */
#define INBOX_EXPIRE_ROWS	 1000		   /* lines, by one call */
#define INBOX_EXPIRE_US_MAX	 (60 * SEC_US) /* even if the answer says more */
#define INBOX_LEVELS_ROWS	 50000		   /* changes, by one step */
#define INBOX_LEVELS_US_IDLE (1 * SEC_US)  /* after one that found none */
#define INBOX_COMMIT_US		 (1 * SEC_US)  /* to Kafka, for lag tools */
#define INBOX_SURVEY_US		 (10 * SEC_US) /* between surveys of the broker */
#define INBOX_SURVEY_US_WAIT (300 * MS_US) /* ... if the last was incomplete */
#define INBOX_SURVEY_US_MIN	 (1 * SEC_US)  /* ... if metrics are requested */

/*
 * The consumer is served at least this often, idle or not: the group removes a
 * member that is not, after max.poll.interval.ms.
 */
#define INBOX_SERVE_US	 (2 * SEC_US)
#define INBOX_METRICS_US (3 * SEC_US) /* gauges are at least this old */
#define INBOX_METRICS_KEEP_US \
	(60 * SEC_US) /* renewed so long after a request */

/*
 * A batch that fails for so long is given up and read again: the consumer's
 * queue must be served, or the group waits for this relay.
 */
#define INBOX_GIVE_UP_US (30 * SEC_US)

/*
 * A transient error that does not pass is, as a rule, a lock that another
 * session holds.  After INBOX_PATIENCE_US messages are applied one by one for a
 * while, and those that still fail wait for a graded retry.  A transient error
 * within INBOX_IMPATIENT_US of the last time begins that at once.
 */
#define INBOX_PATIENCE_US	(3 * SEC_US)
#define INBOX_ONE_BY_ONE_US (10 * SEC_US)
#define INBOX_IMPATIENT_US	(60 * SEC_US)

/*
 * An answer that takes longer is a lost connection.  A batch may have to wait
 * for rows that an application has locked.
 */
#define INBOX_ANSWER_US (60 * SEC_US)

typedef enum InboxAction
{
	INBOX_WAIT, /* nothing before inbox_deadline() */
	INBOX_CONNECT,
	INBOX_HELLO,
	INBOX_NEW_CONSUMER,
	INBOX_SUSPEND,		/* give the consumer no partition */
	INBOX_READ_OFFSETS, /* that the database has stored */
	INBOX_SURVEY,		/* the offsets that the broker has */
	INBOX_STORE_PLACE,	/* what follows from them for the database */
	INBOX_FETCH,		/* serve the consumer, take messages */
	INBOX_APPLY,		/* messages state->from .. state->to - 1 */
	INBOX_APPLY_FAILED, /* message state->from, which failed by itself */
	INBOX_RETRY,		/* messages whose next try is due */
	INBOX_READ_METRICS,
	INBOX_PURGE,
	INBOX_EXPIRE, /* due lines */
	INBOX_LEVELS, /* a step of the level stream */
	INBOX_COMMIT, /* offsets to Kafka */
	INBOX_CLOSE,  /* leave the group */
	INBOX_DONE,
} InboxAction;

/* The next step towards offsets that the partitions can be read from. */
typedef enum InboxPlacing
{
	PLACING_READ,	/* the database's offsets */
	PLACING_SURVEY, /* the broker's */
	PLACING_WAIT,	/* ... its answer is awaited */
	PLACING_STORE,	/* a change in the database; then from the start */
} InboxPlacing;

/* The result of a survey for the offsets that the partitions are read from. */
typedef enum InboxFound
{
	INBOX_FITS,
	INBOX_WAITS,	 /* the same, but some partitions gave no answer */
	INBOX_TO_STORE,	 /* not placed: the database has to change first */
	INBOX_MISPLACED, /* placed: the offsets do not fit any more */
} InboxFound;

typedef struct InboxState
{
	/* settings */
	bool consumes; /* there are topics to consume */

	/* the database */
	PumpState	pump;
	InboxAction call; /* whose answer is awaited; INBOX_WAIT: none */
	int64_t		called_at;
	int64_t		connect_at; /* next try, while DOWN */
	Backoff		db_retry;
	bool		leads;	  /* this relay leads the outbox: it does upkeep */
	int64_t		retry_at; /* next try of waiting messages */
	int64_t		purge_at;
	int64_t		expire_at;
	int64_t		levels_at;	   /* NEVER: the level stream is off */
	int64_t		metrics_at;	   /* gauges may be read again then */
	int64_t		metrics_until; /* they are requested until then */

	/* the consumer */
	bool		 consumer_up;
	int64_t		 consumer_at; /* next try to make one */
	Backoff		 consumer_retry;
	bool		 readable;		/* its queue may hold something */
	bool		 assigned;		/* the group gave it partitions */
	bool		 placed;		/* it reads them from the database's offsets */
	InboxPlacing placing;		/* ... if it does not yet */
	bool		 suspend;		/* it must not read on */
	bool		 disturbed;		/* ... once the messages at hand are applied */
	int64_t		 learned_at;	/* a fingerprint can be stored; NEVER: none */
	bool		 surveying;		/* the broker's answer is awaited */
	int64_t		 survey_at;		/* next one, while placed */
	int64_t		 surveyed_at;	/* its last answer */
	int64_t		 serve_at;		/* serve the consumer, even if it has nothing */
	Backoff		 place_retry;	/* after disturbances */
	int64_t		 offsets_at;	/* next step of placing */
	bool		 offsets_stale; /* read before the present assignment */
	int64_t		 commit_at;		/* offsets are to be committed; NEVER: none */

	/* the batch */
	uint32_t size;			/* messages at hand */
	uint32_t from;			/* those before are applied */
	uint32_t to;			/* end of the present try */
	uint32_t bad_end;		/* from .. bad_end - 1 holds a bad message */
	bool	 single_failed; /* message "from" failed by itself */
	int64_t	 apply_at;		/* try then */
	int64_t	 failing_since; /* 0: the last try went well */
	Backoff	 apply_retry;
	int64_t	 one_by_one_until;
	int64_t	 impatient_until; /* a transient error begins one by one at once */

	/* stopping */
	bool	stopping;
	int64_t stop_by;
	bool	closing; /* the consumer is leaving the group */
} InboxState;

void inbox_state_init(InboxState *state, bool consumes, uint64_t seed);

InboxAction inbox_next(InboxState *state, int64_t now) MUST_CHECK;
int64_t		inbox_deadline(const InboxState *state);

/* the database */
void inbox_on_connected(InboxState *state);
void inbox_on_down(InboxState *state, int64_t now);
void inbox_on_hello(InboxState *state, int64_t now);
/* True: they are of use, and a survey of the broker follows. */
bool inbox_on_offsets(InboxState *state, int64_t now) MUST_CHECK;
void inbox_on_offsets_failed(InboxState *state, int64_t now);
void inbox_on_survey_begun(InboxState *state);
/* True: the consumer is to be placed there now. */
bool inbox_on_surveyed(InboxState *state, InboxFound found,
					   int64_t now) MUST_CHECK;
/* more: there is more to be stored */
void inbox_on_stored(InboxState *state, bool more, int64_t now);
void inbox_on_retried(InboxState *state, uint64_t rows, int64_t now);
void inbox_on_retry_error(InboxState *state, SqlClass class, int64_t now);
void inbox_on_metrics(InboxState *state, int64_t now);
void inbox_on_purged(InboxState *state, uint64_t rows, int64_t retention_us,
					 int64_t now);
void inbox_on_expired(InboxState *state, int64_t wait_us, int64_t now);
/* A step of the level stream that was not done, also one that turns it off. */
void inbox_on_levels_failed(InboxState *state, int64_t now);
/* Records of its topic were compared with the levels: the next call follows. */
void inbox_on_levels_read(InboxState *state, int64_t now);
/*
 * pace_us: between two steps, 0 if the level stream is off; idle: there was
 * nothing to write
 */
void inbox_on_levels(InboxState *state, int64_t pace_us, bool idle,
					 int64_t now);
void inbox_on_metrics_wanted(InboxState *state, int64_t now);
/* False: newer gauges are being read, or will be after the next request. */
bool inbox_gauges_are_new(const InboxState *state, int64_t now);

/*
 * The first "applied" messages of the call; none: their try is on record now
 * and can begin.  True: the whole batch is applied, and can be freed.
 */
bool inbox_on_applied(InboxState *state, uint32_t applied,
					  int64_t now) MUST_CHECK;
void inbox_on_apply_error(InboxState *state, SqlClass class, int64_t now);

/* the consumer */
void inbox_on_consumer_up(InboxState *state);
void inbox_on_consumer_failed(InboxState *state, int64_t now);
void inbox_on_readable(InboxState *state);
void inbox_on_rebalance(InboxState *state, bool assigned, int64_t now);
void inbox_on_suspended(InboxState *state);
void inbox_on_fetched(InboxState *state, uint32_t messages, bool drained,
					  int64_t now);
void inbox_on_disturbed(InboxState *state);
void inbox_on_learned(InboxState *state, int64_t now);
void inbox_on_committed(InboxState *state);
void inbox_on_closed(InboxState *state);

void inbox_on_leads(InboxState *state, bool leads, int64_t now);
void inbox_on_stop(InboxState *state, int64_t stop_by);

bool inbox_applies_one_by_one(const InboxState *state, int64_t now);
bool inbox_makes_progress(const InboxState *state, int64_t now);
bool inbox_overdue(const InboxState *state, int64_t now);

#endif
