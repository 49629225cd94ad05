/*
 * status.c - the leading relay, events pending, messages failed and consumed
 *
 * Read from the database, and from the broker what the database does not have:
 * no relay need run.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <stdio.h>

#include "commands/commands.h"
#include "commands/status_parts.h"
#include "common/terminal.h"

static void
status_print(const Status *status, bool json)
{
	StatusLook look = {.colors = terminal_has_colors(stdout)};
	Buf		   text = {0};

	if (json)
		status_add_json(status, &text);
	else
		status_add_screen(status, NULL, &look, &text);
	fputs(buf_str(&text), stdout);
	buf_free(&text);
}

ExitCode
cmd_status(const Arguments *arguments, const Config *config)
{
	StatusSource source = {
		.command.config = config,
		.json = arguments->values[ARG_JSON] != NULL,
	};
	const char *watch = arguments->values[ARG_WATCH];
	int64_t		seconds;
	Status		status;
	ExitCode	code;

	if (watch != NULL)
	{
		/* as the table of options says */
		if (!parse_number(watch, &seconds))
			Assert(!"a number");
		code = status_watch(&source, seconds);
	}
	else
	{
		if (status_read(&source, &status))
			status_print(&status, source.json);
		code = source.command.code;
		status_free(&status);
	}
	status_close(&source);
	return code;
}
