/*
 * status.c - the leading relay, events pending, messages failed and consumed
 *
 * Read from the database, and from the broker what the database does not have:
 * no relay need run.  The keys of --json are a promise (docs/relay.md).
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/command.h"
#include "commands/commands.h"
#include "common/json.h"
#include "common/safe_text.h"
#include "kafka/witness.h"

typedef struct Status
{
	Command		command;
	rd_kafka_t *client; /* NULL: no broker */
	bool		json;
	Buf			problems; /* JSON strings, or lines */
	Buf			body;	  /* of the output */
} Status;

static void status_add_problem(Status *status, const char *format, ...)
	PRINTF_LIKE(2, 3);

static void
status_add_problem(Status *status, const char *format, ...)
{
	Buf		line = {0};
	va_list args;

	va_start(args, format);
	buf_vprintf(&line, format, args);
	va_end(args);
	if (status->json)
	{
		if (status->problems.len > 0)
			buf_add_str(&status->problems, ",");
		json_string(&status->problems, buf_str(&line));
	}
	else
	{
		buf_add_str(&status->problems, "problem: ");
		safe_add(&status->problems, buf_str(&line), line.len);
		buf_add_str(&status->problems, "\n");
	}
	buf_free(&line);
}

/* json: the value in JSON; plain: as it is shown, NULL for none. */
static void
status_add_field(Status *status, const char *name, const char *json,
				 const char *plain)
{
	if (status->json)
		buf_printf(&status->body, ",\"%s\":%s", name,
				   json != NULL ? json : "null");
	else
	{
		plain = plain != NULL ? plain : "-";
		buf_printf(&status->body, "%s: ", name);
		safe_add(&status->body, plain, strlen(plain));
		buf_add_str(&status->body, "\n");
	}
}

static void
status_add_text(Status *status, const char *name, const char *text)
{
	Buf json = {0};

	json_string(&json, text);
	status_add_field(status, name, buf_str(&json), text);
	buf_free(&json);
}

/* ---- what the database knows ------------------------------------------- */

static void
status_add_versions(Status *status)
{
	const ApiHello *hello = &status->command.hello;
	NumberText		memory;
	const char	   *api = api_number(&memory, hello->relay_api).data;

	status_add_text(status, "relay_version", PGSTOCK_VERSION);
	status_add_text(status, "extension_version", hello->extension_version);
	status_add_field(status, "relay_api", api, api);
	status_add_text(status, "database", hello->database);
	status_add_text(status, "inbox_group", command_group(&status->command));
}

static bool
status_add_database(Status *status)
{
	PGresult *rows = command_check_result(api_exec(status->command.pg,
												   API_STATUS, NULL),
										  "status");

	if (rows == NULL)
		return false;
	for (int row = 0; row < PQntuples(rows); row++)
	{
		const char *name = api_text(rows, row, 0);
		const char *plain = api_text(rows, row, 2);

		status_add_field(status, name, api_text(rows, row, 1), plain);
		if (strcmp(name, "leader") == 0 && plain == NULL)
			status_add_problem(status, "no relay leads the outbox");
		if (strcmp(name, "position_trouble") == 0 && plain != NULL)
			status_add_problem(
				status, "the outbox position belongs to another history: %s",
				plain);
		if (strcmp(name, "held_trouble") == 0 && plain != NULL)
			status_add_problem(status, "topics are held back: %s", plain);
		if (strcmp(name, "upkeep_trouble") == 0 && plain != NULL)
			status_add_problem(status, "upkeep fails: %s", plain);
	}
	PQclear(rows);
	return true;
}

/* ---- what the broker knows --------------------------------------------- */

static const struct rd_kafka_metadata *
status_open_broker(Status *status)
{
	const struct rd_kafka_metadata *metadata = NULL;

	status->client = command_open_broker(&status->command);
	if (status->client != NULL)
		metadata = command_get_metadata(status->client, NULL);
	if (metadata == NULL)
		status_add_problem(status, "the broker does not answer");
	return metadata;
}

static void
status_add_missing(Status *status, const struct rd_kafka_metadata *metadata)
{
	Buf list = {0};

	for (char **topic = status->command.config->topics; *topic != NULL; topic++)
	{
		if (metadata == NULL || command_find_topic(metadata, *topic) != NULL)
			continue;
		if (list.len > 0)
			buf_add_str(&list, status->json ? "," : ", ");
		if (status->json)
			json_string(&list, *topic);
		else
			buf_add_str(&list, *topic);
		status_add_problem(status, "topic \"%s\" of [inbox] does not exist",
						   *topic);
	}
	if (status->json)
		buf_printf(&status->body, ",\"missing_topics\":[%s]", buf_str(&list));
	else if (list.len > 0)
		buf_printf(&status->body, "missing_topics: %s\n", buf_str(&list));
	buf_free(&list);
}

/* -1: unknown. */
static int64_t
status_end_offset(const Status					 *status,
				  const struct rd_kafka_metadata *metadata, const char *topic,
				  int32_t partition)
{
	int64_t end;

	if (metadata == NULL || command_find_topic(metadata, topic) == NULL ||
		kafka_find_end(status->client, topic, partition, &end,
					   COMMAND_BROKER_MS) != 0)
		return -1;
	return end;
}

