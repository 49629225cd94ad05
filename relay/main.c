/*
 * main.c - the command line
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>

#include "commands/commands.h"
#include "common/program.h"
#include "common/progress.h"
#include "common/safe_text.h"
#include "config/load.h"
#include "daemon.h"
#include "db/api.h"

static ExitCode
main_config(const Arguments *arguments UNUSED, const Config *config)
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
	[COMMAND_CONFIG] = main_config,
	[COMMAND_ADOPT] = cmd_adopt,
	[COMMAND_STATUS] = cmd_status,
	[COMMAND_REPLAY] = cmd_replay,
	[COMMAND_SNAPSHOT] = cmd_snapshot,
	[COMMAND_REWIND] = cmd_rewind,
	[COMMAND_REDRIVE] = cmd_redrive,
	[COMMAND_AUDIT] = cmd_audit,
	[COMMAND_DISCARD] = cmd_discard,
	[COMMAND_ORDER] = cmd_order,
	[COMMAND_REPORT] = cmd_report,
	[COMMAND_FAILED_LIST] = cmd_failed_list,
	[COMMAND_FAILED_SHOW] = cmd_failed_show,
	[COMMAND_FAILED_RETRY] = cmd_failed_act,
	[COMMAND_FAILED_DISCARD] = cmd_failed_act,
	[COMMAND_FAILED_HANDLED] = cmd_failed_act,
	[COMMAND_FAILED_EXPORT] = cmd_failed_export,
};

static void
main_print_version(void)
{
	int libpq = PQlibVersion();

	printf("pgstock-relay " PGSTOCK_VERSION
		   " (relay_api %d, librdkafka %s, libpq %d.%d)\n",
		   API_VERSION, rd_kafka_version_str(), libpq / 10000, libpq % 10000);
}

static void
main_report_waiting(int64_t us)
{
	progress_wait("PostgreSQL", us);
}

static ExitCode
main_run(const Arguments *arguments)
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

	if (arguments->command == COMMAND_RUN)
		return daemon_run(&from);
	api_set_waiting(main_report_waiting);
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

static const Program program = {
	.table = &command_line,
	.help_command = COMMAND_HELP,
	.help_option = ARG_HELP,
	.version_option = ARG_VERSION,
	.add_help = command_line_help,
	.print_version = main_print_version,
	.run = main_run,
};

int
main(int argc, char **argv)
{
	return program_main(&program, argc, argv);
}
