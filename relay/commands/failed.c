/*
 * failed.c - failed list, show, retry, discard, handled, export
 *
 * Rows are read in pages, so that a million of them need no more memory than a
 * few.  Each action is a transaction of its own: one that fails does not keep
 * the next from being carried out.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands/command.h"
#include "commands/commands.h"
#include "common/csv.h"
#include "common/progress.h"
#include "common/safe_text.h"
#include "db/api_command.h"
#include "extension/protocol/failed_state.h"

#define PAGE_ROWS 1000

/* In the order of FailedColumn. */
static const char *const column_names[FAILED_COLUMNS] = {
	"id",		"topic",		 "partition",  "offset",		  "event_id",
	"key",		"order_id",		 "state",	   "class",			  "sqlstate",
	"attempts", "next_retry_at", "error",	   "first_failed_at", "archived_at",
	"handled",	"handled_at",	 "handled_by", "trace_id",		  "headers",
	"payload",	"failures",
};

/* False: no more rows; a failure was reported. */
typedef bool (*FailedHandler)(Command *command, const Arguments *arguments,
							  const PGresult *page, int row);

/* ---- filter ------------------------------------------------------------ */

static ApiFailed
failed_make_filter(const Arguments *arguments)
{
	return (ApiFailed){
		.id = -1,
		.state = arguments->values[ARG_STATE],
		.topic = arguments->values[ARG_FAILED_TOPIC],
		.since = arguments->values[ARG_SINCE],
		.sqlstate = arguments->values[ARG_SQLSTATE],
		.order = arguments->values[ARG_ORDER],
	};
}

/* An operand that the parser has accepted. */
static int64_t
failed_id(const char *text)
{
	int64_t id;

	if (!parse_number(text, &id))
		Assert(!"a number");
	return id;
}

/*
 * How many rows match; 0, which stands for unknown, where only progress would
 * need it and none is shown.
 */
static int64_t
failed_count(Command *command, const ApiFailed *filter)
{
	PGresult *result;
	int64_t	  count;

	if (!progress_is_shown())
		return 0;
	result = command_check_result(api_exec_failed_count(command->pg, filter),
								  "failed");
	count = result != NULL ? api_int(result, 0, 0) : 0;
	PQclear(result);
	return count;
}

static double
failed_share(int64_t done, int64_t total)
{
	return total > 0 ? command_share(0, done, total) : PROGRESS_UNKNOWN;
}

/* The number of rows; -1 if that failed, which was reported. */
static int64_t
failed_for_each(Command *command, const Arguments *arguments,
				const ApiFailed *filter, const char *what,
				FailedHandler handler)
{
	int64_t total = failed_count(command, filter);
	int64_t count = 0;
	int64_t after = 0;
	bool	good = true;
	int		rows;

	progress_begin(what);
	do
	{
		PGresult *page = command_check_result(api_exec_failed(command->pg,
															  filter, after,
															  PAGE_ROWS),
											  "failed");

		if (page == NULL)
			return -1;
		rows = PQntuples(page);
		Assert(PQnfields(page) == FAILED_COLUMNS && rows <= PAGE_ROWS);
		for (int row = 0; good && row < rows; row++)
		{
			good = handler(command, arguments, page, row);
			count++;
			progress_update(count, failed_share(count, total));
		}
		if (rows > 0)
		{
			Assert(api_int(page, rows - 1, FAILED_ID) > after);
			after = api_int(page, rows - 1, FAILED_ID);
		}
		PQclear(page);
	} while (good && rows > 0);
	progress_end();
	return good ? count : -1;
}

/* ---- list, show, export ------------------------------------------------ */

/* Of a row that would be written behind the progress on the same line. */
static void
failed_begin_row(void)
{
	if (isatty(STDOUT_FILENO))
		progress_hide();
}

/* What a producer wrote makes neither a row nor a column. */
static void
failed_add_shown(Buf *to, const PGresult *page, int row, FailedColumn column)
{
	const char *text = api_text(page, row, column);

	if (text == NULL || text[0] == '\0')
		text = "-";
	safe_add(to, text, strlen(text));
}

static bool
failed_list_row(Command *command UNUSED, const Arguments *arguments UNUSED,
				const PGresult *page, int row)
{
	static const FailedColumn columns[] = {
		FAILED_ID,
		FAILED_STATE,
		FAILED_TOPIC,
		FAILED_ORDER_ID,
		FAILED_ATTEMPTS,
		FAILED_FIRST_FAILED_AT,
		FAILED_NEXT_RETRY_AT,
		FAILED_ERROR,
	};
	Buf	 line = {0};
	bool good;

	for (size_t i = 0; i < Lengthof(columns); i++)
	{
		if (i > 0)
			buf_add_str(&line, "\t");
		failed_add_shown(&line, page, row, columns[i]);
	}
	failed_begin_row();
	good = printf("%s\n", buf_str(&line)) > 0;
	buf_free(&line);
	return good;
}

