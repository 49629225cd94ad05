/*
 * manual.c - the parts of the manual pages that the tables have, in mdoc(7)
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <stdlib.h>
#include <string.h>

#include "common/document/document.h"
#include "common/usage.h"

#define WIDTH 76

/* ---- text -------------------------------------------------------------- */

/* A word in which nothing means something to roff. */
static void
manual_add_word(Buf *text, const char *word, size_t len)
{
	if (word[0] == '.' || word[0] == '\'')
		buf_add_str(text, "\\&");
	for (size_t i = 0; i < len; i++)
	{
		if (word[i] == '\\')
			buf_add_str(text, "\\e");
		else if (word[i] == '-' &&
				 (i == 0 || !strchr("abcdefghijklmnopqrstuvwxyz", word[i - 1])))
			buf_add_str(text, "\\-");
		else
			buf_add(text, &word[i], 1);
	}
}

void
manual_add_text(Buf *text, const char *words)
{
	size_t column = 0;
	bool   ended = false;

	while (*words != '\0')
	{
		size_t len = strcspn(words, " \n");

		if (column > 0 && (ended || column + 1 + len > WIDTH))
		{
			buf_add_str(text, "\n");
			column = 0;
		}
		else if (column > 0)
			buf_add_str(text, " ");
		manual_add_word(text, words, len);
		column += len + 1;
		ended = len > 0 && words[len - 1] == '.';
		words += len;
		words += strspn(words, " \n");
	}
	buf_add_str(text, "\n");
}

/* A phrase, as a sentence. */
static void
manual_add_sentence(Buf *text, const char *phrase)
{
	char *sentence = xasprintf("%s.", phrase);

	Assert(phrase[0] != '\0' && phrase[strlen(phrase) - 1] != '.');
	if (sentence[0] >= 'a' && sentence[0] <= 'z')
		sentence[0] = (char) (sentence[0] - 'a' + 'A');
	manual_add_text(text, sentence);
	free(sentence);
}

/* ---- commands ---------------------------------------------------------- */

static void
manual_add_value(Buf *text, const ArgumentOption *option)
{
	if (option->fallback != NULL)
		buf_printf(text, " Ns Op = Ns Ar %s", option->value.label);
	else if (option->value.type != ARGUMENT_FLAG)
		buf_printf(text, " Ar %s", option->value.label);
}

static void
manual_add_options(const ArgumentTable *table, uint64_t options, Buf *text)
{
	if (options == 0)
		return;
	buf_add_str(text, ".Bl -tag -width Ds\n");
	for (int i = 0; i < table->option_count; i++)
	{
		const ArgumentOption *option = &table->options[i];
		Buf					  help = {0};

		if (!(options & ARGUMENT_BIT(i)))
			continue;
		buf_add_str(text, ".It ");
		if (option->letter != 0)
			buf_printf(text, "Fl %c , ", option->letter);
		buf_printf(text, "Fl -%s", option->name);
		manual_add_value(text, option);
		buf_add_str(text, "\n");
		buf_add_str(&help, option->help);
		usage_add_range(option, &help);
		manual_add_sentence(text, buf_str(&help));
		buf_free(&help);
	}
	buf_add_str(text, ".El\n");
}

/* One form of it; filtered: the one with filters. */
static void
manual_add_form(const ArgumentTable *table, const ArgumentCommand *command,
				bool filtered, Buf *text)
{
	bool optional = command->operands_min == 0 && !command->either;

	Assert((command->required & ~command->allowed) == 0);
	buf_printf(text, ".It Xo\n.Cm %s\n", command->name);
	if (!filtered && command->operands_max > 0)
		buf_printf(text, ".%sAr %s%s\n", optional ? "Op " : "",
				   command->operand.label,
				   command->operands_max > 1 ? " ..." : "");
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < table->option_count; i++)
		{
			const ArgumentOption *option = &table->options[i];
			uint64_t			  bit = ARGUMENT_BIT(i);
			bool				  required = (command->required & bit) != 0;

			if (!(command->allowed & bit & ~table->filters) ||
				required != (round == 0))
				continue;
			buf_printf(text, ".%sFl -%s", required ? "" : "Op ", option->name);
			manual_add_value(text, option);
			buf_add_str(text, "\n");
		}
	if (filtered)
		buf_printf(text, ".%sAr FILTER ...\n", command->either ? "" : "Op ");
	buf_add_str(text, ".Xc\n");
}

static void
manual_add_commands(const ArgumentTable *table, Buf *text)
{
	for (int i = 0; i < table->command_count; i++)
	{
		const ArgumentCommand *command = &table->commands[i];
		bool filters = (command->allowed & table->filters) != 0;

		Assert(i > 0 || command->heading != NULL); /* it begins the list */
		if (command->heading != NULL)
			buf_printf(text, "%s.Ss %s\n.Bl -tag -width Ds\n",
					   i > 0 ? ".El\n" : "", command->heading);
		if (command->either)
			manual_add_form(table, command, false, text);
		manual_add_form(table, command, filters, text);
		manual_add_text(text, command->help);
		manual_add_options(table, command->allowed & ~table->filters, text);
	}
	buf_add_str(text, ".El\n");
}

/* ---- configuration ----------------------------------------------------- */

static void
manual_add_option(Buf *text, const Option *option)
{
	Buf line = {0};

	buf_printf(text, ".It Cm %s\n", option->key);
	manual_add_text(text, option->help);
	option_add_range(option, &line);
	if (option->value[0] != '\0')
		buf_printf(&line, "%sdefault: %s", line.len > 0 ? "; " : "",
				   option->value);
	if (line.len > 0)
		manual_add_sentence(text, buf_str(&line));
	if (!(option->flags & OPTION_RELOADS))
		manual_add_text(text, "A change needs a restart.");
	buf_free(&line);
}

static void
manual_add_section(Buf *text, const char *section)
{
	buf_printf(text, ".Ss [%s]\\&\n", section);
}

/* The section of another library's properties, where it follows that one. */
static void
manual_add_properties(const DocumentSource *source, const char *after,
					  Buf *text)
{
	const ConfigProperties *properties = source->options->properties;

	if (properties == NULL || strcmp(after, properties->printed_after) != 0)
		return;
	manual_add_section(text, properties->section);
	manual_add_text(text, source->properties_help);
}

static void
manual_add_config(const DocumentSource *source, Buf *text)
{
	const ConfigTable *table = source->options;
	const char		  *section = "";

	for (size_t i = 0; i < table->option_count; i++)
	{
		const Option *option = &table->options[i];

		if (strcmp(section, option->section) != 0)
		{
			if (i > 0)
				buf_add_str(text, ".El\n");
			manual_add_properties(source, section, text);
			section = option->section;
			manual_add_section(text, section);
			buf_add_str(text, ".Bl -tag -width Ds\n");
		}
		manual_add_option(text, option);
	}
	buf_add_str(text, ".El\n");
}

/* ---- parts ------------------------------------------------------------- */

bool
manual_add_part(const DocumentSource *source, const char *name, Buf *text)
{
	const ArgumentTable *table = source->commands;

	if (strcmp(name, "commands") == 0)
		manual_add_commands(table, text);
	else if (strcmp(name, "options") == 0)
		manual_add_options(table, table->common, text);
	else if (strcmp(name, "filters") == 0)
		manual_add_options(table, table->filters, text);
	else if (strcmp(name, "configuration") == 0)
		manual_add_config(source, text);
	else if (strcmp(name, "system") == 0)
		buf_printf(text, ".Os pgstock %s\n", PGSTOCK_VERSION);
	else
		return source->add_part != NULL && source->add_part(name, text);
	return true;
}
