/*
 * command_line.h - the relay's commands and their options
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMANDS_COMMAND_LINE_H
#define PGSTOCK_COMMANDS_COMMAND_LINE_H

#include "common/arguments.h"

/* Arguments.command, in the order of the help */
typedef enum CommandId
{
	COMMAND_RUN,
	COMMAND_CHECK,
	COMMAND_STATUS,
	COMMAND_CONFIG,
	COMMAND_ADOPT,
	COMMAND_AUDIT,
	COMMAND_REPLAY,
	COMMAND_SNAPSHOT,
	COMMAND_DISCARD,
	COMMAND_ORDER,
	COMMAND_REPORT,
	COMMAND_REWIND,
	COMMAND_REDRIVE,
	COMMAND_FAILED_LIST,
	COMMAND_FAILED_SHOW,
	COMMAND_FAILED_RETRY,
	COMMAND_FAILED_DISCARD,
	COMMAND_FAILED_HANDLED,
	COMMAND_FAILED_EXPORT,
	COMMAND_HELP,
	COMMANDS, /* their number */
} CommandId;

/* Index of Arguments.values, in the order of the help */
typedef enum ArgumentId
{
	ARG_REPLAY_FROM,
	ARG_AUDIT_FROM,
	ARG_REDRIVE_FROM,
	ARG_REWIND_TOPIC,
	ARG_REDRIVE_TOPIC,
	ARG_REPLAY_TO,
	ARG_REWIND_TO,
	ARG_REPLAY_TOPIC,
	ARG_SNAPSHOT_TOPIC,
	ARG_PARTITION,
	ARG_MAX,
	ARG_LIMIT,
	ARG_STATE,
	ARG_FAILED_TOPIC,
	ARG_SINCE,
	ARG_REPORT_SINCE,
	ARG_REPORT_UNTIL,
	ARG_SQLSTATE,
	ARG_ORDER,
	ARG_REASON,
	ARG_NOTE,
	ARG_DRY_RUN,
	ARG_REDRIVE_DRY_RUN,
	ARG_EXECUTE,
	ARG_AS,
	ARG_CSV,
	ARG_JSON,
	ARG_WATCH,
	ARG_OUTPUT,
	ARG_CONFIG,
	ARG_POSTGRES,
	ARG_KAFKA,
	ARG_HELP,
	ARG_VERSION,
	ARGS, /* their number */
} ArgumentId;

/* command_table.c */
extern const ArgumentTable command_line;

/* Whether the command works without a broker. */
bool command_line_is_offline(const Arguments *arguments);

/* The help of the command, or of all that begin with the group, or of all. */
void command_line_help(const Arguments *arguments, Buf *text);

#endif
