/*
 * main.c - the command line
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <fcntl.h>
#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "commands/commands.h"
#include "common/progress.h"
#include "common/safe_text.h"
#include "config/load.h"
#include "daemon.h"
#include "db/api.h"

static ExitCode
command_config(const Arguments *arguments UNUSED, const Config *config)
{
	if (config != NULL)
		config_print(config, stdout);
	else
		config_print_sample(stdout);
	return EXIT_CLEAN;
}

/* Commands that read the configuration, do one thing and end. */
static ExitCode (*const run[COMMANDS])(const Arguments *, const Config *) = {
	[COMMAND_CHECK] = cmd_check,
	[COMMAND_CONFIG] = command_config,
	[COMMAND_ADOPT] = cmd_adopt,
	[COMMAND_STATUS] = cmd_status,
	[COMMAND_REPLAY] = cmd_replay,
	[COMMAND_REWIND] = cmd_rewind,
	[COMMAND_AUDIT] = cmd_audit,
	[COMMAND_DISCARD] = cmd_discard,
	[COMMAND_ORDER] = cmd_order,
	[COMMAND_FAILED_LIST] = cmd_failed_list,
	[COMMAND_FAILED_SHOW] = cmd_failed_show,
	[COMMAND_FAILED_RETRY] = cmd_failed_act,
	[COMMAND_FAILED_DISCARD] = cmd_failed_act,
	[COMMAND_FAILED_HANDLED] = cmd_failed_act,
	[COMMAND_FAILED_EXPORT] = cmd_failed_export,
};

static void
print_version(void)
{
	int libpq = PQlibVersion();

	printf("pgstock-relay " PGSTOCK_VERSION
		   " (relay_api %d, librdkafka %s, libpq %d.%d)\n",
		   API_VERSION, rd_kafka_version_str(), libpq / 10000, libpq % 10000);
}

static void
print_error(const Arguments *arguments, Buf *error)
{
	Buf usage = {0};

	command_line_usage(arguments, &usage);
	safe_line(stderr, "pgstock-relay: %s", buf_str(error));
	fprintf(stderr, "\n%s", buf_str(&usage));
	buf_free(&usage);
}

/* "help COMMAND", and "COMMAND --help" */
static ExitCode
print_help(const Arguments *arguments)
{
	Buf		 text = {0};
	Buf		 error = {0};
	ExitCode code = EXIT_CLEAN;

	if (arguments->command != COMMAND_HELP || arguments->values[ARG_HELP])
		command_line_help(arguments, &text);
	else if (!command_line_help_with(arguments, &text, &error))
	{
		print_error(&(Arguments){.command = COMMANDS}, &error);
		code = EXIT_USAGE;
	}
	fputs(buf_str(&text), stdout);
	buf_free(&text);
	buf_free(&error);
	return code;
}

static void
report_waiting(int64_t us)
{
	progress_wait("PostgreSQL", us);
}

static ExitCode
run_command(const Arguments *arguments)
{
	ConfigOverrides from = {
		.path = arguments->values[ARG_CONFIG],
		.postgres = arguments->values[ARG_POSTGRES],
		.kafka = arguments->values[ARG_KAFKA],
		.offline = command_line_is_offline(arguments),
	};
	bool none = from.path == NULL && from.postgres == NULL &&
				from.kafka == NULL;
	Buf		 error = {0};
	Config	*config = NULL;
	ExitCode code = EXIT_USAGE;

	if (arguments->command == COMMAND_HELP)
		return print_help(arguments);
	if (arguments->command == COMMAND_RUN)
		return daemon_run(&from);
	api_set_waiting(report_waiting);
	Assert(arguments->command < COMMANDS && run[arguments->command] != NULL);
	if (!none || arguments->command != COMMAND_CONFIG)
		config = config_load(&from, &error);
	if (error.len == 0)
	{
		Assert(config != NULL || arguments->command == COMMAND_CONFIG);
		code = run[arguments->command](arguments, config);
	}
	else
		safe_line(stderr, "pgstock-relay: %s", buf_str(&error));
	progress_hide();
	config_free(config);
	buf_free(&error);
	return code;
}

/*
 * The configuration holds up to three secrets, libpq and librdkafka copies of
 * them: none shall be in a core file, and no other process of this user may
 * look.  (AddressSanitizer looks for leaks from another process.)
 */
static void
hide_memory(void)
{
#ifndef __SANITIZE_ADDRESS__
	(void) prctl(PR_SET_DUMPABLE, 0);
#endif
	(void) setrlimit(RLIMIT_CORE, &(struct rlimit){0});
}

/* A stream that is closed leaves its number to the first socket, and what is
 * written to the stream would go to a server. */
static void
open_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		(void) close(fd);
}

/* A full disk may be noticed only now: what was to be read is not there. */
static ExitCode
end_output(ExitCode code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	safe_line(stderr, "pgstock-relay: could not write to standard output");
	return code == EXIT_CLEAN ? EXIT_RUNTIME : code;
}

int
main(int argc, char **argv)
{
	Arguments arguments;
	Buf		  error = {0};
	ExitCode  code = EXIT_CLEAN;

	open_streams();
	hide_memory();
	if (!arguments_parse(&command_line, argc, argv, &arguments, &error))
	{
		print_error(&arguments, &error);
		code = EXIT_USAGE;
	}
	else if (arguments.values[ARG_VERSION] != NULL)
		print_version();
	else if (arguments.values[ARG_HELP] != NULL)
		code = print_help(&arguments);
	else
		code = run_command(&arguments);
	buf_free(&error);
	return end_output(code);
}
