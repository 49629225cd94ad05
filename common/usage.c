/*
 * usage.c - help for a command line, from its table
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/usage.h"

#include <inttypes.h>
#include <string.h>

#define WIDTH	   79
#define OPTIONS_AT 27 /* column of an option's help */
#define SUMMARY_AT 19 /* column of a command's summary */

/* ---- lines ------------------------------------------------------------- */

/* Columns since the last line end. */
static size_t
usage_column(const Buf *text)
{
	size_t column = 0;

	while (column < text->len && text->data[text->len - column - 1] != '\n')
		column++;
	return column;
}

static void
usage_pad(Buf *text, size_t column)
{
	Assert(column < WIDTH);
	while (usage_column(text) < column)
		buf_add_str(text, " ");
}

/*
 * A word that stays whole, behind a blank, or on a line of its own that begins
 * at the column.
 */
static void
usage_add_word(Buf *text, size_t column, const char *word, size_t len)
{
	size_t at = usage_column(text);

	Assert(len > 0 && column < WIDTH);
	if (at > column && at + 1 + len > WIDTH)
		buf_add_str(text, "\n");
	else if (at > column)
		buf_add_str(text, " ");
	usage_pad(text, column);
	buf_add(text, word, len);
}

/* Sentences, filled.  Two line ends begin a paragraph. */
static void
usage_add_filled(Buf *text, size_t column, const char *words)
{
	usage_pad(text, column);
	while (*words != '\0')
	{
		size_t len = strcspn(words, " \n");

		if (len > 0)
			usage_add_word(text, column, words, len);
		words += len;
		if (words[0] == '\n' && words[1] == '\n')
		{
			buf_add_str(text, "\n\n");
			usage_pad(text, column);
		}
		words += strspn(words, " \n");
	}
	buf_add_str(text, "\n");
}

/* ---- commands ---------------------------------------------------------- */

void
usage_add_overview(const ArgumentTable *table, const char *group, Buf *text)
{
	for (int i = 0; i < table->command_count; i++)
	{
		const ArgumentCommand *command = &table->commands[i];

		if (group != NULL && !arguments_begin_with(command->name, group))
			continue;
		if (group == NULL && command->heading != NULL)
			buf_printf(text, "%s%s:\n", i > 0 ? "\n" : "", command->heading);
		buf_printf(text, "  %s", command->name);
		usage_pad(text, SUMMARY_AT);
		usage_add_filled(text, SUMMARY_AT, command->summary);
	}
}

/* "[--watch[=SECONDS]]" */
static void
usage_add_synopsis_option(const ArgumentOption *option, bool required,
						  size_t column, Buf *text)
{
	Buf word = {0};

	buf_printf(&word, "%s--%s", required ? "" : "[", option->name);
	if (option->fallback != NULL)
		buf_printf(&word, "[=%s]", option->value.label);
	else if (option->value.type != ARGUMENT_FLAG)
		buf_printf(&word, " %s", option->value.label);
	if (!required)
		buf_add_str(&word, "]");
	usage_add_word(text, column, word.data, word.len);
	buf_free(&word);
}

static void
usage_add_operands(const ArgumentCommand *command, size_t column, Buf *text)
{
	bool optional = command->operands_min == 0 && !command->either;
	Buf	 word = {0};

	Assert(command->operands_min <= command->operands_max);
	if (command->operands_max == 0)
		return;
	buf_printf(&word, "%s%s%s%s", optional ? "[" : "", command->operand.label,
			   command->operands_max > 1 ? "..." : "", optional ? "]" : "");
	usage_add_word(text, column, word.data, word.len);
	buf_free(&word);
}

/* One form of the command; filtered: the one with filters. */
static void
usage_add_form(const ArgumentTable *table, const ArgumentCommand *command,
			   bool filtered, Buf *text)
{
	size_t column;

	Assert(!filtered || (command->allowed & table->filters) != 0);
	buf_printf(text, "%s %s", table->program, command->name);
	column = usage_column(text) + 1;
	if (!filtered)
		usage_add_operands(command, column, text);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < table->option_count; i++)
		{
			uint64_t bit = ARGUMENT_BIT(i);
			bool	 required = (command->required & bit) != 0;

			if ((command->allowed & bit & ~table->filters) &&
				required == (round == 0))
				usage_add_synopsis_option(&table->options[i], required, column,
										  text);
		}
	if (filtered)
		usage_add_word(text, column,
					   command->either ? "FILTER..." : "[FILTER]...",
					   command->either ? 9 : 11);
	buf_add_str(text, "\n");
}

void
usage_add_synopsis(const ArgumentTable *table, int command, Buf *text)
{
	const ArgumentCommand *named = &table->commands[command];
	bool				   filters = (named->allowed & table->filters) != 0;

	Assert(command >= 0 && command < table->command_count);
	buf_add_str(text, "Usage: ");
	if (named->either)
	{
		usage_add_form(table, named, false, text);
		buf_add_str(text, "       ");
	}
	usage_add_form(table, named, filters, text);
}

