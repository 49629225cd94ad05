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

#include "commands/command.h"
#include "commands/commands.h"
#include "commands/csv.h"
#include "common/rfc3339.h"
#include "common/safe_text.h"
#include "db/api_command.h"

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

static bool
failed_is_state(const char *state)
{
	static const char *const states[] = {"waiting", "archived", "retried",
										 "discarded"};

	for (size_t i = 0; i < Lengthof(states); i++)
		if (strcmp(state, states[i]) == 0)
			return true;
	command_report("--state: \"%s\" is not waiting, archived, retried or "
				   "discarded",
				   state);
	return false;
}

static bool
failed_is_moment(const char *text)
{
	int64_t us;

	if (rfc3339_parse(text, &us) == RFC3339_VALID)
		return true;
	command_report("--since: \"%s\" is not a time such as " RFC3339_EXAMPLE,
				   text);
	return false;
}

static bool
failed_make_filter(const Arguments *arguments, ApiFailed *filter)
{
	*filter = (ApiFailed){
		.id = -1,
		.state = arguments->values[ARG_STATE],
		.topic = arguments->values[ARG_TOPIC],
		.since = arguments->values[ARG_SINCE],
		.sqlstate = arguments->values[ARG_SQLSTATE],
		.order = arguments->values[ARG_ORDER],
	};
	return (filter->state == NULL || failed_is_state(filter->state)) &&
		   (filter->since == NULL || failed_is_moment(filter->since));
}

static bool
failed_is_id(const char *text, int64_t *id)
{
	if (parse_number(text, id) && *id > 0)
		return true;
	command_report("\"%s\" is not the id of a failed event: \"failed list\" "
				   "shows them",
				   text);
	return false;
}

/* The number of rows; -1 if that failed, which was reported. */
static int64_t
failed_for_each(Command *command, const Arguments *arguments,
				const ApiFailed *filter, FailedHandler handler)
{
	int64_t count = 0;
	int64_t after = 0;
	bool	good = true;
	int		rows;

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
			good = handler(command, arguments, page, row);
		if (rows > 0)
		{
			Assert(api_int(page, rows - 1, FAILED_ID) > after);
			after = api_int(page, rows - 1, FAILED_ID);
		}
		count += rows;
		PQclear(page);
	} while (good && rows > 0);
	return good ? count : -1;
}

/* ---- list, show, export ------------------------------------------------ */

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
	fputs(buf_str(&text), stdout);
	buf_free(&text);
	return true;
}

static bool
failed_export_row(Command *command UNUSED, const Arguments *arguments UNUSED,
				  const PGresult *page, int row)
{
	static int64_t count;
	Buf			   line = {0};
	bool		   good;

	for (int column = 0; column < FAILED_COLUMNS; column++)
		csv_add_cell(&line, api_text(page, row, column));
	csv_end_line(&line);
	good = fwrite(line.data, line.len, 1, stdout) == 1;
	buf_free(&line);
	if (++count % PAGE_ROWS == 0)
		command_progress("rows", count);
	return good;
}

/* Whether the output was written whole: a full disk may be noticed only now. */
static ExitCode
failed_end_output(int64_t count)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return count < 0 ? EXIT_RUNTIME : EXIT_CLEAN;
	command_report("could not write to standard output");
	return EXIT_RUNTIME;
}

static ExitCode
failed_print_all(const Arguments *arguments, const Config *config,
				 const char *header, FailedHandler handler)
{
	Command	  command;
	ApiFailed filter;
	ExitCode  code;

	if (!failed_make_filter(arguments, &filter))
		return command_print_usage(arguments);
	if (command_open(&command, config))
	{
		fputs(header, stdout);
		command.code = failed_end_output(
			failed_for_each(&command, arguments, &filter, handler));
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
	command_progress_end();
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

	if (!failed_is_id(arguments->operands[0], &filter.id))
		return command_print_usage(arguments);
	if (command_open(&command, config))
	{
		count = failed_for_each(&command, arguments, &filter, failed_show_row);
		if (count == 0)
			command_report("there is no failed event %" PRId64, filter.id);
		command.code = count == 0 ? EXIT_RUNTIME : failed_end_output(count);
	}
	code = command.code;
	command_close(&command);
	return code;
}

/* ---- retry, discard, handled ------------------------------------------- */

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
		printf("%" PRId64 " %s\n", id, acts[which].done);
	PQclear(result);
	return PQstatus(command->pg) == CONNECTION_OK;
}

/* Of what the filter finds, only what can be tried again is meant. */
static bool
failed_act_row(Command *command, const Arguments *arguments,
			   const PGresult *page, int row)
{
	const char *state = PQgetvalue(page, row, FAILED_STATE);

	if (strcmp(state, "waiting") != 0 && strcmp(state, "archived") != 0)
		return true;
	return failed_act(command, arguments, api_int(page, row, FAILED_ID));
}

static bool
failed_check_act(const Arguments *arguments, ApiFailed *filter)
{
	static const ArgumentId texts[] = {ARG_REASON, ARG_NOTE};
	bool					filtered = arguments->values[ARG_STATE] != NULL ||
					arguments->values[ARG_TOPIC] != NULL ||
					arguments->values[ARG_SINCE] != NULL ||
					arguments->values[ARG_SQLSTATE] != NULL ||
					arguments->values[ARG_ORDER] != NULL;
	int64_t id;

	for (size_t i = 0; i < Lengthof(texts); i++)
		if (arguments->values[texts[i]] != NULL &&
			arguments->values[texts[i]][0] == '\0')
		{
			command_report("the %s must not be empty: it is stored with the "
						   "message",
						   texts[i] == ARG_REASON ? "reason" : "note");
			return false;
		}
	for (int i = 0; i < arguments->operand_count; i++)
		if (!failed_is_id(arguments->operands[i], &id))
			return false;
	if (filtered != (arguments->operand_count == 0))
	{
		command_report("either ids or a filter are needed");
		return false;
	}
	return failed_make_filter(arguments, filter);
}

ExitCode
cmd_failed_act(const Arguments *arguments, const Config *config)
{
	Command	  command;
	ApiFailed filter;
	ExitCode  code;
	int64_t	  id;

	if (!failed_check_act(arguments, &filter))
		return command_print_usage(arguments);
	if (!command_open(&command, config))
		;
	else if (arguments->operand_count == 0)
	{
		if (failed_for_each(&command, arguments, &filter, failed_act_row) < 0)
			command.code = EXIT_RUNTIME;
	}
	else
		for (int i = 0; i < arguments->operand_count; i++)
			if (parse_number(arguments->operands[i], &id) &&
				!failed_act(&command, arguments, id))
				break;
	code = command.code;
	command_close(&command);
	return code;
}
