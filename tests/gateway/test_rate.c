/*
 * test_rate.c - token buckets
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "../unit/unit.h"

#include "access/rate.h"

static void
a_rate_is_a_number_and_a_unit(void **state UNUSED)
{
	static const char *const bad[] = {
		"50", "/s", "0/s", "-1/s", "1.5/s", "50/h", "50/s ", "1000001/s",
	};
	Buf	   error = {0};
	double rate;

	assert_true(rate_parse("", &rate, &error));
	assert_true(rate == 0);
	assert_true(rate_parse("50/s", &rate, &error));
	assert_true(rate == 50);
	assert_true(rate_parse("30/m", &rate, &error));
	assert_true(rate == 0.5);
	for (size_t i = 0; i < Lengthof(bad); i++)
	{
		buf_clear(&error);
		rate = 7;
		assert_false(rate_parse(bad[i], &rate, &error));
		assert_true(error.len > 0);
		assert_true(rate == 7); /* an error is no value */
	}
	buf_free(&error);
}

/* Of one name that asks every millisecond. */
static int
passed(RateLimit *limit, const char *name, double rate, int64_t from,
	   int64_t until)
{
	int count = 0;

	for (int64_t now = from; now < until; now += MS_US)
		count += rate_take(limit, name, rate, now) == 0;
	return count;
}

static void
a_second_at_once_then_the_rate(void **state UNUSED)
{
	RateLimit *limit = rate_new();
	int64_t	   start = 5 * SEC_US;

	assert_int_equal(passed(limit, "a", 50, start, start + 50 * MS_US), 50);
	assert_in_range(passed(limit, "a", 50, start + 50 * MS_US,
						   start + 10 * SEC_US),
					490, 500);
	/* another name has its own bucket; without a rate nothing is limited */
	assert_int_equal(rate_take(limit, "b", 50, start + 10 * SEC_US), 0);
	assert_int_equal(passed(limit, "a", 0, start, start + SEC_US), 1000);
	rate_free(limit);
}

static void
the_wait_that_is_returned_is_long_enough(void **state UNUSED)
{
	RateLimit *limit = rate_new();
	int64_t	   now = SEC_US;
	int64_t	   wait;

	assert_int_equal(rate_take(limit, "a", 0.5, now), 0);
	wait = rate_take(limit, "a", 0.5, now);
	assert_in_range(wait, 1999 * MS_US, 2001 * MS_US);
	assert_true(rate_take(limit, "a", 0.5, now + wait - 10 * MS_US) > 0);
	assert_int_equal(rate_take(limit, "a", 0.5, now + wait), 0);
	rate_free(limit);
}

/* A hundred thousand names do not fit: those in use stay limited. */
static void
many_names_do_not_free_one_that_is_in_use(void **state UNUSED)
{
	RateLimit *limit = rate_new();
	int64_t	   now = SEC_US;
	int		   count = 0;
	char	   name[16];

	for (int i = 0; i < 100000; i++)
	{
		snprintf(name, sizeof(name), "n%d", i);
		now += 10;
		(void) !rate_take(limit, name, 1, now);
		if (i % 100 == 0)
			count += rate_take(limit, "busy", 1, now) == 0;
	}
	assert_in_range(count, 1, 10);
	rate_free(limit);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rate_is_a_number_and_a_unit),
		cmocka_unit_test(a_second_at_once_then_the_rate),
		cmocka_unit_test(the_wait_that_is_returned_is_long_enough),
		cmocka_unit_test(many_names_do_not_free_one_that_is_in_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
