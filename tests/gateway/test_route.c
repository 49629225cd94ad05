/*
 * test_route.c - the parts of a URL: which route they name, and which text
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "../unit/unit.h"

#include <string.h>

#include "api/decode.h"
#include "api/form.h"
#include "api/request.h"

/* The operation that the request names, or what it is refused with. */
static const char *
found(const char *method, const char *path, Values *values)
{
	static char	 text[256];
	Buf			 allowed = {0};
	Buf			 error = {0};
	const Route *route = route_find(method, path, 0, values, &allowed, &error);

	snprintf(text, sizeof(text), "%s",
			 route != NULL	   ? route->operation
			 : allowed.len > 0 ? buf_str(&allowed)
			 : error.len > 0   ? buf_str(&error)
							   : "none");
	buf_free(&allowed);
	buf_free(&error);
	return text;
}

static void
expect(const char *method, const char *path, const char *what,
	   const char *value)
{
	Values		values = {0};
	bool		any = false;
	const char *is = found(method, path, &values);

	assert_string_equal(is, what);
	for (int i = 0; i < FIELDS_MAX; i++)
		if (values.text[i] != NULL)
		{
			assert_non_null(value);
			assert_string_equal(values.text[i], value);
			any = true;
		}
	assert_int_equal(any, value != NULL);
	values_free(&values);
}

static void
a_path_names_a_route_and_its_fields(void **state UNUSED)
{
	expect("POST", "/orders", "reserveOrder", NULL);
	expect("GET", "/orders/o-1", "getOrder", "o-1");
	expect("HEAD", "/orders/o-1", "getOrder", "o-1");
	expect("POST", "/orders/a%2Fb/confirm", "confirmOrder", "a/b");
	expect("POST", "/products/%C3%A9/stock/reserve", "reserveStock",
		   "\xc3\xa9");
	expect("DELETE", "/sales/s", "closeSale", "s");
}

static void
other_paths_name_none(void **state UNUSED)
{
	static const char *const paths[] = {
		"",			  "/",		"orders",	"/orders/",			  "//orders",
		"/orders/x/", "/order", "/ordersx", "/orders/a/confirm/", "/livez/",
	};

	for (size_t i = 0; i < Lengthof(paths); i++)
		expect("POST", paths[i], "none", NULL);
	expect("PUT", "/orders", "POST, GET", NULL);
	expect("POST", "/orders/%zz/confirm",
		   "\"order_id\" is not text in UTF-8, percent-encoded", NULL);
}

/* Not even its methods are named. */
static void
a_kind_that_is_not_served_has_no_routes(void **state UNUSED)
{
	static const char *const methods[] = {"GET", "HEAD", "POST"};
	static const char *const paths[] = {"/console", "/console/",
										"/console/main.js"};
	Values					 values = {0};
	Buf						 allowed = {0};
	Buf						 error = {0};

	for (size_t m = 0; m < Lengthof(methods); m++)
		for (size_t p = 0; p < Lengthof(paths); p++)
			assert_null(route_find(methods[m], paths[p], KIND_BIT(ROUTE_FILE),
								   &values, &allowed, &error));
	assert_true(allowed.len == 0 && error.len == 0);
	expect("GET", "/console/", "getConsole", NULL);
}

static bool
has(const Route *route, const char *text)
{
	return route->sql != NULL && strstr(route->sql, text) != NULL;
}

/* Those that the table names are those of the statement. */
static void
check_answers(const Route *route)
{
	assert_int_not_equal(route->answers, 0);
	assert_int_equal(has(route, " 404 "), route->missing != PROBLEM_INVALID);
	if (route->kind != ROUTE_JSON && route->kind != ROUTE_EVENT)
		return;
	assert_int_equal(has(route, "201,"), (route->answers & ANSWER_NEW) != 0);
	assert_int_equal(has(route, "202"), (route->answers & ANSWER_LATER) != 0);
	assert_int_equal(has(route, "200"), (route->answers & ANSWER_DONE) != 0);
}

/* The table's own rules: what parsing, metrics and description rest on. */
static void
each_route_is_sound(void **state UNUSED)
{
	for (int i = 0; i < route_count; i++)
	{
		const Route *route = &routes[i];
		int			 count = 0;

		assert_int_equal(route->kind >= ROUTE_ABOUT, route->sql == NULL);
		check_answers(route);
		for (; route->fields[count].name != NULL; count++)
			assert_non_null(route->fields[count].help);
		assert_true(count <= FIELDS_MAX);
		for (int j = 0; j < i; j++)
			assert_string_not_equal(routes[j].operation, route->operation);
	}
}

static void
decodes(const char *encoded, const char *text)
{
	char *decoded = decode_segment(encoded, strlen(encoded));

	if (text == NULL)
		assert_null(decoded);
	else
	{
		assert_non_null(decoded);
		assert_string_equal(decoded, text);
	}
	free(decoded);
}

static void
only_text_is_decoded(void **state UNUSED)
{
	decodes("", "");
	decodes("a+b", "a+b");
	decodes("%41%62%2f", "Ab/");
	decodes("%", NULL);
	decodes("%4", NULL);
	decodes("%4g", NULL);
	decodes("%g4", NULL);
	decodes("a%00b", NULL);
	decodes("%c0%80", NULL);	   /* too long a form of NUL */
	decodes("%ed%a0%80", NULL);	   /* a surrogate */
	decodes("%f4%90%80%80", NULL); /* beyond Unicode */
	decodes("%e2%82", NULL);	   /* cut off */
	decodes("%e2%82%ac", "\xe2\x82\xac");
}

/* What the text is as a header, or what it is refused with. */
static void
is_key(const char *text, bool good, const char *what)
{
	static const Field field = {"Key", IN_HEADER, FIELD_KEY, false, NULL};
	char			  *value = NULL;
	Buf				   error = {0};

	assert_int_equal(form_set_text(&field, text, &value, &error), good);
	if (good)
		assert_string_equal(value, what);
	else
		assert_non_null(strstr(buf_str(&error), what));
	free(value);
	buf_free(&error);
}

static void
a_key_may_be_a_quoted_string(void **state UNUSED)
{
	static const char *const malformed[] = {
		"\"",		"\"k",		"\"k\\\"", "\"k\"x",	   "\"k\";a=1",
		"\"a\"b\"", "\"a\\b\"", "\"\t\"",  "\"\xc3\xa9\"",
	};
	char longest[260] = "\"";

	is_key("k", true, "k");
	is_key("\"k\"", true, "k");
	is_key("\" a\\\"b\\\\c~\"", true, " a\"b\\c~");
	is_key("\"k\" ", true, "k");
	is_key("a\"b\\\"", true, "a\"b\\\""); /* it begins with none */
	is_key("\xc3\xa9", true, "\xc3\xa9");
	is_key("", false, "is empty");
	is_key("\"\"", false, "is empty");
	for (size_t i = 0; i < Lengthof(malformed); i++)
		is_key(malformed[i], false, "no string of RFC 8941");
	memset(longest + 1, 'k', 256);
	longest[257] = '"';
	is_key(longest, false, "longer than 255 bytes");
	longest[256] = '\0';
	is_key(longest + 1, true, longest + 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_names_a_route_and_its_fields),
		cmocka_unit_test(other_paths_name_none),
		cmocka_unit_test(a_kind_that_is_not_served_has_no_routes),
		cmocka_unit_test(each_route_is_sound),
		cmocka_unit_test(only_text_is_decoded),
		cmocka_unit_test(a_key_may_be_a_quoted_string),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
