/*
 * main.c - the command line
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "api/route.h"
#include "common/arguments.h"
#include "common/safe_text.h"
#include "common/usage.h"
#include "daemon.h"

enum
{
	COMMAND_RUN,
	COMMAND_CONFIG,
	COMMAND_OPENAPI,
	COMMANDS, /* their number */
};

enum
{
	ARG_CONFIG,
	ARG_POSTGRES,
	ARG_LISTEN,
	ARG_HELP,
	ARG_VERSION,
	ARGS, /* their number */
};

#define BIT(argument) ARGUMENT_BIT(argument)

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

static const ArgumentCommand commands[COMMANDS] = {
	[COMMAND_RUN] = {"run",
					 "Commands",
					 "serve requests until SIGTERM",
					 "Serves the API. SIGHUP reads configuration and tokens "
					 "again; SIGTERM answers what has arrived, then ends.",
					 0,
					 0,
					 false,
					 {0},
					 0,
					 0},
	[COMMAND_CONFIG] = {"config",
						NULL,
						"print the configuration in force, or a sample",
						"Prints the configuration in force, secrets masked; "
						"without --config a sample.",
						0,
						0,
						false,
						{0},
						0,
						0},
	[COMMAND_OPENAPI] = {"openapi",
						 NULL,
						 "print the description of the API",
						 "Prints what GET /openapi.json returns: the API, as "
						 "OpenAPI 3.1 describes one.",
						 0,
						 0,
						 false,
						 {0},
						 0,
						 0},
};

static const ArgumentTable command_line = {
	.program = "pgstock-gateway",
	.commands = commands,
	.command_count = COMMANDS,
	.options = options,
	.option_count = ARGS,
	.common = BIT(ARG_CONFIG) | BIT(ARG_POSTGRES) | BIT(ARG_LISTEN) |
			  BIT(ARG_HELP) | BIT(ARG_VERSION),
	.asking = BIT(ARG_HELP) | BIT(ARG_VERSION),
};

static void
print_help(const Arguments *arguments)
{
	Buf text = {0};

	if (arguments->command != COMMANDS)
		usage_add_command(&command_line, arguments->command, &text);
	else
	{
		buf_add_str(&text, "pgstock-gateway serves pgstock's functions over "
						   "HTTP.\n\nUsage: pgstock-gateway COMMAND "
						   "[OPTION]...\n\n");
		usage_add_overview(&command_line, NULL, &text);
		buf_add_str(&text, "\nOptions:\n");
		usage_add_options(&command_line, command_line.common, &text);
		buf_add_str(&text, "\nExit codes: 0 success, 1 runtime failure, 2 "
						   "command line or\nconfiguration.\n");
	}
	fputs(buf_str(&text), stdout);
	buf_free(&text);
}

static void
print_version(void)
{
	int libpq = PQlibVersion();

	printf("pgstock-gateway " PGSTOCK_VERSION " (libpq %d.%d)\n", libpq / 10000,
		   libpq % 10000);
}

static ExitCode
print_config(const ConfigOrigin *from)
{
	Buf		error = {0};
	Config *config = NULL;

	if (from->path != NULL || from->postgres != NULL || from->listen != NULL)
		config = config_load(from, &error);
	if (error.len > 0)
		safe_line(stderr, "pgstock-gateway: %s", buf_str(&error));
	else
		config_print(config, stdout);
	config_free(config);
	buf_free(&error);
	return config == NULL && from->path != NULL ? EXIT_USAGE : EXIT_CLEAN;
}

static ExitCode
run_command(const Arguments *arguments)
{
	ConfigOrigin from = {
		.path = arguments->values[ARG_CONFIG],
		.postgres = arguments->values[ARG_POSTGRES],
		.listen = arguments->values[ARG_LISTEN],
	};
	Buf json = {0};

	if (arguments->command == COMMAND_RUN)
		return daemon_run(&from);
	if (arguments->command == COMMAND_CONFIG)
		return print_config(&from);
	openapi_render(&json);
	fputs(buf_str(&json), stdout);
	buf_free(&json);
	return EXIT_CLEAN;
}

/* The configuration holds secrets: none shall be in a core file, and no other
 * process of this user may look. */
static void
hide_memory(void)
{
#ifndef __SANITIZE_ADDRESS__
	(void) prctl(PR_SET_DUMPABLE, 0);
#endif
	(void) setrlimit(RLIMIT_CORE, &(struct rlimit){0});
}

int
main(int argc, char **argv)
{
	Arguments arguments;
	Buf		  error = {0};
	ExitCode  code = EXIT_CLEAN;

	hide_memory();
	if (!arguments_parse(&command_line, argc, argv, &arguments, &error))
	{
		safe_line(stderr, "pgstock-gateway: %s", buf_str(&error));
		fputs("See \"pgstock-gateway --help\".\n", stderr);
		code = EXIT_USAGE;
	}
	else if (arguments.values[ARG_VERSION] != NULL)
		print_version();
	else if (arguments.values[ARG_HELP] != NULL)
		print_help(&arguments);
	else
		code = run_command(&arguments);
	buf_free(&error);
	return code;
}
