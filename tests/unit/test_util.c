/*
 * test_util.c - buffers, byte order, lists of names
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "util.h"

static void
buffer_grows_and_stays_a_string(void **state UNUSED)
{
	Buf			buf = {0};

	assert_string_equal(buf_str(&buf), "");
	for (int i = 0; i < 1000; i++)
		buf_printf(&buf, "%d,", i % 10);
	assert_int_equal(buf.len, 2000);
	assert_int_equal(strlen(buf_str(&buf)), 2000);
	buf_clear(&buf);
	buf_add_str(&buf, "short");
	assert_string_equal(buf_str(&buf), "short");
	buf_free(&buf);
	assert_null(buf.data);
}

static void
numbers_survive_network_order(void **state UNUSED)
{
	Buf			buf = {0};

	buf_add_u16(&buf, 0x1234);
	buf_add_u32(&buf, 0x89abcdef);
	buf_add_u64(&buf, UINT64_C(0x0123456789abcdef));
	assert_int_equal((unsigned char) buf.data[0], 0x12);
	assert_int_equal(read_u16(buf.data), 0x1234);
	assert_int_equal(read_u32(buf.data + 2), 0x89abcdef);
	assert_true(read_u64(buf.data + 6) == UINT64_C(0x0123456789abcdef));
	buf_free(&buf);
}

static void
lists_are_split_at_commas(void **state UNUSED)
{
	char	  **names = strings_split(" a, b c ,,d ,");

	assert_int_equal(strings_count(names), 3);
	assert_string_equal(names[0], "a");
	assert_string_equal(names[1], "b c");
	assert_string_equal(names[2], "d");
	strings_free(names);
	names = strings_split("");
	assert_int_equal(strings_count(names), 0);
	strings_free(names);
	strings_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buffer_grows_and_stays_a_string),
		cmocka_unit_test(numbers_survive_network_order),
		cmocka_unit_test(lists_are_split_at_commas),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
