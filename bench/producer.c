/*
 * producer.c - librdkafka by itself: what a relay could reach at the most
 *
 *   producer BROKERS TOPIC COUNT
 *
 * Produces COUNT records like those of bench/relay.py, with the headers of the
 * contract, and waits until all are acknowledged.  Prints the seconds that it
 * took and the seconds of CPU.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

static const char *const settings[][2] = {
	{"acks", "all"},
	{"enable.idempotence", "true"},
	{"linger.ms", "5"},
	{"socket.nagle.disable", "true"},
	{"queue.buffering.max.messages", "100000"},
};

static const char *const headers[][2] = {
	{"ce_specversion", "1.0"},
	{"ce_id", "01234567-89ab-cdef-0123-456789abcdef"},
	{"ce_source", "/pgstock/bench"},
	{"ce_type", "bench"},
	{"ce_time", "2026-01-31T12:44:56.123456Z"},
	{"ce_subject", "k100000"},
	{"ce_sequence", "00000000000000000042"},
	{"content-type", "application/json"},
	{"event_id", "01234567-89ab-cdef-0123-456789abcdef"},
	{"event_type", "bench"},
	{"timestamp", "2026-01-31T12:44:56.123456Z"},
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static long failed;

static void
on_delivery(rd_kafka_t *producer, const rd_kafka_message_t *message, void *arg)
{
	(void) producer;
	(void) arg;
	failed += message->err != RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_t *
open_producer(const char *brokers)
{
	char			 error[512];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t		*producer;

	rd_kafka_conf_set(conf, "bootstrap.servers", brokers, error, sizeof(error));
	for (size_t i = 0; i < COUNT_OF(settings); i++)
		if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], error,
							  sizeof(error)) != RD_KAFKA_CONF_OK)
			goto failed;
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (producer != NULL)
		return producer;
failed:
	fprintf(stderr, "producer: %s\n", error);
	exit(1);
}

static void
produce(rd_kafka_t *producer, rd_kafka_topic_t *topic, long number)
{
	char				key[32];
	char				value[300];
	rd_kafka_headers_t *list = rd_kafka_headers_new(COUNT_OF(headers));
	rd_kafka_resp_err_t error;

	snprintf(key, sizeof(key), "k%ld", number);
	memset(value, 'x', sizeof(value));
	for (size_t i = 0; i < COUNT_OF(headers); i++)
		rd_kafka_header_add(list, headers[i][0], -1, headers[i][1], -1);
	do
	{
		error = rd_kafka_producev(producer, RD_KAFKA_V_RKT(topic),
								  RD_KAFKA_V_KEY(key, strlen(key)),
								  RD_KAFKA_V_VALUE(value, 290),
								  RD_KAFKA_V_HEADERS(list),
								  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
								  RD_KAFKA_V_END);
		rd_kafka_poll(producer, error == RD_KAFKA_RESP_ERR__QUEUE_FULL);
	} while (error == RD_KAFKA_RESP_ERR__QUEUE_FULL);
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		rd_kafka_headers_destroy(list);
		failed++;
	}
}

static double
seconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

int
main(int argc, char **argv)
{
	double			  started = seconds(CLOCK_MONOTONIC);
	rd_kafka_t		 *producer;
	rd_kafka_topic_t *topic;

	if (argc != 4)
	{
		fprintf(stderr, "usage: producer BROKERS TOPIC COUNT\n");
		return 2;
	}
	producer = open_producer(argv[1]);
	topic = rd_kafka_topic_new(producer, argv[2], NULL);
	for (long i = 0; i < strtol(argv[3], NULL, 10); i++)
		produce(producer, topic, i);
	if (rd_kafka_flush(producer, 60000) != RD_KAFKA_RESP_ERR_NO_ERROR)
		failed++;
	printf("%.3f %.3f\n", seconds(CLOCK_MONOTONIC) - started,
		   seconds(CLOCK_PROCESS_CPUTIME_ID));
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(producer);
	return failed > 0;
}
