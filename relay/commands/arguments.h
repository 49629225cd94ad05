/*
 * arguments.h - the command line: one table for parse and help
 *
 * Pure: nothing is looked up, nothing is printed.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMANDS_ARGUMENTS_H
#define PGSTOCK_COMMANDS_ARGUMENTS_H

#include "common/util.h"

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

typedef struct Arguments
{
	CommandId	command;	  /* COMMANDS: none is named */
	const char *group;		  /* words of an incomplete command, or NULL */
	const char *values[ARGS]; /* NULL: not given; a flag's is "" */
	char	  **operands;	  /* what is neither command nor option */
	int			operand_count;
} Arguments;

/* False, and one sentence in *error, if the command line is not one of ours; as
 * far as it was understood it is in *arguments then too.  Reorders argv. */
bool arguments_parse(int argc, char **argv, Arguments *arguments,
					 Buf *error) MUST_CHECK;

/* Whether the command asks the database alone, so that no broker is needed. */
bool arguments_are_offline(const Arguments *arguments);

/* The usage of the command, or of all that begin with the group, or of all. */
void arguments_usage(const Arguments *arguments, Buf *text);

/* ---- values ---- */

/* A number of at least 0, all digits. */
bool parse_number(const char *text, int64_t *number) MUST_CHECK;

/* A moment such as 2026-01-31T12:00:00.25Z, in microseconds since 1970; a blank
 * for the T will do, the zone must be there. */
bool parse_moment(const char *text, int64_t *us) MUST_CHECK;

#endif
