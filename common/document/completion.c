/*
 * completion.c - completion of the command line for bash and zsh
 *
 * Both scripts find the command among the words before the cursor, which may
 * stand between options, and complete what that command takes.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <stdlib.h>
#include <string.h>

#include "common/document/document.h"

/* The shell's function, such as _pgstock_relay; freed by the caller. */
static char *
completion_function(const ArgumentTable *table)
{
	char *name = xasprintf("_%s", table->program);

	for (char *at = name; *at != '\0'; at++)
		if (*at == '-')
			*at = '_';
	return name;
}

static bool
completion_takes_value(const ArgumentOption *option)
{
	return option->value.type != ARGUMENT_FLAG && option->fallback == NULL;
}

static uint64_t
completion_options_of(const ArgumentTable	*table,
					  const ArgumentCommand *command)
{
	return table->common | (command != NULL ? command->allowed : 0);
}

/* Whether the first word of the name was that of the command before. */
static bool
completion_is_repeated(const ArgumentTable *table, int index)
{
	const char *name = table->commands[index].name;
	size_t		len = strcspn(name, " ");

	return index > 0 &&
		   strncmp(table->commands[index - 1].name, name, len) == 0 &&
		   strcspn(table->commands[index - 1].name, " ") == len;
}

/* The words that may follow the group, or begin a command for NULL. */
static void
completion_add_words(const ArgumentTable *table, const char *group, Buf *text)
{
	for (int i = 0; i < table->command_count; i++)
	{
		const char *name = table->commands[i].name;

		if (group != NULL && arguments_begin_with(name, group))
			buf_printf(text, " %s", name + strlen(group) + 1);
		else if (group == NULL && !completion_is_repeated(table, i))
			buf_printf(text, " %.*s", (int) strcspn(name, " "), name);
	}
}

/* "|failed": the first words that need another one, as further patterns. */
static void
completion_add_groups(const ArgumentTable *table, Buf *text)
{
	for (int i = 0; i < table->command_count; i++)
	{
		const char *name = table->commands[i].name;

		if (strchr(name, ' ') != NULL && !completion_is_repeated(table, i))
			buf_printf(text, "|%.*s", (int) strcspn(name, " "), name);
	}
}

/* ---- bash -------------------------------------------------------------- */

/* Whether an option before it has the same name. */
static bool
completion_is_second(const ArgumentTable *table, int index)
{
	for (int i = 0; i < index; i++)
		if (strcmp(table->options[i].name, table->options[index].name) == 0)
			return true;
	return false;
}

/* "--config|-c" */
static void
completion_add_pattern(const ArgumentOption *option, Buf *text)
{
	buf_printf(text, "--%s", option->name);
	if (option->letter != 0)
		buf_printf(text, "|-%c", option->letter);
}

/* The patterns of all options for which the test holds. */
static void
completion_add_patterns(const ArgumentTable *table,
						bool (*test)(const ArgumentOption *), Buf *text)
{
	size_t before = text->len;

	for (int i = 0; i < table->option_count; i++)
	{
		if (!test(&table->options[i]) || completion_is_second(table, i))
			continue;
		if (text->len > before)
			buf_add_str(text, "|");
		completion_add_pattern(&table->options[i], text);
	}
	Assert(text->len > before); /* bash knows no empty pattern */
}

static bool
completion_is_file(const ArgumentOption *option)
{
	return option->value.type == ARGUMENT_FILE;
}

static bool
completion_is_other(const ArgumentOption *option)
{
	return completion_takes_value(option) && !completion_is_file(option) &&
		   option->value.type != ARGUMENT_CHOICE;
}

static void
completion_add_bash_words(const ArgumentTable *table, const char *name,
						  const ArgumentCommand *command, Buf *text)
{
	uint64_t options = completion_options_of(table, command);

	buf_printf(text, "\t\t'%s') words=\"", name);
	for (int i = 0; i < table->option_count; i++)
		if (options & ARGUMENT_BIT(i))
			buf_printf(text, " --%s", table->options[i].name);
	if (command == NULL)
		completion_add_words(table, name[0] != '\0' ? name : NULL, text);
	buf_add_str(text, "\" ;;\n");
}

static void
completion_add_bash_commands(const ArgumentTable *table, Buf *text)
{
	completion_add_bash_words(table, "", NULL, text);
	for (int i = 0; i < table->command_count; i++)
	{
		const ArgumentCommand *command = &table->commands[i];
		size_t				   len = strcspn(command->name, " ");

		if (command->name[len] == ' ' && !completion_is_repeated(table, i))
		{
			char *group = xasprintf("%.*s", (int) len, command->name);

			completion_add_bash_words(table, group, NULL, text);
			free(group);
		}
		completion_add_bash_words(table, command->name, command, text);
	}
}

