/*
 * status_json.c - what "status --json" prints
 *
 * Its keys are a promise (docs/relay.md).
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/status_parts.h"

#include <inttypes.h>

#include "common/json.h"

static void
status_add_strings(Buf *text, const char *name, char *const *strings)
{
	buf_printf(text, "\"%s\":[", name);
	for (size_t i = 0; strings != NULL && strings[i] != NULL; i++)
	{
		if (i > 0)
			buf_add_str(text, ",");
		json_add_string(text, strings[i]);
	}
	buf_add_str(text, "]");
}

static void
status_add_text(Buf *text, const char *name, const char *value)
{
	buf_add_str(text, ",");
	json_add_name(text, name);
	json_add_string(text, value);
}

static void
status_add_rows(Buf *text, const PGresult *rows)
{
	for (int row = 0; row < PQntuples(rows); row++)
	{
		const char *name = api_text(rows, row, STATUS_NAME_AT);
		const char *json = api_text(rows, row, STATUS_JSON_AT);

		if (name[0] != STATUS_LIST)
			buf_printf(text, ",\"%s\":%s", name, json != NULL ? json : "null");
	}
}

static void
status_add_consumer(Buf *text, const StatusPlace *place)
{
	buf_add_str(text, "{\"topic\":");
	json_add_string(text, place->topic);
	buf_printf(text, ",\"partition\":%d,\"next_offset\":%" PRId64, place->id,
			   place->next);
	if (place->end >= 0)
		buf_printf(text, ",\"end_offset\":%" PRId64 ",\"lag\":%" PRId64 "}",
				   place->end, place->lag);
	else
		buf_add_str(text, ",\"end_offset\":null,\"lag\":null}");
}

void
status_add_json(const Status *status, Buf *text)
{
	buf_printf(text, "{\"status\":\"%s\",",
			   status->problems == NULL ? "ok" : "failing");
	status_add_strings(text, "problems", status->problems);
	status_add_text(text, "relay_version", PGSTOCK_VERSION);
	status_add_text(text, "extension_version", status->hello.extension_version);
	buf_printf(text, ",\"relay_api\":%d", status->hello.relay_api);
	status_add_text(text, "database", status->hello.database);
	status_add_text(text, "inbox_group", status->group);
	status_add_rows(text, status->rows);
	buf_printf(text, ",\"broker\":%s,", status->brokers > 0 ? "true" : "false");
	status_add_strings(text, "missing_topics", status->missing);
	buf_add_str(text, ",\"consumers\":[");
	for (size_t i = 0; i < status->place_count; i++)
	{
		if (i > 0)
			buf_add_str(text, ",");
		status_add_consumer(text, &status->places[i]);
	}
	buf_add_str(text, "]}\n");
}
