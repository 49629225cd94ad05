/*
 * command_line.h - the gateway's commands and their options
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_COMMAND_LINE_H
#define PGSTOCK_GATEWAY_COMMAND_LINE_H

#include "common/arguments.h"

/* Arguments.command, in the order of the help */
typedef enum CommandId
{
	COMMAND_RUN,
	COMMAND_CONFIG,
	COMMAND_OPENAPI,
	COMMAND_HELP,
	COMMANDS, /* their number */
} CommandId;

/* Index of Arguments.values, in the order of the help */
typedef enum ArgumentId
{
	ARG_CONFIG,
	ARG_POSTGRES,
	ARG_LISTEN,
	ARG_HELP,
	ARG_VERSION,
	ARGS, /* their number */
} ArgumentId;

/* command_table.c */
extern const ArgumentTable command_line;

#endif
