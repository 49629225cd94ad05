/*
 * document.c - makes manual pages and completion out of the tables
 *
 * What the program of a daemon's build does:
 *
 *	document manual		fills in the page that it reads from standard input
 *	document bash		completion for bash
 *	document zsh		completion for zsh
 *	document list		commands and their options, for dev/check-commands
 *	document parse ...	whether the daemon accepts this command line
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/document/document.h"

#include <stdio.h>
#include <string.h>

#include "common/exit_code.h"

/* A line of the form .\" @part@ is replaced, the others are copied. */
static bool
document_add_line(const DocumentSource *source, char *line, Buf *text)
{
	static const char begin[] = ".\\\" @";
	char			 *part = line + sizeof(begin) - 1;
	size_t			  len = strcspn(line, "\n");

	if (strncmp(line, begin, sizeof(begin) - 1) != 0 || line[len - 1] != '@')
	{
		buf_add_str(text, line);
		return true;
	}
	line[len - 1] = '\0';
	if (manual_add_part(source, part, text))
		return true;
	fprintf(stderr, "document: there is no part \"%s\"\n", part);
	return false;
}

static bool
document_add_manual(const DocumentSource *source, Buf *text)
{
	char line[1024];

	while (fgets(line, sizeof(line), stdin) != NULL)
		if (!document_add_line(source, line, text))
			return false;
	return true;
}

static void
document_add_list(const ArgumentTable *table, Buf *text)
{
	for (int i = 0; i < table->command_count; i++)
	{
		const ArgumentCommand *command = &table->commands[i];

		buf_printf(text, "%s\t", command->name);
		for (int j = 0; j < table->option_count; j++)
			if ((command->allowed | table->common) & ARGUMENT_BIT(j))
				buf_printf(text, " --%s", table->options[j].name);
		buf_add_str(text, "\n");
	}
}

/* The words of a command line, the first one in place of the program's name. */
static bool
document_parse(const ArgumentTable *table, int argc, char **argv)
{
	Arguments arguments;
	Buf		  error = {0};
	bool	  good = arguments_parse(table, argc, argv, &arguments, &error);

	if (!good)
		fprintf(stderr, "%s\n", buf_str(&error));
	buf_free(&error);
	return good;
}

int
document_main(const DocumentSource *source, int argc, char **argv)
{
	const ArgumentTable *table = source->commands;
	const char			*what = argc > 1 ? argv[1] : "";
	Buf					 text = {0};
	bool				 good = true;

	if (strcmp(what, "manual") == 0)
		good = document_add_manual(source, &text);
	else if (strcmp(what, "bash") == 0)
		completion_add_bash(table, &text);
	else if (strcmp(what, "zsh") == 0)
		completion_add_zsh(table, &text);
	else if (strcmp(what, "list") == 0)
		document_add_list(table, &text);
	else if (strcmp(what, "parse") == 0)
		good = document_parse(table, argc - 1, argv + 1);
	else
	{
		fputs("usage: document manual | bash | zsh | list | parse WORD...\n",
			  stderr);
		good = false;
	}
	if (good)
		fputs(buf_str(&text), stdout);
	buf_free(&text);
	return good && fflush(stdout) == 0 ? EXIT_CLEAN : EXIT_USAGE;
}
