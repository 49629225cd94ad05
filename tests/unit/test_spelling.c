/*
 * test_spelling.c - how far a misspelt word is from a known one
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "common/spelling.h"

static void
the_distance_of_words_is_the_number_of_their_changes(void **state UNUSED)
{
	char long_word[200];

	assert_int_equal(spelling_distance("", ""), 0);
	assert_int_equal(spelling_distance("abc", "abc"), 0);
	assert_int_equal(spelling_distance("abc", ""), 3);
	assert_int_equal(spelling_distance("", "abc"), 3);
	assert_int_equal(spelling_distance("kitten", "sitting"), 3);
	assert_int_equal(spelling_distance("topics", "topcis"), 2);
	memset(long_word, 'x', sizeof(long_word));
	long_word[sizeof(long_word) - 1] = '\0';
	assert_true(spelling_distance(long_word, "topics") > 50);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_distance_of_words_is_the_number_of_their_changes),
	};

	return cmocka_run_group_tests_name("spelling", tests, NULL, NULL);
}
