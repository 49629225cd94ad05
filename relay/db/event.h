/*
 * event.h - an event of the outbox, as a row of relay_page() has it
 *
 * Pure: no I/O; the texts of ids and times have a fixed width.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_DB_EVENT_H
#define PGSTOCK_DB_EVENT_H

#include "common/util.h"

/* One row of relay_page(); it points into the answer. */
typedef struct EventRow
{
	int64_t seq;
	Slice	id;	   /* 16 bytes */
	Slice	topic; /* a C string */
	Slice	key;
	Slice	type;
	Slice	payload;
	Slice	headers; /* packed */
	Slice	traceparent;
	int64_t created_us; /* since 1970 */
	char	format;		/* j JSON, b bytes, r raw */
	char	ends;		/* state of a reservation that it reports; 0: none */
} EventRow;

/* The database that an event is of; two may have one name. */
typedef struct EventSource
{
	Slice name;		   /* ce_source */
	Slice incarnation; /* ce_incarnation */
} EventSource;

/* The states in which a line ends, in the order of protocol/line_state.h. */
#define EVENT_ENDS 6

/* The index of the state that the event reports, or -1. */
int event_end(const EventRow *row);

const char *event_end_text(int end);

/*
 * The most that pgstock.max_event_bytes allows, and pgstock's own events may
 * exceed it by.
 */
#define EVENT_BYTES_MAX (101 * 1024 * 1024)

/* At least what counts of the event against pgstock.max_event_bytes. */
int64_t event_bytes(const EventRow *row);

#define EVENT_UUID_LEN 36
#define EVENT_TIME_LEN 27 /* 2026-01-31T12:34:56.123456Z */
#define EVENT_SEQ_LEN  20

/* Each fills exactly that many bytes and adds no NUL. */
void event_uuid_text(char *to, const char *uuid);
void event_time_text(char *to, int64_t us);
void event_seq_text(char *to, int64_t seq);

#endif
