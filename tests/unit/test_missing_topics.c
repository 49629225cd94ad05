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
	Absent absent = {0};
	Buf	   sentence = {0};

	absent_sentence(&absent, &sentence);
	assert_int_equal(sentence.len, 0);
	assert_true(absent_note(&absent, "a"));
	assert_true(absent_note(&absent, "b"));
	assert_false(absent_note(&absent, "a"));
	absent_sentence(&absent, &sentence);
	assert_string_equal(buf_str(&sentence), ", topics are missing: a, b");
	absent_forget_all(&absent);
	assert_true(absent_note(&absent, "a"));
	absent_forget_all(&absent);
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
