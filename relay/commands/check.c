/*
 * check.c - commands that look, tell and end: check, adopt
 *
 * One line for each thing that has to be right: "ok" or "FAIL", what it is, and
 * under a FAIL what to do.  These commands wait for their peers; the loop and
 * its rules are not theirs.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "commands/check_private.h"
#include "common/safe_text.h"
#include "db/connect.h"
#include "kafka/position_topic.h"

void
check_good(const char *format, ...)
{
	Buf		line = {0};
	va_list args;

	va_start(args, format);
	buf_vline(&line, format, args);
	va_end(args);
	safe_line(stdout, "ok    %s", buf_str(&line));
	buf_free(&line);
}

void
check_bad(Check *check, const char *todo, const char *format, ...)
{
	Buf		line = {0};
	va_list args;

	va_start(args, format);
	buf_vline(&line, format, args);
	va_end(args);
	safe_line(stdout, "FAIL  %s", buf_str(&line));
	safe_line(stdout, "      %s", todo);
	buf_free(&line);
	if (check->code == EXIT_CLEAN)
		check->code = EXIT_RUNTIME;
}

/* NULL if the call failed, which is told. */
static PGresult *
ask(Check *check, ApiCall call, const PgParam *params, const char *what,
	const char *todo)
{
	PGresult *result = api_exec(check->pg, call, params);
	char	 *text = api_failure(&result);

	if (text != NULL)
		check_bad(check, todo, "%s: %s", what, text);
	free(text);
	return result;
}

/* ---- the database ------------------------------------------------------ */

static bool
check_database(Check *check)
{
	check->pg = db_connect_blocking(check->config);
	if (PQstatus(check->pg) != CONNECTION_OK)
	{
		if (api_pooler_refused(PQerrorMessage(check->pg)))
			check_bad(check, API_POOLER_HINT, "database: %s", API_POOLER);
		check_bad(check,
				  "See [postgres] conninfo, pg_hba.conf and the server's log.",
				  "database: %s", PQerrorMessage(check->pg));
		return false;
	}
	check_good("database: %s on server %d as %s", PQdb(check->pg),
			   PQserverVersion(check->pg), PQuser(check->pg));
	return true;
}

static bool
check_extension(Check *check)
{
	PGresult *result;
	bool	  sound;

	result = ask(check, API_HELLO, NULL, "extension",
				 "Run CREATE EXTENSION pgstock in this database, and SELECT "
				 "grant_stock_access('<this role>', 'relay').");
	if (result == NULL)
		return false;
	sound = api_read_hello(result, &check->hello);
	PQclear(result);
	if (!sound || check->hello.relay_api != API_VERSION)
	{
		check_bad(check, "Install matching versions of extension and relay.",
				  "extension: it speaks relay_api %d, this relay %d",
				  check->hello.relay_api, API_VERSION);
		check->code = EXIT_INCOMPATIBLE;
		return false;
	}
	if (api_is_pooled(&check->hello, PQbackendPID(check->pg)))
	{
		check_bad(check, API_POOLER_HINT, "database: %s", API_POOLER);
		return false;
	}
	check_good("extension: pgstock %s, relay_api %d%s",
			   check->hello.extension_version, check->hello.relay_api,
			   check->hello.preloaded ? ", preloaded" : "");
	return true;
}

static void
check_notify(Check *check)
{
	PGresult *listen = ask(check, API_LISTEN, NULL, "listen", "See above.");
	PGresult *echo = NULL;
	PGnotify *notify = NULL;

	if (listen != NULL)
		echo = ask(check, API_ECHO, NULL, "notify", "See above.");
	if (echo != NULL)
	{
		PQconsumeInput(check->pg);
		notify = PQnotifies(check->pg);
		if (notify != NULL)
			check_good("notifications: they arrive");
		else
			check_bad(check,
					  "Connect to PostgreSQL itself, not through a "
					  "transaction pooler.",
					  "notifications: none arrived");
	}
	PQfreemem(notify);
	PQclear(listen);
	PQclear(echo);
}

/* kafka: the position topic's, data NULL: none */
static void
check_position(Check *check, Slice kafka)
{
	const PgParam params[] = {api_bytes(kafka)};
	PGresult	 *result = ask(check, API_POSITION_OF, params, "position",
							   "Run \"pgstock-relay adopt\", or mend the "
								   "position topic.");
	PGresult	 *metrics;

	if (result == NULL)
		return;
	PQclear(result);
	metrics = ask(check, API_METRICS, NULL, "metrics", "See the server's log.");
	for (int row = 0; metrics != NULL && row < PQntuples(metrics); row++)
		if (strcmp(PQgetvalue(metrics, row, 0), "outbox_pending_events") == 0)
			check_good("position: valid, %s events to publish",
					   PQgetvalue(metrics, row, 2));
	PQclear(metrics);
}

