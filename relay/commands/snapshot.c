/*
 * snapshot.c - all levels, for the level stream
 *
 * A transaction for each page.  What a snapshot that fails has written is no
 * less true, so the next one begins anew.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands/command.h"
#include "commands/commands.h"
#include "common/progress.h"
#include "db/api_command.h"

#define PAGE_ROWS 5000

static ExitCode
snapshot_all(Command *command, const char *topic)
{
	char   *product = xstrdup("");
	char   *location = xstrdup("");
	int64_t levels = 0;
	int64_t n = PAGE_ROWS;

	progress_begin("levels written");
	while (n == PAGE_ROWS)
	{
		PGresult *page = command_check_result(api_exec_snapshot(command->pg,
																topic, product,
																location,
																PAGE_ROWS),
											  "snapshot");

		if (page == NULL)
			break;
		n = api_int(page, 0, 0);
		levels += n;
		free(product);
		free(location);
		product = xstrdup(PQgetvalue(page, 0, 1));
		location = xstrdup(PQgetvalue(page, 0, 2));
		PQclear(page);
		progress_update(levels, PROGRESS_UNKNOWN);
	}
	progress_end();
	free(product);
	free(location);
	if (n == PAGE_ROWS)
		return EXIT_RUNTIME; /* the last page was none of a few */
	printf("wrote %" PRId64 " levels to the outbox, for topic %s\n", levels,
		   topic);
	return EXIT_CLEAN;
}

ExitCode
cmd_snapshot(const Arguments *arguments, const Config *config)
{
	const char *topic = arguments->values[ARG_SNAPSHOT_TOPIC];
	Command		command;
	ExitCode	code;

	if (topic == NULL)
		topic = config->levels_topic[0] != '\0' ? config->levels_topic
												: TOPIC_LEVELS;
	if (command_open(&command, config))
		command.code = snapshot_all(&command, topic);
	code = command.code;
	command_close(&command);
	return code;
}
