/*
 * discard.c - gives up events that the broker never takes
 *
 * Each is a transaction of its own; one that fails does not hinder the next.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <stdio.h>

#include "commands/command.h"
#include "commands/commands.h"
#include "common/progress.h"

static bool
discard_event(Command *command, const char *event_id, const char *reason)
{
	const PgParam params[] = {{.data = event_id}, {.data = reason}};
	PGresult	 *result = api_exec(command->pg, API_DISCARD_HELD, params);

	result = command_check_result(result, "discard");
	if (result == NULL)
		command->code = EXIT_RUNTIME;
	else
	{
		progress_hide();
		printf("%s is discarded\n", event_id);
	}
	PQclear(result);
	return PQstatus(command->pg) == CONNECTION_OK;
}

ExitCode
cmd_discard(const Arguments *arguments, const Config *config)
{
	Command	 command;
	ExitCode code;

	/* required, as the table of commands says */
	Assert(arguments->operand_count > 0);
	Assert(arguments->values[ARG_REASON] != NULL);
	if (command_open(&command, config))
	{
		progress_begin("events");
		for (int i = 0; i < arguments->operand_count; i++)
		{
			if (!discard_event(&command, arguments->operands[i],
							   arguments->values[ARG_REASON]))
				break;
			progress_update(i + 1,
							command_share(0, i + 1, arguments->operand_count));
		}
		progress_end();
	}
	code = command.code;
	command_close(&command);
	return code;
}
