/*
 * arguments.c - a command line of commands and options, by one table for
 * parsing and help
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/arguments.h"

#include <getopt.h>
#include <string.h>

/* ---- parsing ----------------------------------------------------------- */

static bool
arguments_parse_options(const ArgumentTable *table, int argc, char **argv,
						Arguments *arguments, Buf *error)
{
	struct option known[ARGUMENTS_MAX + 1] = {{0}};
	int			  index = 0;
	int			  found;

	Assert(table->option_count <= ARGUMENTS_MAX);
	for (int i = 0; i < table->option_count; i++)
		known[i] = (struct option){
			.name = table->options[i].name,
			.has_arg = table->options[i].takes_value ? required_argument
													 : no_argument,
		};
	optind = 0; /* from the start, also if it was used before */
	while ((found = getopt_long(argc, argv, ":", known, &index)) == 0)
		arguments->values[index] = optarg != NULL ? optarg : "";
	if (found == -1)
		return true;
	if (found == ':')
		buf_printf(error, "option \"%s\" needs a value", argv[optind - 1]);
	else
		buf_printf(error, "unknown option \"%s\"", argv[optind - 1]);
	return false;
}

/* How many of the words are those of the name; 0 if not all of the name's. */
static int
arguments_match_words(const char *name, char **words, int count)
{
	int matched = 0;

	while (name[0] != '\0' && matched < count)
	{
		size_t len = strcspn(name, " ");

		if (strlen(words[matched]) != len ||
			strncmp(words[matched], name, len) != 0)
			return 0;
		matched++;
		name += len + (name[len] == ' ');
	}
	return name[0] == '\0' ? matched : 0;
}

static bool
arguments_begin_with(const char *name, const char *word)
{
	size_t len = strlen(word);

	return strncmp(name, word, len) == 0 && name[len] == ' ';
}

static bool
arguments_find_command(const ArgumentTable *table, char **words, int count,
					   Arguments *arguments, Buf *error)
{
	int matched = 0;

	for (int i = 0; i < table->command_count && matched == 0; i++)
	{
		const char *name = table->commands[i].name;

		matched = arguments_match_words(name, words, count);
		if (matched > 0)
			arguments->command = i;
		else if (arguments_begin_with(name, words[0]))
			arguments->group = words[0];
	}
	arguments->operands = words + matched;
	arguments->operand_count = count - matched;
	if (matched > 0)
		arguments->group = NULL;
	else if (arguments->group == NULL)
		buf_printf(error, "unknown command \"%s\"", words[0]);
	else if (count > 1)
		buf_printf(error, "unknown command \"%s %s\"", words[0], words[1]);
	else
		buf_printf(error, "\"%s\" what?", words[0]);
	return matched > 0;
}

/* Whether the command takes these options and operands. */
static bool
arguments_check(const ArgumentTable *table, const Arguments *arguments,
				Buf *error)
{
	const ArgumentCommand *command = &table->commands[arguments->command];
	int					   operands = arguments->operand_count;

	Assert(command->operands_min <= command->operands_max);
	Assert((command->required & ~command->allowed) == 0);
	for (int i = 0; i < table->option_count; i++)
	{
		bool given = arguments->values[i] != NULL;

		if (given && !((table->common | command->allowed) & ARGUMENT_BIT(i)))
			buf_printf(error, "\"%s\" takes no --%s", command->name,
					   table->options[i].name);
		else if (!given && (command->required & ARGUMENT_BIT(i)))
			buf_printf(error, "\"%s\" needs --%s", command->name,
					   table->options[i].name);
		if (error->len > 0)
			return false;
	}
	if (operands > command->operands_max)
		buf_printf(error, "\"%s\" does not know what to do with \"%s\"",
				   command->name, arguments->operands[command->operands_max]);
	else if (operands < command->operands_min)
		buf_printf(error, "\"%s\" needs an id", command->name);
	return error->len == 0;
}

bool
arguments_parse(const ArgumentTable *table, int argc, char **argv,
				Arguments *arguments, Buf *error)
{
	Buf	 second = {0}; /* of two mistakes the first is reported */
	bool options;
	bool asks = false;
	bool named = false;

	*arguments = (Arguments){.command = table->command_count};
	options = arguments_parse_options(table, argc, argv, arguments, error);
	for (int i = 0; i < table->option_count; i++)
		asks = asks || ((table->asking & ARGUMENT_BIT(i)) &&
						arguments->values[i] != NULL);
	if (optind < argc)
		named = arguments_find_command(table, argv + optind, argc - optind,
									   arguments, options ? error : &second);
	else if (options && !asks)
		buf_add_str(error, "no command is named");
	buf_free(&second);
	if (!options)
		return false;
	if (asks && (named || arguments->group != NULL || optind == argc))
	{
		buf_clear(error);
		return true;
	}
	return named && arguments_check(table, arguments, error);
}

/* ---- help -------------------------------------------------------------- */

static void
arguments_add_command(const ArgumentCommand *command, Buf *text)
{
	const char *help = command->help;

	buf_printf(text, "  %s%s%s\n", command->name,
			   command->synopsis[0] != '\0' ? " " : "", command->synopsis);
	while (help[0] != '\0')
	{
		size_t len = strcspn(help, "\n");

		buf_printf(text, "      %.*s\n", (int) len, help);
		help += len + (help[len] == '\n');
	}
}

void
arguments_add_usage(const ArgumentTable *table, const Arguments *arguments,
					Buf *text)
{
	const char *group = arguments->group;
	bool all = arguments->command == table->command_count && group == NULL;

	for (int i = 0; i < table->command_count; i++)
	{
		const ArgumentCommand *command = &table->commands[i];

		if (all || arguments->command == i ||
			(group != NULL && arguments_begin_with(command->name, group)))
			arguments_add_command(command, text);
	}
}
