/*
 * program.h - a program of commands, from main() to the command
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_PROGRAM_H
#define PGSTOCK_COMMON_PROGRAM_H

#include "common/arguments.h"
#include "common/exit_code.h"

typedef struct Program
{
	const ArgumentTable *table;
	int					 help_command; /* its index: "help COMMAND" */
	int					 help_option;
	int					 version_option;
	/*
	 * Adds the help of a command, of a group or of all; NULL: usage_add_help()
	 * has all of it.
	 */
	void (*add_help)(const Arguments *arguments, Buf *text);
	void (*print_version)(void);
	/* Runs any command but "help". */
	ExitCode (*run)(const Arguments *arguments);
} Program;

/*
 * Parses the command line and does what it asks for.  Returns the exit code of
 * the process: EXIT_RUNTIME too if standard output could not be written.
 */
int program_main(const Program *program, int argc, char **argv);

#endif
