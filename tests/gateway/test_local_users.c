/*
 * test_local_users.c - who of this machine is an administrator
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "../unit/unit.h"

#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "access/local_users.h"

#define NOBODY_HERE ((uid_t) 4000000000)

static void
listed_users_and_our_own_are_known(void **state UNUSED)
{
	char			   **names = strings_split("root, daemon");
	const struct passwd *own = getpwuid(geteuid());
	const struct passwd *other = getpwnam("daemon");
	Buf					 error = {0};
	LocalUsers			*users = local_users_new(names, &error);

	assert_non_null(users);
	assert_non_null(other);
	assert_string_equal(local_users_find(users, 0), "root");
	assert_string_equal(local_users_find(users, other->pw_uid), "daemon");
	assert_string_equal(local_users_find(users, geteuid()),
						own != NULL ? own->pw_name : "gateway");
	assert_null(local_users_find(users, NOBODY_HERE));
	local_users_free(users);
	strings_free(names);
}

static void
an_empty_list_is_nobody(void **state UNUSED)
{
	char	   *names[] = {NULL};
	Buf			error = {0};
	LocalUsers *users = local_users_new(names, &error);

	assert_non_null(users);
	assert_null(local_users_find(users, 0));
	assert_null(local_users_find(users, geteuid()));
	local_users_free(users);
}

static void
an_unknown_name_is_refused(void **state UNUSED)
{
	char **names = strings_split("root, no such user");
	Buf	   error = {0};

	assert_null(local_users_new(names, &error));
	assert_non_null(
		strstr(buf_str(&error), "could not find the user \"no such user\""));
	strings_free(names);
	buf_free(&error);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listed_users_and_our_own_are_known),
		cmocka_unit_test(an_empty_list_is_nobody),
		cmocka_unit_test(an_unknown_name_is_refused),
	};

	return cmocka_run_group_tests_name("local_users", tests, NULL, NULL);
}
