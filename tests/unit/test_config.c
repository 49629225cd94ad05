/*
 * test_config.c - the configuration file and its errors
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/conninfo.h"
#include "common/log.h"
#include "config/load.h"
#include "config/options.h"
#include "kafka/record.h"

/* The configuration in a file of that text; NULL and *error if it is wrong. */
static Config *
load(const char *text, Buf *error)
{
	char	path[] = "/tmp/test_config_XXXXXX";
	int		fd = mkstemp(path);
	Config *config;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	config = config_load(&(ConfigOverrides){.path = path}, error);
	unlink(path);
	return config;
}

static void
expect_error(const char *text, const char *part)
{
	Buf		error = {0};
	Config *config = load(text, &error);

	assert_null(config);
	if (strstr(buf_str(&error), part) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", part, buf_str(&error));
	buf_free(&error);
}

#define KAFKA "[kafka]\nbootstrap.servers = b:9092\n"

static void
defaults_are_the_contract_s(void **state UNUSED)
{
	Buf		error = {0};
	Config *config = load(KAFKA, &error);

	assert_non_null(config);
	assert_true(config->poll_interval_us == SEC_US);
	assert_int_equal(config->header_profile,
					 HEADERS_CLOUDEVENTS | HEADERS_PLAIN);
	assert_true(config->retention_us == INT64_C(7) * 86400 * SEC_US);
	assert_int_equal(config->topics[0] == NULL, 1);
	assert_int_equal(config->first_offset, FIRST_OFFSET_EARLIEST);
	assert_int_equal(config->retry_delays.count, 3);
	assert_true(config->retry_delays.us[1] == 30 * SEC_US);
	assert_true(config->order_wait_us == 900 * SEC_US);
	assert_string_equal(config->dlq_topic, "{topic}_dlq");
	assert_string_equal(config->http_listen, "127.0.0.1:29187");
	config_free(config);
	buf_free(&error);
}

static void
values_are_read(void **state UNUSED)
{
	Buf		error = {0};
	Config *config = load(
		"# comment\n[relay]\nlog_level = debug\nlog_format=json\n"
		"[postgres]\nconninfo = host=h password='a ; b#c'\n" KAFKA
		"sasl.password = x;y # z\n"
		"[outbox]\npoll_interval = 250ms\nheader_profile = debezium\n"
		"[inbox]\ntopics = a, b\nfirst_offset = 2026-01-31T13:00:00+01:00\n"
		"retry_delays = 1s\n[http]\nlisten =\n",
		&error);
	char *dlq;

	assert_non_null(config);
	assert_int_equal(config->log_level, LEVEL_DEBUG);
	assert_int_equal(config->log_format, LOG_JSON);
	assert_string_equal(config->conninfo, "host=h password='a ; b#c'");
	assert_string_equal(config_kafka_get(config, "sasl.password"), "x;y # z");
	assert_true(config->poll_interval_us == 250 * MS_US);
	assert_int_equal(config->header_profile, HEADERS_DEBEZIUM);
	assert_int_equal(strings_count(config->topics), 2);
	assert_true(config->first_offset == INT64_C(1769860800000));
	assert_int_equal(config->retry_delays.count, 1);
	assert_string_equal(config->http_listen, "");
	dlq = config_dlq_topic(config, "a");
	assert_string_equal(dlq, "a_dlq");
	free(dlq);
	config_free(config);
	buf_free(&error);
}

static void
mistakes_are_named(void **state UNUSED)
{
	expect_error(KAFKA "[outbox]\npoll_intervall = 1s\n",
				 ":4: unknown key \"poll_intervall\" in [outbox]: the nearest "
				 "is \"poll_interval\" in [outbox]");
	expect_error(KAFKA "[relay]\npoll_interval = 1s\n",
				 "\"poll_interval\" in [outbox]");
	expect_error("[kafka]\nbootstrap.server = x\n",
				 "the nearest is \"bootstrap.servers\"");
	expect_error(
		"[out]\nx = 1\n",
		"unknown section [out]: there are [relay], [postgres], [kafka], "
		"[outbox], [inbox], [levels], [http] and [webhook]");
	expect_error("[relay]\nnonsense\n", ":2: neither a [section]");
	expect_error("[relay]\nnonsense\nwrong = 1\n", ":2: neither a [section]");
	expect_error("[relay]\nwrong = 1\nnonsense\n", ":2: unknown key");
	expect_error(KAFKA "[outbox]\npoll_interval = 10\n", "not a duration");
	expect_error(KAFKA "[outbox]\npoll_interval = 1.5s\n", "not a duration");
	expect_error(KAFKA "[outbox]\npoll_interval = 99999999999999999d\n",
				 "not a duration");
	expect_error(KAFKA "[outbox]\npoll_interval = 1ms\n",
				 "must be between 10ms and 1m");
	expect_error(KAFKA "[outbox]\nbatch_rows = 0\n", "must be between 1 and");
	expect_error(KAFKA "[outbox]\nbatch_rows = many\n", "whole number");
	expect_error(KAFKA "[outbox]\nmode = once\n",
				 "not one of idempotent, transactional");
	expect_error(KAFKA "[outbox]\nheader_profile = fancy\n", "not one of");
	expect_error(KAFKA "[outbox]\nheader_profile =\n", "at least one");
	expect_error(KAFKA "[outbox]\nbatch_rows = 1\nbatch_rows = 2\n",
				 "given twice");
	expect_error(KAFKA "bootstrap.servers = c\n", "given twice");
	expect_error(KAFKA "[inbox]\nfirst_offset = tomorrow\n", "earliest");
	expect_error(KAFKA "[inbox]\nretry_delays = 1s, 2\n", "not a duration");
	expect_error(KAFKA "[inbox]\ntopics = a b\n", "name of a topic");
	expect_error(KAFKA "[inbox]\ndlq_topic = {topic}!\n", "name of a topic");
	expect_error(KAFKA "[inbox]\ntopics = a\ndlq_topic = {topic}\n",
				 "dlq_topic is \"a\" itself");
	expect_error(KAFKA "[inbox]\ntopics = a, b\ndlq_topic = b\n",
				 "dlq_topic is \"b\" itself");
	expect_error(KAFKA
				 "[inbox]\ntopics = "
				 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
				 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
				 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
				 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
				 "aaaaaaaa\n",
				 "dlq_topic cannot be the name of a topic for");
	expect_error(KAFKA
				 "[relay]\nname = "
				 "a-name-that-postgresql-would-cut-so-that-it-is-not-one\n",
				 "\"name\" in [relay] must have 1 to 48 bytes");
	expect_error(KAFKA "[relay]\nname =\n", "must have 1 to 48 bytes");
	expect_error(KAFKA "[relay]\nname = a\x1b[2Jb\n", "control character");
	expect_error(KAFKA "[webhook]\nurl = https://h:70000/\n", "url");
	expect_error("[relay]\nname = a\n", "no broker is named");
	expect_error(KAFKA "[http]\nlisten = nowhere\n", "\"listen\" in [http]");
	expect_error(KAFKA "acks = 1\n", "cannot be set");
	expect_error(KAFKA "group.id = x\n", "use [inbox] group");
	expect_error(KAFKA "security.protocol = nonsense\n", "security.protocol");
	expect_error(KAFKA "[http]\nlisten = 127.0.0.1:251016\n",
				 "not a port between 1 and 65535");
	expect_error(KAFKA "[http]\nlisten = 127.0.0.1:0\n", "not a port");
	expect_error(KAFKA "[http]\nlisten = 127.0.0.1:+80\n", "not a port");
	expect_error(KAFKA "[postgres]\nconninfo = host=a port=251016\n",
				 "port \"251016\" is not a number between 1 and 65535");
	expect_error(KAFKA "[postgres]\nconninfo = host=a,b port=5432,0\n",
				 "port \"0\"");
	expect_error(KAFKA "[inbox]\nfirst_offset = 2026-02-31T00:00:00Z\n",
				 "day that its month has not");
}

static void
mistakes_about_levels_are_named(void **state UNUSED)
{
	expect_error(KAFKA "[levels]\ntopic = a b\n", "name of a topic");
	expect_error(KAFKA "[inbox]\ntopic = a\n", "\"topics\" in [inbox]");
	expect_error(KAFKA "[outbox]\ntopic = a\n", "\"topic\" in [levels]");
	expect_error(KAFKA "[inbox]\ntopics = a\n[levels]\ntopic = a\n",
				 "[levels] topic is consumed");
	expect_error(KAFKA "[levels]\ntopic = stock-events\n",
				 "[levels] topic has stock events");
	expect_error(KAFKA "[levels]\nmax_per_second = 0\n",
				 "must be between 1 and 100");
}

static void
secrets_are_in_no_message(void **state UNUSED)
{
	Buf		error = {0};
	char   *shown = NULL;
	size_t	size;
	FILE   *stream;
	Config *config;

	/* libpq would quote what follows the blank */
	config = load(KAFKA "[postgres]\nconninfo = password=hid den\n", &error);
	assert_null(config);
	assert_null(strstr(buf_str(&error), "den"));
	buf_clear(&error);

	config = load("[postgres]\nconninfo = password=hidden host=h\n" KAFKA
				  "sasl.password = hidden\nssl.key.password = hidden\n",
				  &error);
	assert_non_null(config);
	stream = open_memstream(&shown, &size);
	config_print(config, stream);
	fclose(stream);
	assert_null(strstr(shown, "hidden"));
	assert_non_null(strstr(shown, "sasl.password = ********"));
	free(shown);
	config_free(config);
	buf_free(&error);
}

static void
command_line_overrides(void **state UNUSED)
{
	static const char *const with_password[] = {
		"host=h password=x",
		"postgresql://u:x@h/d",
		"sslpassword=x",
	};
	Buf		error = {0};
	Config *config = config_load(&(ConfigOverrides){.postgres = "host=h",
													.kafka = "b:1"},
								 &error);

	assert_non_null(config);
	assert_string_equal(config->conninfo, "host=h");
	assert_string_equal(config_kafka_get(config, "bootstrap.servers"), "b:1");
	config_free(config);
	for (size_t i = 0; i < Lengthof(with_password); i++)
	{
		config = config_load(&(ConfigOverrides){.postgres = with_password[i],
												.kafka = "b:1"},
							 &error);
		assert_null(config);
		assert_non_null(strstr(buf_str(&error), "holds a password"));
		buf_clear(&error);
	}
	assert_null(config_load(&(ConfigOverrides){.kafka = "b:99999"}, &error));
	assert_non_null(strstr(buf_str(&error), "not host:port"));
	buf_clear(&error);
	assert_null(
		config_load(&(ConfigOverrides){.path = "/nonexistent"}, &error));
	assert_non_null(strstr(buf_str(&error), "could not read"));
	buf_free(&error);
}

/* Also of what is wrong only together with other values, or elsewhere. */
/* So that the pods of one configuration have names of their own. */
static void
a_name_may_be_the_host_s(void **state UNUSED)
{
	char	host[256] = "";
	char	name[512];
	Buf		error = {0};
	Config *config = load(KAFKA "[relay]\nname = a-{host}\n", &error);
	size_t	len;

	assert_non_null(config);
	assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
	snprintf(name, sizeof(name), "a-%s", host);
	len = strlen(name);
	/* the end of a name that is too long distinguishes */
	assert_string_equal(config->name, len > CONFIG_NAME_MAX
										  ? name + len - CONFIG_NAME_MAX
										  : name);
	config_free(config);
	config = load(KAFKA "[relay]\nname = "
						"0123456789012345678901234567890123456789-{host}\n",
				  &error);
	assert_non_null(config);
	assert_int_equal(strlen(config->name),
					 Min(strlen(host) + 41, CONFIG_NAME_MAX));
	assert_string_equal(config->name + strlen(config->name) -
							Min(strlen(host), CONFIG_NAME_MAX),
						host + Max(strlen(host), CONFIG_NAME_MAX) -
							CONFIG_NAME_MAX);
	config_free(config);
	buf_free(&error);
}

static void
the_line_of_a_value_is_named(void **state UNUSED)
{
	char *long_line = xcalloc(1, 3000);

	expect_error("[postgres]\n\n# port\nconninfo = port=0\n",
				 ":4: \"conninfo\" in [postgres]: port \"0\"");
	expect_error("[kafka]\nbootstrap.servers = b:1\n[inbox]\ntopics = t\n"
				 "dlq_topic = {topic}\n",
				 ":5: \"{topic}\" in [inbox] dlq_topic is \"t\" itself");
	expect_error("[webhook]\r\nca = /nonexistent\r\n",
				 ":2: \"ca\" in [webhook]: cannot read \"/nonexistent\": "
				 "No such file");
	expect_error("[http]\nlisten = 127.0.0.1:0x1", ":2: \"listen\" in [http]");
	/* one that has its default is in no line */
	expect_error("[relay]\nname = a\n", ": no broker is named");
	/* a line that libinih reads in parts */
	snprintf(long_line, 3000, "[relay]\n#%02000d\nname = a\n[http]\nlisten = x",
			 0);
	expect_error(long_line, ":5: \"listen\" in [http]");
	free(long_line);
}

static void
an_overridden_value_is_not_the_files(void **state UNUSED)
{
	Buf error = {0};

	assert_null(
		config_load(&(ConfigOverrides){.postgres = "port=0", .kafka = "b:1"},
					&error));
	assert_string_equal(buf_str(&error),
						"--postgres, in place of \"conninfo\" in [postgres]: "
						"port \"0\" is not a number between 1 and 65535");
	buf_free(&error);
}

static void
the_sample_parses_to_the_defaults(void **state UNUSED)
{
	char   *sample = NULL;
	size_t	size;
	FILE   *stream = open_memstream(&sample, &size);
	Buf		error = {0};
	Buf		from_sample = {0};
	Buf		by_default = {0};
	Config *defaults = load(KAFKA, &error);
	Config *config;

	config_print_sample(stream);
	fclose(stream);
	config = load(sample, &error);
	if (config == NULL)
		fail_msg("%s", buf_str(&error));
	for (size_t i = 0; i < relay_options.option_count; i++)
	{
		assert_non_null(strstr(sample, relay_options.options[i].key));
		option_get(&relay_options.options[i], config, &from_sample);
		option_get(&relay_options.options[i], defaults, &by_default);
		assert_string_equal(buf_str(&from_sample), buf_str(&by_default));
	}
	config_free(config);
	config_free(defaults);
	free(sample);
	buf_free(&from_sample);
	buf_free(&by_default);
	buf_free(&error);
}

/* The printed configuration can be read again, except for secrets. */
static void
what_is_shown_parses_to_the_same(void **state UNUSED)
{
	Buf		error = {0};
	Buf		restart = {0};
	char   *shown = NULL;
	size_t	size;
	FILE   *stream = open_memstream(&shown, &size);
	Config *config = load(KAFKA "[outbox]\npoll_interval = 250ms\n"
								"[inbox]\ntopics = a, b\nretry_delays = 5s\n",
						  &error);
	Config *again;

	config_print(config, stream);
	fclose(stream);
	again = load(shown, &error);
	assert_non_null(again);
	assert_true(again->poll_interval_us == 250 * MS_US);
	config_reload(config, again, &restart);
	assert_int_equal(restart.len, 0);
	config_free(config);
	config_free(again);
	free(shown);
	buf_free(&restart);
	buf_free(&error);
}

static void
reload_takes_what_it_can(void **state UNUSED)
{
	Buf		error = {0};
	Buf		restart = {0};
	Config *config = load(KAFKA "[inbox]\ntopics = a\n", &error);
	Config *fresh = load("[kafka]\nbootstrap.servers = other\n"
						 "[outbox]\npoll_interval = 2s\n"
						 "[inbox]\ntopics = b\nretry_delays = 5s\n",
						 &error);

	config_reload(config, fresh, &restart);
	assert_true(config->poll_interval_us == 2 * SEC_US);
	assert_int_equal(config->retry_delays.count, 1);
	assert_string_equal(config->topics[0], "a");
	assert_string_equal(config_kafka_get(config, "bootstrap.servers"),
						"b:9092");
	assert_string_equal(buf_str(&restart), "[inbox] topics, [kafka]");
	buf_clear(&restart);
	config_reload(config, config, &restart);
	assert_int_equal(restart.len, 0);
	config_free(config);
	config_free(fresh);
	buf_free(&restart);
	buf_free(&error);
}

#define SECURED                                                 \
	"[kafka]\nbootstrap.servers = b:9092\nsasl.username = %s\n" \
	"sasl.password = %s\n[postgres]\nconninfo = %s\n"

static Config *
load_secured(const char *user, const char *password, const char *conninfo)
{
	Buf		error = {0};
	char   *text = xasprintf(SECURED, user, password, conninfo);
	Config *config = load(text, &error);

	assert_non_null(config);
	free(text);
	buf_free(&error);
	return config;
}

/* Without a name the database is that of the user's name. */
static void
a_user_without_a_database_name_is_another_database(void **state UNUSED)
{
	static const struct
	{
		const char *a;
		const char *b;
		bool		same;
	} rows[] = {
		{"host=h dbname=d user=u", "host=h dbname=d user=v", true},
		{"host=h user=u", "host=h user=u password=p", true},
		{"host=h user=u", "host=h user=v", false},
		{"host=h user=u", "host=h", false},
		{"host=h dbname='' user=u", "host=h user=v", false},
		{"host=h dbname=u user=u", "host=h user=u", false},
		{"postgresql://u@h/d", "postgresql://v@h/d", true},
		{"postgresql://u@h", "postgresql://v@h", false},
		{"service=s user=u", "service=s user=v", false},
	};

	for (size_t i = 0; i < Lengthof(rows); i++)
		if (conninfo_is_same_database(rows[i].a, rows[i].b) != rows[i].same)
			fail_msg("%s, %s", rows[i].a, rows[i].b);
}

/* Secrets may change while it runs, where they lead may not. */
static void
reload_takes_new_passwords(void **state UNUSED)
{
	Buf		restart = {0};
	Config *config = load_secured("u", "a", "host=h dbname=d password=a");
	Config *fresh = load_secured("v", "b", "host=h dbname=d password=b user=v");
	Config *other = load_secured("v", "b", "host=other dbname=d password=c");

	config_reload(config, fresh, &restart);
	assert_int_equal(restart.len, 0);
	assert_string_equal(config_kafka_get(config, "sasl.username"), "v");
	assert_string_equal(config_kafka_get(config, "sasl.password"), "b");
	assert_string_equal(config->conninfo, "host=h dbname=d password=b user=v");
	config_reload(config, other, &restart);
	assert_string_equal(buf_str(&restart), "[postgres] conninfo");
	assert_string_equal(config->conninfo, "host=h dbname=d password=b user=v");
	config_free(config);
	config_free(fresh);
	config_free(other);
	buf_free(&restart);
}

/* The printed value of an option is read back as the same value. */
static void
every_option_shows_what_it_reads(void **state UNUSED)
{
	Buf		error = {0};
	Buf		text = {0};
	Buf		again = {0};
	Config *config = load(KAFKA, &error);

	for (size_t i = 0; i < relay_options.option_count; i++)
	{
		option_get(&relay_options.options[i], config, &text);
		assert_true(option_set(&relay_options.options[i], config,
							   buf_str(&text), &error));
		option_get(&relay_options.options[i], config, &again);
		assert_string_equal(buf_str(&text), buf_str(&again));
	}
	config_free(config);
	buf_free(&text);
	buf_free(&again);
	buf_free(&error);
}

static void
long_lines_are_read_whole(void **state UNUSED)
{
	Buf		text = {0};
	Buf		error = {0};
	Config *config;

	buf_add_str(&text, KAFKA "ssl.ca.pem = ");
	for (int i = 0; i < 5000; i++)
		buf_add_str(&text, "x");
	buf_add_str(&text, "\n");
	config = load(buf_str(&text), &error);
	assert_non_null(config);
	assert_int_equal(strlen(config_kafka_get(config, "ssl.ca.pem")), 5000);
	config_free(config);
	buf_free(&text);
	buf_free(&error);
}

/* A line of the file that the parser would cut in two, or end early. */
static void
a_line_is_read_whole_or_not_at_all(void **state UNUSED)
{
	static const char nul[] = KAFKA "client.id = a\0b\n";
	char			  path[] = "/tmp/test_config_XXXXXX";
	int				  fd = mkstemp(path);
	Buf				  text = {0};
	Buf				  error = {0};

	assert_int_equal(write(fd, nul, sizeof(nul) - 1), sizeof(nul) - 1);
	close(fd);
	assert_null(config_load(&(ConfigOverrides){.path = path}, &error));
	assert_non_null(strstr(buf_str(&error), ":3: the line holds a NUL byte"));
	unlink(path);
	buf_free(&error);

	buf_add_str(&text, KAFKA "client.id = ");
	for (int i = 0; i < 70000; i++)
		buf_add_str(&text, "x");
	expect_error(buf_str(&text), ":3: the line is longer than 65534 bytes");
	while (text.len < 1100000)
		buf_add_str(&text, "\n# a comment that fills the file");
	expect_error(buf_str(&text), "is larger than 1048575 bytes");
	buf_free(&text);
	expect_error("", "no broker is named");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_the_contract_s),
		cmocka_unit_test(values_are_read),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(mistakes_about_levels_are_named),
		cmocka_unit_test(secrets_are_in_no_message),
		cmocka_unit_test(command_line_overrides),
		cmocka_unit_test(the_sample_parses_to_the_defaults),
		cmocka_unit_test(what_is_shown_parses_to_the_same),
		cmocka_unit_test(reload_takes_what_it_can),
		cmocka_unit_test(a_user_without_a_database_name_is_another_database),
		cmocka_unit_test(reload_takes_new_passwords),
		cmocka_unit_test(every_option_shows_what_it_reads),
		cmocka_unit_test(long_lines_are_read_whole),
		cmocka_unit_test(a_line_is_read_whole_or_not_at_all),
		cmocka_unit_test(a_name_may_be_the_host_s),
		cmocka_unit_test(the_line_of_a_value_is_named),
		cmocka_unit_test(an_overridden_value_is_not_the_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
