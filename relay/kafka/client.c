/*
 * client.c - librdkafka's configuration
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/client.h"

#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "kafka/log_text.h"

static void
kafka_conf_must_set(rd_kafka_conf_t *conf, const char *property,
					const char *value)
{
	char reason[KAFKA_ERROR_MAX];

	if (rd_kafka_conf_set(conf, property, value, reason, sizeof(reason)) ==
		RD_KAFKA_CONF_OK)
		return;
	log_write(LEVEL_ERROR, "kafka", "could not set %s: %s", property, reason);
	abort();
}

static void
kafka_conf_set_all(rd_kafka_conf_t *conf, KafkaProperties properties)
{
	for (size_t i = 0; properties[i][0] != NULL; i++)
		kafka_conf_must_set(conf, properties[i][0], properties[i][1]);
}

/*
 * In a thread of librdkafka's.  The verdict is OpenSSL's own; given as ours,
 * librdkafka writes it to its log, with the certificate's subject and issuer.
 * Without that an expired certificate and an unknown authority look the same.
 */
static int
kafka_verify_certificate(rd_kafka_t *client UNUSED, const char *broker UNUSED,
						 int32_t broker_id UNUSED, int *error, int depth UNUSED,
						 const char *der UNUSED, size_t size UNUSED,
						 char *reason, size_t reason_size, void *arg UNUSED)
{
	if (*error == X509_V_OK)
		return 1;
	Assert(reason_size > 0);
	snprintf(reason, reason_size, "%s", X509_verify_cert_error_string(*error));
	return 0;
}

/* Where nothing shall be verified, nothing is. */
static void
kafka_conf_verify(rd_kafka_conf_t *conf)
{
	char   value[16] = "";
	size_t size = sizeof(value);

	if (rd_kafka_conf_get(conf, "enable.ssl.certificate.verification", value,
						  &size) != RD_KAFKA_CONF_OK ||
		strcmp(value, "false") != 0)
		(void) rd_kafka_conf_set_ssl_cert_verify_cb(conf,
													kafka_verify_certificate);
}

/*
 * Whether tokens of OAUTHBEARER are requested by a thread of librdkafka's own.
 * The default is the queue that the caller polls, which no command does while
 * it waits for an answer.
 */
static bool
kafka_conf_uses_tokens(const rd_kafka_conf_t *conf)
{
	char   mechanism[32] = "";
	size_t size = sizeof(mechanism);

	return rd_kafka_conf_get(conf, "sasl.mechanisms", mechanism, &size) ==
			   RD_KAFKA_CONF_OK &&
		   strcmp(mechanism, "OAUTHBEARER") == 0;
}

static void
kafka_conf_serve_tokens(rd_kafka_conf_t *conf)
{
	if (kafka_conf_uses_tokens(conf))
		rd_kafka_conf_enable_sasl_queue(conf, 1);
}

rd_kafka_conf_t *
kafka_conf_new(const Config *config, KafkaProperties wishes,
			   KafkaProperties musts)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char			*client = xasprintf("pgstock-relay-%s", config->name);

	kafka_conf_must_set(conf, "client.id", client);
	kafka_conf_must_set(conf, "log.queue", "true");
	kafka_conf_must_set(conf, "log.connection.close", "false");
	kafka_conf_must_set(conf, "socket.nagle.disable", "true");
	kafka_conf_must_set(conf, "reconnect.backoff.max.ms", "2000");
	kafka_conf_set_all(conf, wishes);
	for (char **pair = config->kafka; *pair != NULL; pair += 2)
	{
		Assert(pair[1] != NULL); /* a value for each name */
		kafka_conf_must_set(conf, pair[0], pair[1]);
	}
	kafka_conf_set_all(conf, musts);
	kafka_conf_verify(conf);
	kafka_conf_serve_tokens(conf);
	free(client);
	return conf;
}

rd_kafka_t *
kafka_client_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, char *error)
{
	bool		tokens = kafka_conf_uses_tokens(conf);
	rd_kafka_t *client = rd_kafka_new(type, conf, error, KAFKA_ERROR_MAX);

	if (client == NULL)
		rd_kafka_conf_destroy(conf);
	else if (tokens)
		rd_kafka_error_destroy(
			rd_kafka_sasl_background_callbacks_enable(client));
	return client;
}

