/*
 * pump_private.h - the outbox pump, for its own files
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_OUTBOX_PUMP_PRIVATE_H
#define PGSTOCK_OUTBOX_PUMP_PRIVATE_H

#include "common/exit_code.h"
#include "common/log.h"
#include "db/api.h"
#include "db/connect.h"
#include "kafka/producer.h"
#include "outbox/held_lane.h"
#include "outbox/pump.h"
#include "outbox/state.h"

struct Outbox
{
	Loop		 *loop;
	const Config *config;
	Metrics		 *metrics;
	PgConnection *conn;
	Producer	 *producer;
	HeldLane	 *lane; /* for held topics */
	OutboxState	  state;
	PumpState	  logged_state;			   /* last one in the log */
	PGresult	 *pages[OUTBOX_PAGES_MAX]; /* rows of state.pages */
	uint32_t	  page_count;
	Buf			  source;		   /* ce_source */
	Buf			  source_id;	   /* ce_incarnation */
	int			  max_event_bytes; /* the highest limit seen */
	char		 *incarnation;	   /* the database's, in transactional mode */
	Buf			  kafka_position;  /* as the position topic had it */
	bool		  kafka_has_position;
	Buf			  record;  /* being written for that topic */
	int64_t		  wall_us; /* time of day of these reports; 0: not read */
	double		 *ends[EVENT_ENDS]; /* metrics */
	double		 *wakeups[CAUSES];
	bool		  echo_arrived;
	bool		  leading; /* as the metrics show it */
	bool		  done;
	ExitCode	  exit_code;
	Buf			  trouble; /* last failure, "" since it went well */
	DbThrottle	  db_throttle;
	LogThrottle	  producer_throttle;
};

/*
 * in failure.c: everything starts again, from the connection or the producer;
 * or the process ends
 */
void outbox_db_failed(Outbox *outbox, const char *why);
void outbox_producer_failed(Outbox *outbox, const char *why);
void outbox_take_limit(Outbox *outbox, int64_t max_event_bytes);
void outbox_topic_refused(Outbox *outbox, const char *topic, const char *why);
void outbox_too_many_held(Outbox *outbox, const char *topic, const char *why);
void outbox_drop_pages(Outbox *outbox);
void outbox_exit(Outbox *outbox, ExitCode code);

/* in answers.c; the answer is true if the result is kept */
bool outbox_take_answer(Outbox *outbox, PGresult *result) MUST_CHECK;
void outbox_take_error(Outbox *outbox, const char *sqlstate,
					   const PGresult *result);

/* in report.c: the log and the metrics follow the state */
void outbox_log_state(Outbox *outbox);

#endif
