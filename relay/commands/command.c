/*
 * command.c - what the commands share that do one thing and end
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/command.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/progress.h"
#include "common/rfc3339.h"
#include "common/safe_text.h"
#include "common/usage.h"
#include "db/connect.h"

/* Between two tries it is seen whether an error is final. */
#define METADATA_TRY_MS 1000

static Buf *command_lines; /* NULL: standard error */

void
command_report_into(Buf *lines)
{
	command_lines = lines;
}

void
command_report(const char *format, ...)
{
	Buf		text = {0};
	va_list args;

	va_start(args, format);
	if (command_lines == NULL)
	{
		progress_hide();
		safe_vline(stderr, "pgstock-relay: ", format, args);
	}
	else
	{
		buf_vline(&text, format, args);
		safe_add(command_lines, buf_str(&text), text.len);
		buf_add_str(command_lines, "\n");
	}
	va_end(args);
	buf_free(&text);
}

/* ---- the database ------------------------------------------------------ */

PGresult *
command_check_result(PGresult *result, const char *what)
{
	const char *sqlstate = api_sqlstate(result);
	bool		denied = sqlstate != NULL && strcmp(sqlstate, "42501") == 0;
	char	   *text = api_failure(&result);

	if (text != NULL)
		command_report("%s: %s%s", what, text,
					   denied ? ": the role of conninfo needs SELECT "
								"grant_stock_access('<role>', 'relay')"
							  : "");
	Assert((text == NULL) == (result != NULL));
	free(text);
	return result;
}

bool
command_open(Command *command, const Config *config)
{
	PGresult *result;
	char	 *why;
	bool	  sound;

	*command = (Command){.config = config, .code = EXIT_RUNTIME};
	command->pg = db_connect_blocking(config);
	if (PQstatus(command->pg) != CONNECTION_OK)
	{
		command_report("database: %s", PQerrorMessage(command->pg));
		return false;
	}
	result = command_check_result(api_exec(command->pg, API_HELLO, NULL),
								  "extension");
	if (result == NULL)
		return false;
	sound = api_read_hello(result, &command->hello);
	PQclear(result);
	if (sound && command->hello.relay_api == API_VERSION)
	{
		command->code = EXIT_CLEAN;
		return true;
	}
	if (!sound)
	{
		command_report("extension: unexpected result of relay_hello()");
		return false;
	}
	why = api_mismatch(&command->hello);
	command_report("%s: %s", why, api_mismatch_hint(&command->hello));
	free(why);
	command->code = EXIT_INCOMPATIBLE;
	return false;
}

void
command_close(Command *command)
{
	PQfinish(command->pg);
	command->pg = NULL;
}

/* ---- the broker -------------------------------------------------------- */

const char *
command_group(const Command *command)
{
	return command->config->group[0] != '\0' ? command->config->group
											 : command->hello.inbox_group;
}

rd_kafka_t *
command_client_new(const Config *config, const char *group,
				   KafkaTrouble *trouble, Buf *error)
{
	char			 reason[KAFKA_ERROR_MAX];
	rd_kafka_conf_t *conf = kafka_conf_new(
		config,
		(KafkaProperties){
			/* where these are reached, 2.0.2 rests for a whole second */
			{"queued.min.messages", "150000"},
			{"queued.max.messages.kbytes", "65536"},
			{"fetch.wait.max.ms", "20"},
			{NULL, NULL},
		},
		(KafkaProperties){
			{"log.queue", "false"},
			{"log_level", "6"},
			{"log.connection.close", "true"},
			{"enable.auto.commit", "false"},
			{"enable.auto.offset.store", "false"},
			{"enable.partition.eof", "true"},
			{"auto.offset.reset", "earliest"},
			{"check.crcs", "true"},
			{group != NULL ? "group.id" : NULL, group},
			{NULL, NULL},
		});
	rd_kafka_t *client;

	kafka_trouble_init(trouble, config, conf);
	client = kafka_client_new(RD_KAFKA_CONSUMER, conf, reason);
	if (client == NULL)
	{
		buf_add_str(error, reason);
		kafka_name_files(config, reason, error);
	}
	return client;
}

rd_kafka_t *
command_open_broker(Command *command)
{
	rd_kafka_t *client;
	Buf			error = {0};

	Assert(command->pg != NULL && command->code == EXIT_CLEAN);
	client = command_client_new(command->config, command_group(command),
								&command->trouble, &error);
	if (client == NULL)
		command_report("broker: %s", buf_str(&error));
	buf_free(&error);
	return client;
}

