/*
 * test_progress.c - count, share, rate and time left of a command
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include "common/progress.h"

static void
expect_text(const ProgressMarks *marks, const char *shown)
{
	Buf text = {0};

	progress_format(marks, "events", &text);
	assert_string_equal(buf_str(&text), shown);
	buf_free(&text);
}

static void
note(ProgressMarks *marks, int64_t ms, int64_t done, double share)
{
	progress_note(marks, (ProgressMark){ms * MS_US, done, share});
}

static void
the_time_left_is_that_of_the_rate(void **state UNUSED)
{
	ProgressMarks marks = {0};

	note(&marks, 0, 0, 0);
	expect_text(&marks, "0 events, 0 %");
	note(&marks, 1000, 400, 0.1);
	expect_text(&marks, "400 events, 10 %, 400/s");
	note(&marks, 2000, 800, 0.2);
	expect_text(&marks, "800 events, 20 %, 400/s, 0:08 left");
	note(&marks, 10000, 4000, 1);
	expect_text(&marks, "4,000 events, 100 %, 400/s, 0:00 left");
}

/* It is not the average since the beginning. */
static void
a_pause_is_forgotten(void **state UNUSED)
{
	ProgressMarks marks = {0};

	note(&marks, 0, 0, 0);
	note(&marks, 60000, 0, 0);
	for (int s = 1; s <= 12; s++)
		note(&marks, 60000 + s * 1000, s * 10, s / 100.0);
	expect_text(&marks, "120 events, 12 %, 10/s, 1:28 left");
	assert_int_equal(marks.count, PROGRESS_MARKS);
}

/* A mark a second, however often it is called. */
static void
marks_are_a_second_apart(void **state UNUSED)
{
	ProgressMarks marks = {0};

	for (int i = 0; i <= 5000; i++)
		note(&marks, i, i, PROGRESS_UNKNOWN);
	assert_in_range(marks.count, 5, 7);
	assert_int_equal(marks.marks[0].at_us, 0);
	assert_int_equal(marks.marks[marks.count - 1].done, 5000);
	expect_text(&marks, "5,000 events, 1,000/s");
}

static void
nothing_is_divided_by_zero(void **state UNUSED)
{
	ProgressMarks marks = {0};

	note(&marks, 5, 1, 0);
	note(&marks, 5, 2, 0);
	expect_text(&marks, "2 events, 0 %");
	note(&marks, 9000, 2, 0);
	expect_text(&marks, "2 events, 0 %, 0.1/s");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_time_left_is_that_of_the_rate),
		cmocka_unit_test(a_pause_is_forgotten),
		cmocka_unit_test(marks_are_a_second_apart),
		cmocka_unit_test(nothing_is_divided_by_zero),
	};

	return cmocka_run_group_tests_name("progress", tests, NULL, NULL);
}
