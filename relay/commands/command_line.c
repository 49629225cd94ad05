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
		case COMMAND_SNAPSHOT:
		case COMMAND_DISCARD:
		case COMMAND_ORDER:
		case COMMAND_REPORT:
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
		case COMMAND_REDRIVE:
		case COMMAND_HELP:
		case COMMANDS:
			break;
	}
	return false;
}

void
command_line_help(const Arguments *arguments, Buf *text)
{
	usage_add_help(&command_line, arguments, text);
	if (arguments->command == COMMANDS ||
		arguments->command == COMMAND_CONFIG ||
		arguments->command == COMMAND_HELP)
		return;
	buf_printf(text, "\nIt needs --config FILE, or --postgres CONNINFO%s.\n",
			   command_line_is_offline(arguments) ? ""
												  : " and --kafka BROKERS");
	(void) buf_str(text);
}
