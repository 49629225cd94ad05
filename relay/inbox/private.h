/*
 * private.h - the inbox pump, for its own files
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_INBOX_PRIVATE_H
#define PGSTOCK_INBOX_PRIVATE_H

#include "common/exit_code.h"
#include "common/log.h"
#include "db/api.h"
#include "inbox/pump.h"
#include "inbox/state.h"
#include "kafka/consumer.h"

struct Inbox
{
	Loop		 *loop;
	const Config *config;
	Metrics		 *metrics;
	int64_t		  gauges_at; /* when the database's were read */
	PgConn		 *conn;
	Consumer	 *consumer;
	InboxCore	  core;
	PumpState	  told_state; /* last one in the log */
	ApiBatch	  batch;	  /* parameters of the present call */
	int64_t		  called_at;  /* ... and when it began */
	Buf			  options;	  /* JSON for relay_apply() */
	bool		  careful;	  /* ... as it says */
	char		  group[256]; /* the one that is used */
	uint64_t	  process;	  /* this relay's, for tries that are begun */
	bool		  announced;  /* the next call begins a try on record */
	bool		  retry_announced;
	char		  sqlstate[6]; /* of the message that failed alone */
	Buf			  alone;	   /* ... and what the server said */
	bool		  done;
	ExitCode	  exit_code;
	Buf			  trouble; /* last failure, "" since it went well */
	LogThrottle	  db_told;
	LogThrottle	  apply_told;
	LogThrottle	  consumer_told;
	LogThrottle	  upkeep_told;
	Buf			  upkeep_trouble; /* steps that fail; "" if none does */
};

/* trouble: for a person who asks how it goes */
void inbox_troubled(Inbox *inbox, const char *what, const char *why);

/* The connection or the consumer is closed; it begins again. */
void inbox_db_failed(Inbox *inbox, const char *why);
void inbox_consumer_failed(Inbox *inbox, const char *why);

/* What this process is called from now on: another one. */
void inbox_rename(Inbox *inbox);

/* The options of relay_apply(), made anew. */
void inbox_set_options(Inbox *inbox);

/* Series that are there from the start: a rate from nothing is none. */
void inbox_begin_metrics(Inbox *inbox);

/* One answer to what core.asked says, or the error that came instead. */
void inbox_take_answer(Inbox *inbox, const PGresult *result);
void inbox_take_error(Inbox *inbox, const char *sqlstate,
					  const PGresult *result);

#endif