static void
check_upkeep(Check *check)
{
	PGresult   *status = ask(check, API_STATUS, NULL, "status",
							 "See the server's log.");
	const char *trouble = NULL;

	for (int row = 0; status != NULL && row < PQntuples(status); row++)
		if (strcmp(PQgetvalue(status, row, 0), "upkeep_trouble") == 0)
			trouble = api_text(status, row, 2);
	if (trouble != NULL)
		check_bad(check,
				  "The steps that are not named go on. See the server's log.",
				  "upkeep: it fails in %s", trouble);
	else if (status != NULL)
		check_good("upkeep: no step fails");
	PQclear(status);
}

/* ---- topics to publish to ------------------------------------------------ */

static void
check_topic_out(Check *check, const struct rd_kafka_metadata *metadata,
				const char *name)
{
	const struct rd_kafka_metadata_topic *topic = check_find_topic(metadata,
																   name);
	char								  reason[KAFKA_ERROR_MAX];

	if (topic == NULL)
		check_creation(check, name,
					   rd_kafka_NewTopic_new(name, -1, -1, reason,
											 sizeof(reason)));
	else
		check_good("topic %s: %d partitions", name, topic->partition_cnt);
}

static void
check_topics_out(Check *check, const struct rd_kafka_metadata *metadata)
{
	PGresult *topics = ask(check, API_TOPICS, NULL, "topics",
						   "See the server's log.");

	for (int row = 0; topics != NULL && row < PQntuples(topics); row++)
		check_topic_out(check, metadata, PQgetvalue(topics, row, 0));
	PQclear(topics);
	for (char **topic = check->config->topics; *topic != NULL; topic++)
	{
		char *dlq = config_dlq_topic(check->config, *topic);

		check_topic_out(check, metadata, dlq);
		free(dlq);
	}
}

/* ---- transactional mode ------------------------------------------------ */

/* A topic's setting; NULL if the broker does not say.  Freed by the caller. */
static char *
topic_setting(const Check *check, const char *topic, const char *setting)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(check->client);
	rd_kafka_ConfigResource_t
		*wanted = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
	const rd_kafka_ConfigResource_t **found;
	const rd_kafka_ConfigEntry_t	**entries;
	rd_kafka_event_t				 *event;
	size_t							  count = 0;
	char							 *value = NULL;

	rd_kafka_DescribeConfigs(check->client, &wanted, 1, NULL, queue);
	event = rd_kafka_queue_poll(queue, BROKER_WAIT_MS);
	if (event != NULL && rd_kafka_event_error(event) == 0)
	{
		found = rd_kafka_DescribeConfigs_result_resources(
			rd_kafka_event_DescribeConfigs_result(event), &count);
		entries = rd_kafka_ConfigResource_configs(found[0], &count);
		for (size_t i = 0; i < count; i++)
			if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), setting) == 0)
				value = xstrdup(rd_kafka_ConfigEntry_value(entries[i]));
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_ConfigResource_destroy(wanted);
	rd_kafka_queue_destroy(queue);
	return value;
}

static bool
check_position_topic(Check *check, const struct rd_kafka_metadata *metadata,
					 const char *name)
{
	const struct rd_kafka_metadata_topic *topic = check_find_topic(metadata,
																   name);
	char								 *cleanup;
	bool								  right;

	if (topic == NULL)
	{
		check_creation(check, name, position_new_topic(name));
		return false;
	}
	cleanup = topic_setting(check, name, "cleanup.policy");
	right = topic->partition_cnt == 1 &&
			(cleanup == NULL || strcmp(cleanup, "compact") == 0);
	if (right)
		check_good("position topic %s", name);
	else
		check_bad(check,
				  "It must have one partition and be compacted: mend it.",
				  "position topic %s: %d partitions, cleanup.policy %s", name,
				  topic->partition_cnt, cleanup != NULL ? cleanup : "unknown");
	free(cleanup);
	return right;
}

