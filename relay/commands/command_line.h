/*
 * command_line.h - the relay's commands and their options
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMANDS_COMMAND_LINE_H
#define PGSTOCK_COMMANDS_COMMAND_LINE_H

#include "common/arguments.h"

/* Arguments.command */
typedef enum CommandId
{
	COMMAND_RUN,
	COMMAND_CHECK,
	COMMAND_STATUS,
	COMMAND_CONFIG,
	COMMAND_ADOPT,
	COMMAND_REPLAY,
	COMMAND_REWIND,
	COMMAND_AUDIT,
	COMMAND_DISCARD,
	COMMAND_FAILED_LIST,
	COMMAND_FAILED_SHOW,
	COMMAND_FAILED_RETRY,
	COMMAND_FAILED_DISCARD,
	COMMAND_FAILED_HANDLED,
	COMMAND_FAILED_EXPORT,
	COMMANDS, /* their number */
} CommandId;

/* Index of Arguments.values */
typedef enum ArgumentId
{
	ARG_CONFIG,
	ARG_POSTGRES,
	ARG_KAFKA,
	ARG_HELP,
	ARG_VERSION,
	ARG_EXECUTE,
	ARG_JSON,
	ARG_DRY_RUN,
	ARG_CSV,
	ARG_FROM,
	ARG_TO,
	ARG_TOPIC,
	ARG_STATE,
	ARG_SINCE,
	ARG_SQLSTATE,
	ARG_ORDER,
	ARG_REASON,
	ARG_NOTE,
	ARGS, /* their number */
} ArgumentId;

extern const ArgumentTable command_line;

/* Whether the command works without a broker. */
bool command_line_is_offline(const Arguments *arguments);

/* The usage of the command, or of all that begin with the group, or of all. */
void command_line_usage(const Arguments *arguments, Buf *text);

#endif
