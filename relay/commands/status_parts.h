/*
 * status_parts.h - the parts of "status"
 *
 * status.c above status_watch.c, which is above status_read.c, status_json.c
 * and status_screen.c; the last two only format what was read.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMANDS_STATUS_PARTS_H
#define PGSTOCK_COMMANDS_STATUS_PARTS_H

#include "commands/command.h"

/* How far a partition was read. */
typedef struct StatusPlace
{
	char   *topic; /* of offsets */
	int32_t id;
	int64_t next;
	int64_t end; /* the last stable offset; -1: unknown */
	int64_t lag;
} StatusPlace;

/* What one look at database and broker has found. */
typedef struct Status
{
	int64_t		 at_us; /* monotonic */
	ApiHello	 hello;
	char		*group;	   /* of consumers */
	PGresult	*rows;	   /* of API_STATUS */
	PGresult	*metrics;  /* of API_METRICS; NULL for JSON */
	PGresult	*offsets;  /* of API_OFFSETS */
	int64_t		 last_seq; /* of the outbox; -1 for JSON */
	int			 brokers;  /* 0: the broker does not answer */
	char	   **problems; /* sentences, NULL at the end */
	char	   **missing;  /* topics of [inbox], NULL at the end */
	StatusPlace *places;
	size_t		 place_count;
} Status;

/* The same connections for one look after the other. */
typedef struct StatusSource
{
	Command		command; /* pg NULL: closed */
	rd_kafka_t *client;	 /* NULL: closed */
	bool		json;
} StatusSource;

/* ---- status_read.c ---- */

/*
 * Connects where that is necessary, and looks.  False, a code in the source's
 * command, and reported why, if the database cannot be queried; it is connected
 * anew at the next call.  status_free() in either case.
 */
bool status_read(StatusSource *source, Status *status) MUST_CHECK;
void status_free(Status *status);
void status_close(StatusSource *source);

/*
 * Rows of API_STATUS: a name and a value.  Those of a list have names of their
 * own, which begin with STATUS_LIST, and further columns.
 */
#define STATUS_LIST		'+'
#define STATUS_NOW		"+now"	   /* the database's clock */
#define STATUS_PROBLEM	"+problem" /* a sentence */
#define STATUS_HELD		"+held"	   /* topic, events, since, reason */
#define STATUS_GAP		"+missing" /* partition, first, last, time, reason */
#define STATUS_BINDING	"+binding" /* topic, handler, event type */
#define STATUS_NAME_AT	0
#define STATUS_JSON_AT	1
#define STATUS_TEXT_AT	2
#define STATUS_FIRST_AT 3 /* of the further columns */

/* The value of a name as text; NULL: null, or there is none. */
const char *status_find(const Status *status, const char *name);

/* ---- status_json.c ---- */

void status_add_json(const Status *status, Buf *text);

/* ---- status_screen.c ---- */

typedef struct StatusLook
{
	int	 columns; /* 0: lines are not cut */
	int	 lines;	  /* 0: any number */
	bool colors;
} StatusLook;

/* before: the look before that, for rates; NULL: none. */
void status_add_screen(const Status *status, const Status *before,
					   const StatusLook *look, Buf *text);

/* ---- status_watch.c ---- */

/* Prints it again and again. */
ExitCode status_watch(StatusSource *source, int64_t seconds);

#endif
