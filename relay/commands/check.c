/*
 * check.c - would a relay with this configuration work?
 *
 * Host, database, broker, topics, one group after the other; what one of them
 * needs and does not get is not checked further.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"
#include "commands/commands.h"

static const CheckGroup *const groups[] = {
	&check_configuration_group, &check_session_group,	&check_extension_group,
	&check_server_group,		&check_broker_group,	&check_versions_group,
	&check_transactions_group,	&check_published_group, &check_consumed_group,
};

ExitCode
cmd_check(const Arguments *arguments, const Config *config)
{
	Check check = {
		.config = config,
		.path = arguments->values[ARG_CONFIG],
		.json = arguments->values[ARG_JSON] != NULL,
	};

	for (size_t i = 0; i < Lengthof(groups); i++)
		check_run(&check, groups[i]);
	check_report_end(&check);
	if (check.committed != NULL)
		rd_kafka_topic_partition_list_destroy(check.committed);
	kafka_settings_free(check.topic_settings);
	kafka_settings_free(check.broker_settings);
	if (check.metadata != NULL)
		rd_kafka_metadata_destroy(check.metadata);
	if (check.client != NULL)
		rd_kafka_destroy(check.client);
	strings_free(check.published);
	PQclear(check.offsets);
	PQclear(check.facts);
	PQfinish(check.pg);
	return check.code;
}