static void
completion_add_bash_values(const ArgumentTable *table, Buf *text)
{
	buf_add_str(text, "\tcase $previous in\n\t\t");
	completion_add_patterns(table, completion_is_file, text);
	buf_add_str(text,
				")\n"
				"\t\t\tcompopt -o filenames 2>/dev/null || :\n"
				"\t\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
				"\t\t\treturn ;;\n");
	for (int i = 0; i < table->option_count; i++)
	{
		const ArgumentOption *option = &table->options[i];

		if (option->value.type != ARGUMENT_CHOICE)
			continue;
		buf_add_str(text, "\t\t");
		completion_add_pattern(option, text);
		buf_add_str(text, ")\n\t\t\tmapfile -t COMPREPLY < <(compgen -W \"");
		for (int j = 0; option->value.choices[j] != NULL; j++)
			buf_printf(text, "%s%s", j > 0 ? " " : "",
					   option->value.choices[j]);
		buf_add_str(text, "\" -- \"$current\")\n\t\t\treturn ;;\n");
	}
	buf_add_str(text, "\t\t");
	completion_add_patterns(table, completion_is_other, text);
	buf_add_str(text, ") return ;;\n\tesac\n");
}

void
completion_add_bash(const ArgumentTable *table, Buf *text)
{
	char *function = completion_function(table);

	buf_printf(text,
			   "# shellcheck shell=bash\n"
			   "# %s(1) completion; made of the program's table of commands\n"
			   "\n"
			   "%s()\n"
			   "{\n"
			   "\tlocal current=${COMP_WORDS[COMP_CWORD]}\n"
			   "\tlocal previous=${COMP_WORDS[COMP_CWORD - 1]}\n"
			   "\tlocal command='' words='' i\n"
			   "\n"
			   "\tCOMPREPLY=()\n"
			   "\t# bash makes words of \"--name\", \"=\" and the value\n"
			   "\tif [[ $current == = ]]; then\n"
			   "\t\tcurrent=''\n"
			   "\telif [[ $previous == = ]]; then\n"
			   "\t\tprevious=${COMP_WORDS[COMP_CWORD - 2]}\n"
			   "\tfi\n",
			   table->program, function);
	completion_add_bash_values(table, text);
	buf_add_str(text, "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
					  "\t\tcase ${COMP_WORDS[i]} in\n"
					  "\t\t\t");
	completion_add_patterns(table, completion_takes_value, text);
	buf_add_str(text, ")\n"
					  "\t\t\t\t[[ ${COMP_WORDS[i + 1]} != = ]] || ((i++))\n"
					  "\t\t\t\t((i++)) ;;\n"
					  "\t\t\t-*) ;;\n"
					  "\t\t\t*)\n"
					  "\t\t\t\tcase $command in\n"
					  "\t\t\t\t\t''");
	completion_add_groups(table, text);
	buf_add_str(text, ") command+=${command:+ }${COMP_WORDS[i]} ;;\n"
					  "\t\t\t\tesac ;;\n"
					  "\t\tesac\n"
					  "\tdone\n"
					  "\tcase $command in\n");
	completion_add_bash_commands(table, text);
	buf_printf(text,
			   "\tesac\n"
			   "\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- "
			   "\"$current\")\n"
			   "}\n"
			   "\n"
			   "complete -F %s %s\n",
			   function, table->program);
	free(function);
}

/* ---- zsh --------------------------------------------------------------- */

/* A description inside of '...[...]' or '...:...'. */
static void
completion_add_quoted(const char *words, Buf *text)
{
	for (; *words != '\0'; words++)
	{
		if (*words == '\'')
			buf_add_str(text, "'\\''");
		else if (strchr("[]:\\", *words) != NULL)
			buf_printf(text, "\\%c", *words);
		else
			buf_add(text, words, 1);
	}
}

static void
completion_add_zsh_value(const ArgumentValue *value, bool optional, Buf *text)
{
	buf_printf(text, "%s:%s:", optional ? ":" : "", value->label);
	if (value->type == ARGUMENT_FILE)
		buf_add_str(text, "_files");
	if (value->type != ARGUMENT_CHOICE)
		return;
	buf_add_str(text, "(");
	for (int i = 0; value->choices[i] != NULL; i++)
		buf_printf(text, "%s%s", i > 0 ? " " : "", value->choices[i]);
	buf_add_str(text, ")");
}

