/*
 * test_start_offset.c - the offset at which reading of a partition begins
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "kafka/start_offset.h"

/* A macro, so that a failure names the line of the test. */
#define expect(next_, refuted_, first_, end_, kind_, from_)  \
	do                                                       \
	{                                                        \
		StartOffset to_ = start_offset_decide(&(StartFacts){ \
			.next = (next_),                                 \
			.refuted = (refuted_),                           \
			.first = (first_),                               \
			.end = (end_),                                   \
		});                                                  \
		assert_int_equal(to_.kind, kind_);                   \
		assert_int_equal(to_.from, from_);                   \
	} while (0)

static void
a_partition_is_read_on_where_the_record_before_proves_it(void **state UNUSED)
{
	expect(10, false, 3, 20, START_PROVE, 9);
	expect(10, false, 3, 10, START_PROVE, 9);
	/* nothing before it is left, or there never was: all is read */
	expect(10, false, 10, 20, START_READ, 10);
	expect(10, false, 10, 10, START_READ, 10);
	expect(0, false, 0, 20, START_READ, 0);
	/* the broker does not report it: the proof does */
	expect(10, false, -1, -1, START_PROVE, 9);
	expect(0, false, -1, -1, START_READ, 0);
}

static void
offsets_that_are_gone_are_named(void **state UNUSED)
{
	StartOffset to = start_offset_decide(&(StartFacts){
		.next = 10,
		.first = 15,
		.end = 20,
	});

	assert_int_equal(to.kind, START_MOVE);
	assert_int_equal(to.from, 15);
	assert_int_equal(to.last_missing, 14);
	assert_string_equal(to.reason, "retention");
	/* all of them; or, of a partition that was added, its first */
	expect(10, false, 20, 20, START_MOVE, 20);
	expect(0, false, 2, 20, START_MOVE, 2);
	/* in whichever history, these are all its records */
	expect(10, true, 15, 20, START_MOVE, 15);
}

static void
another_history_is_read_from_its_start(void **state UNUSED)
{
	StartOffset to = start_offset_decide(&(StartFacts){
		.next = 10,
		.first = 0,
		.end = 5,
	});

	assert_int_equal(to.kind, START_MOVE);
	assert_int_equal(to.from, 0);
	assert_int_equal(to.last_missing, -1);
	assert_string_equal(to.reason, "history");
	expect(10, false, 0, 9, START_MOVE, 0);
	expect(10, true, 0, 400, START_MOVE, 0);
	expect(10, true, 3, 10, START_MOVE, 3);
	/* that it is another one is known, but not where it starts */
	expect(10, true, -1, -1, START_WAIT, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_partition_is_read_on_where_the_record_before_proves_it),
		cmocka_unit_test(offsets_that_are_gone_are_named),
		cmocka_unit_test(another_history_is_read_from_its_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
