/*
 * test_option.c - from the text of an option to its value and back
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "config/config.h"
#include "config/options.h"
#include "kafka/record.h"

static const Option *
option_named(const char *key)
{
	for (size_t i = 0; i < relay_options.option_count; i++)
		if (strcmp(relay_options.options[i].key, key) == 0)
			return &relay_options.options[i];
	fail_msg("there is no option \"%s\"", key);
	return NULL;
}

/* Sets an option; *shown is then how the table shows it. */
static void
set(Config *config, const char *key, const char *text, Buf *shown)
{
	Buf error = {0};

	if (!option_set(option_named(key), config, text, &error))
		fail_msg("%s = %s: %s", key, text, buf_str(&error));
	option_get(option_named(key), config, shown);
	buf_free(&error);
}

static void
expect_refusal(const char *key, const char *text, const char *why)
{
	Config config = {0};
	Buf	   error = {0};

	if (option_set(option_named(key), &config, text, &error))
		fail_msg("%s = %s is taken", key, text);
	if (strstr(buf_str(&error), why) == NULL)
		fail_msg("%s = %s: \"%s\" is not in \"%s\"", key, text, why,
				 buf_str(&error));
	option_clear(option_named(key), &config);
	buf_free(&error);
}

static void
a_duration_has_a_unit_and_is_shown_in_the_largest(void **state UNUSED)
{
	static const struct
	{
		const char *text;
		int64_t		us;
		const char *shown;
	} durations[] = {
		{"250ms", 250 * MS_US, "250ms"},
		{"10s", 10 * SEC_US, "10s"},
		{"15m", 15 * 60 * SEC_US, "15m"},
		{"24h", INT64_C(86400) * SEC_US, "1d"},
		{"7d", 7 * INT64_C(86400) * SEC_US, "7d"},
		{"0s", 0, "0s"},
		{"0d", 0, "0s"},
		{"60000ms", 60 * SEC_US, "1m"},
		{"90m", 90 * 60 * SEC_US, "90m"},
		{"007s", 7 * SEC_US, "7s"},
	};
	Config config = {0};
	Buf	   shown = {0};

	for (size_t i = 0; i < Lengthof(durations); i++)
	{
		set(&config, "order_wait", durations[i].text, &shown);
		assert_true(config.order_wait_us == durations[i].us);
		assert_string_equal(buf_str(&shown), durations[i].shown);
	}
	buf_free(&shown);
}

static void
what_is_no_duration_is_refused_with_an_example(void **state UNUSED)
{
	static const char *const wrong[] = {
		"",
		"10",
		"s",
		"1.5s",
		"1e3s",
		"-1s",
		"10 s",
		"10S",
		"10sec",
		"10us",
		"1h30m",
		"0x10s",
		"99999999999999999999s",
		"9223372036854775807d",
		"10s ",
		"ten seconds",
	};

	for (size_t i = 0; i < Lengthof(wrong); i++)
		expect_refusal("order_wait", wrong[i], "such as 250ms");
}

static void
a_limit_is_named_in_the_units_of_the_option(void **state UNUSED)
{
	expect_refusal("poll_interval", "9ms", "must be between 10ms and 1m");
	expect_refusal("poll_interval", "61s", "must be between 10ms and 1m");
	expect_refusal("order_wait", "31d", "must be between 0s and 30d");
	expect_refusal("batch_rows", "0", "must be between 1 and 10000");
	expect_refusal("batch_rows", "10001", "must be between 1 and 10000");
	expect_refusal("batch_rows", "-1", "must be between");
	expect_refusal("retry_delays", "1s, 8d", "must be between 1ms and 7d");
}

static void
the_limits_themselves_are_taken(void **state UNUSED)
{
	Config config = {0};
	Buf	   shown = {0};

	set(&config, "poll_interval", "10ms", &shown);
	set(&config, "poll_interval", "1m", &shown);
	set(&config, "batch_rows", "1", &shown);
	set(&config, "batch_rows", "10000", &shown);
	assert_string_equal(buf_str(&shown), "10000");
	buf_free(&shown);
}

static void
a_number_is_whole_and_nothing_else(void **state UNUSED)
{
	static const char *const wrong[] = {
		"", "many", "1.0", "1e3", "10 000", "10k", "99999999999999999999",
	};

	for (size_t i = 0; i < Lengthof(wrong); i++)
		expect_refusal("batch_rows", wrong[i], "is not a whole number");
}