static bool
somebody_leads(Check *check)
{
	PGresult *status = ask(check, API_STATUS, NULL, "status",
						   "See the server's log.");
	bool	  leads = false;

	for (int row = 0; status != NULL && row < PQntuples(status); row++)
		if (strcmp(PQgetvalue(status, row, 0), "leader") == 0)
			leads = !PQgetisnull(status, row, 2);
	PQclear(status);
	return leads;
}

/* To try it is to fence whoever has it: so only if nobody has. */
static void
check_transactional_id(Check *check, const char *id, bool in_use)
{
	char			  reason[KAFKA_ERROR_MAX];
	rd_kafka_t		 *producer;
	rd_kafka_error_t *error;

	if (in_use)
	{
		check_good("transactional.id %s: in use by the relay that leads", id);
		return;
	}
	producer = kafka_client_new(RD_KAFKA_PRODUCER,
								kafka_conf_new(check->config,
											   (KafkaProperties){{NULL, NULL}},
											   (KafkaProperties){
												   {"log.queue", "false"},
												   {"log_level", "0"},
												   {"transactional.id", id},
												   {NULL, NULL},
											   }),
								reason);
	if (producer == NULL)
	{
		check_bad(check, "See [kafka].", "transactional.id %s: %s", id, reason);
		return;
	}
	while ((error = rd_kafka_init_transactions(producer, BROKER_WAIT_MS)) !=
			   NULL &&
		   check_again(check, rd_kafka_error_code(error)))
		rd_kafka_error_destroy(error);
	check->until = 0;
	if (error == NULL)
		check_good("transactional.id %s", id);
	else
		check_bad(check, "Allow the relay Describe and Write on it.",
				  "transactional.id %s: %s", id, rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	rd_kafka_destroy(producer);
}

/* A leader reads it itself, and has a transaction open there: its end is not
 * to be seen. */
static void
check_position_record(Check *check, const char *topic)
{
	const atomic_bool stop = false;
	Buf				  record = {0};
	Buf				  error = {0};
	Slice			  kafka = {NULL, 0};
	bool			  found = false;
	rd_kafka_conf_t	 *conf = position_reader_conf(check->config);
	rd_kafka_t		 *reader = position_reader_new(conf, &error);

	if (reader == NULL ||
		!position_read(reader, topic, &stop, &record, &found, &error))
		check_bad(check, "Allow the relay Read and Write on it.", "%s",
				  buf_str(&error));
	if (found)
		kafka = (Slice){buf_str(&record), record.len};
	check_position(check, kafka);
	if (reader != NULL)
		rd_kafka_destroy(reader);
	buf_free(&record);
	buf_free(&error);
}

static void
check_transactions(Check *check, const struct rd_kafka_metadata *metadata)
{
	char *topic = position_topic(check->hello.incarnation);
	char *id = position_transactional_id(check->hello.incarnation);
	bool  in_use = somebody_leads(check);

	check_transactional_id(check, id, in_use);
	if (check_position_topic(check, metadata, topic) && !in_use)
		check_position_record(check, topic);
	else
		check_position(check, (Slice){NULL, 0});
	free(topic);
	free(id);
}

/* ---- what a start would consume ---------------------------------------- */

typedef struct Consumed
{
	int64_t count;	 /* messages that a start would consume */
	int64_t missing; /* offsets that are gone before they were read */
	int		anew;	 /* partitions that end before where they were read to */
	bool	known;	 /* the database knows the topic */
} Consumed;

/* -1: the database does not know the topic. */
static int64_t
stored_offset(const PGresult *offsets, const char *topic, int partition)
{
	int64_t offset = -1;

	for (int row = 0; row < PQntuples(offsets); row++)
	{
		if (strcmp(PQgetvalue(offsets, row, 0), topic) != 0)
			continue;
		if (!PQgetisnull(offsets, row, 1) &&
			api_int(offsets, row, 1) == partition)
			return api_int(offsets, row, 2);
		offset = 0;
	}
	return offset;
}

/* Adds what is new of a partition. */
static rd_kafka_resp_err_t
add_consumed(Check *check, const PGresult *offsets, const char *topic,
			 int partition, Consumed *consumed)
{
	int64_t				from = stored_offset(offsets, topic, partition);
	int64_t				first;
	int64_t				end;
	rd_kafka_resp_err_t error = check_find_range(check, topic, partition,
												 &first, &end);

	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		return error;
	consumed->known |= from >= 0;
	if (from > end)
	{
		consumed->anew++;
		from = first;
	}
	else if (from >= 0)
		consumed->missing += Max(first - from, 0);
	else if (check->config->first_offset == FIRST_OFFSET_LATEST)
		from = end;
	consumed->count += Max(end - Max(from, first), 0);
	return error;
}

static void
check_topic_in(Check *check, const struct rd_kafka_metadata_topic *topic,
			   const PGresult *offsets)
{
	Consumed consumed = {0};

	if (topic->err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		check_bad(check, "See the broker's log and the relay's permissions.",
				  "topic %s: %s", topic->topic, rd_kafka_err2str(topic->err));
		return;
	}
	for (int i = 0; i < topic->partition_cnt; i++)
	{
		int					partition = topic->partitions[i].id;
		rd_kafka_resp_err_t error = add_consumed(check, offsets, topic->topic,
												 partition, &consumed);

		if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			check_bad(check,
					  "See the broker's log and the relay's permissions.",
					  "topic %s: partition %d gave no offsets: %s",
					  topic->topic, partition, rd_kafka_err2str(error));
			return;
		}
	}
	check_good("topic %s: %d partitions, a start would consume %" PRId64
			   " messages%s",
			   topic->topic, topic->partition_cnt, consumed.count,
			   consumed.known ? ""
			   : check->config->first_offset >= 0
				   ? " or fewer, by first_offset"
				   : "; the database knows none of them yet");
	if (consumed.anew > 0)
		check_good("topic %s: %d partitions end before the place up to which "
				   "they were read: made anew, or without their end; a start "
				   "reads all that they have",
				   topic->topic, consumed.anew);
	if (consumed.missing > 0)
		check_good("topic %s: %" PRId64 " messages are gone that were not "
				   "read: by retention, or deleted; a start goes on behind "
				   "them",
				   topic->topic, consumed.missing);
}

