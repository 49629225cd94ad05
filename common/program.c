/*
 * program.c - a program of commands, from main() to the command
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/program.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/safe_text.h"
#include "common/usage.h"

/*
 * The configuration holds secrets, and the libraries copies of them: none shall
 * be in a core file, and no other process of this user may look.
 * (AddressSanitizer looks for leaks from another process.)
 */
static void
program_hide_memory(void)
{
#ifndef __SANITIZE_ADDRESS__
	(void) prctl(PR_SET_DUMPABLE, 0);
#endif
	(void) setrlimit(RLIMIT_CORE, &(struct rlimit){0});
}

/*
 * A stream that is closed leaves its number to the first socket, and what is
 * written to the stream would go to a server.
 */
static void
program_open_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		(void) close(fd);
}

/* A full disk may be noticed only now: what was to be read is not there. */
static ExitCode
program_end_output(const Program *program, ExitCode code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	safe_line(stderr, "%s: could not write to standard output",
			  program->table->program);
	return code == EXIT_CLEAN ? EXIT_RUNTIME : code;
}

static void
program_print_error(const Program *program, const Arguments *arguments,
					Buf *error)
{
	Buf usage = {0};

	usage_add_pointer(program->table, arguments, &usage);
	safe_line(stderr, "%s: %s", program->table->program, buf_str(error));
	fprintf(stderr, "\n%s", buf_str(&usage));
	buf_free(&usage);
}

/* "help COMMAND", and "COMMAND --help" */
static ExitCode
program_print_help(const Program *program, const Arguments *arguments)
{
	const ArgumentTable *table = program->table;
	Arguments			 named = *arguments;
	Buf					 text = {0};
	Buf					 error = {0};
	ExitCode			 code = EXIT_CLEAN;

	if (arguments->command == program->help_command &&
		arguments->values[program->help_option] == NULL &&
		!usage_find_named(table, arguments, &named, &error))
	{
		named = (Arguments){.command = table->command_count};
		program_print_error(program, &named, &error);
		code = EXIT_USAGE;
	}
	else if (program->add_help != NULL)
		program->add_help(&named, &text);
	else
		usage_add_help(table, &named, &text);
	fputs(buf_str(&text), stdout);
	buf_free(&text);
	buf_free(&error);
	return code;
}

int
program_main(const Program *program, int argc, char **argv)
{
	Arguments arguments;
	Buf		  error = {0};
	ExitCode  code = EXIT_CLEAN;

	program_open_streams();
	program_hide_memory();
	if (!arguments_parse(program->table, argc, argv, &arguments, &error))
	{
		program_print_error(program, &arguments, &error);
		code = EXIT_USAGE;
	}
	else if (arguments.values[program->version_option] != NULL)
		program->print_version();
	else if (arguments.values[program->help_option] != NULL ||
			 arguments.command == program->help_command)
		code = program_print_help(program, &arguments);
	else
	{
		Assert(arguments.command < program->table->command_count);
		code = program->run(&arguments);
	}
	buf_free(&error);
	return program_end_output(program, code);
}
