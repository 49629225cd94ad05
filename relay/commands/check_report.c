/*
 * check_report.c - the lines that "check" prints
 *
 * One line for each thing that has to be right: "ok" or "FAIL", what it is, and
 * under a FAIL what to do.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <stdlib.h>

#include "common/safe_text.h"

void
check_pass(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	safe_vline(stdout, "ok    ", format, args);
	va_end(args);
}

void
check_fail(Check *check, const char *todo, const char *format, ...)
{
	va_list args;

	Assert(todo[0] != '\0');
	va_start(args, format);
	safe_vline(stdout, "FAIL  ", format, args);
	va_end(args);
	safe_line(stdout, "      %s", todo);
	if (check->code == EXIT_CLEAN)
		check->code = EXIT_RUNTIME;
}

PGresult *
check_call(Check *check, ApiCall call, const PgParam *params, const char *what,
		   const char *todo)
{
	PGresult *result = api_exec(check->pg, call, params);
	char	 *text = api_failure(&result);

	Assert((text == NULL) == (result != NULL));
	if (text != NULL)
		check_fail(check, todo, "%s: %s", what, text);
	free(text);
	return result;
}