static bool
failed_show_row(Command *command UNUSED, const Arguments *arguments UNUSED,
				const PGresult *page, int row)
{
	Buf text = {0};

	for (int column = 0; column < FAILED_COLUMNS; column++)
	{
		buf_printf(&text, "%s: ", column_names[column]);
		failed_add_shown(&text, page, row, (FailedColumn) column);
		buf_add_str(&text, "\n");
	}
	failed_begin_row();
	fputs(buf_str(&text), stdout);
	buf_free(&text);
	return true;
}

static bool
failed_export_row(Command *command UNUSED, const Arguments *arguments UNUSED,
				  const PGresult *page, int row)
{
	Buf	 line = {0};
	bool good;

	for (int column = 0; column < FAILED_COLUMNS; column++)
		csv_add_cell(&line, api_text(page, row, column));
	csv_end_line(&line);
	failed_begin_row();
	good = fwrite(line.data, line.len, 1, stdout) == 1;
	buf_free(&line);
	return good;
}

static ExitCode
failed_print_all(const Arguments *arguments, const Config *config,
				 const char *header, FailedHandler handler)
{
	const ApiFailed filter = failed_make_filter(arguments);
	Command			command;
	ExitCode		code;

	if (command_open(&command, config))
	{
		fputs(header, stdout);
		if (failed_for_each(&command, arguments, &filter, "rows", handler) < 0)
			command.code = EXIT_RUNTIME;
	}
	code = command.code;
	command_close(&command);
	return code;
}

ExitCode
cmd_failed_list(const Arguments *arguments, const Config *config)
{
	return failed_print_all(
		arguments, config,
		"id\tstate\ttopic\torder_id\tattempts\tfirst_failed_at\t"
		"next_retry_at\terror\n",
		failed_list_row);
}

ExitCode
cmd_failed_export(const Arguments *arguments, const Config *config)
{
	Buf		 header = {0};
	ExitCode code;

	for (int column = 0; column < FAILED_COLUMNS; column++)
		csv_add_cell(&header, column_names[column]);
	csv_end_line(&header);
	code = failed_print_all(arguments, config, buf_str(&header),
							failed_export_row);
	buf_free(&header);
	return code;
}

ExitCode
cmd_failed_show(const Arguments *arguments, const Config *config)
{
	Command	  command;
	ApiFailed filter = {0};
	ExitCode  code;
	int64_t	  count;

	filter.id = failed_id(arguments->operands[0]);
	if (command_open(&command, config))
	{
		count = failed_for_each(&command, arguments, &filter, "rows",
								failed_show_row);
		if (count == 0)
			command_report("there is no failed event %" PRId64, filter.id);
		command.code = count > 0 ? EXIT_CLEAN : EXIT_RUNTIME;
	}
	code = command.code;
	command_close(&command);
	return code;
}

/* ---- retry, discard, handled ------------------------------------------- */

static void
failed_print_done(int64_t id, const char *done)
{
	progress_hide();
	printf("%" PRId64 " %s\n", id, done);
}

static bool
failed_act(Command *command, const Arguments *arguments, int64_t id)
{
	static const struct
	{
		const char *action;
		const char *done;
		ArgumentId	reason;
	} acts[COMMANDS] = {
		[COMMAND_FAILED_RETRY] = {"retry", "is tried again", ARG_REASON},
		[COMMAND_FAILED_DISCARD] = {"discard", "is discarded", ARG_REASON},
		[COMMAND_FAILED_HANDLED] = {"handled", "is handled", ARG_NOTE},
	};
	CommandId which = arguments->command;
	PGresult *result;

	Assert(acts[which].action != NULL);
	result = api_exec_failed_act(command->pg, acts[which].action, id,
								 arguments->values[acts[which].reason]);
	result = command_check_result(result, acts[which].action);
	if (result == NULL)
		command->code = EXIT_RUNTIME;
	else
		failed_print_done(id, acts[which].done);
	PQclear(result);
	return PQstatus(command->pg) == CONNECTION_OK;
}

/* Of what the filter finds, only what can be tried again is meant. */
static bool
failed_act_row(Command *command, const Arguments *arguments,
			   const PGresult *page, int row)
{
	const char *state = PQgetvalue(page, row, FAILED_STATE);

	if (strcmp(state, failed_state_texts[FAILED_STATE_WAITING]) != 0 &&
		strcmp(state, failed_state_texts[FAILED_STATE_ARCHIVED]) != 0)
		return true;
	return failed_act(command, arguments, api_int(page, row, FAILED_ID));
}

ExitCode
cmd_failed_act(const Arguments *arguments, const Config *config)
{
	const ApiFailed filter = failed_make_filter(arguments);
	int				count = arguments->operand_count;
	Command			command;
	ExitCode		code;

	if (!command_open(&command, config))
		;
	else if (count == 0)
	{
		if (failed_for_each(&command, arguments, &filter, "messages",
							failed_act_row) < 0)
			command.code = EXIT_RUNTIME;
	}
	else
	{
		progress_begin("messages");
		for (int i = 0; i < count; i++)
		{
			if (!failed_act(&command, arguments,
							failed_id(arguments->operands[i])))
				break;
			progress_update(i + 1, failed_share(i + 1, count));
		}
		progress_end();
	}
	code = command.code;
	command_close(&command);
	return code;
}