void
kafka_set_credentials(rd_kafka_t *client, const Config *config)
{
	const char		 *user = config_kafka_get(config, "sasl.username");
	const char		 *password = config_kafka_get(config, "sasl.password");
	rd_kafka_error_t *error;

	if (client == NULL || user == NULL || password == NULL)
		return;
	error = rd_kafka_sasl_set_credentials(client, user, password);
	Assert(error == NULL); /* both are given */
	rd_kafka_error_destroy(error);
}

rd_kafka_resp_err_t
kafka_find_offsets(rd_kafka_t *client, rd_kafka_topic_partition_list_t *list,
				   int wait_ms)
{
	rd_kafka_resp_err_t error = rd_kafka_offsets_for_times(client, list,
														   wait_ms);

	for (int i = 0; error == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++)
		error = list->elems[i].err;
	return error;
}

static rd_kafka_resp_err_t
kafka_find_offset(rd_kafka_t *client, const char *topic, int32_t partition,
				  int64_t *offset, int wait_ms)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t				 error;

	list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, topic, partition)->offset = *offset;
	error = kafka_find_offsets(client, list, wait_ms);
	*offset = list->elems[0].offset;
	rd_kafka_topic_partition_list_destroy(list);
	return error;
}

rd_kafka_resp_err_t
kafka_find_end(rd_kafka_t *client, const char *topic, int32_t partition,
			   int64_t *end, int wait_ms)
{
	*end = RD_KAFKA_OFFSET_END;
	return kafka_find_offset(client, topic, partition, end, wait_ms);
}

/*
 * Not rd_kafka_query_watermark_offsets(): before librdkafka 2.3 it waits for
 * ever where the partition's leader does not answer (librdkafka #2588).
 */
rd_kafka_resp_err_t
kafka_find_range(rd_kafka_t *client, const char *topic, int32_t partition,
				 int64_t *first, int64_t *end, int wait_ms)
{
	rd_kafka_resp_err_t error;

	*first = RD_KAFKA_OFFSET_BEGINNING;
	*end = RD_KAFKA_OFFSET_END;
	error = kafka_find_offset(client, topic, partition, first, wait_ms);
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
		error = kafka_find_offset(client, topic, partition, end, wait_ms);
	return error;
}

void
kafka_queue_wakes(rd_kafka_queue_t *queue, LoopWake *wake)
{
	const uint64_t one = 1;

	/* librdkafka writes when an event enters an empty queue */
	rd_kafka_queue_io_event_enable(queue, loop_wake_fd(wake), &one,
								   sizeof(one));
	loop_wake_up(wake);
}

/*
 * librdkafka masks its own passwords only: not the command that refreshes a
 * Kerberos ticket, which it writes where it fails (SASLREFRESH) and, with
 * "debug", among the properties (CONF).
 */
static bool
kafka_log_has_secret(const char *facility, const char *text)
{
	return strcmp(facility, "SASLREFRESH") == 0 ||
		   (strcmp(facility, "CONF") == 0 && kafka_property_is_secret(text));
}

void
kafka_log_event(rd_kafka_event_t *event, const char *module)
{
	static LogThrottle certificates;
	const char		  *facility;
	const char		  *text;
	int				   level;

	if (rd_kafka_event_log(event, &facility, &text, &level) != 0)
		return;
	if (kafka_log_has_secret(facility, text))
		text = "a text with a secret of [kafka] is omitted";
	if (strcmp(facility, "SSLCERTVRFY") == 0)
	{
		/* at each try to connect, of each client */
		log_throttled(&certificates, clock_monotonic(), LEVEL_WARNING, module,
					  "%s", text);
		return;
	}
	/* the pump logs a broker that is down, throttled */
	log_write(level <= 3 && strcmp(facility, "FAIL") != 0 &&
					  strcmp(facility, "ERROR") != 0
				  ? LEVEL_WARNING
				  : LEVEL_DEBUG,
			  module, "%s: %s", facility, text);
}

char *
kafka_refused_topic(rd_kafka_event_t *event)
{
	const char *facility;
	const char *text;
	int			level;

	if (rd_kafka_event_log(event, &facility, &text, &level) != 0)
		return NULL;
	return log_text_refused_topic(facility, text);
}

bool
kafka_is_refusal(rd_kafka_resp_err_t error)
{
	switch ((int) error)
	{
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
		case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_INVALID_RECORD:
		case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
		case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
			return true;
		default:
			return false;
	}
}
