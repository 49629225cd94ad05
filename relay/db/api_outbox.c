/*
 * api_outbox.c - the database's functions for the outbox, and its pages
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "db/api.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define LOG_MODULE "api"

/* Columns of a page, and of a look, which has the window in one more. */
#define PAGE_COLUMNS 11
#define PAGE_KEY	 3
#define PAGE_TYPE	 4
#define PAGE_PAYLOAD 5
#define PAGE_HEADERS 6
#define LOOK_COLUMNS (PAGE_COLUMNS + 1)
#define LOOK_WINDOW	 PAGE_COLUMNS

/*
 * A pooler may give each transaction another session: the lock on the lead
 * stays behind in one of them, and notifications arrive in another.  It
 * returns a backend pid of its own.
 */
bool
api_is_behind_pooler(const ApiHello *hello, int backend_pid)
{
	return hello->backend_pid != backend_pid;
}

/* PgBouncer's words about "options"; the server knows it. */
bool
api_pooler_refused(const char *error)
{
	return strstr(error, "unsupported startup parameter") != NULL;
}

ExitCode
api_refuse_pooler(void)
{
	log_error("%s: %s", API_POOLER, API_POOLER_HINT);
	return EXIT_USAGE;
}

char *
api_mismatch(const ApiHello *hello)
{
	Assert(hello->relay_api != API_VERSION);
	return xasprintf("extension pgstock %s speaks relay_api %d, but "
					 "pgstock-relay %s speaks relay_api %d",
					 hello->extension_version, hello->relay_api,
					 PGSTOCK_VERSION, API_VERSION);
}

const char *
api_mismatch_hint(const ApiHello *hello)
{
	Assert(hello->relay_api != API_VERSION);
	return hello->relay_api > API_VERSION
			   ? "Install the pgstock-relay of the extension's version."
			   : "Install the extension of the relay's version, and run ALTER "
				 "EXTENSION pgstock UPDATE.";
}

ExitCode
api_judge_hello(const ApiHello *hello, int backend_pid)
{
	if (hello->relay_api != API_VERSION)
	{
		char *why = api_mismatch(hello);

		log_error("%s: %s", why, api_mismatch_hint(hello));
		free(why);
		return EXIT_INCOMPATIBLE;
	}
	return api_is_behind_pooler(hello, backend_pid) ? api_refuse_pooler()
													: EXIT_CLEAN;
}

void
api_call_position(PgConnection *conn, Slice kafka)
{
	const PgParam params[] = {api_bytes(kafka)};

	api_call_with(conn, API_POSITION_OF, params);
}

void
api_call_look(PgConnection *conn, const char *window, const char *publish_after,
			  uint32_t max_rows, uint32_t max_bytes)
{
	NumberText	  rows;
	NumberText	  bytes;
	const PgParam params[] = {
		{.data = window},
		{.data = publish_after},
		api_number(&rows, max_rows),
		api_number(&bytes, max_bytes),
	};

	Assert(window != NULL && max_rows > 0 && max_bytes > 0);
	api_call_with(conn, API_LOOK, params);
}

void
api_call_sleep(PgConnection *conn, const char *window,
			   const char *publish_after)
{
	const PgParam params[] = {{.data = window}, {.data = publish_after}};

	api_call_with(conn, API_SLEEP, params);
}

void
api_call_page(PgConnection *conn, const char *window, int64_t after_seq,
			  uint32_t max_rows, uint32_t max_bytes)
{
	NumberText	  after;
	NumberText	  rows;
	NumberText	  bytes;
	const PgParam params[] = {
		{.data = window},
		api_number(&after, after_seq),
		api_number(&rows, max_rows),
		api_number(&bytes, max_bytes),
	};

	Assert(window != NULL && max_rows > 0);
	api_call_with(conn, API_PAGE, params);
}

