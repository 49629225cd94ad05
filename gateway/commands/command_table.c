/*
 * command_table.c - the table of the gateway's commands and options
 *
 * The only place that lists them: parser, help, manual page and completion are
 * made of it, and dev/check-commands compares the documents with it.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/command_line.h"

#define BIT(argument) ARGUMENT_BIT(argument)
#define ASKING		  (BIT(ARG_HELP) | BIT(ARG_VERSION))

static const ArgumentOption options[ARGS] = {
	[ARG_CONFIG] = {"config",
					{.type = ARGUMENT_FILE, .label = "FILE"},
					NULL,
					"configuration file",
					'c'},
	[ARG_POSTGRES] = {"postgres",
					  {.type = ARGUMENT_TEXT, .label = "CONNINFO"},
					  NULL,
					  "in place of conninfo in [postgres], without a password",
					  'd'},
	[ARG_LISTEN] = {"listen",
					{.type = ARGUMENT_TEXT, .label = "ADDRESS"},
					NULL,
					"in place of listen in [gateway]",
					'l'},
	[ARG_HELP] = {"help",
				  {.type = ARGUMENT_FLAG},
				  NULL,
				  "print this help and exit",
				  'h'},
	[ARG_VERSION] = {"version",
					 {.type = ARGUMENT_FLAG},
					 NULL,
					 "print the versions of the program and its library and "
					 "exit",
					 'V'},
};
_Static_assert(ARGS <= ARGUMENTS_MAX, "a bit for each option");

static const ArgumentCommand commands[COMMANDS] = {
	[COMMAND_RUN] =
		{
			.name = "run",
			.heading = "The daemon",
			.summary = "serve requests until SIGTERM",
			.help = "Serves the API. SIGHUP reads configuration and tokens "
					"again; SIGTERM answers requests already received, then "
					"exits.",
		},
	[COMMAND_CONFIG] =
		{
			.name = "config",
			.summary = "print a sample configuration, or the one in force",
			.help = "Prints a sample configuration with every key and its "
					"default; with --config, --postgres or --listen, the "
					"configuration in force, with secrets masked.",
		},
	[COMMAND_OPENAPI] =
		{
			.name = "openapi",
			.heading = "The API",
			.summary = "print the description of the API",
			.help = "Prints what GET /openapi.json returns: the API, as "
					"OpenAPI 3.1 describes one.",
		},
	[COMMAND_HELP] =
		{
			.name = "help",
			.heading = "Help",
			.summary = "show the help of a command",
			.help = "Shows the help of a command, or the list of commands.",
			.operand = {.type = ARGUMENT_TEXT, .label = "COMMAND"},
			.operands_max = 1,
		},
};

const ArgumentTable command_line = {
	.program = "pgstock-gateway",
	.about = "pgstock-gateway serves pgstock's functions over HTTP.",
	.notes = "Exit codes: 0 success, 1 runtime failure, 2 command line or "
			 "configuration.",
	.commands = commands,
	.command_count = COMMANDS,
	.options = options,
	.option_count = ARGS,
	.common = BIT(ARG_CONFIG) | BIT(ARG_POSTGRES) | BIT(ARG_LISTEN) | ASKING,
	.asking = ASKING,
};
