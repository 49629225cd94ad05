/*
 * test_missing_topics.c - missing topics are recorded and reported once
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include "kafka/missing_topics.h"

static void
missing_topics_are_reported_once(void **state UNUSED)
{
	MissingTopics missing = {0};
	Buf			  sentence = {0};

	missing_topics_describe(&missing, &sentence);
	assert_int_equal(sentence.len, 0);
	assert_true(missing_topics_add(&missing, "a"));
	assert_true(missing_topics_add(&missing, "b"));
	assert_false(missing_topics_add(&missing, "a"));
	missing_topics_describe(&missing, &sentence);
	assert_string_equal(buf_str(&sentence), ", topics are missing: a, b");
	missing_topics_clear(&missing);
	assert_true(missing_topics_add(&missing, "a"));
	missing_topics_clear(&missing);
	buf_free(&sentence);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(missing_topics_are_reported_once),
	};

	return cmocka_run_group_tests_name("absent", tests, NULL, NULL);
}
