/*
 * test_backoff.c - pauses between tries
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include "common/backoff.h"

static void
pauses_grow_and_stay_in_bounds(void **state UNUSED)
{
	Backoff retry;
	int64_t longest = 0;

	backoff_init(&retry, 100 * MS_US, 5 * SEC_US, 42);
	for (int i = 0; i < 1000; i++)
	{
		int64_t before = Max(retry.pause_us, retry.base_us);
		int64_t pause = backoff_failed(&retry);

		assert_true(pause >= 100 * MS_US && pause <= 5 * SEC_US);
		assert_true(pause <= 3 * before);
		longest = Max(longest, pause);
	}
	assert_true(longest > 3 * SEC_US);
	assert_int_equal(retry.failures, 1000);
}

static void
success_begins_anew(void **state UNUSED)
{
	Backoff retry;

	backoff_init(&retry, 10, 100000, 7);
	for (int i = 0; i < 50; i++)
		assert_true(backoff_failed(&retry) > 0);
	backoff_succeeded(&retry);
	assert_int_equal(retry.failures, 0);
	assert_true(backoff_failed(&retry) <= 30);
}

static void
seeds_repeat_and_differ(void **state UNUSED)
{
	Backoff a;
	Backoff b;
	Backoff c;
	int		different = 0;

	backoff_init(&a, 10, 1000000, 1001);
	backoff_init(&b, 10, 1000000, 1001);
	backoff_init(&c, 10, 1000000, 2001);
	for (int i = 0; i < 50; i++)
	{
		int64_t pause = backoff_failed(&a);

		assert_true(pause == backoff_failed(&b));
		different += pause != backoff_failed(&c);
	}
	assert_true(different > 25);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pauses_grow_and_stay_in_bounds),
		cmocka_unit_test(success_begins_anew),
		cmocka_unit_test(seeds_repeat_and_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
