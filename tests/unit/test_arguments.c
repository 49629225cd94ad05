/*
 * test_arguments.c - parsing of the command line, and its errors
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "commands/command_line.h"

#define WORDS_MAX 16

/* The words of a line, parsed; the caller frees *error. */
static bool
parse(const char *line, Arguments *arguments, Buf *error)
{
	static char	 memory[256];
	static char *argv[WORDS_MAX + 1];
	int			 argc = 0;
	char		*rest;

	snprintf(memory, sizeof(memory), "pgstock-relay %s", line);
	for (char *word = strtok_r(memory, " ", &rest); word != NULL;
		 word = strtok_r(NULL, " ", &rest))
	{
		Assert(argc < WORDS_MAX);
		argv[argc++] = word;
	}
	argv[argc] = NULL;
	return arguments_parse(&command_line, argc, argv, arguments, error);
}

static Arguments
expect_good(const char *line, CommandId command)
{
	Arguments arguments;
	Buf		  error = {0};

	assert_true(parse(line, &arguments, &error));
	assert_int_equal(error.len, 0);
	assert_int_equal(arguments.command, command);
	buf_free(&error);
	return arguments;
}

static void
expect_bad(const char *line, const char *named)
{
	Arguments arguments;
	Buf		  error = {0};
	Buf		  usage = {0};

	assert_false(parse(line, &arguments, &error));
	if (strstr(buf_str(&error), named) == NULL)
		fail_msg("\"%s\": \"%s\" does not say \"%s\"", line, buf_str(&error),
				 named);
	command_line_usage(&arguments, &usage);
	assert_non_null(strstr(buf_str(&usage), "Usage: "));
	buf_free(&usage);
	buf_free(&error);
}

static void
commands_of_one_and_two_words(void **state UNUSED)
{
	Arguments a = expect_good("run --config f", COMMAND_RUN);

	assert_string_equal(a.values[ARG_CONFIG], "f");
	a = expect_good("--config f failed retry 1 --kafka k 2",
					COMMAND_FAILED_RETRY);
	assert_int_equal(a.operand_count, 2);
	assert_string_equal(a.operands[0], "1");
	assert_string_equal(a.operands[1], "2");
	assert_string_equal(a.values[ARG_KAFKA], "k");
	a = expect_good("failed --state waiting list", COMMAND_FAILED_LIST);
	assert_string_equal(a.values[ARG_STATE], "waiting");
	assert_int_equal(a.operand_count, 0);
	a = expect_good("replay --dry-run --from 7", COMMAND_REPLAY);
	assert_non_null(a.values[ARG_DRY_RUN]);
	assert_null(a.values[ARG_TO]);
}

static void
mistakes_are_named(void **state UNUSED)
{
	expect_bad("", "no command");
	expect_bad("fly", "\"fly\"");
	expect_bad("run --wings", "--wings");
	expect_bad("run --config", "needs a value");
	expect_bad("run extra", "\"extra\"");
	expect_bad("run --from 1", "takes no --from");
	expect_bad("replay", "needs --from");
	expect_bad("rewind --to 1", "needs --topic");
	expect_bad("failed", "\"failed\" what?");
	expect_bad("failed fly", "\"failed fly\"");
	expect_bad("failedlist", "\"failedlist\"");
	expect_bad("failed discard 1", "needs --reason");
	expect_bad("failed discard --reason x", "needs an id");
	expect_bad("failed show 1 2", "\"2\"");
	expect_bad("fly --wings", "--wings");
}

static void
expect_usage(const char *line, CommandId command, const char *has,
			 const char *has_not)
{
	Arguments a = expect_good(line, command);
	Buf		  usage = {0};

	command_line_usage(&a, &usage);
	assert_non_null(strstr(buf_str(&usage), has));
	if (has_not != NULL)
		assert_null(strstr(buf_str(&usage), has_not));
	buf_free(&usage);
}

static void
help_is_the_commands_own(void **state UNUSED)
{
	expect_usage("--help", COMMANDS, "  failed export", NULL);
	expect_usage("--help", COMMANDS, "Exit codes", NULL);
	expect_usage("replay --help", COMMAND_REPLAY, "  replay", "  rewind");
	expect_usage("failed --help", COMMANDS, "  failed show", "  replay");
	expect_usage("failed retry --help", COMMAND_FAILED_RETRY, "  failed retry",
				 "  failed show");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_of_one_and_two_words),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(help_is_the_commands_own),
	};

	return cmocka_run_group_tests_name("arguments", tests, NULL, NULL);
}
