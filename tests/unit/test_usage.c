/*
 * test_usage.c - the table of commands, and the help that is made of it
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "commands/command_line.h"
#include "common/usage.h"
#include "usage.h"

static void
the_table_is_sound(void **state UNUSED)
{
	expect_sound_table(&command_line);
}

static void
options_of_one_name_are_parsed_alike(void **state UNUSED)
{
	expect_options_parsed_alike(&command_line);
}

static void
every_help_fits_a_terminal(void **state UNUSED)
{
	for (int i = 0; i < COMMANDS; i++)
	{
		const ArgumentCommand *command = &command_line.commands[i];
		Buf					   text = {0};

		command_line_help(&(Arguments){.command = i}, &text);
		expect_narrow(&text);
		assert_non_null(strstr(buf_str(&text), command->name));
		for (int j = 0; j < ARGS; j++)
			if (command->allowed & ARGUMENT_BIT(j))
				assert_non_null(
					strstr(text.data, command_line.options[j].name));
		buf_free(&text);
	}
}

static void
the_overview_has_every_command(void **state UNUSED)
{
	Buf text = {0};

	command_line_help(&(Arguments){.command = COMMANDS}, &text);
	expect_narrow(&text);
	for (int i = 0; i < COMMANDS; i++)
		assert_non_null(strstr(buf_str(&text), command_line.commands[i].name));
	assert_non_null(strstr(text.data, "Exit codes"));
	buf_free(&text);
	command_line_help(&(Arguments){.command = COMMANDS, .group = "failed"},
					  &text);
	assert_non_null(strstr(text.data, "  failed show"));
	assert_null(strstr(text.data, "  replay"));
	buf_free(&text);
}

static void
expect_synopsis(CommandId command, const char *expected)
{
	Buf text = {0};

	usage_add_synopsis(&command_line, (int) command, &text);
	assert_string_equal(buf_str(&text), expected);
	buf_free(&text);
}

static void
a_synopsis_shows_what_is_required(void **state UNUSED)
{
	expect_synopsis(COMMAND_STATUS, "Usage: pgstock-relay status [--json] "
									"[--watch[=SECONDS]]\n");
	expect_synopsis(COMMAND_REPLAY,
					"Usage: pgstock-relay replay --from TIME|SEQ "
					"[--to TIME|SEQ] [--topic TOPIC]\n"
					"                            [--reason TEXT] "
					"[--dry-run]\n");
	expect_synopsis(COMMAND_FAILED_RETRY,
					"Usage: pgstock-relay failed retry ID... "
					"[--reason TEXT]\n"
					"       pgstock-relay failed retry [--reason TEXT] "
					"FILTER...\n");
	expect_synopsis(COMMAND_FAILED_EXPORT,
					"Usage: pgstock-relay failed export --csv "
					"[FILTER]...\n");
}

static void
expect_help(const char *first, const char *second, const char *part)
{
	char *words[] = {(char *) (uintptr_t) first, (char *) (uintptr_t) second};
	Arguments arguments = {.command = COMMAND_HELP, .operands = words};
	Arguments named;
	Buf		  text = {0};
	Buf		  error = {0};
	bool	  good;

	arguments.operand_count = (first != NULL) + (second != NULL);
	good = usage_find_named(&command_line, &arguments, &named, &error);
	if (good)
		command_line_help(&named, &text);
	assert_int_equal(good, error.len == 0);
	assert_non_null(strstr(buf_str(good ? &text : &error), part));
	buf_free(&text);
	buf_free(&error);
}

static void
help_takes_a_command(void **state UNUSED)
{
	expect_help(NULL, NULL, "COMMAND [OPTION]...");
	expect_help("replay", NULL, "pgstock-relay replay --from");
	expect_help("failed", NULL, "failed show");
	expect_help("failed", "show", "pgstock-relay failed show ID");
	expect_help("fialed", NULL, "unknown command \"fialed\"");
	expect_help("failed", "fly", "unknown command \"failed fly\"");
	expect_help("replay", "now", "there is no command \"replay now\"");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_is_sound),
		cmocka_unit_test(options_of_one_name_are_parsed_alike),
		cmocka_unit_test(every_help_fits_a_terminal),
		cmocka_unit_test(the_overview_has_every_command),
		cmocka_unit_test(a_synopsis_shows_what_is_required),
		cmocka_unit_test(help_takes_a_command),
	};

	return cmocka_run_group_tests_name("usage", tests, NULL, NULL);
}
