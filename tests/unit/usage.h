/*
 * usage.h - what must hold for each daemon's table of commands
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_UNIT_USAGE_H
#define PGSTOCK_UNIT_USAGE_H

#include <string.h>

#include "common/arguments.h"
#include "unit.h"

#define HELP_COLUMNS_MAX 79

static void
expect_narrow(const Buf *text)
{
	size_t column = 0;

	for (size_t i = 0; i < text->len; i++)
	{
		column = text->data[i] == '\n' ? 0 : column + 1;
		if (column > HELP_COLUMNS_MAX)
			fail_msg("a line is too long:\n%.*s", (int) i, text->data);
		if (text->data[i] == '\n' && i > 0)
			assert_int_not_equal(text->data[i - 1], ' ');
	}
}

/* What the parser rests on. */
static void
expect_sound_table(const ArgumentTable *table)
{
	uint64_t used = table->common;

	for (int i = 0; i < table->command_count; i++)
	{
		const ArgumentCommand *command = &table->commands[i];
		uint64_t			   options = command->allowed | table->common;

		used |= command->allowed;
		assert_non_null(command->name);
		assert_int_equal(command->required & ~command->allowed, 0);
		assert_int_equal(command->allowed & table->common, 0);
		assert_int_equal(command->summary[strlen(command->summary) - 1] == '.',
						 0);
		assert_int_equal(command->help[strlen(command->help) - 1], '.');
		assert_int_equal(command->operands_max > 0,
						 command->operand.label != NULL);
		for (int a = 0; a < table->option_count; a++)
			for (int b = 0; b < a; b++)
				if ((options & ARGUMENT_BIT(a)) && (options & ARGUMENT_BIT(b)))
					assert_string_not_equal(table->options[a].name,
											table->options[b].name);
	}
	assert_int_equal(used, ARGUMENT_BIT(table->option_count) - 1);
}

/* Of two options of one name getopt knows the first. */
static void
expect_options_parsed_alike(const ArgumentTable *table)
{
	for (int a = 0; a < table->option_count; a++)
		for (int b = 0; b < a; b++)
		{
			const ArgumentOption *one = &table->options[a];
			const ArgumentOption *other = &table->options[b];
			bool				  same = strcmp(one->name, other->name) == 0;

			if (same)
			{
				assert_int_equal(one->value.type == ARGUMENT_FLAG,
								 other->value.type == ARGUMENT_FLAG);
				assert_int_equal(one->fallback == NULL,
								 other->fallback == NULL);
			}
			if (one->letter != 0)
				assert_int_equal(same, one->letter == other->letter);
		}
}

#endif
