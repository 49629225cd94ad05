/*
 * test_checks.c - the checks that no server here can fail
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "commands/check_parts.h"

static void
minor_versions_with_known_faults(void **state UNUSED)
{
	assert_int_equal(check_minor_version_min(150018), 150013);
	assert_int_equal(check_minor_version_min(160000), 160009);
	assert_int_equal(check_minor_version_min(170001), 170005);
	assert_int_equal(check_minor_version_min(180000), 0);
}

static void
a_tested_version_begins_with_an_entry(void **state UNUSED)
{
	assert_true(check_is_tested("15, 16", "15.9"));
	assert_true(check_is_tested("15, 16", "16"));
	assert_false(check_is_tested("15, 16", "17.1"));
	assert_false(check_is_tested("15, 16", "1"));
	assert_false(check_is_tested("15, 16", "160.1"));
	assert_true(check_is_tested("2.0, 2.8, 2.16", "2.16.1"));
	assert_true(check_is_tested("2.0, 2.8, 2.16", "2.8.0-RC2"));
	assert_false(check_is_tested("2.0, 2.1", "2.16.1"));
	assert_false(check_is_tested("2.0, 2.16", "2.1.0"));
	assert_false(check_is_tested("", "2.1.0"));
}

/* The check "min_isr" needs several brokers. */
static void
one_replica_of_several_is_few(void **state UNUSED)
{
	assert_false(check_min_isr_is_low(1, 1)); /* found by "replicas" */
	assert_true(check_min_isr_is_low(2, 1));
	assert_true(check_min_isr_is_low(3, 1));
	assert_false(check_min_isr_is_low(3, 2));
}

static void
expect_advice(const char *reason, const char *part)
{
	Buf advice = {0};

	check_database_advice(reason, "", &advice);
	if (strstr(buf_str(&advice), part) == NULL)
		fail_msg("%s: %s", reason, buf_str(&advice));
	buf_free(&advice);
}

static void
advice_by_text(void **state UNUSED)
{
	expect_advice("could not translate host name \"x\" to address",
				  "See host in [postgres] conninfo: the name server");
	expect_advice("FATAL:  remaining connection slots are reserved",
				  "max_connections");
	expect_advice("something new", "the server's log");
	assert_non_null(
		strstr(check_broker_advice("something new"), "bootstrap.servers"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(minor_versions_with_known_faults),
		cmocka_unit_test(a_tested_version_begins_with_an_entry),
		cmocka_unit_test(one_replica_of_several_is_few),
		cmocka_unit_test(advice_by_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
