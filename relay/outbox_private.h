/*
 * outbox_private.h - the outbox pump, for its own files
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_OUTBOX_PRIVATE_H
#define PGSTOCK_OUTBOX_PRIVATE_H

#include "api.h"
#include "exit_code.h"
#include "lane.h"
#include "log.h"
#include "outbox.h"
#include "outbox_core.h"
#include "sink.h"

struct Outbox
{
	Loop		 *loop;
	const Config *config;
	Metrics		 *metrics;
	PgConn		 *conn;
	Sink		 *sink;
	Lane		 *lane; /* for held topics */
	OutboxCore	  core;
	PumpState	  told_state;			   /* last one in the log */
	PGresult	 *pages[OUTBOX_PAGES_MAX]; /* rows of core.pages */
	uint32_t	  page_count;
	Buf			  source; /* ce_source */
	int			  max_event_bytes;
	int64_t		  wall_us; /* time of day of these reports; 0: not read */
	double		 *ends[EVENT_ENDS]; /* metrics */
	double		 *wakeups[CAUSES];
	bool		  echo_heard;
	bool		  leading; /* as the metrics know it */
	bool		  done;
	ExitCode	  exit_code;
	Buf			  trouble; /* last failure, "" since it went well */
	LogThrottle	  db_told;
	LogThrottle	  sink_told;
};

/* The log and the metrics follow the state. */
void outbox_tell(Outbox *outbox);

#endif
