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

#include "common/log.h"
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
	int					verdict;		  /* OpenSSL's number of that */
} KafkaTrouble;

/*
 * Before the client is made of conf, whose opaque it takes; trouble has to
 * outlive the client.
 */
void kafka_trouble_init(KafkaTrouble *trouble, const Config *config,
						rd_kafka_conf_t *conf);

/* Takes the events since the last call, of a client polled only here. */
void kafka_trouble_poll(KafkaTrouble *trouble, rd_kafka_t *client);

/* Whether waiting is of no use: credentials and certificates. */
bool kafka_trouble_is_final(KafkaTrouble *trouble);

/*
 * Whether an error may pass by itself, as while a broker starts and after a
 * topic was created.
 */
bool kafka_error_passes(rd_kafka_resp_err_t error);

/*
 * A sentence with the error and its cause, where that is known, and the files
 * of [kafka] that it is about.
 */
void kafka_trouble_explain(KafkaTrouble *trouble, rd_kafka_resp_err_t error,
						   Buf *to);

/* The next step; appends nothing where none is known but to look at [kafka]. */
void kafka_trouble_advise(KafkaTrouble *trouble, Buf *to);

/* The same for an error of librdkafka and its text: a phrase. */
void kafka_advise(const Config *config, rd_kafka_resp_err_t error,
				  const char *text, Buf *to);

/*
 * Whether this librdkafka can use the configured SCRAM with older brokers only;
 * a phrase why, with the next step.
 */
bool kafka_scram_is_limited(const Config *config) MUST_CHECK;
void kafka_describe_scram(Buf *to);

#define KAFKA_SCRAM_ADVICE                                \
	"install librdkafka 2.6.1 or newer, or use a client " \
	"certificate, or sasl.mechanism = PLAIN with "        \
	"security.protocol = sasl_ssl"

/* Logs an error event, with the files that it is about and the next step. */
void kafka_log_error(LogThrottle *throttle, int64_t now, const char *module,
					 const Config *config, rd_kafka_resp_err_t error,
					 const char *text);

/* The files of [kafka] that a reason of librdkafka's is about, if any. */
void kafka_name_files(const Config *config, const char *reason, Buf *to);

#endif