void
command_pause(const char *what, int64_t begun)
{
	progress_wait(what, clock_monotonic() - begun);
	usleep(COMMAND_PAUSE_US);
}

bool
command_may_retry(rd_kafka_t *client, int64_t *until, rd_kafka_resp_err_t error)
{
	KafkaTrouble *trouble = rd_kafka_opaque(client);

	Assert(error != RD_KAFKA_RESP_ERR_NO_ERROR);
	Assert(trouble != NULL); /* a client of command_client_new() */
	if (*until == 0)
		*until = clock_monotonic() + COMMAND_BROKER_MS * MS_US;
	kafka_trouble_poll(trouble, client);
	if (!kafka_error_passes(error) || kafka_trouble_is_final(trouble) ||
		clock_monotonic() >= *until)
		return false;
	command_pause("the broker", *until - COMMAND_BROKER_MS * MS_US);
	return true;
}

void
command_report_broker(rd_kafka_t *client, const char *what,
					  rd_kafka_resp_err_t error)
{
	KafkaTrouble *trouble = rd_kafka_opaque(client);
	Buf			  why = {0};

	Assert(trouble != NULL); /* a client of command_open_broker() */
	kafka_trouble_explain(trouble, error, &why);
	command_report("%s: %s", what, buf_str(&why));
	buf_free(&why);
}

const struct rd_kafka_metadata *
command_query_metadata(rd_kafka_t *client, const char *topic, Buf *why)
{
	const struct rd_kafka_metadata *metadata = NULL;
	rd_kafka_topic_t			   *handle = NULL;
	int64_t							until = 0;
	rd_kafka_resp_err_t				error;

	if (topic != NULL)
		handle = rd_kafka_topic_new(client, topic, NULL);
	do
		error = rd_kafka_metadata(client, handle == NULL, handle, &metadata,
								  METADATA_TRY_MS);
	while (error != RD_KAFKA_RESP_ERR_NO_ERROR &&
		   command_may_retry(client, &until, error));
	if (handle != NULL)
		rd_kafka_topic_destroy(handle);
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
		return metadata;
	kafka_trouble_explain(rd_kafka_opaque(client), error, why);
	return NULL;
}

const struct rd_kafka_metadata *
command_get_metadata(rd_kafka_t *client, const char *topic)
{
	Buf								why = {0};
	const struct rd_kafka_metadata *metadata = command_query_metadata(client,
																	  topic,
																	  &why);

	if (metadata == NULL)
		command_report("broker: %s", buf_str(&why));
	buf_free(&why);
	return metadata;
}

const struct rd_kafka_metadata_topic *
command_find_entry(const struct rd_kafka_metadata *metadata, const char *topic)
{
	for (int i = 0; i < metadata->topic_cnt; i++)
		if (strcmp(metadata->topics[i].topic, topic) == 0)
			return &metadata->topics[i];
	return NULL;
}

const struct rd_kafka_metadata_topic *
command_find_topic(const struct rd_kafka_metadata *metadata, const char *topic)
{
	const struct rd_kafka_metadata_topic *entry = command_find_entry(metadata,
																	 topic);

	return entry != NULL && entry->err == RD_KAFKA_RESP_ERR_NO_ERROR ? entry
																	 : NULL;
}

/* ---- arguments and progress -------------------------------------------- */

Point
command_point(const char *text)
{
	Point point = {.text = text, .number = -1, .moment_us = -1};

	if (text == NULL)
		return point;
	if (!parse_number(text, &point.number))
	{
		point.number = -1;
		if (rfc3339_parse(text, &point.moment_us) != RFC3339_VALID)
			Assert(!"a value that the parser accepts");
	}
	Assert((point.number >= 0) != (point.moment_us >= 0));
	return point;
}

ExitCode
command_print_usage(const Arguments *arguments)
{
	Buf usage = {0};

	usage_add_pointer(&command_line, arguments, &usage);
	fprintf(stderr, "\n%s", buf_str(&usage));
	buf_free(&usage);
	return EXIT_USAGE;
}

double
command_share(int64_t begin, int64_t at, int64_t end)
{
	if (end <= begin)
		return 1;
	return (double) (Min(Max(at, begin), end) - begin) / (double) (end - begin);
}
