/*
 * test_command_table.c - the table of commands, and the help that is made of it
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "../unit/usage.h"

#include "commands/command_line.h"
#include "common/usage.h"

static void
the_table_is_sound(void **state UNUSED)
{
	expect_sound_table(&command_line);
	expect_options_parsed_alike(&command_line);
}

static void
every_help_fits_a_terminal(void **state UNUSED)
{
	for (int i = 0; i <= COMMANDS; i++)
	{
		Buf text = {0};

		usage_add_help(&command_line, &(Arguments){.command = i}, &text);
		expect_narrow(&text);
		assert_non_null(strstr(text.data, i < COMMANDS
											  ? command_line.commands[i].name
											  : "Exit codes"));
		buf_free(&text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_is_sound),
		cmocka_unit_test(every_help_fits_a_terminal),
	};

	return cmocka_run_group_tests_name("command table", tests, NULL, NULL);
}
