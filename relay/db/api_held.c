/*
 * api_held.c - the database's functions for held topics
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "db/api.h"

void
api_call_hold(PgConnection *conn, const char *topic, const char *reason,
			  int64_t epoch)
{
	NumberText	  epoch_text;
	const PgParam params[] = {
		{.data = topic},
		{.data = reason},
		api_number(&epoch_text, epoch),
	};

	Assert(epoch > 0); /* only a leader holds */
	api_call_with(conn, API_HOLD, params);
}

void
api_call_set_aside(PgConnection *conn, const int64_t *seqs, uint32_t count,
				   int64_t epoch)
{
	NumberText epoch_text;
	Buf		   array = {0};
	PgParam	   params[2] = {[1] = api_number(&epoch_text, epoch)};

	Assert(count > 0 && epoch > 0);
	api_int8_array(&array, seqs, count);
	params[0] = (PgParam){.data = array.data,
						  .length = (int) array.len,
						  .binary = 1};
	api_call_with(conn, API_SET_ASIDE, params);
	buf_free(&array);
}

void
api_call_held_page(PgConnection *conn, const char *topic, uint32_t max_rows,
				   uint32_t max_bytes)
{
	NumberText	  rows;
	NumberText	  bytes;
	const PgParam params[] = {
		{.data = topic},
		api_number(&rows, max_rows),
		api_number(&bytes, max_bytes),
	};

	api_call_with(conn, API_HELD_PAGE, params);
}

void
api_call_cross_off(PgConnection *conn, const char *topic, const int64_t *seqs,
				   uint32_t count, bool resume, int64_t epoch)
{
	NumberText epoch_text;
	Buf		   array = {0};
	PgParam	   params[4] = {
		   {.data = topic},
		   [2] = {.data = resume ? "t" : "f"},
		   [3] = api_number(&epoch_text, epoch),
	   };

	Assert(epoch > 0);
	api_int8_array(&array, seqs, count);
	params[1] = (PgParam){.data = array.data,
						  .length = (int) array.len,
						  .binary = 1};
	api_call_with(conn, API_CROSS_OFF, params);
	buf_free(&array);
}
