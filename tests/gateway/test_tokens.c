/*
 * test_tokens.c - the file of access tokens, and who a header is
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "../unit/unit.h"

#include <string.h>
#include <unistd.h>

#include "access/tokens.h"

/* of "secret" and of "other" */
#define SECRET                         \
	"2bb80d537b1da3e38bd30361aa855686" \
	"bde0eacd7162fef6a25fe97bf527a25b"
#define OTHER                          \
	"d9298a10d1b0735837dc4bd85dac641b" \
	"0f3cef27a47e5d53a54f2f3f5b2fcffa"

static Tokens *
load(const char *text, Buf *error)
{
	char	path[] = "/tmp/pgstock-tokens-XXXXXX";
	int		fd = mkstemp(path);
	Tokens *tokens;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	tokens = tokens_load(path, error);
	unlink(path);
	return tokens;
}

static void
a_token_is_known_by_its_hash(void **state UNUSED)
{
	Buf		error = {0};
	Role	role = ROLE_READER;
	Tokens *tokens = load("# a comment\n\n  app  shop\t" SECRET
						  " \nadmin ann " OTHER "\r\n",
						  &error);

	assert_non_null(tokens);
	assert_string_equal(tokens_find(tokens, "Bearer secret", &role), "shop");
	assert_int_equal(role, ROLE_APP);
	assert_string_equal(tokens_find(tokens, "bearer other", &role), "ann");
	assert_int_equal(role, ROLE_ADMIN);
	assert_null(tokens_find(tokens, NULL, &role));
	assert_null(tokens_find(tokens, "", &role));
	assert_null(tokens_find(tokens, "Bearer", &role));
	assert_null(tokens_find(tokens, "Bearer ", &role));
	assert_null(tokens_find(tokens, "Bearer  secret", &role));
	assert_null(tokens_find(tokens, "Bearer " SECRET, &role));
	assert_null(tokens_find(tokens, "Basic secret", &role));
	tokens_free(tokens);
	buf_free(&error);
}

static void
a_certificate_is_known_by_its_subject(void **state UNUSED)
{
	char  **names = strings_split("another, spiffe://shop/web");
	char  **none = strings_split("spiffe://shop/we, spiffe://shop/web/");
	char  **nobody = strings_split("");
	Buf		error = {0};
	Role	role = ROLE_READER;
	Tokens *tokens = load("app one " SECRET
						  "\nadmin web cert:spiffe://shop/web\n"
						  "reader late cert:another\n",
						  &error);

	assert_non_null(tokens);
	assert_string_equal(tokens_find_certificate(tokens, names, &role), "web");
	assert_int_equal(role, ROLE_ADMIN);
	assert_null(tokens_find_certificate(tokens, none, &role));
	assert_null(tokens_find_certificate(tokens, nobody, &role));
	/* no token has the hash of zeros that its line leaves */
	assert_null(tokens_find(tokens, "Bearer spiffe://shop/web", &role));
	assert_null(tokens_find(tokens, "Bearer cert:another", &role));
	strings_free(names);
	strings_free(none);
	strings_free(nobody);
	tokens_free(tokens);
	buf_free(&error);
}

static void
refused(const char *text, const char *why)
{
	Buf error = {0};

	assert_null(load(text, &error));
	assert_non_null(strstr(buf_str(&error), why));
	assert_null(strstr(buf_str(&error), SECRET));
	buf_free(&error);
}

static void
what_is_wrong_in_the_file_is_named_by_line(void **state UNUSED)
{
	Buf error = {0};

	refused("", "there is no token in");
	refused("# none\n", "there is no token in");
	refused("app shop cert:\n", ":1: give the name that the certificate");
	refused("app shop\n", ":1: give role, name and hash");
	refused("\napp shop " SECRET " more\n", ":2: give role, name and hash");
	refused("boss shop " SECRET, ":1: the role must be reader, app or admin");
	refused("app sh/op " SECRET, ":1: the name must be of up to 63");
	refused("app shop " SECRET "0", ":1: the hash must be the 64");
	refused("app shop secret", ":1: the hash must be the 64");
	refused("app shop zz" SECRET, ":1: the hash must be the 64");
	refused("app shop " SECRET "\nadmin ann " SECRET,
			":2: an earlier line has the same token");
	refused("app shop cert:a\nreader b cert:b\napp shop cert:a\n",
			":3: an earlier line has the same token or subject");
	assert_null(tokens_load("/nonexistent/tokens", &error));
	assert_non_null(strstr(buf_str(&error), "could not open the tokens"));
	buf_free(&error);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_token_is_known_by_its_hash),
		cmocka_unit_test(a_certificate_is_known_by_its_subject),
		cmocka_unit_test(what_is_wrong_in_the_file_is_named_by_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
