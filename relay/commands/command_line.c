/*
 * command_line.c - the help of the relay's command line
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/command_line.h"

#include "common/usage.h"

bool
command_line_is_offline(const Arguments *arguments)
{
	switch ((CommandId) arguments->command)
	{
		case COMMAND_ADOPT:
		case COMMAND_REPLAY:
		case COMMAND_DISCARD:
		case COMMAND_ORDER:
		case COMMAND_FAILED_LIST:
		case COMMAND_FAILED_SHOW:
		case COMMAND_FAILED_RETRY:
		case COMMAND_FAILED_DISCARD:
		case COMMAND_FAILED_HANDLED:
		case COMMAND_FAILED_EXPORT:
			return true;
		case COMMAND_RUN:
		case COMMAND_CHECK:
		case COMMAND_STATUS:
		case COMMAND_CONFIG:
		case COMMAND_AUDIT:
		case COMMAND_REWIND:
		case COMMAND_HELP:
		case COMMANDS:
			break;
	}
	return false;
}

static void
command_line_add_all(Buf *text)
{
	buf_add_str(text,
				"pgstock-relay publishes the events of pgstock's outbox to "
				"Kafka and\napplies messages from Kafka to stock.\n\n"
				"Usage: pgstock-relay COMMAND [OPTION]...\n\n");
	usage_add_overview(&command_line, NULL, text);
	buf_add_str(text, "\nCommon options:\n");
	usage_add_options(&command_line, command_line.common, text);
	buf_add_str(text,
				"\nTIME is such as 2026-01-31T12:00:00Z.\n"
				"Exit codes: 0 success, 1 runtime failure, 2 command line or "
				"configuration,\n3 incompatible extension.\n"
				"See \"pgstock-relay help COMMAND\" and pgstock-relay(1).\n");
}

static void
command_line_add_group(const char *group, Buf *text)
{
	buf_printf(text, "Usage: pgstock-relay %s COMMAND [OPTION]...\n\n", group);
	usage_add_overview(&command_line, group, text);
	buf_printf(text, "\nSee \"pgstock-relay help %s COMMAND\".\n", group);
}

void
command_line_help(const Arguments *arguments, Buf *text)
{
	if (arguments->command != COMMANDS)
	{
		usage_add_command(&command_line, arguments->command, text);
		if (arguments->command != COMMAND_CONFIG &&
			arguments->command != COMMAND_HELP)
			buf_printf(text,
					   "\nIt needs --config FILE, or --postgres CONNINFO%s.\n",
					   command_line_is_offline(arguments)
						   ? ""
						   : " and --kafka BROKERS");
	}
	else if (arguments->group != NULL)
		command_line_add_group(arguments->group, text);
	else
		command_line_add_all(text);
	(void) buf_str(text);
}

bool
command_line_help_with(const Arguments *arguments, Buf *text, Buf *error)
{
	Arguments named = {.command = COMMANDS};

	if (arguments->operand_count > 0 &&
		!arguments_find_command(&command_line, arguments->operands,
								arguments->operand_count, &named, error) &&
		(named.group == NULL || arguments->operand_count > 1))
		return false;
	if (named.command != COMMANDS && named.operand_count > 0)
	{
		buf_printf(error, "there is no command \"%s %s\"",
				   arguments->operands[0], arguments->operands[1]);
		return false;
	}
	buf_clear(error);
	command_line_help(&named, text);
	return true;
}

void
command_line_usage(const Arguments *arguments, Buf *text)
{
	const char *command = arguments->command != COMMANDS
							  ? command_line.commands[arguments->command].name
							  : arguments->group;

	if (arguments->command != COMMANDS)
		usage_add_synopsis(&command_line, arguments->command, text);
	else
		buf_printf(text, "Usage: pgstock-relay %s%sCOMMAND [OPTION]...\n",
				   command != NULL ? command : "", command != NULL ? " " : "");
	buf_printf(text, "See \"pgstock-relay help%s%s\".\n",
			   command != NULL ? " " : "", command != NULL ? command : "");
	(void) buf_str(text);
}
