/*
 * main.c - the command line
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <libpq-fe.h>
#include <stdio.h>

#include "api/route.h"
#include "commands/command_line.h"
#include "common/program.h"
#include "common/safe_text.h"
#include "daemon.h"

static void
main_print_version(void)
{
	int libpq = PQlibVersion();

	printf("pgstock-gateway " PGSTOCK_VERSION " (libpq %d.%d)\n", libpq / 10000,
		   libpq % 10000);
}

static ExitCode
main_print_config(const ConfigOrigin *from)
{
	bool none = from->path == NULL && from->postgres == NULL &&
				from->listen == NULL;
	Buf		error = {0};
	Config *config = none ? NULL : config_load(from, &error);
	bool	good = none || config != NULL;

	Assert(good == (error.len == 0));
	if (good)
		config_print(config, stdout);
	else
		safe_line(stderr, "pgstock-gateway: %s", buf_str(&error));
	config_free(config);
	buf_free(&error);
	return good ? EXIT_CLEAN : EXIT_USAGE;
}

static ExitCode
main_print_openapi(void)
{
	Buf json = {0};

	openapi_render(0, &json);
	fputs(buf_str(&json), stdout);
	buf_free(&json);
	return EXIT_CLEAN;
}

static ExitCode
main_run(const Arguments *arguments)
{
	ConfigOrigin from = {
		.path = arguments->values[ARG_CONFIG],
		.postgres = arguments->values[ARG_POSTGRES],
		.listen = arguments->values[ARG_LISTEN],
	};

	switch ((CommandId) arguments->command)
	{
		case COMMAND_RUN:
			return daemon_run(&from);
		case COMMAND_CONFIG:
			return main_print_config(&from);
		case COMMAND_OPENAPI:
			return main_print_openapi();
		case COMMAND_HELP:
		case COMMANDS:
			break;
	}
	Assert(!"no such command");
	return EXIT_USAGE;
}

static const Program program = {
	.table = &command_line,
	.help_command = COMMAND_HELP,
	.help_option = ARG_HELP,
	.version_option = ARG_VERSION,
	.print_version = main_print_version,
	.run = main_run,
};

int
main(int argc, char **argv)
{
	return program_main(&program, argc, argv);
}
