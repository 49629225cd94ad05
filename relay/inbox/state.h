/*
 * state.h - what to do next between Kafka and the inbox
 *
 * The deciding half of the inbox pump, as outbox/state.h is of the other one:
 * pump.c reports (inbox_on_...), asks (inbox_next) and does.  No I/O, no
 * clock.
 *
 * Rules that hold everything together:
 * - Messages are consumed only from where the database stands.  Whenever that
 *   is not known (no connection, a new assignment, a batch given up, a partition
 *   that is not as it was) the consumer is given no partition; then
 *   relay_offsets() says where to begin, and the broker whether that is there.
 * - One batch at a time, one transaction a batch or the part of it that the
 *   database takes at once.  What failed for a moment is tried again as it is; what failed for good is halved until the message
 *   that is to blame is alone.
 * - What is committed to Kafka follows what the database committed.
 * - Of what is due, the oldest goes first: no kind of work starves another.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_INBOX_STATE_H
#define PGSTOCK_INBOX_STATE_H

#include "common/backoff.h"
#include "common/sqlstate.h"
#include "db/session_state.h"

#define INBOX_RETRY_US		 (1 * SEC_US)  /* between two looks at what waits */
#define INBOX_RETRY_ROWS	 100		   /* taken by one look */
#define INBOX_PURGE_US		 (60 * SEC_US) /* upkeep, by the leader ... */
#define INBOX_PURGE_SHARE	 8 /* ... and so often in a retention ... */
#define INBOX_PURGE_US_MIN	 (1 * SEC_US)  /* ... but not more often */
#define INBOX_FAILED_US		 (1 * SEC_US)  /* until upkeep is tried again */
#define INBOX_PURGE_ROWS	 1000		   /* of each kind, by one call */
#define INBOX_EXPIRE_ROWS	 1000		   /* lines, by one call */
#define INBOX_EXPIRE_US_MAX	 (60 * SEC_US) /* however long the answer says */
#define INBOX_COMMIT_US		 (1 * SEC_US)  /* to Kafka, for lag tools */
#define INBOX_SURVEY_US		 (10 * SEC_US) /* what the broker has, again */
#define INBOX_SURVEY_US_WAIT (300 * MS_US) /* ... if it did not say all */
#define INBOX_SURVEY_US_MIN	 (1 * SEC_US)  /* ... if somebody looks */

/* The consumer is served at least this often, idle or not: one that is not is
 * put out of its group, after max.poll.interval.ms. */
#define INBOX_SERVE_US		  (2 * SEC_US)
#define INBOX_METRICS_US	  (3 * SEC_US)	/* gauges are at least this old */
#define INBOX_METRICS_KEEP_US (60 * SEC_US) /* renewed this long after a look */

/* A batch that fails for so long is given up and read again: the consumer's
 * queue must be served, or the group waits for this relay. */
#define INBOX_GIVE_UP_US (30 * SEC_US)

/*
 * What fails for a moment and does not pass is, as a rule, somebody's lock.
 * After so long, messages are applied carefully for a while: each by itself,
 * and those that still fail wait for a graded retry.  Who was careful not long
 * ago loses patience at once.
 */
#define INBOX_PATIENCE_US (3 * SEC_US)
#define INBOX_CAREFUL_US  (10 * SEC_US)
#define INBOX_WARY_US	  (60 * SEC_US)

/* An answer that takes longer is a lost connection.  A batch may have to wait
 * for rows that an application holds. */
#define INBOX_ANSWER_US (60 * SEC_US)

typedef enum InboxAction
{
	INBOX_WAIT, /* nothing before inbox_deadline() */
	INBOX_CONNECT,
	INBOX_ASK_HELLO,
	INBOX_NEW_CONSUMER,
	INBOX_SUSPEND,		/* give the consumer no partition */
	INBOX_ASK_OFFSETS,	/* where the database stands */
	INBOX_SURVEY,		/* and what the broker has */
	INBOX_STORE_PLACE,	/* something for the database follows from that */
	INBOX_FETCH,		/* serve the consumer, take messages */
	INBOX_APPLY,		/* messages core->from .. core->to - 1 */
	INBOX_APPLY_FAILED, /* message core->from, which failed alone */
	INBOX_ASK_RETRY,
	INBOX_ASK_METRICS,
	INBOX_ASK_PURGE,
	INBOX_ASK_EXPIRE, /* let due reservations go */
	INBOX_COMMIT,	  /* offsets to Kafka */
	INBOX_CLOSE,	  /* leave the group */
	INBOX_DONE,
} InboxAction;

/* How far it is on its way to where the partitions are read from. */
typedef enum InboxPlacing
{
	PLACING_ASK,	/* the database */
	PLACING_SURVEY, /* the broker */
	PLACING_WAIT,	/* ... which was asked */
	PLACING_STORE,	/* in the database; then all of it again */
} InboxPlacing;

/* What a survey says of where the partitions are read from. */
typedef enum InboxFound
{
	INBOX_FITS,
	INBOX_WAITS,	 /* the same, but of some the broker did not say it */
	INBOX_TO_STORE,	 /* not placed: the database has to change first */
	INBOX_MISPLACED, /* placed: and it does not fit any more */
} InboxFound;

