/*
 * api_answer.c - the answers of the database's functions, and their errors
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "db/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 2000-01-01, from which PostgreSQL counts, in microseconds since 1970 */
#define POSTGRES_EPOCH_US INT64_C(946684800000000)

const char *
api_sqlstate(const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	const char	  *sqlstate;

	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
		return NULL;
	sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	return sqlstate != NULL ? sqlstate : "";
}

bool
api_ends_session(const PGresult *result)
{
	const char *severity = PQresultErrorField(result,
											  PG_DIAG_SEVERITY_NONLOCALIZED);

	return severity != NULL &&
		   (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
}

char *
api_error_text(const PGresult *result)
{
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);

	if (message == NULL)
		message = PQresultErrorMessage(result);
	return xasprintf("%s%s%s%s%s", message, detail != NULL ? ": " : "",
					 detail != NULL ? detail : "", hint != NULL ? " " : "",
					 hint != NULL ? hint : "");
}

char *
api_failure(PGresult **result)
{
	char *text;

	if (api_sqlstate(*result) == NULL)
		return NULL;
	text = api_error_text(*result);
	PQclear(*result);
	*result = NULL;
	return text;
}

/* libpq only warns of a place that is not there, and returns NULL. */
static void
api_must_have(const PGresult *result, int row, int column)
{
	Assert(row >= 0 && row < PQntuples(result));
	Assert(column >= 0 && column < PQnfields(result));
}

const char *
api_text(const PGresult *result, int row, int column)
{
	api_must_have(result, row, column);
	return PQgetisnull(result, row, column) ? NULL
											: PQgetvalue(result, row, column);
}

int64_t
api_int(const PGresult *result, int row, int column)
{
	api_must_have(result, row, column);
	return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

bool
api_bool(const PGresult *result, int row, int column)
{
	api_must_have(result, row, column);
	return PQgetvalue(result, row, column)[0] == 't';
}

/* By the column's name: another relay_api may have it in another place. */
static void
api_copy_version(const PGresult *result, ApiHello *hello)
{
	int column = PQfnumber(result, "extension_version");

	snprintf(hello->extension_version, sizeof(hello->extension_version), "%s",
			 column >= 0 ? PQgetvalue(result, 0, column)
						 : "of unknown version");
}

bool
api_read_hello(const PGresult *result, ApiHello *hello)
{
	if (PQntuples(result) != 1 || PQnfields(result) < 1)
		return false;
	*hello = (ApiHello){.relay_api = (int) api_int(result, 0, 0)};
	if (hello->relay_api != API_VERSION)
	{
		api_copy_version(result, hello);
		return true; /* the rest may look different */
	}
	if (PQnfields(result) < 9)
		return false;
	snprintf(hello->extension_version, sizeof(hello->extension_version), "%s",
			 PQgetvalue(result, 0, 1));
	snprintf(hello->database, sizeof(hello->database), "%s",
			 PQgetvalue(result, 0, 2));
	snprintf(hello->inbox_group, sizeof(hello->inbox_group), "%s",
			 PQgetvalue(result, 0, 3));
	hello->in_recovery = api_bool(result, 0, 4);
	hello->preloaded = api_bool(result, 0, 5);
	hello->max_event_bytes = (int) api_int(result, 0, 6);
	snprintf(hello->incarnation, sizeof(hello->incarnation), "%s",
			 PQgetvalue(result, 0, 7));
	hello->backend_pid = (int) api_int(result, 0, 8);
	return hello->max_event_bytes > 0;
}

static void
api_copy(char *to, size_t size, const PGresult *result, int column)
{
	snprintf(to, size, "%s", PQgetvalue(result, 0, column));
}

bool
api_read_server(const PGresult *result, ApiServer *server)
{
	if (PQntuples(result) != 1 || PQnfields(result) != 9)
		return false;
	*server = (ApiServer){
		.superuser = api_bool(result, 0, 0),
		.may_use = PQgetisnull(result, 0, 1) || api_bool(result, 0, 1),
		.fsync = api_bool(result, 0, 2),
		.full_page_writes = api_bool(result, 0, 3),
		.clock_us = api_int(result, 0, 4),
	};
	api_copy(server->encoding, sizeof(server->encoding), result, 5);
	api_copy(server->available, sizeof(server->available), result, 6);
	api_copy(server->installed, sizeof(server->installed), result, 7);
	api_copy(server->schema, sizeof(server->schema), result, 8);
	return true;
}

const char *
api_find_value(const PGresult *result, const char *name)
{
	for (int row = 0; row < PQntuples(result); row++)
		if (strcmp(PQgetvalue(result, row, 0), name) == 0)
			return api_text(result, row, 1);
	return NULL;
}

Slice
api_slice(const PGresult *result, int row, int column)
{
	api_must_have(result, row, column);
	if (PQgetisnull(result, row, column))
		return (Slice){NULL, 0};
	return (Slice){PQgetvalue(result, row, column),
				   (size_t) PQgetlength(result, row, column)};
}

int64_t
api_binary_time(const PGresult *result, int row, int column)
{
	Assert(PQgetlength(result, row, column) == sizeof(uint64_t));
	return (int64_t) read_u64(PQgetvalue(result, row, column)) +
		   POSTGRES_EPOCH_US;
}