static void
there_are_as_many_retries_as_delays(void **state UNUSED)
{
	Config config = {0};
	Buf	   shown = {0};
	Buf	   many = {0};

	set(&config, "retry_delays", "10s,30s , 1m", &shown);
	assert_int_equal(config.retry_delays.count, 3);
	assert_true(config.retry_delays.us[2] == 60 * SEC_US);
	assert_string_equal(buf_str(&shown), "10s, 30s, 1m");
	set(&config, "retry_delays", "", &shown);
	assert_int_equal(config.retry_delays.count, 0);
	expect_refusal("retry_delays", "10s, soon", "\"soon\"");

	for (int i = 0; i < DURATIONS_MAX; i++)
		buf_add_str(&many, i > 0 ? ",1s" : "1s");
	set(&config, "retry_delays", buf_str(&many), &shown);
	assert_int_equal(config.retry_delays.count, DURATIONS_MAX);
	buf_add_str(&many, ",1s");
	expect_refusal("retry_delays", buf_str(&many), "holds more than 16");
	buf_free(&many);
	buf_free(&shown);
}

static void
a_choice_that_is_none_is_answered_with_those_there_are(void **state UNUSED)
{
	expect_refusal("log_level", "loud",
				   "\"loud\" is not one of error, warning, info, debug");
	expect_refusal("log_level", "Info", "is not one of");
	expect_refusal("log_level", "", "is not one of");
}

static void
a_set_is_any_of_its_choices_in_any_order(void **state UNUSED)
{
	Config config = {0};
	Buf	   shown = {0};

	set(&config, "header_profile", "debezium,cloudevents", &shown);
	assert_int_equal(config.header_profile,
					 HEADERS_CLOUDEVENTS | HEADERS_DEBEZIUM);
	assert_string_equal(buf_str(&shown), "cloudevents, debezium");
	set(&config, "header_profile", "plain, plain", &shown);
	assert_int_equal(config.header_profile, HEADERS_PLAIN);
	expect_refusal("header_profile", " , ", "must name at least one");
	expect_refusal("topics", "orders, payments, orders",
				   "names \"orders\" twice");
	expect_refusal("header_profile", "plain, fancy", "\"fancy\"");
	buf_free(&shown);
}

static void
a_first_offset_is_a_word_or_a_time_with_its_zone(void **state UNUSED)
{
	static const char *const wrong[] = {
		"",
		"Earliest",
		"tomorrow",
		"2026-01-31",
		"2026-01-31T12:00:00",
		"2026-13-31T12:00:00Z",
		"2026-01-31T12:00:00Z and so on",
		"1769860800",
		"9999-12-31T12:00:00-14:00", /* would be shown with year 10000 */
	};
	Config config = {0};
	Buf	   shown = {0};

	set(&config, "first_offset", "latest", &shown);
	assert_true(config.first_offset == FIRST_OFFSET_LATEST);
	assert_string_equal(buf_str(&shown), "latest");
	set(&config, "first_offset", "earliest", &shown);
	assert_true(config.first_offset == FIRST_OFFSET_EARLIEST);
	set(&config, "first_offset", "2026-01-31T13:00:00+01:00", &shown);
	assert_true(config.first_offset == INT64_C(1769860800000));
	assert_string_equal(buf_str(&shown), "2026-01-31T12:00:00Z");
	/* a reload compares what is shown, and reads it */
	set(&config, "first_offset", "2026-01-31T12:00:00.0509Z", &shown);
	assert_true(config.first_offset == INT64_C(1769860800050));
	assert_string_equal(buf_str(&shown), "2026-01-31T12:00:00.050Z");
	set(&config, "first_offset", buf_str(&shown), &shown);
	assert_true(config.first_offset == INT64_C(1769860800050));
	for (size_t i = 0; i < Lengthof(wrong); i++)
		expect_refusal("first_offset", wrong[i], "is not earliest, latest");
	expect_refusal("first_offset", "1969-12-31T23:59:59Z", "is before 1970");
	buf_free(&shown);
}

static void
every_option_stands_once_in_the_table_and_has_a_help(void **state UNUSED)
{
	const Option *options = relay_options.options;

	for (size_t i = 0; i < relay_options.option_count; i++)
	{
		assert_true(strlen(options[i].help) > 10);
		for (size_t j = 0; j < i; j++)
			assert_true(strcmp(options[i].key, options[j].key) != 0 ||
						strcmp(options[i].section, options[j].section) != 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_duration_has_a_unit_and_is_shown_in_the_largest),
		cmocka_unit_test(what_is_no_duration_is_refused_with_an_example),
		cmocka_unit_test(a_limit_is_named_in_the_units_of_the_option),
		cmocka_unit_test(the_limits_themselves_are_taken),
		cmocka_unit_test(a_number_is_whole_and_nothing_else),
		cmocka_unit_test(there_are_as_many_retries_as_delays),
		cmocka_unit_test(
			a_choice_that_is_none_is_answered_with_those_there_are),
		cmocka_unit_test(a_set_is_any_of_its_choices_in_any_order),
		cmocka_unit_test(a_first_offset_is_a_word_or_a_time_with_its_zone),
		cmocka_unit_test(every_option_stands_once_in_the_table_and_has_a_help),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
