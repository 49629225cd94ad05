/*
 * test_util.c - buffers, byte order, lists of names
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/util.h"

static void
buffer_grows_and_stays_a_string(void **state UNUSED)
{
	Buf buf = {0};

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
	Buf buf = {0};

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
	char **names = strings_split(" a, b c ,,d ,");

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

static void
bytes_and_text_go_into_one_buffer(void **state UNUSED)
{
	Buf buf = {0};

	buf_add(&buf, "a\0b", 3);
	buf_add(&buf, NULL, 0);
	buf_printf(&buf, "%s-%d", "c", 7);
	assert_int_equal(buf.len, 6);
	assert_memory_equal(buf_str(&buf), "a\0bc-7", 7);
	for (int i = 0; i < 200; i++)
		buf_printf(&buf, "%0100d", i);
	assert_int_equal(buf.len, 6 + 200 * 100);
	assert_memory_equal(buf.data, "a\0bc-7", 6);
	buf_free(&buf);
}

static void
numbers_are_read_from_any_address(void **state UNUSED)
{
	static const char bytes[] = "\xff\x01\x02\x03\x04\x05\x06\x07\x08";

	assert_int_equal(read_u16(bytes + 1), 0x0102);
	assert_int_equal(read_u32(bytes + 1), 0x01020304);
	assert_true(read_u64(bytes + 1) == UINT64_C(0x0102030405060708));
}

/* In a child process, whose last output goes into a pipe. */
static void
a_failed_assertion_names_its_place_and_ends_the_process(void **state UNUSED)
{
	int		pipe_ends[2];
	char	words[200] = "";
	size_t	len = 0;
	ssize_t got;
	int		status;
	pid_t	child;

	assert_int_equal(pipe(pipe_ends), 0);
	child = fork();
	if (child == 0)
	{
		signal(SIGABRT, SIG_DFL);
		setrlimit(RLIMIT_CORE, &(struct rlimit){0});
		dup2(pipe_ends[1], STDERR_FILENO);
		Assert(child != 0);
	}
	close(pipe_ends[1]);
	while ((got = read(pipe_ends[0], words + len, sizeof(words) - 1 - len)) > 0)
		len += (size_t) got;
	close(pipe_ends[0]);
	assert_true(waitpid(child, &status, 0) == child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(words, "failed assertion child != 0 at "));
	assert_non_null(strstr(words, "test_util.c:"));
}

static void
numbers_are_digits(void **state UNUSED)
{
	static const char *const bad[] = {"",	"-1", "+1",	 " 1",
									  "1 ", "1x", "0x1", "9223372036854775808"};
	int64_t					 number;

	for (size_t i = 0; i < Lengthof(bad); i++)
		assert_false(parse_number(bad[i], &number));
	assert_true(parse_number("0", &number) && number == 0);
	assert_true(parse_number("9223372036854775807", &number));
	assert_int_equal(number, INT64_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_digits),
		cmocka_unit_test(buffer_grows_and_stays_a_string),
		cmocka_unit_test(numbers_survive_network_order),
		cmocka_unit_test(lists_are_split_at_commas),
		cmocka_unit_test(bytes_and_text_go_into_one_buffer),
		cmocka_unit_test(numbers_are_read_from_any_address),
		cmocka_unit_test(
			a_failed_assertion_names_its_place_and_ends_the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
