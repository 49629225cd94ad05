/*
 * test_figures.c - numbers as people read them
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include "common/figures.h"

static void
expect(Buf *text, const char *shown)
{
	assert_string_equal(buf_str(text), shown);
	buf_free(text);
}

static void
expect_count(int64_t count, const char *shown)
{
	Buf text = {0};

	figures_add_count(&text, count);
	expect(&text, shown);
}

static void
expect_rate(double rate, const char *shown)
{
	Buf text = {0};

	figures_add_rate(&text, rate);
	expect(&text, shown);
}

static void
expect_bytes(int64_t bytes, const char *shown)
{
	Buf text = {0};

	figures_add_bytes(&text, bytes);
	expect(&text, shown);
}

static void
expect_duration(int64_t us, const char *shown)
{
	Buf text = {0};

	figures_add_duration(&text, us);
	expect(&text, shown);
}

static void
expect_clock(int64_t s, const char *shown)
{
	Buf text = {0};

	figures_add_clock(&text, s * SEC_US);
	expect(&text, shown);
}

static void
counts_have_commas(void **state UNUSED)
{
	expect_count(0, "0");
	expect_count(999, "999");
	expect_count(1000, "1,000");
	expect_count(1234567, "1,234,567");
	expect_count(-999, "-999");
	expect_count(-123456, "-123,456");
	expect_count(INT64_MIN, "-9,223,372,036,854,775,808");
}

static void
rates_have_two_digits(void **state UNUSED)
{
	expect_rate(0, "0/s");
	expect_rate(0.44, "0.4/s");
	expect_rate(9.94, "9.9/s");
	expect_rate(9.96, "10/s");
	expect_rate(1234.5, "1,235/s");
	expect_rate(1e300, "1,000,000,000,000,000/s");
}

static void
bytes_have_a_unit(void **state UNUSED)
{
	expect_bytes(0, "0 B");
	expect_bytes(1023, "1023 B");
	expect_bytes(1024, "1.0 kB");
	expect_bytes(1536, "1.5 kB");
	expect_bytes(1048575, "1.0 MB");
	expect_bytes(INT64_C(23) << 20, "23 MB");
	expect_bytes(INT64_MAX, "8192 PB");
}

static void
durations_have_two_units(void **state UNUSED)
{
	expect_duration(0, "0 ms");
	expect_duration(999999, "999 ms");
	expect_duration(4200 * MS_US, "4.2 s");
	expect_duration(59400 * MS_US, "59 s");
	expect_duration(59600 * MS_US, "1 min 0 s");
	expect_duration(200 * SEC_US, "3 min 20 s");
	expect_duration(7500 * SEC_US, "2 h 5 min");
	expect_duration(INT64_C(273600) * SEC_US, "3 d 4 h");
}

static void
a_clock_counts_down(void **state UNUSED)
{
	expect_clock(0, "0:00");
	expect_clock(38, "0:38");
	expect_clock(200, "3:20");
	expect_clock(7500, "2:05:00");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_have_commas),
		cmocka_unit_test(rates_have_two_digits),
		cmocka_unit_test(bytes_have_a_unit),
		cmocka_unit_test(durations_have_two_units),
		cmocka_unit_test(a_clock_counts_down),
	};

	return cmocka_run_group_tests_name("figures", tests, NULL, NULL);
}
