/*
 * check.c - would a relay with this configuration work?
 *
 * Database, broker, topics, one after the other; what one of them needs and
 * does not get is not checked further.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"
#include "commands/commands.h"

/* Its form was checked with the configuration; no alert is sent to try it. */
static void
check_webhook(const Config *config)
{
	Assert(config->webhook_format >= 0);
	Assert(config->webhook_format < ALERT_FORMATS);
	if (config->webhook_url[0] == '\0')
		check_pass("webhook: no url, no alerts are sent");
	else
		check_pass("webhook: format %s, %s, %s",
				   config_alert_formats[config->webhook_format],
				   config->webhook_secret[0] != '\0' ? "signed" : "not signed",
				   config->webhook_allow[0] != NULL
					   ? "only where \"allow\" says"
					   : "to public addresses only");
}

ExitCode
cmd_check(const Arguments *arguments UNUSED, const Config *config)
{
	Check							check = {.config = config};
	const struct rd_kafka_metadata *metadata;
	bool transactional = config->mode == MODE_TRANSACTIONAL;
	bool database;

	check_pass("configuration");
	database = check_database(&check) && check_extension(&check);
	if (database)
	{
		check_notifications(&check);
		check_upkeep(&check);
		if (!transactional)
			check_position(&check, (Slice){NULL, 0});
	}
	check_webhook(config);
	metadata = check_broker(&check);
	Assert(database || check.code != EXIT_CLEAN);
	Assert(metadata != NULL || check.code != EXIT_CLEAN);
	if (database && metadata != NULL)
	{
		if (transactional)
			check_transactions(&check, metadata);
		check_topics_out(&check, metadata);
		check_topics_in(&check, metadata);
	}
	if (metadata != NULL)
		rd_kafka_metadata_destroy(metadata);
	if (check.client != NULL)
		rd_kafka_destroy(check.client);
	PQfinish(check.pg);
	return check.code;
}
