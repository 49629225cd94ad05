/*
 * test_log_text.c - librdkafka's texts, as its versions write them
 *
 * A new version of librdkafka gets its lines here, beside the old ones.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "kafka/log_text.h"

static void
a_topic_that_is_not_admitted_is_named(void **state UNUSED)
{
	static const struct
	{
		const char *version;
		const char *text;
	} lines[] = {
		{"2.0.2", "[thrd:main]: localhost:9092/1: Failed to add partition "
				  "\"stock-events\" [3] to transaction: "
				  "Broker: Topic authorization failed"},
	};

	for (size_t i = 0; i < Lengthof(lines); i++)
	{
		char *topic = log_text_refused_topic("ADDPARTS", lines[i].text);

		assert_non_null(topic);
		assert_string_equal(topic, "stock-events");
		free(topic);
	}
}

static void
no_other_line_names_one(void **state UNUSED)
{
	static const char *const lines[][2] = {
		{"FAIL", "Failed to add partition \"a\" [3] to transaction: "
				 "Broker: Topic authorization failed"},
		{"ADDPARTS", "Failed to add partition \"a\" [3] to transaction: "
					 "Broker: Invalid transaction state"},
		{"ADDPARTS", "Broker: Topic authorization failed"},
		{"ADDPARTS", "Failed to add partition \"a: "
					 "Broker: Topic authorization failed"},
		{"ADDPARTS", ""},
	};

	for (size_t i = 0; i < Lengthof(lines); i++)
		assert_null(log_text_refused_topic(lines[i][0], lines[i][1]));
}

static void
the_thread_s_name_is_no_part_of_the_reason(void **state UNUSED)
{
	assert_string_equal(log_text_reason("[thrd:main]: refused"), "refused");
	assert_string_equal(log_text_reason("refused [1]: why"),
						"refused [1]: why");
	assert_string_equal(log_text_reason("[thrd:main] refused"),
						"[thrd:main] refused");
	assert_string_equal(log_text_reason(""), "");
}

static void
a_failed_handshake_is_known_by_its_text(void **state UNUSED)
{
	static const char eof[] = "ssl://localhost:9092/bootstrap: SSL handshake "
							  "failed: error:0A000126:SSL routines::unexpected "
							  "eof while reading: connecting to a PLAINTEXT "
							  "broker listener?";
	static const char file[] = "ssl.ca.location failed: error:05880020:x509 "
							   "certificate routines::BIO lib";

	assert_true(log_text_is_tls(eof));
	assert_true(log_text_is_tls_eof(eof));
	assert_true(log_text_is_tls(file));
	assert_false(log_text_is_tls_eof(file));
	assert_false(log_text_is_tls("Connect to ipv4#127.0.0.1:9 failed"));
}

static void
an_address_that_does_not_answer_is_known_by_its_text(void **state UNUSED)
{
	static const char host[] = "kafka-9:9092/bootstrap: Failed to resolve "
							   "'kafka-9:9092': Name or service not known";
	static const char port[] = "localhost:1/bootstrap: Connect to "
							   "ipv4#127.0.0.1:1 failed: Connection refused";

	assert_true(log_text_is_unknown_host(host));
	assert_false(log_text_is_refused_connection(host));
	assert_true(log_text_is_refused_connection(port));
	assert_false(log_text_is_unknown_host(port));
}

static void
a_reason_that_names_a_property_is_about_its_file(void **state UNUSED)
{
	assert_true(log_text_names("ssl.ca.location failed: no such file",
							   "ssl.ca.location"));
	assert_false(log_text_names("ssl.ca.location failed", "ssl.key.location"));
}

/*
 * As OpenSSL 3.0 names what a broker of Kafka 4.1 answers to no certificate, an
 * expired one, and one of an unknown authority.
 */
static void
a_refused_certificate_of_ours_is_known(void **state UNUSED)
{
	static const char *const lines[] = {
		"error:0A00045C:SSL routines::tlsv13 alert certificate required: SSL "
		"alert number 116",
		"error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert "
		"number 42",
		"error:0A000416:SSL routines::sslv3 alert certificate unknown: SSL "
		"alert number 46",
	};

	for (size_t i = 0; i < Lengthof(lines); i++)
		assert_true(log_text_is_own_certificate(lines[i]));
	assert_false(log_text_is_own_certificate(
		"certificate verify failed: broker certificate could not be verified"));
	assert_true(log_text_is_mechanism(
		"SASL SCRAM-SHA-256 mechanism handshake failed: Broker: Unsupported "
		"SASL mechanism: broker's supported mechanisms: PLAIN"));
	assert_false(log_text_is_mechanism(
		"SASL authentication error: Authentication failed during "
		"authentication due to invalid credentials with SASL mechanism "
		"SCRAM-SHA-512"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_topic_that_is_not_admitted_is_named),
		cmocka_unit_test(no_other_line_names_one),
		cmocka_unit_test(the_thread_s_name_is_no_part_of_the_reason),
		cmocka_unit_test(a_failed_handshake_is_known_by_its_text),
		cmocka_unit_test(an_address_that_does_not_answer_is_known_by_its_text),
		cmocka_unit_test(a_reason_that_names_a_property_is_about_its_file),
		cmocka_unit_test(a_refused_certificate_of_ours_is_known),
	};

	return cmocka_run_group_tests_name("log_text", tests, NULL, NULL);
}
