/*
 * test_alert_format.c - bodies, signatures and answers of the channels
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "alerts/format.h"
#include "config/config.h"

static const AlertFormat *
format(const char *name)
{
	int i = 0;

	while (strcmp(config_alert_formats[i], name) != 0)
		i++;
	return &alert_formats[i];
}

static void
expect_body(const char *name, const Alert *alerts, size_t count,
			const char *body)
{
	const AlertBatch batch = {.relay = "m\"", .alerts = alerts, .count = count};
	Buf				 text = {0};

	format(name)->write(&batch, &text);
	assert_string_equal(buf_str(&text), body);
	buf_free(&text);
}

#define HINT "\\u000apgstock-relay failed list --state archived"

static void
bodies_are_what_channels_read(void **state UNUSED)
{
	const Alert alerts[] = {
		{"{\"id\":1}", "order a"},
		{"{\"id\":2}", "order \"b\"\nx <!channel>\x01"},
	};

	expect_body("json", alerts, 2,
				"{\"relay\":\"m\\\"\",\"alerts\":[{\"id\":1},{\"id\":2}]}");
	expect_body("slack", alerts, 1,
				"{\"text\":\"pgstock (m\\\"): 1 alert\\u000aorder a" HINT
				"\"}");
	expect_body("dingtalk", alerts, 2,
				"{\"msgtype\":\"text\",\"text\":{\"content\":"
				"\"pgstock (m\\\"): 2 alerts\\u000aorder a\\u000a"
				"order \\\"b\\\" x (!channel) " HINT "\"}}");
}

/* As many lines as fit into the smallest channel. */
static void
messages_for_chats_are_short(void **state UNUSED)
{
	char	   line[1000];
	Alert	   alerts[100];
	Buf		   text = {0};
	AlertBatch batch = {.relay = "main", .alerts = alerts, .count = 100};

	/* three bytes each, so that the cut falls into one */
	for (size_t i = 0; i + 3 < sizeof(line); i += 3)
		memcpy(line + i, "\xe4\xb9\xa6", 4);
	for (size_t i = 0; i < Lengthof(alerts); i++)
		alerts[i] = (Alert){"{}", line};
	format("wecom")->write(&batch, &text);
	assert_true(strlen(buf_str(&text)) < 2048);
	assert_non_null(strstr(text.data, "and 90 more"));
	assert_non_null(strstr(text.data, "\xe4\xb9\xa6 ..."));
	buf_free(&text);
}

/* The expected values were computed by another program. */
static void
signatures_are_those_that_others_compute(void **state UNUSED)
{
	char signature[ALERT_SIGNATURE_LEN + 1];
	Buf	 body = {0};
	Buf	 url = {0};

	buf_add_str(&body, "{\"a\":1}");
	format_signature("key", 1763716000, &body, signature);
	assert_string_equal(
		signature,
		"02637595cb8478a47c286ef35dc0a15ce7ea96e7deb56155934189c19d9521d0");
	buf_add_str(&url, "https://h/robot?access_token=t");
	format("dingtalk")->sign_url(&url, "SECabc", INT64_C(1763716000000));
	assert_string_equal(buf_str(&url),
						"https://h/robot?access_token=t"
						"&timestamp=1763716000000&sign="
						"jsI6tf1edqM9yCE4uLMk2nTU527YKfaaG0ENSkB8LA8%3D");
	assert_null(format("slack")->sign_url);
	buf_free(&body);
	buf_free(&url);
}

static void
answers_are_understood(void **state UNUSED)
{
	static const char *const bad[] = {
		"",
		"ok",
		"{\"errcode\":310000,\"errmsg\":\"errcode\"}",
		"{\"errcode\":01}",
		"{\"errcode\":}",
		"{\"errcode\":\"0\"}",
		"{\"errmsg\":\"0\"}",
	};

	for (size_t i = 0; i < Lengthof(bad); i++)
		assert_false(format("wecom")->is_accepted(bad[i]));
	assert_true(format("wecom")->is_accepted("{\"errcode\":0}"));
	assert_true(format("dingtalk")
					->is_accepted("{ \"errmsg\": \"ok\", \"errcode\" : 0 }"));
	assert_null(format("json")->is_accepted);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bodies_are_what_channels_read),
		cmocka_unit_test(messages_for_chats_are_short),
		cmocka_unit_test(signatures_are_those_that_others_compute),
		cmocka_unit_test(answers_are_understood),
	};

	return cmocka_run_group_tests_name("alert_format", tests, NULL, NULL);
}