typedef struct InboxCore
{
	/* settings */
	bool consumes; /* there are topics to consume */

	/* the database */
	PumpState	state;
	InboxAction asked; /* unanswered question; INBOX_WAIT: none */
	int64_t		asked_at;
	int64_t		connect_at; /* next try, while DOWN */
	Retry		db_retry;
	bool		leads;		   /* this relay leads the outbox: does upkeep */
	int64_t		retry_at;	   /* next look at what waits */
	int64_t		purge_at;	   /* next upkeep */
	int64_t		expire_at;	   /* ... of reservations */
	int64_t		metrics_at;	   /* gauges may be renewed then */
	int64_t		metrics_until; /* while somebody looks at them */

	/* the consumer */
	bool		 consumer_up;
	int64_t		 consumer_at; /* next try to make one */
	Retry		 consumer_retry;
	bool		 readable;	  /* its queue may hold something */
	bool		 assigned;	  /* the group gave it partitions */
	bool		 placed;	  /* it reads them from the database's offsets */
	InboxPlacing placing;	  /* ... if it does not yet */
	bool		 suspend;	  /* what it reads must stop */
	bool		 disturbed;	  /* ... once what is at hand is applied */
	int64_t		 learned_at;  /* the database can learn something; NEVER: no */
	bool		 surveying;	  /* the broker was asked */
	int64_t		 survey_at;	  /* ask it again, while placed */
	int64_t		 surveyed_at; /* it answered last */
	int64_t		 serve_at;	  /* serve the consumer, whatever it has */
	Retry		 place_retry; /* after disturbances */
	int64_t		 offsets_at;  /* ask for offsets then */
	bool		 offsets_stale; /* asked before the present assignment */
	int64_t		 commit_at;		/* offsets are to be committed; NEVER: none */

	/* the batch */
	uint32_t size;			/* messages at hand */
	uint32_t from;			/* those before are applied */
	uint32_t to;			/* end of the present try */
	uint32_t bad_end;		/* from .. bad_end - 1 holds a bad message */
	bool	 alone;			/* message "from" failed by itself */
	int64_t	 apply_at;		/* try then */
	int64_t	 failing_since; /* 0: the last try went well */
	Retry	 apply_retry;
	int64_t	 careful_until; /* each message by itself */
	int64_t	 wary_until;	/* the next failure makes careful at once */

	/* stopping */
	bool	stopping;
	int64_t stop_by;
	bool	closing; /* the consumer is leaving the group */
} InboxCore;

void inbox_core_init(InboxCore *core, bool consumes, uint64_t seed);

InboxAction inbox_next(InboxCore *core, int64_t now) MUST_CHECK;
int64_t		inbox_deadline(const InboxCore *core);

/* the database */
void inbox_on_connected(InboxCore *core);
void inbox_on_down(InboxCore *core, int64_t now);
void inbox_on_hello(InboxCore *core, int64_t now);
/* True: they are of use, and the broker is asked next. */
bool inbox_on_offsets(InboxCore *core, int64_t now) MUST_CHECK;
void inbox_on_offsets_failed(InboxCore *core, int64_t now);
void inbox_on_survey_begun(InboxCore *core);
/* True: the consumer is to be placed there now. */
bool inbox_on_surveyed(InboxCore *core, InboxFound found,
					   int64_t now) MUST_CHECK;
/* more: there is more to be stored */
void inbox_on_stored(InboxCore *core, bool more, int64_t now);
void inbox_on_retried(InboxCore *core, uint64_t rows, int64_t now);
void inbox_on_retry_error(InboxCore *core, SqlClass class, int64_t now);
void inbox_on_metrics(InboxCore *core, int64_t now);
void inbox_on_purged(InboxCore *core, uint64_t rows, int64_t retention_us,
					 int64_t now);
void inbox_on_expired(InboxCore *core, int64_t wait_us, int64_t now);
void inbox_on_metrics_wanted(InboxCore *core, int64_t now);
/* False: newer gauges will be there soon, if somebody wants them. */
bool inbox_gauges_are_new(const InboxCore *core, int64_t now);

/* The first "applied" messages of those that were asked for; none: their try is
 * on record now, and can begin.  True: the whole batch is applied, its messages
 * can go. */
bool inbox_on_applied(InboxCore *core, uint32_t applied,
					  int64_t now) MUST_CHECK;
void inbox_on_apply_error(InboxCore *core, SqlClass class, int64_t now);

/* the consumer */
void inbox_on_consumer_up(InboxCore *core);
void inbox_on_consumer_failed(InboxCore *core, int64_t now);
void inbox_on_readable(InboxCore *core);
void inbox_on_rebalance(InboxCore *core, bool assigned, int64_t now);
void inbox_on_suspended(InboxCore *core);
void inbox_on_fetched(InboxCore *core, uint32_t messages, bool drained,
					  int64_t now);
void inbox_on_disturbed(InboxCore *core);
void inbox_on_learned(InboxCore *core, int64_t now);
void inbox_on_committed(InboxCore *core);
void inbox_on_closed(InboxCore *core);

void inbox_on_stop(InboxCore *core, int64_t stop_by);

bool inbox_is_careful(const InboxCore *core, int64_t now);
bool inbox_moves(const InboxCore *core, int64_t now);
bool inbox_overdue(const InboxCore *core, int64_t now);

#endif
