/*
 * arguments.h - a command line of commands and options: the table of them, and
 * its parser
 *
 * The table has all that parser, help (usage.h), manual page and completion of
 * the shells need.  Two options may have one name, if no command takes both:
 * --to of one command is another thing than --to of the other.
 *
 * Pure: nothing is looked up, nothing is printed.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_ARGUMENTS_H
#define PGSTOCK_COMMON_ARGUMENTS_H

#include "common/util.h"

#define ARGUMENTS_MAX 63 /* options: one bit each */

/* A set of options, by their indexes. */
#define ARGUMENT_BIT(index) (UINT64_C(1) << (index))

typedef enum ArgumentType
{
	ARGUMENT_FLAG, /* no value */
	ARGUMENT_TEXT, /* at least one byte */
	ARGUMENT_FILE,
	ARGUMENT_CHOICE, /* one of choices */
	ARGUMENT_NUMBER, /* min to max */
	ARGUMENT_TIME,	 /* RFC 3339 */
	ARGUMENT_POINT,	 /* a number of at least 0, or a time */
	ARGUMENT_UUID,
} ArgumentType;

/* What an option or an operand may be. */
typedef struct ArgumentValue
{
	ArgumentType	   type;
	const char		  *label;	/* in the help: FILE */
	const char *const *choices; /* NULL at the end */
	int64_t			   min;
	int64_t			   max;
} ArgumentValue;

typedef struct ArgumentOption
{
	const char	 *name; /* without the dashes */
	ArgumentValue value;
	const char	 *fallback; /* the value may be left out, and is this then */
	const char	 *help;		/* without a full stop */
	char		  letter;	/* the short form; 0: none */
} ArgumentOption;

typedef struct ArgumentCommand
{
	const char	 *name;	   /* one word or more */
	const char	 *heading; /* it is listed under; NULL: under the last one */
	const char	 *summary; /* one line, without a full stop */
	const char	 *help;	   /* sentences; an empty line between paragraphs */
	uint64_t	  allowed; /* options beside the common ones */
	uint64_t	  required;
	bool		  either; /* operands or filters, not both and not none */
	ArgumentValue operand;
	int			  operands_min;
	int			  operands_max;
} ArgumentCommand;

typedef struct ArgumentTable
{
	const char			  *program;
	const char			  *about; /* lines before the list of commands */
	const char			  *notes; /* lines behind the list of options */
	const char			  *group_summary; /* of the commands of two words */
	const ArgumentCommand *commands;
	int					   command_count;
	const ArgumentOption  *options;
	int					   option_count;
	uint64_t			   common;	/* options of every command */
	uint64_t			   asking;	/* of these, those that need no command */
	uint64_t			   filters; /* options that the help lists together */
} ArgumentTable;

typedef struct Arguments
{
	int			command; /* index; command_count: none is named */
	const char *group;	 /* first word of an incomplete command, or NULL */
	const char *values[ARGUMENTS_MAX]; /* NULL: not given; a flag's is "" */
	char	  **operands;			   /* neither command nor option */
	int			operand_count;
} Arguments;

/*
 * False, and one sentence in *error, if the table has no such command line; as
 * far as it was understood it is in *arguments then too.  Reorders argv.
 */
bool arguments_parse(const ArgumentTable *table, int argc, char **argv,
					 Arguments *arguments, Buf *error) MUST_CHECK;

/*
 * Which command the words begin with: into command, group and operands.  False,
 * and one sentence in *error, if they name none.
 */
bool arguments_find_command(const ArgumentTable *table, char **words, int count,
							Arguments *arguments, Buf *error) MUST_CHECK;

/* Whether the name is of two words of which this is the first. */
bool arguments_begin_with(const char *name, const char *word);

/* What is wrong with a value, in *error, as a phrase that follows its text. */
bool arguments_check_value(const ArgumentValue *value, const char *text,
						   Buf *error) MUST_CHECK;

/* "a, b or c" */
void arguments_add_choices(const char *const *choices, const char *last,
						   Buf *text);

#endif
