/*
 * report.c - orders, refusals, failures and latencies of a week, as JSON
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "commands/command.h"
#include "commands/commands.h"

/* path: NULL for standard output */
static ExitCode
report_write(const char *path, const char *text)
{
	FILE *file = path != NULL ? fopen(path, "w") : stdout;
	bool  written = file != NULL && fprintf(file, "%s\n", text) > 0 &&
				   fflush(file) == 0;
	int error = errno;

	if (file != NULL && file != stdout && fclose(file) != 0 && written)
	{
		error = errno;
		written = false;
	}
	if (!written)
		command_report("could not write to %s: %s",
					   path != NULL ? path : "standard output",
					   strerror(error));
	return written ? EXIT_CLEAN : EXIT_RUNTIME;
}

ExitCode
cmd_report(const Arguments *arguments, const Config *config)
{
	const PgParam params[] = {{.data = arguments->values[ARG_REPORT_SINCE]},
							  {.data = arguments->values[ARG_REPORT_UNTIL]}};
	Command		  command;
	PGresult	 *report;
	ExitCode	  code;

	if (command_open(&command, config))
	{
		report = command_check_result(api_exec(command.pg, API_REPORT, params),
									  "report");
		command.code = EXIT_RUNTIME;
		if (report != NULL)
		{
			Assert(PQntuples(report) == 1 && PQnfields(report) == 1);
			command.code = report_write(arguments->values[ARG_OUTPUT],
										PQgetvalue(report, 0, 0));
		}
		PQclear(report);
	}
	code = command.code;
	command_close(&command);
	return code;
}
