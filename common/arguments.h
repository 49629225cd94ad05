/*
 * arguments.h - a command line of commands and options, by one table for
 * parsing and help
 *
 * Pure: nothing is looked up, nothing is printed.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_ARGUMENTS_H
#define PGSTOCK_COMMON_ARGUMENTS_H

#include "common/util.h"

#define ARGUMENTS_MAX 31 /* options: one bit each */

/* A set of options, by their indexes. */
#define ARGUMENT_BIT(index) (1U << (index))

typedef struct ArgumentOption
{
	const char *name; /* without the dashes */
	bool		takes_value;
} ArgumentOption;

typedef struct ArgumentCommand
{
	const char *name;	 /* one word or more */
	uint32_t	allowed; /* options beside the common ones */
	uint32_t	required;
	int			operands_min;
	int			operands_max;
	const char *synopsis;
	const char *help; /* what it does, one sentence a line */
} ArgumentCommand;

typedef struct ArgumentTable
{
	const ArgumentCommand *commands;
	int					   command_count;
	const ArgumentOption  *options;
	int					   option_count;
	uint32_t			   common; /* options of every command */
	uint32_t			   asking; /* of these, those that need no command */
} ArgumentTable;

typedef struct Arguments
{
	int			command; /* index; command_count: none is named */
	const char *group;	 /* first word of an incomplete command, or NULL */
	const char *values[ARGUMENTS_MAX]; /* NULL: not given; a flag's is "" */
	char	  **operands;			   /* neither command nor option */
	int			operand_count;
} Arguments;

/* False, and one sentence in *error, if the table has no such command line; as
 * far as it was understood it is in *arguments then too.  Reorders argv. */
bool arguments_parse(const ArgumentTable *table, int argc, char **argv,
					 Arguments *arguments, Buf *error) MUST_CHECK;

/* Appends the usage of the command, or of all that begin with the group, or of
 * all. */
void arguments_add_usage(const ArgumentTable *table, const Arguments *arguments,
						 Buf *text);

#endif
