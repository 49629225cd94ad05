/*
 * replay.c - published events, once more through the outbox
 *
 * A transaction for each page: a page that fails leaves the earlier ones, and
 * the error names the seq to continue with.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/command.h"
#include "commands/commands.h"
#include "common/progress.h"
#include "db/api_command.h"

#define PAGE_ROWS 5000

typedef struct Replay
{
	ApiReplay filter;
	bool	  execute;
	int64_t	  events;
	int64_t	  first_seq;
	int64_t	  last_seq;
	char	 *first_at; /* owned */
	char	 *last_at;
} Replay;

/* Keeps the earlier, or the later, of two moments as UTC text. */
static void
replay_extend(char **kept, const char *text, bool later)
{
	int order = *kept != NULL ? strcmp(text, *kept) : 0;

	if (*kept != NULL && (later ? order <= 0 : order >= 0))
		return;
	free(*kept);
	*kept = xstrdup(text);
}

/* By time the end is not known. */
static double
replay_share(const Replay *replay)
{
	return replay->filter.to_time != NULL
			   ? PROGRESS_UNKNOWN
			   : command_share(replay->first_seq, replay->last_seq,
							   replay->filter.to_seq);
}

static bool
replay_page(Command *command, Replay *replay, int64_t *events)
{
	PGresult *page = command_check_result(api_exec_replay(command->pg,
														  &replay->filter,
														  replay->last_seq,
														  PAGE_ROWS,
														  replay->execute),
										  "replay");

	if (page == NULL)
	{
		if (replay->execute && replay->events > 0)
			command_report("%" PRId64
						   " events are replayed already; continue with "
						   "--from %" PRId64,
						   replay->events, replay->last_seq + 1);
		return false;
	}
	*events = api_int(page, 0, 0);
	Assert(*events >= 0);
	if (*events > 0)
	{
		if (replay->events == 0)
			replay->first_seq = api_int(page, 0, 1);
		Assert(api_int(page, 0, 2) > replay->last_seq);
		replay->last_seq = api_int(page, 0, 2);
		Assert(replay->first_seq <= replay->last_seq);
		replay_extend(&replay->first_at, PQgetvalue(page, 0, 3), false);
		replay_extend(&replay->last_at, PQgetvalue(page, 0, 4), true);
		replay->events += *events;
		progress_update(replay->events, replay_share(replay));
	}
	PQclear(page);
	return true;
}

/* The outbox may begin later than --from. */
static bool
replay_find_range(Command *command, Replay *replay)
{
	PGresult *range = command_check_result(api_exec(command->pg,
													API_OUTBOX_RANGE, NULL),
										   "outbox");
	bool	  all;

	if (range == NULL)
		return false;
	all = api_text(range, 0, 0) != NULL &&
		  api_int(range, 0, 0) <= Max(replay->filter.from_seq, 1);
	if (replay->filter.to_seq < 0)
		replay->filter.to_seq = api_int(range, 0, 1);
	if (api_text(range, 0, 0) == NULL)
		command_report("the outbox is empty: see [outbox] retention");
	else if (!all)
		command_report("the outbox begins at seq %s of %s: earlier events are "
					   "past [outbox] retention",
					   PQgetvalue(range, 0, 0), PQgetvalue(range, 0, 2));
	PQclear(range);
	return true;
}

static ExitCode
replay_all(Command *command, Replay *replay)
{
	int64_t events = 1;

	if (!replay_find_range(command, replay))
		return EXIT_RUNTIME;
	progress_begin(replay->execute ? "events replayed" : "events found");
	while (events > 0)
		if (!replay_page(command, replay, &events))
			return EXIT_RUNTIME;
	progress_end();
	printf("%s %" PRId64 " events",
		   replay->execute ? "replayed" : "would replay", replay->events);
	if (replay->events > 0)
		printf(", seq %" PRId64 " to %" PRId64 ", of %s to %s",
			   replay->first_seq, replay->last_seq, replay->first_at,
			   replay->last_at);
	putchar('\n');
	return EXIT_CLEAN;
}

static bool
replay_set_filter(const Arguments *arguments, ApiReplay *filter)
{
	Point from = command_point(arguments->values[ARG_REPLAY_FROM]);
	Point to = command_point(arguments->values[ARG_REPLAY_TO]);

	*filter = (ApiReplay){
		.from_seq = from.number,
		.to_seq = to.number,
		.from_time = from.moment_us >= 0 ? from.text : NULL,
		.to_time = to.moment_us >= 0 ? to.text : NULL,
		.topic = arguments->values[ARG_REPLAY_TOPIC],
		.reason = arguments->values[ARG_REASON],
	};
	if ((from.number >= 0 && to.number >= 0 && from.number > to.number) ||
		(from.moment_us >= 0 && to.moment_us >= 0 &&
		 from.moment_us > to.moment_us))
	{
		command_report("--to lies before --from");
		return false;
	}
	return true;
}

ExitCode
cmd_replay(const Arguments *arguments, const Config *config)
{
	Replay	 replay = {.execute = arguments->values[ARG_DRY_RUN] == NULL};
	Command	 command;
	ExitCode code;

	if (!replay_set_filter(arguments, &replay.filter))
		return command_print_usage(arguments);
	if (command_open(&command, config))
		command.code = replay_all(&command, &replay);
	code = command.code;
	command_close(&command);
	free(replay.first_at);
	free(replay.last_at);
	return code;
}
