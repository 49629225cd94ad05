/*
 * api_command.c - the database's functions for commands, typed
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "db/api_command.h"

PGresult *
api_exec_replay(PGconn *pg, const ApiReplay *replay, int64_t after_seq,
				int rows, bool execute)
{
	NumberText	  from;
	NumberText	  to;
	NumberText	  after;
	NumberText	  max;
	const PgParam params[] = {
		api_number(&from, Max(replay->from_seq, 0)),
		api_number(&to, replay->to_seq),
		{.data = replay->from_time},
		{.data = replay->to_time},
		{.data = replay->topic},
		api_number(&after, after_seq),
		api_number(&max, rows),
		{.data = execute ? "t" : "f"},
		{.data = replay->reason},
	};

	return api_exec(pg, API_REPLAY, params);
}

PGresult *
api_exec_snapshot(PGconn *pg, const char *topic, const char *product,
				  const char *location, int rows)
{
	NumberText	  max;
	const PgParam params[] = {
		{.data = topic},
		{.data = product},
		{.data = location},
		api_number(&max, rows),
	};

	return api_exec(pg, API_SNAPSHOT, params);
}

PGresult *
api_exec_rewind(PGconn *pg, const char *topic, ApiBatch *targets,
				const char *reason)
{
	PgParam batch[Lengthof(targets->arrays)];
	PgParam params[4];

	api_batch_params(targets, batch);
	params[0] = (PgParam){.data = topic};
	params[1] = batch[1];
	params[2] = batch[2];
	params[3] = (PgParam){.data = reason};
	return api_exec(pg, API_REWIND, params);
}

PGresult *
api_exec_failed(PGconn *pg, const ApiFailed *filter, int64_t after_id, int rows)
{
	NumberText	  id;
	NumberText	  after;
	NumberText	  max;
	const PgParam params[] = {
		filter->id >= 0 ? api_number(&id, filter->id) : (PgParam){0},
		{.data = filter->state},
		{.data = filter->topic},
		{.data = filter->since},
		{.data = filter->sqlstate},
		{.data = filter->order},
		api_number(&after, after_id),
		api_number(&max, rows),
	};

	Assert(rows > 0);
	return api_exec(pg, API_FAILED, params);
}

PGresult *
api_exec_failed_count(PGconn *pg, const ApiFailed *filter)
{
	const PgParam params[] = {
		{.data = filter->state}, {.data = filter->topic},
		{.data = filter->since}, {.data = filter->sqlstate},
		{.data = filter->order},
	};

	Assert(filter->id < 0);
	return api_exec(pg, API_FAILED_COUNT, params);
}

PGresult *
api_exec_failed_act(PGconn *pg, const char *action, int64_t id,
					const char *reason)
{
	NumberText	  number;
	const PgParam params[] = {
		{.data = action},
		api_number(&number, id),
		{.data = reason},
	};

	Assert(id >= 0);
	return api_exec(pg, API_FAILED_ACT, params);
}

/* ---- audit ------------------------------------------------------------- */

PGresult *
api_exec_audit_page(PGconn *pg, const char *from_time, int64_t after_seq,
					int64_t to_seq, int rows)
{
	NumberText	  after;
	NumberText	  to;
	NumberText	  max;
	const PgParam params[] = {
		{.data = from_time},
		api_number(&after, after_seq),
		api_number(&to, to_seq),
		api_number(&max, rows),
	};

	Assert(rows > 0);
	return api_exec(pg, API_AUDIT_PAGE, params);
}

void
api_audit_row(const PGresult *result, int row, ApiAuditRow *to)
{
	Assert(row >= 0 && row < PQntuples(result));
	*to = (ApiAuditRow){
		.seq = (int64_t) read_u64(PQgetvalue(result, row, 0)),
		.id = api_slice(result, row, 1),
		.topic = api_slice(result, row, 2),
		.pending = *PQgetvalue(result, row, 3) != 0,
		.copy = *PQgetvalue(result, row, 4) != 0,
		.copy_of = api_slice(result, row, 5),
		.format = *PQgetvalue(result, row, 6),
		.type = api_slice(result, row, 7),
		.key = api_slice(result, row, 8),
		.payload = api_slice(result, row, 9),
		.headers = api_slice(result, row, 10),
		.created_us = api_binary_time(result, row, 11),
	};
}

PGresult *
api_exec_audit_holds(PGconn *pg, int64_t seq, const char *event_id)
{
	NumberText	  number;
	const PgParam params[] = {api_number(&number, seq), {.data = event_id}};

	return api_exec(pg, API_AUDIT_HOLDS, params);
}