/* How far a partition was read. */
typedef struct Place
{
	char   *topic;
	int32_t id;
	int64_t next;
	int64_t end; /* the last stable offset; -1: unknown */
	int64_t lag;
} Place;

static void
status_add_place(Status *status, const Place *place, bool first)
{
	Assert(place->lag >= 0 && (place->end >= 0 || place->lag == 0));
	if (place->end >= 0 && place->end < place->next)
		status_add_problem(status,
						   "partition %s/%d ends at %" PRId64
						   ", and was read up to "
						   "%" PRId64
						   ": it was recreated, or lost its end; a relay that "
						   "consumes it reads it from its start",
						   place->topic, place->id, place->end, place->next);
	if (!status->json)
	{
		buf_printf(&status->body, "consumed %s/%d: %" PRId64, place->topic,
				   place->id, place->next);
		if (place->end >= 0)
			buf_printf(&status->body, " of %" PRId64 "%s", place->end,
					   place->end > place->next && place->lag == 0
						   ? ", no message follows"
						   : "");
		buf_add_str(&status->body, "\n");
		return;
	}
	buf_printf(&status->body, "%s{\"topic\":", first ? "" : ",");
	json_string(&status->body, place->topic);
	buf_printf(&status->body, ",\"partition\":%d,\"next_offset\":%" PRId64,
			   place->id, place->next);
	if (place->end >= 0)
		buf_printf(&status->body,
				   ",\"end_offset\":%" PRId64 ",\"lag\":%" PRId64 "}",
				   place->end, place->lag);
	else
		buf_add_str(&status->body, ",\"end_offset\":null,\"lag\":null}");
}

/* Where no message follows there is no lag, though the end be further on: marks
 * of transactions have offsets too. */
static void
status_measure_lags(const Status *status, Place *places, size_t count)
{
	const atomic_bool stop = false;
	Witness			 *nexts = xcalloc(count + 1, sizeof(Witness));
	size_t			  n = 0;
	size_t			  asked;

	for (size_t i = 0; i < count; i++)
	{
		places[i].lag = Max(places[i].end - places[i].next, 0);
		if (places[i].lag > 0)
			nexts[n++] = (Witness){
				.topic = places[i].topic,
				.id = places[i].id,
				.offset = places[i].next,
			};
	}
	Assert(n == 0 || status->client != NULL);
	if (n > 0)
		witness_read(status->client, nexts, n, &stop);
	asked = n;
	n = 0;
	for (size_t i = 0; i < count; i++)
		if (places[i].lag > 0 && nexts[n++].ended)
			places[i].lag = 0;
	Assert(n == asked);
	free(nexts);
}

static bool
status_add_consumers(Status *status, const struct rd_kafka_metadata *metadata)
{
	PGresult *offsets = command_check_result(api_exec_offsets(status->command
																  .pg,
															  NULL),
											 "offsets");
	Place	 *places;
	size_t	  count = 0;

	if (offsets == NULL)
		return false;
	places = xcalloc((size_t) PQntuples(offsets) + 1, sizeof(Place));
	for (int row = 0; row < PQntuples(offsets); row++)
	{
		Place *place = &places[count];

		if (PQgetisnull(offsets, row, 1))
			continue;
		place->topic = PQgetvalue(offsets, row, 0);
		place->id = (int32_t) api_int(offsets, row, 1);
		place->next = api_int(offsets, row, 2);
		place->end = status_end_offset(status, metadata, place->topic,
									   place->id);
		count++;
	}
	status_measure_lags(status, places, count);
	if (status->json)
		buf_add_str(&status->body, ",\"consumers\":[");
	for (size_t i = 0; i < count; i++)
		status_add_place(status, &places[i], i == 0);
	if (status->json)
		buf_add_str(&status->body, "]");
	free(places);
	PQclear(offsets);
	return true;
}

/* ---- the command ------------------------------------------------------- */

static bool
status_collect(Status *status)
{
	const struct rd_kafka_metadata *metadata;
	bool							good;

	status_add_versions(status);
	if (!status_add_database(status))
		return false;
	metadata = status_open_broker(status);
	status_add_field(status, "broker", metadata != NULL ? "true" : "false",
					 metadata != NULL ? "answers" : "away");
	status_add_missing(status, metadata);
	good = status_add_consumers(status, metadata);
	if (metadata != NULL)
		rd_kafka_metadata_destroy(metadata);
	return good;
}

static void
status_print(Status *status)
{
	const char *word = status->problems.len == 0 ? "ok" : "failing";

	if (status->json)
		printf("{\"status\":\"%s\",\"problems\":[%s]%s}\n", word,
			   buf_str(&status->problems), buf_str(&status->body));
	else
		printf("status: %s\n%s%s", word, buf_str(&status->problems),
			   buf_str(&status->body));
}

ExitCode
cmd_status(const Arguments *arguments, const Config *config)
{
	Status	 status = {.json = arguments->values[ARG_JSON] != NULL};
	ExitCode code;

	if (command_open(&status.command, config))
	{
		if (status_collect(&status))
			status_print(&status);
		else
			status.command.code = EXIT_RUNTIME;
	}
	code = status.command.code;
	if (status.client != NULL)
		rd_kafka_destroy(status.client);
	command_close(&status.command);
	buf_free(&status.problems);
	buf_free(&status.body);
	return code;
}
