/*
 * test_api.c - queries to the database, and how their results are read
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "db/api.h"

/* An answer such as libpq would give; values in text. */
static PGresult *
make_result(int columns, const char *const *values)
{
	PGresult	*result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	PGresAttDesc descriptions[12] = {0};

	for (int i = 0; i < columns; i++)
		descriptions[i].name = (char *) (uintptr_t) (i == 1
														 ? "extension_version"
														 : "c");
	assert_int_equal(PQsetResultAttrs(result, columns, descriptions), 1);
	for (int i = 0; values != NULL && i < columns; i++)
		assert_int_equal(PQsetvalue(result, 0, i,
									(char *) (uintptr_t) values[i],
									values[i] ? (int) strlen(values[i]) : -1),
						 1);
	return result;
}

static void
hello_is_read(void **state UNUSED)
{
	static const char *const values[] = {
		"1",	   "1.0",	"shop", "pgstock-12345678", "f", "t",
		"1000000", "an-id", "77",
	};
	static const char *const newer[] = {"2"};
	ApiHello				 hello;
	PGresult				*result = make_result(9, values);

	assert_true(api_read_hello(result, &hello));
	assert_int_equal(hello.relay_api, 1);
	assert_string_equal(hello.database, "shop");
	assert_string_equal(hello.inbox_group, "pgstock-12345678");
	assert_true(hello.preloaded && !hello.in_recovery);
	assert_int_equal(hello.max_event_bytes, 1000000);
	assert_string_equal(hello.incarnation, "an-id");
	assert_false(api_is_behind_pooler(&hello, 77));
	assert_true(api_is_behind_pooler(&hello, 78));
	PQclear(result);

	/* another version may have other columns: the number is enough */
	result = make_result(1, newer);
	assert_true(api_read_hello(result, &hello));
	assert_int_equal(hello.relay_api, 2);
	assert_string_equal(hello.extension_version, "of unknown version");
	PQclear(result);

	result = make_result(3, values);
	assert_false(api_read_hello(result, &hello));
	PQclear(result);
	result = make_result(9, NULL);
	assert_false(api_read_hello(result, &hello));
	PQclear(result);
}

/* Both sides are named, and the one to install. */
static void
another_relay_api_is_named(void **state UNUSED)
{
	static const char *const newer[] = {"2", "1.7"};
	static const char *const older[] = {"0", "0.9"};
	ApiHello				 hello;
	PGresult				*result = make_result(2, newer);
	char					*why;

	assert_true(api_read_hello(result, &hello));
	assert_int_equal(api_judge_hello(&hello, 0), EXIT_INCOMPATIBLE);
	why = api_mismatch(&hello);
	assert_string_equal(why,
						"extension pgstock 1.7 speaks relay_api 2, but "
						"pgstock-relay " PGSTOCK_VERSION " speaks relay_api 1");
	assert_non_null(strstr(api_mismatch_hint(&hello), "pgstock-relay"));
	free(why);
	PQclear(result);

	result = make_result(2, older);
	assert_true(api_read_hello(result, &hello));
	assert_string_equal(hello.extension_version, "0.9");
	assert_non_null(strstr(api_mismatch_hint(&hello), "ALTER EXTENSION"));
	PQclear(result);
}

static void
pages_of_another_shape_are_refused(void **state UNUSED)
{
	PGresult *result = make_result(10, NULL);

	assert_false(api_page_is_sound(result)); /* not binary */
	PQclear(result);
	result = make_result(11, NULL);
	assert_null(api_look_window(result));
	PQclear(result);
	result = make_result(9, NULL);
	assert_false(api_page_is_sound(result));
	PQclear(result);
}

static void
batches_are_binary_arrays(void **state UNUSED)
{
	ApiBatch		 batch = {0};
	const ApiMessage message = {
		.topic = {"t", 1},
		.partition = 3,
		.offset = 77,
		.timestamp_ms = -1,
		.key = {NULL, 0},
		.value = {"", 0},
	};
	static const char
		text_array[] = "\0\0\0\1\0\0\0\1\0\0\0\x19\0\0\0\0\0\0\0\1\0\0\0\1t";
	static const char null_element[] = "\xff\xff\xff\xff";
	static const char empty_element[] = "\0\0\0\0";

	for (int round = 0; round < 2; round++)
	{
		api_batch_begin(&batch);
		api_batch_add(&batch, &message);
		assert_int_equal(batch.count, 1);
		assert_int_equal(batch.arrays[0].len, sizeof(text_array) - 1);
		assert_memory_equal(batch.arrays[0].data, text_array,
							sizeof(text_array) - 1);
		assert_int_equal(read_u32(batch.arrays[1].data + 24), 3);
		assert_true(read_u64(batch.arrays[2].data + 24) == 77);
		assert_true((int64_t) read_u64(batch.arrays[3].data + 24) == -1);
		/* a null is not an empty value */
		assert_memory_equal(batch.arrays[4].data + 20, null_element, 4);
		assert_memory_equal(batch.arrays[5].data + 20, empty_element, 4);
		assert_memory_equal(batch.arrays[6].data + 20, null_element, 4);
	}
	api_batch_free(&batch);
}

static void
errors_have_a_state(void **state UNUSED)
{
	PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_FATAL_ERROR);
	char	 *text;

	assert_string_equal(api_sqlstate(result), "");
	text = api_error_text(result);
	assert_non_null(text);
	free(text);
	PQclear(result);
	result = PQmakeEmptyPGresult(NULL, PGRES_COMMAND_OK);
	assert_null(api_sqlstate(result));
	PQclear(result);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello_is_read),
		cmocka_unit_test(another_relay_api_is_named),
		cmocka_unit_test(pages_of_another_shape_are_refused),
		cmocka_unit_test(batches_are_binary_arrays),
		cmocka_unit_test(errors_have_a_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