static void
check_topics_in(Check *check, const struct rd_kafka_metadata *metadata)
{
	char	**topics = check->config->topics;
	PGresult *offsets;

	if (topics[0] == NULL)
	{
		check_good("inbox: no topics to consume");
		return;
	}
	check_good("inbox: consumer group %s", check->config->group[0] != '\0'
											   ? check->config->group
											   : check->hello.inbox_group);
	offsets = api_exec_offsets(check->pg, topics);
	for (; *topics != NULL; topics++)
	{
		const struct rd_kafka_metadata_topic *topic = check_find_topic(metadata,
																	   *topics);

		if (topic == NULL)
			check_bad(check,
					  "Topics to consume are never made by the relay: see "
					  "[inbox] topics.",
					  "topic %s: missing", *topics);
		else
			check_topic_in(check, topic, offsets);
	}
	PQclear(offsets);
}

/* Its form was checked with the configuration; no alert is sent to try it. */
static void
check_webhook(const Config *config)
{
	if (config->webhook_url[0] == '\0')
		check_good("webhook: no url, no alerts are sent");
	else
		check_good("webhook: format %s, %s, %s",
				   config_alert_formats[config->webhook_format],
				   config->webhook_secret[0] != '\0' ? "signed" : "not signed",
				   config->webhook_allow[0] != NULL
					   ? "only where \"allow\" says"
					   : "to public addresses only");
}

/* ---- commands ---------------------------------------------------------- */

ExitCode
check_run(const Config *config)
{
	Check							check = {.config = config};
	const struct rd_kafka_metadata *metadata;
	bool transactional = config->mode == MODE_TRANSACTIONAL;
	bool database;

	check_good("configuration");
	database = check_database(&check) && check_extension(&check);
	if (database)
	{
		check_notify(&check);
		check_upkeep(&check);
		if (!transactional)
			check_position(&check, (Slice){NULL, 0});
	}
	check_webhook(config);
	metadata = check_broker(&check);
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

ExitCode
adopt_run(const Config *config, bool execute)
{
	const PgParam params[] = {{.data = execute ? "t" : "f"}};
	Check		  check = {.config = config};
	PGresult	 *result = NULL;

	if (check_database(&check) && check_extension(&check))
		result = ask(&check, API_ADOPT, params, "adopt",
					 "See the server's log.");
	for (int row = 0; result != NULL && row < PQntuples(result); row++)
		safe_line(stdout, "%s: %s", PQgetvalue(result, row, 0),
				  PQgetvalue(result, row, 1));
	if (result != NULL)
		puts(execute ? "adopted: the relay goes on from here"
					 : "nothing was changed: --execute makes it so");
	PQclear(result);
	PQfinish(check.pg);
	return check.code;
}
