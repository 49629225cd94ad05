/*
 * levels.c - the steps of the level stream
 *
 * The database keeps the stream's state; of a session only the snapshot of its
 * last step is kept, with which the next one is faster.
 *
 * The stream's topic is read too, from where the database has compared its
 * records with the levels; a step writes those again that differ when the end
 * of the topic is reached.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox/pump_private.h"

#include <stdlib.h>

#define LOG_MODULE "levels"

/* NULL: there is no stream. */
static const char *
inbox_levels_topic(const Inbox *inbox)
{
	const char *topic = inbox->config->levels_topic;

	return topic[0] != '\0' ? topic : NULL;
}

/* Between two steps. */
static int64_t
inbox_levels_pace(const Inbox *inbox)
{
	Assert(inbox->config->levels_per_second > 0);
	return SEC_US / inbox->config->levels_per_second;
}

/* Without what it reads the stream goes on. */
static void
inbox_report_level_reader(Inbox *inbox)
{
	const char *trouble = level_reader_trouble(inbox->level_reader);

	if (trouble[0] != '\0')
		log_throttled(&inbox->level_throttle, loop_now(inbox->loop),
					  LEVEL_WARNING, LOG_MODULE,
					  "could not read topic \"%s\", so its records are not "
					  "compared with the levels: %s",
					  inbox->config->levels_topic, trouble);
	else
		log_recovered(&inbox->level_throttle);
}

/*
 * A step follows each call that reads; if records are left, further ones do
 * first, for as long as the pause between two steps.
 */
static bool
inbox_reads_levels_on(const Inbox *inbox)
{
	return inbox->levels_call == LEVELS_READ &&
		   level_reader_is_behind(inbox->level_reader) &&
		   loop_now(inbox->loop) < inbox->levels_read_until;
}

static LevelsCall
inbox_next_levels_call(Inbox *inbox)
{
	uint32_t records;

	if (inbox_levels_topic(inbox) == NULL || inbox->levels_since == NULL ||
		(inbox->levels_call != LEVELS_STEP && !inbox_reads_levels_on(inbox)))
		return LEVELS_STEP;
	if (level_reader_is_closed(inbox->level_reader))
		return LEVELS_OFFSETS;
	if (!level_reader_is_open(inbox->level_reader))
		return LEVELS_STEP;
	if (inbox->levels_call == LEVELS_STEP)
		inbox->levels_read_until = loop_now(inbox->loop) +
								   inbox_levels_pace(inbox);
	records = level_reader_take(inbox->level_reader, &inbox->level_records);
	inbox_report_level_reader(inbox);
	return records > 0 ? LEVELS_READ : LEVELS_STEP;
}

void
inbox_step_levels(Inbox *inbox)
{
	inbox->levels_call = inbox_next_levels_call(inbox);
	Assert(inbox->levels_call == LEVELS_STEP ||
		   inbox_levels_topic(inbox) != NULL); /* nothing is read without */
	switch (inbox->levels_call)
	{
		case LEVELS_STEP:
			api_call_levels(inbox->conn, inbox_levels_topic(inbox),
							inbox->levels_since, INBOX_LEVELS_ROWS);
			break;
		case LEVELS_OFFSETS:
			api_call(inbox->conn, API_LEVEL_OFFSETS);
			break;
		case LEVELS_READ:
			api_call_levels_read(inbox->conn, inbox_levels_topic(inbox),
								 &inbox->level_records,
								 level_reader_is_behind(inbox->level_reader));
			break;
	}
}

void
inbox_forget_levels(Inbox *inbox)
{
	level_reader_close(inbox->level_reader);
	free(inbox->levels_since);
	inbox->levels_since = NULL;
}

static void
inbox_open_level_reader(Inbox *inbox, const PGresult *offsets)
{
	Buf error = {0};

	if (!level_reader_open(inbox->level_reader, inbox->config, &error))
		log_throttled(&inbox->level_throttle, loop_now(inbox->loop),
					  LEVEL_WARNING, LOG_MODULE, "%s", buf_str(&error));
	else
		for (int row = 0; row < PQntuples(offsets); row++)
			level_reader_begin(inbox->level_reader,
							   (int32_t) api_int(offsets, row, 0),
							   api_int(offsets, row, 1));
	buf_free(&error);
}

/*
 * Where the next step goes on, how many changes there were, whether some are
 * left, whether it was done.
 */
static void
inbox_take_levels_step(Inbox *inbox, const PGresult *result)
{
	int64_t		now = loop_now(inbox->loop);
	int64_t		pace = inbox_levels_pace(inbox);
	bool		good = PQntuples(result) == 1 && PQnfields(result) == 4;
	const char *since = good ? api_text(result, 0, 0) : NULL;
	bool		behind = !good || api_bool(result, 0, 2);
	bool		reads = level_reader_is_behind(inbox->level_reader);

	Assert(pace > 0 && inbox->state.call == INBOX_LEVELS);
	if (since == NULL)
		inbox_forget_levels(inbox);
	else
	{
		free(inbox->levels_since);
		inbox->levels_since = xstrdup(since);
	}
	if (!behind)
		inbox->levels_done_at = now;
	if (good && api_bool(result, 0, 3))
		inbox_on_levels(&inbox->state,
						inbox_levels_topic(inbox) != NULL ? pace : 0,
						!behind && !reads && api_int(result, 0, 1) == 0, now);
	else
		inbox_on_levels_failed(&inbox->state, now);
}

void
inbox_take_levels(Inbox *inbox, const PGresult *result)
{
	Assert(inbox->state.call == INBOX_LEVELS);
	if (inbox->levels_call == LEVELS_STEP)
	{
		inbox_take_levels_step(inbox, result);
		return;
	}
	if (inbox->levels_call == LEVELS_OFFSETS)
		inbox_open_level_reader(inbox, result);
	inbox_on_levels_read(&inbox->state, loop_now(inbox->loop));
}

/* What was read is read again. */
void
inbox_take_levels_error(Inbox *inbox)
{
	if (inbox->levels_call != LEVELS_STEP)
		level_reader_close(inbox->level_reader);
	inbox_on_levels_failed(&inbox->state, loop_now(inbox->loop));
}

/* A relay that does not lead, or has no stream, has nothing to do. */
void
inbox_measure_levels(Inbox *inbox)
{
	int64_t now = loop_now(inbox->loop);

	if (!inbox->state.leads || inbox_levels_topic(inbox) == NULL)
		inbox->levels_done_at = now;
	Assert(inbox->levels_done_at <= now);
	*metrics_cell(inbox->metrics, METRIC_LEVELS_BEHIND,
				  NULL) = (double) (now - inbox->levels_done_at) / SEC_US;
}
