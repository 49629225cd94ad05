/*
 * test_kafka_property.c - properties that [kafka] may set, and those it may not
 *
 * The story: test.mock.num.brokers in [kafka] connected the producer to mock
 * brokers, which acknowledged 815 events that then existed nowhere;
 * isolation.level made the inbox apply aborted messages.  So only properties
 * that the table names can be set, and each property of the installed
 * librdkafka is either in it or refused with a reason.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "config/kafka_property.h"

static bool
allowed(const char *property, const char *value)
{
	Buf	 error = {0};
	bool good = kafka_check_property(property, value, &error);

	assert_int_equal(good, error.len == 0);
	/* a property of a newer release, or of another build, is another matter */
	if (!good && (strstr(buf_str(&error), "does not know it") != NULL ||
				  strstr(buf_str(&error), "not supported in this build")))
		good = true;
	buf_free(&error);
	return good;
}

static void
refused(const char *property, const char *value, const char *part)
{
	Buf error = {0};

	if (kafka_check_property(property, value, &error))
		fail_msg("%s = %s was taken", property, value);
	if (strstr(buf_str(&error), part) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", part, buf_str(&error));
	buf_free(&error);
}

static void
ranges_hold_at_both_ends(const KafkaProperty *property)
{
	char text[32];

	assert_true(property->min < property->max);
	snprintf(text, sizeof(text), "%" PRId64, property->min);
	assert_true(allowed(property->name, text));
	snprintf(text, sizeof(text), "%" PRId64, property->max);
	if (!allowed(property->name, text))
		fail_msg("%s = %s is refused", property->name, text);
	snprintf(text, sizeof(text), "%" PRId64, property->max + 1);
	refused(property->name, text, "between");
	snprintf(text, sizeof(text), "%" PRId64, property->min - 1);
	if (property->value == KAFKA_NUMBER_0 || property->min > 1)
		refused(property->name, text, "between");
	if (property->value == KAFKA_NUMBER_0)
		assert_true(allowed(property->name, "0"));
	refused(property->name, "1.5", "not a whole number");
	refused(property->name, "0x10", "not a whole number");
	refused(property->name, " 1", "not a whole number");
	refused(property->name, "", "not a whole number");
	refused(property->name, "99999999999999999999", "not a whole number");
}

static void
the_table_says_what_is_taken(void **state UNUSED)
{
	for (size_t i = 0; i < kafka_properties_count; i++)
	{
		const KafkaProperty *property = &kafka_properties[i];
		char			   **choices;

		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(kafka_properties[j].name, property->name);
		assert_null(kafka_property_refusal(property->name));
		switch (property->value)
		{
			case KAFKA_NUMBER:
			case KAFKA_NUMBER_0:
				ranges_hold_at_both_ends(property);
				break;
			case KAFKA_FLAG:
				assert_true(allowed(property->name, "true"));
				assert_true(allowed(property->name, "false"));
				refused(property->name, "yes", "neither true nor false");
				break;
			case KAFKA_CHOICE:
				choices = strings_split(property->choices);
				for (char **choice = choices; *choice != NULL; choice++)
					assert_true(allowed(property->name, *choice));
				strings_free(choices);
				refused(property->name, "random", "not one of");
				break;
			case KAFKA_ADDRESSES:
				assert_true(allowed(property->name, "a:1, [::1]:65535, b"));
				break;
			case KAFKA_URL:
				assert_true(allowed(property->name, "https://a/b?c=d@e"));
				assert_true(allowed(property->name, "http://[::1]:80/a@b"));
				refused(property->name, "https://a:b@c/d", "password");
				refused(property->name, "https://a@c", "password");
				break;
			case KAFKA_TEXT:
				break;
		}
	}
}

/* Each property in librdkafka's own list has been judged. */
static void
each_property_is_judged(void **state UNUSED)
{
	char  *list = NULL;
	size_t size = 0;
	FILE  *stream = open_memstream(&list, &size);
	char  *rest;
	int	   seen = 0;

	rd_kafka_conf_properties_show(stream);
	fclose(stream);
	for (char *line = strtok_r(list, "\n", &rest); line != NULL;
		 line = strtok_r(NULL, "\n", &rest))
	{
		char name[64];
		bool known = false;

		if (strchr(line, '|') == NULL || sscanf(line, "%63s", name) != 1 ||
			strpbrk(name, "-|") != NULL || strcmp(name, "Property") == 0)
			continue;
		for (size_t i = 0; i < kafka_properties_count; i++)
			known = known || strcmp(kafka_properties[i].name, name) == 0;
		if (known == (kafka_property_refusal(name) != NULL))
			fail_msg("%s is %s", name, known ? "both" : "neither");
		seen++;
	}
	assert_true(seen > 100);
	free(list);
}

static void
promises_cannot_be_set(void **state UNUSED)
{
	refused("test.mock.num.brokers", "3", "no event would leave");
	refused("test.mock.broker.rtt", "3", "no event would leave");
	refused("isolation.level", "read_uncommitted", "only committed");
	refused("partitioner", "random", "not one of murmur2_random");
	refused("linger.ms", "900000", "between 0 and 1000");
	refused("acks", "1", "cannot be set");
	refused("check.crcs", "false", "cannot be set");
	refused("group.id", "x", "use [inbox] group");
	refused("auto.commit.enable", "true", "offsets are the database's");
	refused("max.in.flight.requests.per.connection", "5", "order of events");
	refused("plugin.library.paths", "x.so", "a plugin");
	refused("no.such.thing", "1", "unknown key");
	refused("linger.mss", "1", "the nearest is \"linger.ms\"");
	refused("compression.type", "best", "not one of none, gzip");
}

static void
addresses_have_real_ports(void **state UNUSED)
{
	static const char *const bad[] = {
		"b:99999",		"b:0",	"b:",	":9092",	 "b:9092x",		  "b:+1",
		"a:1, b:65536", "[::1", "[]:1", "[::1]9092", "ssl://b:70000", "",
		" , ",
	};

	for (size_t i = 0; i < Lengthof(bad); i++)
		refused("bootstrap.servers", bad[i], "host:port");
	assert_true(allowed("bootstrap.servers", "b"));
	assert_true(allowed("bootstrap.servers", "::1"));
	assert_true(allowed("bootstrap.servers", "ssl://b.example.com:9093"));
}

/*
 * All numbers at one end of their ranges, the even ones and the odd ones, with
 * the properties that the relay requires.
 */
static void
expect_client(rd_kafka_type_t type, unsigned greatest, bool transactional)
{
	char			 reason[512];
	char			 number[32];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t		*client;

	rd_kafka_conf_set(conf, "group.id", "g", NULL, 0);
	rd_kafka_conf_set(conf, "enable.idempotence", "true", NULL, 0);
	rd_kafka_conf_set(conf, "max.in.flight", "1", NULL, 0);
	if (type == RD_KAFKA_PRODUCER)
		rd_kafka_conf_set(conf, "message.max.bytes", "1065536", NULL, 0);
	rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
	if (transactional)
	{
		rd_kafka_conf_set(conf, "transactional.id", "t", NULL, 0);
		rd_kafka_conf_set(conf, "transaction.timeout.ms", "30000", NULL, 0);
	}
	else
		rd_kafka_conf_set(conf, "message.timeout.ms", "0", NULL, 0);
	for (size_t i = 0; i < kafka_properties_count; i++)
	{
		const KafkaProperty *property = &kafka_properties[i];

		if (property->value != KAFKA_NUMBER &&
			property->value != KAFKA_NUMBER_0)
			continue;
		snprintf(number, sizeof(number), "%" PRId64,
				 (greatest >> (i % 2)) & 1 ? property->max : property->min);
		(void) rd_kafka_conf_set(conf, property->name, number, NULL, 0);
	}
	client = rd_kafka_new(type, conf, reason, sizeof(reason));
	if (client == NULL)
		fail_msg("ends %u: %s", greatest, reason);
	rd_kafka_destroy(client);
}

static void
all_that_is_allowed_goes_together(void **state UNUSED)
{
	for (unsigned greatest = 0; greatest < 4; greatest++)
	{
		expect_client(RD_KAFKA_CONSUMER, greatest, false);
		expect_client(RD_KAFKA_PRODUCER, greatest, false);
		expect_client(RD_KAFKA_PRODUCER, greatest, true);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_says_what_is_taken),
		cmocka_unit_test(each_property_is_judged),
		cmocka_unit_test(promises_cannot_be_set),
		cmocka_unit_test(addresses_have_real_ports),
		cmocka_unit_test(all_that_is_allowed_goes_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
