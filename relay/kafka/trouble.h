/*
 * trouble.h - why a client of the broker gets no response
 *
 * "Local: Broker transport failure" is what librdkafka returns for a broker
 * that is down, a certificate that has expired, is another host's or of an
 * unknown authority, a wrong password, and TLS with a listener that speaks
 * none.  The cause is in its error events, except for a certificate's: so the
 * latest event and OpenSSL's verdict on the certificate are kept.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_TROUBLE_H
#define PGSTOCK_KAFKA_TROUBLE_H

#include <pthread.h>

#include "kafka/client.h"

/* Written by librdkafka's threads. */
typedef struct KafkaTrouble
{
	const Config	   *config;
	pthread_mutex_t		lock;
	rd_kafka_resp_err_t error;	   /* of the latest error event */
	char				text[512]; /* ... which names the address */
	char				log[512];  /* ... of the log, the latest failure */
	char				certificate[512]; /* its fault, or "" */
} KafkaTrouble;

/* Before the client is made of conf, whose opaque it takes; trouble has to
 * outlive the client. */
void kafka_trouble_init(KafkaTrouble *trouble, const Config *config,
						rd_kafka_conf_t *conf);

/* Takes the events since the last call, of a client polled only here. */
void kafka_trouble_poll(KafkaTrouble *trouble, rd_kafka_t *client);

/* Whether waiting is of no use: credentials and certificates. */
bool kafka_trouble_is_final(KafkaTrouble *trouble);

/* Whether an error may pass by itself, as while a broker starts and after a
 * topic was created. */
bool kafka_error_passes(rd_kafka_resp_err_t error);

/*
 * A sentence with the error and its cause, where that is known, and the files
 * of [kafka] that it is about.
 */
void kafka_trouble_explain(KafkaTrouble *trouble, rd_kafka_resp_err_t error,
						   Buf *to);

/* The files of [kafka] that a reason of librdkafka's is about, if any. */
void kafka_name_files(const Config *config, const char *reason, Buf *to);

#endif
