/*
 * test_arguments.c - parsing of the command line, and its errors
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "commands/command_line.h"
#include "common/usage.h"

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
	usage_add_pointer(&command_line, &arguments, &usage);
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
	assert_null(a.values[ARG_REPLAY_TO]);
}

static void
options_have_short_forms(void **state UNUSED)
{
	Arguments a = expect_good("-c f -bk replay -nf 7", COMMAND_REPLAY);

	assert_string_equal(a.values[ARG_CONFIG], "f");
	assert_string_equal(a.values[ARG_KAFKA], "k");
	assert_string_equal(a.values[ARG_REPLAY_FROM], "7");
	assert_non_null(a.values[ARG_DRY_RUN]);
	assert_non_null(expect_good("-h", COMMANDS).values[ARG_HELP]);
	assert_non_null(expect_good("-V", COMMANDS).values[ARG_VERSION]);
	assert_non_null(expect_good("status -h", COMMAND_STATUS).values[ARG_HELP]);
	expect_bad("status -x", "unknown option \"-x\"");
	expect_bad("status -jx", "unknown option \"-x\"");
	expect_bad("run -c", "option \"--config\" needs a value: FILE");
}

/* The same name means another option in another command. */
static void
the_command_decides_what_a_name_means(void **state UNUSED)
{
	Arguments a = expect_good("--to 1 --topic t rewind", COMMAND_REWIND);

	assert_string_equal(a.values[ARG_REWIND_TO], "1");
	assert_string_equal(a.values[ARG_REWIND_TOPIC], "t");
	assert_null(a.values[ARG_REPLAY_TO]);
	a = expect_good("replay --from 1 --to 2", COMMAND_REPLAY);
	assert_string_equal(a.values[ARG_REPLAY_TO], "2");
	assert_null(a.values[ARG_REWIND_TO]);
	a = expect_good("audit --from 3", COMMAND_AUDIT);
	assert_string_equal(a.values[ARG_AUDIT_FROM], "3");
	assert_null(a.values[ARG_REPLAY_FROM]);
	a = expect_good("failed list --topic t", COMMAND_FAILED_LIST);
	assert_string_equal(a.values[ARG_FAILED_TOPIC], "t");
	expect_bad("audit --topic t", "\"audit\" takes no --topic");
}

static void
a_value_may_be_left_out(void **state UNUSED)
{
	static const char *const lines[] = {
		"status --watch 7", "status --watch=7",	  "status -w7",
		"--watch 7 status", "status -w 7 --json",
	};

	for (size_t i = 0; i < Lengthof(lines); i++)
		assert_string_equal(expect_good(lines[i], COMMAND_STATUS)
								.values[ARG_WATCH],
							"7");
	assert_string_equal(expect_good("status --watch", COMMAND_STATUS)
							.values[ARG_WATCH],
						"2");
	assert_string_equal(expect_good("--watch status", COMMAND_STATUS)
							.values[ARG_WATCH],
						"2");
	assert_string_equal(expect_good("status -w --json", COMMAND_STATUS)
							.values[ARG_WATCH],
						"2");
}

static void
mistakes_are_named(void **state UNUSED)
{
	expect_bad("", "no command");
	expect_bad("run --wings", "--wings");
	expect_bad("run --config", "needs a value");
	expect_bad("run extra", "\"extra\"");
	expect_bad("run --from 1", "takes no --from");
	expect_bad("replay", "needs --from");
	expect_bad("rewind --to 1", "needs --topic");
	expect_bad("failed", "\"failed\" needs another word: list, show, retry, "
						 "discard, handled or export");
	expect_bad("failed fly", "\"failed fly\"");
	expect_bad("failedlist", "\"failedlist\"");
	expect_bad("failed discard 1", "needs --reason");
	expect_bad("failed discard --reason x", "needs an ID");
	expect_bad("failed show 1 2", "\"2\"");
	expect_bad("failed retry", "needs either IDs or a filter");
	expect_bad("failed retry 1 --topic t", "needs either IDs or a filter");
	expect_bad("fly --wings", "--wings");
	expect_bad("run --config a --config b", "\"--config\" is given twice");
	expect_bad("status --json=yes", "\"--json\" takes no value");
	expect_bad("replay --t 1", "one of several: --topic --to");
}

static void
the_nearest_name_is_shown(void **state UNUSED)
{
	expect_bad("stauts", "\"stauts\": the nearest is \"status\"");
	expect_bad("stat", "the nearest is \"status\"");
	expect_bad("failed lst", "the nearest is \"failed list\"");
	expect_bad("failedlist", "the nearest is \"failed list\"");
	expect_bad("status --jsn", "\"--jsn\": the nearest is \"--json\"");
	expect_bad("replay --form=1", "\"--form\": the nearest is \"--from\"");
	expect_bad("xyzzyx", "unknown command \"xyzzyx\"");
}

static void
values_are_checked(void **state UNUSED)
{
	expect_bad("failed list --state lost",
			   "--state: \"lost\" is not waiting, archived, retried or "
			   "discarded");
	expect_bad("failed list --since 1d", "--since: \"1d\" is not a time");
	expect_bad("replay --from yesterday", "neither a number nor a time");
	expect_bad("rewind --topic t --to -5", "\"-5\"");
	expect_bad("status --watch=0", "is not a number from 1 to 3600");
	expect_bad("status --watch=x", "is not a number from 1 to 3600");
	expect_bad("failed show 0", "ID: \"0\" is not a number of at least 1");
	expect_bad("discard x --reason r", "EVENT_ID: \"x\" is not an event id");
	expect_bad("run --config=", "--config: \"\" is empty");
	expect_good("discard 00000000-0000-4000-8000-0000000000aF --reason r",
				COMMAND_DISCARD);
	expect_good("failed list --since 2026-01-31T12:00:00Z",
				COMMAND_FAILED_LIST);
}

static void
help_is_asked_for_anywhere(void **state UNUSED)
{
	assert_int_equal(expect_good("replay --help", COMMAND_REPLAY).operand_count,
					 0);
	assert_string_equal(expect_good("failed --help", COMMANDS).group, "failed");
	expect_bad("fly --help", "unknown command \"fly\"");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_of_one_and_two_words),
		cmocka_unit_test(options_have_short_forms),
		cmocka_unit_test(the_command_decides_what_a_name_means),
		cmocka_unit_test(a_value_may_be_left_out),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(the_nearest_name_is_shown),
		cmocka_unit_test(values_are_checked),
		cmocka_unit_test(help_is_asked_for_anywhere),
	};

	return cmocka_run_group_tests_name("arguments", tests, NULL, NULL);
}
