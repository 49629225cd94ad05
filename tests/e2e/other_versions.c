/*
 * other_versions.c
 *	  Preloaded into a relay: PostgreSQL 99, librdkafka 3.0 and brokers of Kafka
 *	  3.8, by the numbers that they report.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

int
PQserverVersion(const void *conn)
{
	(void) conn;
	return 990001;
}

const char *
rd_kafka_version_str(void)
{
	return "3.0.0";
}

static const char *
setting(const char *function, const void *entry)
{
	const char *(*next)(const void *) = NULL;

	*(void **) &next = dlsym(RTLD_NEXT, function);
	return next(entry);
}

const char *
rd_kafka_ConfigEntry_value(const void *entry)
{
	if (strcmp(setting("rd_kafka_ConfigEntry_name", entry),
			   "inter.broker.protocol.version") == 0)
		return "3.8-IV0";
	return setting("rd_kafka_ConfigEntry_value", entry);
}
