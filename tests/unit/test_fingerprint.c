/*
 * test_fingerprint.c - fingerprints of records equal those of the extension
 *
 * The numbers are those of regress/expected/history.out.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "kafka/fingerprint.h"

static Slice
slice(const char *text)
{
	return (Slice){text, text != NULL ? strlen(text) : 0};
}

static void
expect(int64_t time_ms, const char *key, const char *value, Slice headers,
	   const char *text)
{
	const ApiMessage message = {
		.timestamp_ms = time_ms,
		.key = slice(key),
		.value = slice(value),
		.headers = headers,
	};

	assert_string_equal(fingerprint_of(&message).text, text);
}

static void
it_is_the_same_as_the_extension_makes(void **state UNUSED)
{
	const int64_t time = INT64_C(1764000000000);
	const Slice	  none = {NULL, 0};
	const Slice	  one = {"\0\1h\0\0\0\1"
						   "1",
						 8};

	expect(time, "ab", "c", none, "1764000000000.e2b92cfa");
	expect(time, "a", "bc", none, "1764000000000.6ea96166");
	expect(time, "abc", "", none, "1764000000000.7a48eec4");
	expect(time, "abc", NULL, none, "1764000000000.099fa3b1");
	expect(time, "ab", "c", one, "1764000000000.f7066285");
	expect(-1, NULL, NULL, none, "-1.3bb006b2");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_the_same_as_the_extension_makes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
