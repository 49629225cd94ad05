/*
 * test_destination.c - where alerts may be sent, and where they must not
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "common/destination.h"
#include "config/validate.h"

static bool
allows(const char *list, const char *address)
{
	char			  **allow = strings_split(list);
	struct sockaddr_in	v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	bool				is_v4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
	bool				answer;

	if (!is_v4)
		assert_int_equal(inet_pton(AF_INET6, address, &v6.sin6_addr), 1);
	answer = destination_allows(allow, is_v4 ? (const void *) &v4
											 : (const void *) &v6);
	strings_free(allow);
	return answer;
}

static void
only_public_addresses_by_default(void **state UNUSED)
{
	static const char *const others[] = {
		"0.0.0.0",
		"10.0.0.1",
		"100.64.0.1",
		"100.100.100.200",
		"127.0.0.1",
		"127.255.255.254",
		"169.254.169.254",
		"172.16.0.1",
		"172.31.255.255",
		"192.168.1.1",
		"198.18.0.1",
		"224.0.0.1",
		"240.0.0.1",
		"255.255.255.255",
		"168.63.129.16",
		"::",
		"::1",
		"::ffff:127.0.0.1",
		"::ffff:10.0.0.1",
		"::127.0.0.1",
		"64:ff9b::7f00:1",
		"64:ff9b::a9fe:a9fe",
		"2002:7f00:1::",
		"2001:0:7f00:1::",
		"2001:db8::1",
		"fc00::1",
		"fd00:ec2::254",
		"fe80::1",
		"ff02::1",
		"100::1",
	};
	static const char *const publics[] = {
		"1.1.1.1",		  "9.255.255.255",	 "11.0.0.0",
		"100.63.255.255", "100.128.0.0",	 "172.15.255.255",
		"172.32.0.0",	  "192.169.0.0",	 "223.255.255.255",
		"::ffff:1.1.1.1", "2606:4700::1111", "2a00::1",
		"2400:cb00::1",
	};

	for (size_t i = 0; i < Lengthof(others); i++)
	{
		if (allows("", others[i]) || allows("hook.example.com", others[i]))
			fail_msg("%s is allowed", others[i]);
		assert_true(allows("0.0.0.0/0, ::/0", others[i]));
	}
	for (size_t i = 0; i < Lengthof(publics); i++)
		if (!allows("", publics[i]) || !allows("hook.example.com", publics[i]))
			fail_msg("%s is not allowed", publics[i]);
}

static void
networks_are_the_only_ones(void **state UNUSED)
{
	assert_true(allows("10.1.0.0/16", "10.1.255.255"));
	assert_true(allows("10.1.0.0/16", "::ffff:10.1.0.1"));
	assert_true(allows("::ffff:10.1.0.0/112", "10.1.2.3"));
	assert_false(allows("10.1.0.0/16", "10.2.0.0"));
	assert_false(allows("10.1.0.0/16", "1.1.1.1"));
	assert_true(allows("192.168.4.0/23, 127.0.0.1", "192.168.5.9"));
	assert_true(allows("192.168.4.0/23, 127.0.0.1", "127.0.0.1"));
	assert_false(allows("192.168.4.0/23, 127.0.0.1", "192.168.6.0"));
	assert_false(allows("192.168.4.0/23, 127.0.0.1", "127.0.0.2"));
	assert_true(allows("fd00::/8", "fd12::1"));
	assert_false(allows("fd00::/8", "fc12::1"));
	assert_false(allows("10.0.0.0/31", "10.0.0.2"));
	assert_false(allows("hook.example.com, 10.0.0.0/8", "1.1.1.1"));
}

/* The url and the value of "allow", as in a configuration. */
static const char *
fault(const char *url, const char *allow, bool http)
{
	static char text[256];
	Config		config = {
			 .webhook_url = (char *) (uintptr_t) url,
			 .webhook_ca = (char *) (uintptr_t) "",
			 .webhook_allow = strings_split(allow),
			 .webhook_allow_http = http,
	 };
	Buf	 error = {0};
	bool good = config_validate_webhook(&config, &error);

	snprintf(text, sizeof(text), "%s", buf_str(&error));
	assert_int_equal(good, text[0] == '\0');
	strings_free(config.webhook_allow);
	buf_free(&error);
	return text;
}

static void
expect_fault(const char *url, const char *allow, const char *part)
{
	const char *text = fault(url, allow, false);

	if (strstr(text, part) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", part, text);
	assert_null(strstr(text, "s3cret"));
}

static void
urls_have_a_form(void **state UNUSED)
{
	assert_string_equal(fault("", "", false), "");
	assert_string_equal(fault("https://h.example/a?b=c", "", false), "");
	assert_string_equal(fault("https://[::1]:8443/x", "::1", false), "");
	assert_string_equal(fault("http://h/a", "", true), "");
	assert_string_equal(fault("https://H.example", "h.EXAMPLE, 10.0.0.0/8",
							  false),
						"");
	expect_fault("http://h/s3cret", "", "https://");
	expect_fault("ftp://h/s3cret", "", "https://");
	expect_fault("gopher://h/s3cret", "", "must begin");
	expect_fault("h/s3cret", "", "not a URL");
	expect_fault("https://", "", "not a URL");
	expect_fault("https://h:99999/s3cret", "", "not a URL");
	expect_fault("https://u:s3cret@h/", "", "user name");
	expect_fault("https://h/s3cret", "other.example", "\"allow\"");
	expect_fault("https://h.example.evil/s3cret", "h.example", "\"allow\"");
	expect_fault("", "10.0.0.0/33", "\"10.0.0.0/33\"");
	expect_fault("", "10.0.0.0/", "neither a host nor a network");
	expect_fault("", "10.0.0.256", "neither a host nor a network");
	expect_fault("", "::1/129", "neither a host nor a network");
	expect_fault("", "a b", "neither a host nor a network");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_public_addresses_by_default),
		cmocka_unit_test(networks_are_the_only_ones),
		cmocka_unit_test(urls_have_a_form),
	};

	return cmocka_run_group_tests_name("webhook_allow", tests, NULL, NULL);
}
