/*
 * test_sqlstate.c - classes of SQL errors
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include "common/sqlstate.h"

static void
transient_states_are_tried_again(void **state UNUSED)
{
	static const char *const transient[] = {
		"08006", "53300", "57P01", "57014", "40001", "40P01", "55P03",
	};
	static const char *const permanent[] = {
		"40002", "40003", "23505", "22P02", "42883",
		"P0001", "XX000", "SK001", "55006", "",
	};

	assert_int_equal(sqlstate_class(NULL), SQL_TRANSIENT);
	for (size_t i = 0; i < Lengthof(transient); i++)
		assert_int_equal(sqlstate_class(transient[i]), SQL_TRANSIENT);
	for (size_t i = 0; i < Lengthof(permanent); i++)
		assert_int_equal(sqlstate_class(permanent[i]), SQL_PERMANENT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transient_states_are_tried_again),
	};

	return cmocka_run_group_tests_name("sqlstate", tests, NULL, NULL);
}