void
api_call_store(PgConnection *conn, const char *window, int64_t seq,
			   bool finished, int64_t epoch)
{
	NumberText	  seq_text;
	NumberText	  epoch_text;
	const PgParam params[] = {
		{.data = window},
		api_number(&seq_text, seq),
		{.data = finished ? "t" : "f"},
		api_number(&epoch_text, epoch),
	};

	Assert(window != NULL && epoch > 0); /* only a leader stores */
	api_call_with(conn, API_STORE, params);
}

/* ---- pages ------------------------------------------------------------- */

static bool
api_columns_are(const PGresult *result, int columns)
{
	static const int sizes[LOOK_COLUMNS] = {
		8, 16, -1, -1, -1, -1, -1, -1, 8, 1, 1, -1,
	};

	Assert(columns <= LOOK_COLUMNS);
	if (PQnfields(result) != columns)
		return false;
	for (int i = 0; i < columns; i++)
		if (PQfformat(result, i) != 1 || PQfsize(result, i) != sizes[i])
			return false;
	return true;
}

bool
api_page_is_sound(const PGresult *result)
{
	return api_columns_are(result, PAGE_COLUMNS);
}

const char *
api_look_window(const PGresult *result)
{
	if (!api_columns_are(result, LOOK_COLUMNS) || PQntuples(result) == 0 ||
		PQgetisnull(result, 0, LOOK_WINDOW))
		return NULL;
	return PQgetvalue(result, 0, LOOK_WINDOW);
}

/* The row of the window is none of the page's. */
static int
api_page_first(const PGresult *result)
{
	return PQnfields(result) == LOOK_COLUMNS ? 1 : 0;
}

uint32_t
api_page_rows(const PGresult *result)
{
	Assert(PQntuples(result) >= api_page_first(result));
	return (uint32_t) (PQntuples(result) - api_page_first(result));
}

/* What relay_page() holds against its max_bytes. */
size_t
api_page_bytes(const PGresult *result)
{
	size_t sum = 0;

	for (int row = api_page_first(result); row < PQntuples(result); row++)
		for (int column = PAGE_KEY; column <= PAGE_HEADERS; column++)
			sum += (size_t) PQgetlength(result, row, column);
	return sum;
}

void
api_page_row(const PGresult *result, uint32_t number, EventRow *event)
{
	int row = api_page_first(result) + (int) number;

	Assert(number < api_page_rows(result));
	*event = (EventRow){
		.seq = (int64_t) read_u64(PQgetvalue(result, row, 0)),
		.id = api_slice(result, row, 1),
		.topic = api_slice(result, row, 2),
		.key = api_slice(result, row, PAGE_KEY),
		.type = api_slice(result, row, PAGE_TYPE),
		.payload = api_slice(result, row, PAGE_PAYLOAD),
		.headers = api_slice(result, row, PAGE_HEADERS),
		.traceparent = api_slice(result, row, 7),
		.created_us = api_binary_time(result, row, 8),
		.format = *PQgetvalue(result, row, 9),
		.ends = *PQgetvalue(result, row, 10),
	};
}

/* ---- the level stream ---------------------------------------------------- */

void
api_call_levels(PgConnection *conn, const char *topic, const char *since,
				int rows)
{
	NumberText	  max;
	const PgParam params[] = {
		{.data = topic},
		{.data = since},
		api_number(&max, rows),
	};

	api_call_with(conn, API_LEVELS, params);
}

void
api_call_levels_read(PgConnection *conn, const char *topic, ApiBatch *records,
					 bool behind)
{
	PgParam batch[Lengthof(records->arrays)];
	PgParam params[7];

	api_batch_params(records, batch);
	params[0] = (PgParam){.data = topic};
	params[1] = batch[1];
	params[2] = batch[2];
	params[3] = batch[4];
	params[4] = batch[5];
	params[5] = batch[6];
	params[6] = (PgParam){.data = behind ? "t" : "f"};
	api_call_with(conn, API_LEVELS_READ, params);
}
