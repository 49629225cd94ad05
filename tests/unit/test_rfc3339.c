/*
 * test_rfc3339.c - moments as text
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include "common/rfc3339.h"

static void
moments_have_a_zone(void **state UNUSED)
{
	static const struct
	{
		const char *text;
		int64_t		us;
	} good[] = {
		{"1970-01-01T00:00:01Z", 1000000},
		{"1970-01-01 00:00:01Z", 1000000},
		{"1970-01-01T00:00:00.5Z", 500000},
		{"1970-01-01T00:00:00.123456789Z", 123456},
		{"1970-01-01T01:00:00+01:00", 0},
		{"1970-01-01 02:00:00.25+02", 250000},
		{"2026-01-31T12:00:00Z", 1769860800000000},
		{"9999-12-31T23:59:59Z", 253402300799000000},
	};
	static const struct
	{
		const char *text;
		Rfc3339		why;
	} bad[] = {
		{"", RFC3339_MALFORMED},
		{"1d", RFC3339_MALFORMED},
		{"yesterday", RFC3339_MALFORMED},
		{"2026-01-31", RFC3339_MALFORMED},
		{"2026-01-31T12:00:00", RFC3339_MALFORMED},
		{"2026-01-31T12:00Z", RFC3339_MALFORMED},
		{"2026-13-31T12:00:00Z", RFC3339_MALFORMED},
		{"2026-02-30T12:00:00Z", RFC3339_NO_SUCH_DAY},
		{"2026-01-31T12:00:00Zx", RFC3339_MALFORMED},
		{"2026-01-31T12:00:00.Z", RFC3339_MALFORMED},
		{"1969-12-31T23:59:59Z", RFC3339_BEFORE_1970},
		{"9999-12-31T23:59:59-14:00", RFC3339_MALFORMED},
	};
	int64_t us;

	for (size_t i = 0; i < Lengthof(good); i++)
	{
		assert_int_equal(rfc3339_parse(good[i].text, &us), RFC3339_VALID);
		assert_int_equal(us, good[i].us);
	}
	for (size_t i = 0; i < Lengthof(bad); i++)
		if (rfc3339_parse(bad[i].text, &us) != bad[i].why)
			fail_msg("\"%s\" is not refused as %d", bad[i].text, bad[i].why);
}

static void
a_second_is_shown_as_it_is_read(void **state UNUSED)
{
	Buf		text = {0};
	int64_t us;

	rfc3339_add_second(&text, 1769860800);
	assert_string_equal(buf_str(&text), "2026-01-31T12:00:00");
	buf_add_str(&text, "Z");
	assert_int_equal(rfc3339_parse(buf_str(&text), &us), RFC3339_VALID);
	assert_int_equal(us, 1769860800 * SEC_US);
	buf_free(&text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moments_have_a_zone),
		cmocka_unit_test(a_second_is_shown_as_it_is_read),
	};

	return cmocka_run_group_tests_name("rfc3339", tests, NULL, NULL);
}
