/*
 * adopt.c - after a restore, and in a copy: publish from this database
 *
 * Without --execute it only prints what would be published.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <stdio.h>

#include "commands/check_parts.h"
#include "commands/commands.h"
#include "common/safe_text.h"

ExitCode
cmd_adopt(const Arguments *arguments, const Config *config)
{
	bool		  execute = arguments->values[ARG_EXECUTE] != NULL;
	const PgParam params[] = {{.data = execute ? "t" : "f"},
							  {.data = arguments->values[ARG_AS]}};
	Check		  check = {.config = config};
	PGresult	 *result = NULL;

	check_run(&check, &check_session_group);
	if ((check.have & HAVE_EXTENSION) != 0)
	{
		result = command_check_result(api_exec(check.pg, API_ADOPT, params),
									  "adopt");
		check.code = result != NULL ? EXIT_CLEAN : EXIT_RUNTIME;
	}
	check_report_end(&check);
	for (int row = 0; result != NULL && row < PQntuples(result); row++)
		safe_line(stdout, "%s: %s", PQgetvalue(result, row, 0),
				  PQgetvalue(result, row, 1));
	Assert((result != NULL) == (check.code == EXIT_CLEAN));
	if (result != NULL)
		puts(execute ? "adopted: the relay continues from here"
					 : "nothing was changed: --execute makes it so");
	PQclear(result);
	PQfinish(check.pg);
	return check.code;
}