/* ---- options ----------------------------------------------------------- */

void
usage_add_range(const ArgumentOption *option, Buf *text)
{
	const ArgumentValue *value = &option->value;

	if (value->type == ARGUMENT_NUMBER && value->max < INT64_MAX)
		buf_printf(text, "; %" PRId64 " to %" PRId64, value->min, value->max);
	if (value->type == ARGUMENT_CHOICE)
	{
		buf_add_str(text, ": ");
		arguments_add_choices(value->choices, " or ", text);
	}
	if (option->fallback != NULL)
		buf_printf(text, "; default: %s", option->fallback);
}

void
usage_add_options(const ArgumentTable *table, uint64_t options, Buf *text)
{
	for (int i = 0; i < table->option_count; i++)
	{
		const ArgumentOption *option = &table->options[i];
		Buf					  help = {0};

		if (!(options & ARGUMENT_BIT(i)))
			continue;
		if (option->letter != 0)
			buf_printf(text, "  -%c, ", option->letter);
		else
			buf_add_str(text, "      ");
		buf_printf(text, "--%s", option->name);
		if (option->fallback != NULL)
			buf_printf(text, "[=%s]", option->value.label);
		else if (option->value.type != ARGUMENT_FLAG)
			buf_printf(text, " %s", option->value.label);
		if (usage_column(text) + 2 > OPTIONS_AT)
			buf_add_str(text, "\n");
		usage_pad(text, OPTIONS_AT);
		buf_add_str(&help, option->help);
		usage_add_range(option, &help);
		usage_add_filled(text, OPTIONS_AT, buf_str(&help));
		buf_free(&help);
	}
}

static void
usage_add_section(const ArgumentTable *table, const char *heading,
				  uint64_t options, Buf *text)
{
	if (options == 0)
		return;
	buf_printf(text, "\n%s:\n", heading);
	usage_add_options(table, options, text);
}

void
usage_add_command(const ArgumentTable *table, int command, Buf *text)
{
	const ArgumentCommand *named = &table->commands[command];

	usage_add_synopsis(table, command, text);
	buf_add_str(text, "\n");
	usage_add_filled(text, 0, named->help);
	usage_add_section(table, "Options", named->allowed & ~table->filters, text);
	usage_add_section(table, "Filters", named->allowed & table->filters, text);
	usage_add_section(table, "Common options", table->common, text);
}

/* ---- the help ---------------------------------------------------------- */

static void
usage_add_program(const ArgumentTable *table, Buf *text)
{
	buf_printf(text, "%s\n\nUsage: %s COMMAND [OPTION]...\n\n", table->about,
			   table->program);
	usage_add_overview(table, NULL, text);
	usage_add_section(table, "Common options", table->common, text);
	buf_printf(text, "\n%s\nSee \"%s help COMMAND\" and %s(1).\n", table->notes,
			   table->program, table->program);
}

static void
usage_add_group(const ArgumentTable *table, const char *group, Buf *text)
{
	buf_printf(text, "Usage: %s %s COMMAND [OPTION]...\n\n", table->program,
			   group);
	usage_add_overview(table, group, text);
	buf_printf(text, "\nSee \"%s help %s COMMAND\".\n", table->program, group);
}

void
usage_add_help(const ArgumentTable *table, const Arguments *arguments,
			   Buf *text)
{
	Assert(arguments->command <= table->command_count);
	if (arguments->command != table->command_count)
		usage_add_command(table, arguments->command, text);
	else if (arguments->group != NULL)
		usage_add_group(table, arguments->group, text);
	else
		usage_add_program(table, text);
	(void) buf_str(text);
}

bool
usage_find_named(const ArgumentTable *table, const Arguments *arguments,
				 Arguments *named, Buf *error)
{
	*named = (Arguments){.command = table->command_count};
	if (arguments->operand_count > 0 &&
		!arguments_find_command(table, arguments->operands,
								arguments->operand_count, named, error) &&
		(named->group == NULL || arguments->operand_count > 1))
		return false;
	if (named->command != table->command_count && named->operand_count > 0)
	{
		buf_printf(error, "there is no command \"%s %s\"",
				   arguments->operands[0], arguments->operands[1]);
		return false;
	}
	buf_clear(error);
	return true;
}

void
usage_add_pointer(const ArgumentTable *table, const Arguments *arguments,
				  Buf *text)
{
	bool		named = arguments->command != table->command_count;
	const char *command = named ? table->commands[arguments->command].name
								: arguments->group;

	if (named)
		usage_add_synopsis(table, arguments->command, text);
	else
		buf_printf(text, "Usage: %s %s%sCOMMAND [OPTION]...\n", table->program,
				   command != NULL ? command : "", command != NULL ? " " : "");
	buf_printf(text, "See \"%s help%s%s\".\n", table->program,
			   command != NULL ? " " : "", command != NULL ? command : "");
	(void) buf_str(text);
}
