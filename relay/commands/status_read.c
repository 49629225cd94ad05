/*
 * status_read.c - what "status" shows, from the database and the broker
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/status_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "kafka/witness.h"

static void status_add_problem(Status *status, const char *format, ...)
	PRINTF_LIKE(2, 3);

/* ---- lists ------------------------------------------------------------- */

/* Takes over the text. */
static void
status_append(char ***list, char *text)
{
	size_t count = *list != NULL ? strings_count(*list) : 0;

	*list = xrealloc(*list, (count + 2) * sizeof(char *));
	(*list)[count] = text;
	(*list)[count + 1] = NULL;
}

static void
status_add_problem(Status *status, const char *format, ...)
{
	Buf		line = {0};
	va_list args;

	va_start(args, format);
	buf_vprintf(&line, format, args);
	va_end(args);
	status_append(&status->problems, xstrdup(buf_str(&line)));
	buf_free(&line);
}

const char *
status_find(const Status *status, const char *name)
{
	for (int row = 0; row < PQntuples(status->rows); row++)
		if (strcmp(api_text(status->rows, row, STATUS_NAME_AT), name) == 0)
			return api_text(status->rows, row, STATUS_TEXT_AT);
	return NULL;
}

/* ---- what the database knows ------------------------------------------- */

static void
status_take_problems(Status *status)
{
	const PGresult *rows = status->rows;

	for (int row = 0; row < PQntuples(rows); row++)
		if (strcmp(api_text(rows, row, STATUS_NAME_AT), STATUS_PROBLEM) == 0)
			status_add_problem(status, "%s",
							   api_text(rows, row, STATUS_TEXT_AT));
}

static bool
status_read_database(StatusSource *source, Status *status)
{
	PGconn	 *pg = source->command.pg;
	PGresult *range = NULL;

	status->last_seq = -1;
	status->rows = command_check_result(api_exec(pg, API_STATUS, NULL),
										"status");
	if (status->rows == NULL)
		return false;
	status_take_problems(status);
	if (source->json)
		return true;
	status->metrics = command_check_result(api_exec(pg, API_METRICS, NULL),
										   "metrics");
	if (status->metrics != NULL)
		range = command_check_result(api_exec(pg, API_OUTBOX_RANGE, NULL),
									 "outbox");
	if (range != NULL)
		status->last_seq = api_int(range, 0, 1);
	PQclear(range);
	return status->last_seq >= 0;
}

/* ---- what the broker knows --------------------------------------------- */

static const struct rd_kafka_metadata *
status_open_broker(StatusSource *source, Status *status)
{
	const struct rd_kafka_metadata *metadata = NULL;

	if (source->client == NULL)
		source->client = command_open_broker(&source->command);
	if (source->client != NULL)
		metadata = command_get_metadata(source->client, NULL);
	if (metadata == NULL)
		status_add_problem(status, "the broker does not answer");
	else
		status->brokers = Max(metadata->broker_cnt, 1);
	return metadata;
}

static void
status_find_missing(const StatusSource *source, Status *status,
					const struct rd_kafka_metadata *metadata)
{
	for (char **topic = source->command.config->topics; *topic != NULL; topic++)
	{
		if (metadata == NULL || command_find_topic(metadata, *topic) != NULL)
			continue;
		status_append(&status->missing, xstrdup(*topic));
		status_add_problem(status, "topic \"%s\" of [inbox] does not exist",
						   *topic);
	}
}

/* -1: unknown. */
static int64_t
status_end_offset(const StatusSource			 *source,
				  const struct rd_kafka_metadata *metadata, const char *topic,
				  int32_t partition)
{
	int64_t end;

	if (metadata == NULL || command_find_topic(metadata, topic) == NULL ||
		kafka_find_end(source->client, topic, partition, &end,
					   COMMAND_BROKER_MS) != 0)
		return -1;
	return end;
}

/*
 * Where no message follows there is no lag, though the end be further on: marks
 * of transactions have offsets too.
 */
static void
status_measure_lags(const StatusSource *source, StatusPlace *places,
					size_t count)
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
	Assert(n == 0 || source->client != NULL);
	if (n > 0)
		witness_read(source->client, nexts, n, &stop);
	asked = n;
	n = 0;
	for (size_t i = 0; i < count; i++)
		if (places[i].lag > 0 && nexts[n++].ended)
			places[i].lag = 0;
	Assert(n == asked);
	free(nexts);
}

static void
status_judge_place(Status *status, const StatusPlace *place)
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
}

static bool
status_read_places(StatusSource *source, Status *status,
				   const struct rd_kafka_metadata *metadata)
{
	PGresult *offsets = command_check_result(api_exec_offsets(source->command
																  .pg,
															  NULL),
											 "offsets");

	status->offsets = offsets;
	if (offsets == NULL)
		return false;
	status->places = xcalloc((size_t) PQntuples(offsets) + 1,
							 sizeof(StatusPlace));
	for (int row = 0; row < PQntuples(offsets); row++)
	{
		StatusPlace *place = &status->places[status->place_count];

		if (PQgetisnull(offsets, row, 1))
			continue;
		place->topic = PQgetvalue(offsets, row, 0);
		place->id = (int32_t) api_int(offsets, row, 1);
		place->next = api_int(offsets, row, 2);
		place->end = status_end_offset(source, metadata, place->topic,
									   place->id);
		status->place_count++;
	}
	status_measure_lags(source, status->places, status->place_count);
	for (size_t i = 0; i < status->place_count; i++)
		status_judge_place(status, &status->places[i]);
	return true;
}

/* ---- a look ------------------------------------------------------------ */

static bool
status_read_all(StatusSource *source, Status *status)
{
	const struct rd_kafka_metadata *metadata;
	bool							good;

	status->hello = source->command.hello;
	status->group = xstrdup(command_group(&source->command));
	status->at_us = clock_monotonic();
	if (!status_read_database(source, status))
		return false;
	metadata = status_open_broker(source, status);
	status_find_missing(source, status, metadata);
	good = status_read_places(source, status, metadata);
	if (metadata != NULL)
		rd_kafka_metadata_destroy(metadata);
	return good;
}

bool
status_read(StatusSource *source, Status *status)
{
	const Config *config = source->command.config;

	*status = (Status){0};
	if (source->command.pg == NULL && !command_open(&source->command, config))
	{
		command_close(&source->command);
		return false;
	}
	if (status_read_all(source, status))
		return true;
	/* with the client, for its errors are kept in the command */
	status_close(source);
	source->command.code = EXIT_RUNTIME;
	return false;
}

void
status_free(Status *status)
{
	PQclear(status->rows);
	PQclear(status->metrics);
	PQclear(status->offsets);
	if (status->problems != NULL)
		strings_free(status->problems);
	if (status->missing != NULL)
		strings_free(status->missing);
	free(status->places);
	free(status->group);
	*status = (Status){0};
}

void
status_close(StatusSource *source)
{
	if (source->client != NULL)
		rd_kafka_destroy(source->client);
	source->client = NULL;
	command_close(&source->command);
}
