/*
 * main.c - the command line
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "config.h"
#include "exit_code.h"
#include "relay.h"

static const char usage[] =
	"pgstock-relay publishes the events of pgstock's outbox to Kafka and\n"
	"applies messages from Kafka to stock.\n"
	"\n"
	"Usage:\n"
	"  pgstock-relay COMMAND [OPTION]...\n"
	"\n"
	"Commands:\n"
	"  run       run until SIGTERM\n"
	"  check     look whether run would work, and say what is missing\n"
	"  config    print a sample configuration; with --config, the one in\n"
	"            force, secrets masked\n"
	"  adopt     after a restore: show what would be published; with\n"
	"            --execute go on from there\n"
	"\n"
	"Options:\n"
	"  --config FILE        configuration file\n"
	"  --postgres CONNINFO  in place of [postgres] conninfo, without password\n"
	"  --kafka BROKERS      in place of [kafka] bootstrap.servers\n"
	"  --execute            for adopt\n"
	"  --version            print the version and end\n"
	"  --help               print this and end\n"
	"\n"
	"Signals: TERM drains and ends, a second TERM ends at once, HUP reloads the\n"
	"configuration, USR1 writes the state to the log.\n"
	"Exit codes: 0 clean, 1 runtime, 2 usage or configuration, 3 incompatible\n"
	"extension.\n";

typedef struct Arguments
{
	ConfigOverrides from;
	const char	   *command; /* NULL: none */
	bool			execute;
	bool			version;
	bool			help;
} Arguments;

/* getopt_long() tells what is wrong. */
static bool
parse_arguments(int argc, char **argv, Arguments *arguments)
{
	static const struct option known[] = {
		{"config", required_argument, NULL, 'c'},
		{"postgres", required_argument, NULL, 'p'},
		{"kafka", required_argument, NULL, 'k'},
		{"execute", no_argument, NULL, 'x'},
		{"version", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int found;

	while ((found = getopt_long(argc, argv, "", known, NULL)) != -1)
	{
		if (found == 'c')
			arguments->from.path = optarg;
		else if (found == 'p')
			arguments->from.postgres = optarg;
		else if (found == 'k')
			arguments->from.kafka = optarg;
		else if (found == 'x')
			arguments->execute = true;
		else if (found == 'v')
			arguments->version = true;
		else if (found == 'h')
			arguments->help = true;
		else
			return false;
	}
	if (optind < argc)
		arguments->command = argv[optind++];
	return optind == argc;
}

static ExitCode
command_config(const Arguments *arguments, const Config *config)
{
	if (arguments->from.path != NULL || arguments->from.postgres != NULL ||
		arguments->from.kafka != NULL)
		config_print(config, stdout);
	else
		config_print_sample(stdout);
	return EXIT_CLEAN;
}

static ExitCode
command_check(const Arguments *arguments __attribute__((unused)),
			  const Config	  *config)
{
	return check_run(config);
}

static ExitCode
command_adopt(const Arguments *arguments, const Config *config)
{
	return adopt_run(config, arguments->execute);
}

static const struct
{
	const char *name;
	ExitCode (*run)(const Arguments *arguments, const Config *config);
} commands[] = {
	{"check", command_check},
	{"config", command_config},
	{"adopt", command_adopt},
};

/* A command that looks at the configuration, does one thing and ends. */
static ExitCode
run_command(const Arguments *arguments, size_t index)
{
	Buf		 error = {0};
	Config	*config = NULL;
	ExitCode code = EXIT_USAGE;
	bool	 sample = commands[index].run == command_config &&
				  arguments->from.path == NULL &&
				  arguments->from.postgres == NULL &&
				  arguments->from.kafka == NULL;

	if (!sample)
		config = config_load(&arguments->from, &error);
	if (sample || config != NULL)
		code = commands[index].run(arguments, config);
	else
		fprintf(stderr, "pgstock-relay: %s\n", buf_str(&error));
	config_free(config);
	buf_free(&error);
	return code;
}

int
main(int argc, char **argv)
{
	Arguments arguments = {0};

	if (!parse_arguments(argc, argv, &arguments))
	{
		fputs("Try \"pgstock-relay --help\".\n", stderr);
		return EXIT_USAGE;
	}
	if (arguments.version)
	{
		puts("pgstock-relay " PGSTOCK_VERSION);
		return EXIT_CLEAN;
	}
	if (arguments.help)
	{
		fputs(usage, stdout);
		return EXIT_CLEAN;
	}
	if (arguments.command == NULL)
	{
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	if (strcmp(arguments.command, "run") == 0)
		return relay_run(&arguments.from);
	for (size_t i = 0; i < Lengthof(commands); i++)
		if (strcmp(arguments.command, commands[i].name) == 0)
			return run_command(&arguments, i);
	fprintf(stderr,
			"pgstock-relay: unknown command \"%s\"\n"
			"Try \"pgstock-relay --help\".\n",
			arguments.command);
	return EXIT_USAGE;
}