/* A line of _arguments: '(-c --config)'{-c+,--config=}'[...]:FILE:_files' */
static void
completion_add_zsh_option(const ArgumentOption *option, Buf *text)
{
	bool		takes = completion_takes_value(option);
	const char *equals = takes ? "=" : option->fallback != NULL ? "=-" : "";

	buf_add_str(text, "\t\t\t\t");
	if (option->letter != 0)
		buf_printf(text, "'(-%c --%s)'{-%c%s,--%s%s}'[", option->letter,
				   option->name, option->letter, takes ? "+" : "", option->name,
				   equals);
	else
		buf_printf(text, "'--%s%s[", option->name, equals);
	completion_add_quoted(option->help, text);
	buf_add_str(text, "]");
	if (option->value.type != ARGUMENT_FLAG)
		completion_add_zsh_value(&option->value, option->fallback != NULL,
								 text);
	buf_add_str(text, "'\n");
}

static void
completion_add_zsh_options(const ArgumentTable *table, uint64_t options,
						   Buf *text)
{
	for (int i = 0; i < table->option_count; i++)
		if (options & ARGUMENT_BIT(i))
			completion_add_zsh_option(&table->options[i], text);
}

static void
completion_add_zsh_command(const ArgumentTable	 *table,
						   const ArgumentCommand *command, Buf *text)
{
	buf_printf(text, "\t\t'%s')\n\t\t\tspecs+=(\n", command->name);
	completion_add_zsh_options(table, command->allowed, text);
	if (command->operands_max > 0)
	{
		buf_add_str(text, "\t\t\t\t'*");
		completion_add_zsh_value(&command->operand, false, text);
		buf_add_str(text, "'\n");
	}
	buf_add_str(text, "\t\t\t) ;;\n");
}

/* The words that may follow, with what they do. */
static void
completion_add_zsh_words(const ArgumentTable *table, const char *group,
						 Buf *text)
{
	buf_printf(text, "\t\t'%s')\n\t\t\twords=(\n", group != NULL ? group : "");
	for (int i = 0; i < table->command_count; i++)
	{
		const ArgumentCommand *command = &table->commands[i];
		size_t				   len = strcspn(command->name, " ");

		if (group != NULL ? !arguments_begin_with(command->name, group)
						  : completion_is_repeated(table, i))
			continue;
		buf_printf(text, "\t\t\t\t'%.*s:",
				   group != NULL ? (int) strlen(command->name) : (int) len,
				   group != NULL ? command->name + len + 1 : command->name);
		if (group == NULL && command->name[len] == ' ')
			completion_add_quoted(table->group_summary, text);
		else
			completion_add_quoted(command->summary, text);
		buf_add_str(text, "'\n");
	}
	buf_add_str(text, "\t\t\t) ;;\n");
}

void
completion_add_zsh(const ArgumentTable *table, Buf *text)
{
	char *function = completion_function(table);

	buf_printf(text,
			   "#compdef %s\n"
			   "# made of the program's table of commands\n"
			   "\n"
			   "%s_words() {\n"
			   "\tlocal -a words\n"
			   "\tcase $1 in\n",
			   table->program, function);
	completion_add_zsh_words(table, NULL, text);
	for (int i = 0; i < table->command_count; i++)
		if (strchr(table->commands[i].name, ' ') != NULL &&
			!completion_is_repeated(table, i))
		{
			char *group = xasprintf("%.*s",
									(int) strcspn(table->commands[i].name, " "),
									table->commands[i].name);

			completion_add_zsh_words(table, group, text);
			free(group);
		}
	buf_printf(text,
			   "\tesac\n"
			   "\t_describe command words\n"
			   "}\n"
			   "\n"
			   "%s() {\n"
			   "\tlocal -a specs\n"
			   "\tlocal command=''\n"
			   "\tinteger i\n"
			   "\n"
			   "\tspecs=(\n",
			   function);
	completion_add_zsh_options(table, table->common, text);
	buf_add_str(text, "\t)\n"
					  "\tfor ((i = 2; i < CURRENT; i++)); do\n"
					  "\t\tcase $words[i] in\n"
					  "\t\t\t");
	completion_add_patterns(table, completion_takes_value, text);
	buf_add_str(text, ") ((i++)) ;;\n"
					  "\t\t\t-*) ;;\n"
					  "\t\t\t*) [[ $command != (''");
	completion_add_groups(table, text);
	buf_add_str(text, ") ]] ||"
					  " command+=${command:+ }$words[i] ;;\n"
					  "\t\tesac\n"
					  "\tdone\n"
					  "\tcase $command in\n"
					  "\t\t''");
	completion_add_groups(table, text);
	buf_printf(text, ") specs+=(\"*: :%s_words '$command'\") ;;\n", function);
	for (int i = 0; i < table->command_count; i++)
		completion_add_zsh_command(table, &table->commands[i], text);
	buf_printf(text,
			   "\tesac\n"
			   "\t_arguments -s : $specs\n"
			   "}\n"
			   "\n"
			   "%s \"$@\"\n",
			   function);
	free(function);
}
