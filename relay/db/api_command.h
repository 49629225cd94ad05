/*
 * api_command.h - the database's functions for commands, which all wait
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_DB_API_COMMAND_H
#define PGSTOCK_DB_API_COMMAND_H

#include "db/api.h"

/* Numbers below 0 and texts that are NULL do not matter. */
typedef struct ApiReplay
{
	int64_t		from_seq;
	int64_t		to_seq; /* must be given */
	const char *from_time;
	const char *to_time;
	const char *topic;
	const char *reason;
} ApiReplay;

/* Columns: events, the first and last seq, the first and last time. */
PGresult *api_exec_replay(PGconn *pg, const ApiReplay *replay,
						  int64_t after_seq, int rows, bool execute);

/*
 * The levels behind one, "" for the first ones.  Columns: their number, the
 * last one's product and location.
 */
PGresult *api_exec_snapshot(PGconn *pg, const char *topic, const char *product,
							const char *location, int rows);

/* targets: partitions and offsets.  Columns: partition, was, is now. */
PGresult *api_exec_rewind(PGconn *pg, const char *topic, ApiBatch *targets,
						  const char *reason);

typedef struct ApiFailed
{
	int64_t		id;
	const char *state;
	const char *topic;
	const char *since;
	const char *sqlstate;
	const char *order;
} ApiFailed;

/* Columns of api_exec_failed(), all as text. */
typedef enum FailedColumn
{
	FAILED_ID,
	FAILED_TOPIC,
	FAILED_PARTITION,
	FAILED_OFFSET,
	FAILED_EVENT_ID,
	FAILED_KEY,
	FAILED_ORDER_ID,
	FAILED_STATE,
	FAILED_CLASS,
	FAILED_SQLSTATE,
	FAILED_ATTEMPTS,
	FAILED_NEXT_RETRY_AT,
	FAILED_ERROR,
	FAILED_FIRST_FAILED_AT,
	FAILED_ARCHIVED_AT,
	FAILED_HANDLED,
	FAILED_HANDLED_AT,
	FAILED_HANDLED_BY,
	FAILED_TRACE_ID,
	FAILED_HEADERS,
	FAILED_PAYLOAD,
	FAILED_FAILURES,
	FAILED_COLUMNS, /* their number */
} FailedColumn;

PGresult *api_exec_failed(PGconn *pg, const ApiFailed *filter, int64_t after_id,
						  int rows);
/* How many they are, all pages together; not for a filter with an id. */
PGresult *api_exec_failed_count(PGconn *pg, const ApiFailed *filter);
PGresult *api_exec_failed_act(PGconn *pg, const char *action, int64_t id,
							  const char *reason);

/* A row of the outbox as an audit sees it; it points into the answer. */
typedef struct ApiAuditRow
{
	int64_t seq;
	Slice	id; /* 16 bytes */
	Slice	topic;
	bool	pending;
	bool	copy;
	Slice	copy_of;
	char	format;
	Slice	type;
	Slice	key; /* these three only of raw ones */
	Slice	payload;
	Slice	headers;
	int64_t created_us;
} ApiAuditRow;

PGresult *api_exec_audit_page(PGconn *pg, const char *from_time,
							  int64_t after_seq, int64_t to_seq, int rows);
void	  api_audit_row(const PGresult *result, int row, ApiAuditRow *to);
PGresult *api_exec_audit_holds(PGconn *pg, int64_t seq, const char *event_id);

#endif
