/*
 * pump_private.h - the inbox pump, for its own files
 *
 * pump.c above answers.c above failure.c, which is above levels.c, and
 * options.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_INBOX_PUMP_PRIVATE_H
#define PGSTOCK_INBOX_PUMP_PRIVATE_H

#include "common/exit_code.h"
#include "common/log.h"
#include "db/api.h"
#include "db/connect.h"
#include "inbox/pump.h"
#include "inbox/state.h"
#include "kafka/consumer.h"
#include "kafka/level_reader.h"

/* What a step of the level stream consists of. */
typedef enum LevelsCall
{
	LEVELS_STEP,	/* levels that have changed, into the outbox */
	LEVELS_OFFSETS, /* from where the topic is to be read */
	LEVELS_READ,	/* what was read, to be compared with the levels */
} LevelsCall;

struct Inbox
{
	Loop		 *loop;
	const Config *config;
	Metrics		 *metrics;
	int64_t		  gauges_at; /* when the database's were read */
	PgConnection *conn;
	Consumer	 *consumer;
	InboxState	  state;		/* written by state.c only */
	PumpState	  logged_state; /* of the last line in the log */
	ApiBatch	  batch;		/* parameters of the present call */
	int64_t		  called_at;	/* ... and when it began */
	Buf			  options;		/* JSON, see options.c */
	bool		  one_by_one;	/* ... as it says */
	char		  group[256];	/* the consumer group in use */
	/* see failure.c */
	uint64_t	process_id;
	bool		apply_recorded; /* the next call begins a try on record */
	bool		retry_recorded;
	char		failed_sqlstate[6]; /* of the message that failed by itself */
	Buf			failed_error;		/* ... with the server's message */
	bool		done;
	ExitCode	exit_code;
	Buf			trouble; /* last failure; empty after a success */
	DbThrottle	db_throttle;
	LogThrottle apply_throttle;
	LogThrottle consumer_throttle;
	LogThrottle upkeep_throttle;
	/* see levels.c */
	LevelReader *level_reader;
	ApiBatch	 level_records; /* that it has taken last */
	LogThrottle	 level_throttle;
	LevelsCall	 levels_call;		/* the present one, or the last */
	int64_t		 levels_read_until; /* a step follows */
	char		*levels_since; /* for the next step in this session, or NULL */
	int64_t		 levels_done_at; /* when a step left no change */
	Buf			 upkeep_trouble; /* steps that fail; empty if none does */
};

/* ---- failure.c ---- */

/* From now on this process is another one for the database. */
void inbox_new_process_id(Inbox *inbox);

/* The failure that /status and /readyz show. */
void inbox_set_trouble(Inbox *inbox, const char *what, const char *why);

/* The connection or the consumer is closed, and opened again after a pause. */
void inbox_db_failed(Inbox *inbox, const char *why);
void inbox_consumer_failed(Inbox *inbox, const char *why);

/* ---- options.c ---- */

void inbox_write_options(Inbox *inbox);

/*
 * The options for a call now: writes them again if messages are applied in
 * another way than before, and logs that.
 */
const char *inbox_update_options(Inbox *inbox) MUST_CHECK;

/* ---- levels.c ---- */

void inbox_step_levels(Inbox *inbox);
void inbox_take_levels(Inbox *inbox, const PGresult *result);
void inbox_take_levels_error(Inbox *inbox);
void inbox_measure_levels(Inbox *inbox);

/* The next step is that of another session, or another relay leads. */
void inbox_forget_levels(Inbox *inbox);

/* ---- answers.c ---- */

/* Series that are there from the start: a rate needs a first value. */
void inbox_begin_metrics(Inbox *inbox);

/* The answer to the call under way, or the error in its place. */
void inbox_take_answer(Inbox *inbox, const PGresult *result);
void inbox_take_error(Inbox *inbox, const char *sqlstate,
					  const PGresult *result);

#endif
