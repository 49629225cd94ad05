/*
 * check_report.c - what "check" prints
 *
 * One line for each thing that is as it has to be; otherwise what is wrong,
 * what to do and why it matters.  With --json one object at the end.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <ctype.h>
#include <stdlib.h>

#include "common/json.h"
#include "common/progress.h"
#include "common/safe_text.h"
#include "common/terminal.h"

static const char *const severities[CHECK_SEVERITIES] = {
	[CHECK_OK] = "ok",
	[CHECK_NOTE] = "note",
	[CHECK_WARNING] = "warning",
	[CHECK_ERROR] = "error",
};

static const char *const labels[CHECK_SEVERITIES] = {
	[CHECK_OK] = "ok    ",
	[CHECK_NOTE] = "note  ",
	[CHECK_WARNING] = "warn  ",
	[CHECK_ERROR] = "FAIL  ",
};

static const TerminalStyle styles[CHECK_SEVERITIES] = {
	[CHECK_OK] = STYLE_GOOD,
	[CHECK_NOTE] = STYLE_BOLD,
	[CHECK_WARNING] = STYLE_WARNING,
	[CHECK_ERROR] = STYLE_BAD,
};

/* The label alone is colored, and only on a terminal. */
static void
check_print(const CheckRow *row, CheckSeverity severity, const char *what,
			const char *todo)
{
	bool colors = terminal_has_colors(stdout);

	Assert((severity == CHECK_OK) == (todo[0] == '\0'));
	progress_hide();
	printf("%s%s%s", terminal_begin(styles[severity], colors), labels[severity],
		   terminal_end(styles[severity], colors));
	safe_line(stdout, "%s", what);
	if (severity == CHECK_OK)
		return;
	safe_line(stdout, "      %s", todo);
	safe_line(stdout, "      %s [%s]", row->why, row->name);
}

static void
check_add_json(Buf *to, const CheckRow *row, CheckSeverity severity,
			   const char *what, const char *todo)
{
	buf_printf(to, "%s{\"check\":\"%s\",\"severity\":\"%s\",\"what\":",
			   to->len > 0 ? "," : "", row->name, severities[severity]);
	json_add_string(to, what);
	if (severity != CHECK_OK)
	{
		buf_add_str(to, ",\"why\":");
		json_add_string(to, row->why);
		buf_add_str(to, ",\"do\":");
		json_add_string(to, todo);
	}
	buf_add_str(to, "}");
}

static void check_report(Check *check, CheckSeverity severity,
						 const char *format, va_list args) PRINTF_LIKE(3, 0);

/* The one place that all findings pass. */
static void
check_report(Check *check, CheckSeverity severity, const char *format,
			 va_list args)
{
	const CheckRow *row = check->row;
	Buf				what = {0};

	Assert(row != NULL && severity < CHECK_SEVERITIES);
	Assert((severity == CHECK_OK) == (check->todo.len == 0));
	buf_vline(&what, format, args);
	if (check->json)
		check_add_json(&check->findings, row, severity, buf_str(&what),
					   buf_str(&check->todo));
	else
		check_print(row, severity, buf_str(&what), buf_str(&check->todo));
	if (severity == CHECK_ERROR && check->code == EXIT_CLEAN)
		check->code = row->code;
	check->count[severity]++;
	buf_clear(&check->todo);
	buf_free(&what);
}

void
check_pass(Check *check, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	check_report(check, CHECK_OK, format, args);
	va_end(args);
}

void
check_advise(Check *check, const char *format, ...)
{
	va_list args;

	Assert(check->row != NULL);
	va_start(args, format);
	buf_vprintf(&check->todo, format, args);
	va_end(args);
}

void
check_advise_phrase(Check *check, const char *phrase, const char *otherwise)
{
	if (phrase[0] == '\0')
		check_advise(check, "%s", otherwise);
	else
		check_advise(check, "%c%s.", toupper((unsigned char) phrase[0]),
					 phrase + 1);
}

void
check_find(Check *check, const char *format, ...)
{
	va_list args;

	Assert(check->row->severity > CHECK_OK);
	va_start(args, format);
	check_report(check, check->row->severity, format, args);
	va_end(args);
}

void
check_report_end(Check *check)
{
	Assert(check->todo.len == 0); /* what was advised was reported */
	Assert(check->code == EXIT_CLEAN || check->count[CHECK_ERROR] > 0);
	if (check->json)
		printf("{\"status\":\"%s\",\"exit_code\":%d,\"findings\":[%s]}\n",
			   check->code != EXIT_CLEAN		 ? "error"
			   : check->count[CHECK_WARNING] > 0 ? "warning"
												 : "ok",
			   (int) check->code, buf_str(&check->findings));
	buf_free(&check->findings);
	buf_free(&check->todo);
}

PGresult *
check_call(Check *check, ApiCall call, const PgParam *params, const char *what,
		   const char *todo)
{
	PGresult *result = api_exec(check->pg, call, params);
	char	 *text = api_failure(&result);

	Assert((text == NULL) == (result != NULL));
	if (text != NULL)
	{
		check_advise(check, "%s", todo);
		check_find(check, "%s: %s", what, text);
	}
	free(text);
	return result;
}

void
check_run(Check *check, const CheckGroup *group)
{
	for (size_t i = 0; i < group->count; i++)
	{
		const CheckRow *row = &group->rows[i];

		if ((check->have & row->needs) != row->needs)
			continue;
		check->row = row;
		row->run(check);
		Assert(check->todo.len == 0);
	}
	check->row = NULL;
}
