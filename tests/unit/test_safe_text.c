/*
 * test_safe_text.c - foreign text is made safe to print
 *
 * The story: an order id of "x\n18\tarchived\torder-created\t..." made a row of
 * its own in "failed list", and one with ESC ]0; renamed the terminal.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/safe_text.h"

static void
shown_as(const char *text, const char *safe, const char *json)
{
	Buf out = {0};

	safe_add(&out, text, strlen(text));
	assert_string_equal(buf_str(&out), safe);
	buf_clear(&out);
	json_add_string(&out, text);
	assert_string_equal(buf_str(&out), json);
	buf_free(&out);
}

static void
what_a_terminal_obeys_is_escaped(void **state UNUSED)
{
	shown_as("plain \\ \"q\"", "plain \\ \"q\"", "\"plain \\\\ \\\"q\\\"\"");
	shown_as("M\xc3\xbcller \xe5\xba\x93\xe5\xad\x98 \xf0\x9f\x98\x80",
			 "M\xc3\xbcller \xe5\xba\x93\xe5\xad\x98 \xf0\x9f\x98\x80",
			 "\"M\xc3\xbcller \xe5\xba\x93\xe5\xad\x98 \xf0\x9f\x98\x80\"");
	shown_as("a\nb\rc\td", "a\\nb\\rc\\td", "\"a\\u000ab\\u000dc\\u0009d\"");
	shown_as("\x1b]0;x\x07", "\\x1b]0;x\\x07", "\"\\u001b]0;x\\u0007\"");
	shown_as("\x7f", "\\x7f", "\"\\u007f\"");
	shown_as(" ~\x7f~ ", " ~\\x7f~ ", "\" ~\\u007f~ \"");
	/* C1: CSI in one character, which some terminals obey */
	shown_as("\xc2\x9b"
			 "31m",
			 "\\u{9b}31m", "\"\\u009b31m\"");
	/* overrides and isolates */
	shown_as("\xe2\x80\xae"
			 "abc\xe2\x81\xa6",
			 "\\u{202e}abc\\u{2066}", "\"\\u202eabc\\u2066\"");
	shown_as("\xe2\x80\xa8\xef\xbb\xbf", "\\u{2028}\\u{feff}",
			 "\"\\u2028\\ufeff\"");
	shown_as("\xf3\xa0\x81\x81", "\\u{e0041}", "\"\\udb40\\udc41\"");
}

static void
bytes_that_are_no_text_are_shown_as_bytes(void **state UNUSED)
{
	/* alone, cut off, too long a form, a surrogate, beyond Unicode */
	shown_as("\x9b", "\\x9b", "\"\\ufffd\"");
	shown_as("a\xe2\x80", "a\\xe2\\x80", "\"a\\ufffd\\ufffd\"");
	shown_as("\xc0\x8a", "\\xc0\\x8a", "\"\\ufffd\\ufffd\"");
	shown_as("\xed\xa0\x80", "\\xed\\xa0\\x80", "\"\\ufffd\\ufffd\\ufffd\"");
	shown_as("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80",
			 "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
	shown_as("\xff"
			 "a",
			 "\\xffa", "\"\\ufffda\"");
}

/* Any input becomes one line of plain characters. */
static void
any_bytes_make_one_line(void **state UNUSED)
{
	unsigned seed = 20261127;

	for (int round = 0; round < 20000; round++)
	{
		char   bytes[24];
		char  *line = NULL;
		size_t size;
		FILE  *stream = open_memstream(&line, &size);

		for (size_t i = 0; i < sizeof(bytes) - 1; i++)
			bytes[i] = (char) (1 + rand_r(&seed) % 255);
		bytes[sizeof(bytes) - 1] = '\0';
		safe_line(stream, "FAIL  %s", bytes);
		fclose(stream);
		assert_ptr_equal(strchr(line, '\n'), line + size - 1);
		for (size_t i = 0; i < size - 1;)
		{
			int32_t code;

			i += safe_decode(line + i, size - 1 - i, &code);
			assert_true(safe_is_plain(code));
		}
		free(line);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_terminal_obeys_is_escaped),
		cmocka_unit_test(bytes_that_are_no_text_are_shown_as_bytes),
		cmocka_unit_test(any_bytes_make_one_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
