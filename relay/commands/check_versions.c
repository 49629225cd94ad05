/*
 * check_versions.c - versions that this release was not tested with
 *
 * "dev/check versions" reads the lists here and runs what they name;
 * dev/check-versions compares README.md with them.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TESTED_POSTGRESQL "15, 16, 17, 18"
#define TESTED_KAFKA	  "3.9, 4.1"
#define TESTED_LIBRDKAFKA "2.0, 2.8, 2.16"

bool
check_is_tested(const char *tested, const char *version)
{
	while (*tested != '\0')
	{
		size_t len = strcspn(tested, ",");

		/* 2.1 is not the beginning of 2.16 */
		if (strncmp(version, tested, len) == 0 &&
			!isdigit((unsigned char) version[len]))
			return true;
		tested += len;
		tested += strspn(tested, ", ");
	}
	return false;
}

static void
check_tested(Check *check, const char *part, const char *tested,
			 const char *version)
{
	if (check_is_tested(tested, version))
	{
		check_pass(check, "%s %s: tested with this release", part, version);
		return;
	}
	check_advise(check,
				 "Use one of the versions that were tested, %s, or run "
				 "pgstock's tests with this one.",
				 tested);
	check_find(check, "%s %s: not tested with this release", part, version);
}

static void
check_postgresql_version(Check *check)
{
	char version[32];
	int	 number = PQserverVersion(check->pg);

	snprintf(version, sizeof(version), "%d.%d", number / 10000, number % 10000);
	check_tested(check, "PostgreSQL", TESTED_POSTGRESQL, version);
}

/* Kafka has no request for it; brokers before 4.0 report it as a setting. */
static void
check_kafka_version(Check *check)
{
	const char *level; /* 3.9-IV0 */
	char	   *version;

	level = check_broker_setting(check, "inter.broker.protocol.version");
	if (level[0] == '\0')
		return;
	version = xasprintf("%.*s", (int) strcspn(level, "-"), level);
	check_tested(check, "Kafka", TESTED_KAFKA, version);
	free(version);
}

static void
check_librdkafka_version(Check *check)
{
	check_tested(check, "librdkafka", TESTED_LIBRDKAFKA,
				 rd_kafka_version_str());
}

static const CheckRow rows[] = {
	{"postgresql_version", CHECK_WARNING, EXIT_CLEAN, HAVE_EXTENSION,
	 check_postgresql_version,
	 "It may differ in what the extension relies on."},
	{"kafka_version", CHECK_WARNING, EXIT_CLEAN,
	 HAVE_EXTENSION | HAVE_BROKER | HAVE_ANSWERS, check_kafka_version,
	 "It may differ in what the relay relies on."},
	{"librdkafka_version", CHECK_WARNING, EXIT_CLEAN, 0,
	 check_librdkafka_version, "It may differ in what the relay relies on."},
};

const CheckGroup check_versions_group = {rows, Lengthof(rows)};
