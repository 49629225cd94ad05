/*
 * log_text.h - the few facts that librdkafka gives only as English text
 *
 * Pure, and the only place that reads such text; everywhere else error codes
 * and log facilities decide.  The forms are those of librdkafka 2.0.2 and
 * OpenSSL 3.0.  tests/unit/test_log_text.c has a line of each version that was
 * seen, and tests/unit/test_transaction.c lets the installed version write the
 * line that counts.  A text that is not recognised costs a hint or, of a topic
 * that may not be written to, that it is held; never an event.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_LOG_TEXT_H
#define PGSTOCK_KAFKA_LOG_TEXT_H

#include "common/util.h"

/*
 * The topic that the coordinator did not admit to a transaction, for lack of a
 * right, or NULL; freed by the caller.  No record of it was sent, so there is
 * no delivery report, and the transaction's error has the code, but no topic.
 */
char *log_text_refused_topic(const char *facility, const char *text);

/* The text without the name of the thread that wrote it. */
const char *log_text_reason(const char *text);

/*
 * Whether it is about TLS, or names a property: rd_kafka_new() returns a text
 * and no code.
 */
bool log_text_is_tls(const char *text);
bool log_text_names(const char *text, const char *property);

/*
 * Whether a host has no address, or nothing listens there: the error is that
 * the broker does not respond.
 */
bool log_text_is_unknown_host(const char *text);
bool log_text_is_refused_connection(const char *text);

/*
 * Whether the peer ended the connection during the TLS handshake: OpenSSL has
 * no other code for it than for a failed handshake.
 */
bool log_text_is_tls_eof(const char *text);

/* Whether the peer refuses our certificate, or misses one: an alert of TLS. */
bool log_text_is_own_certificate(const char *text);

/*
 * Whether the broker does not offer the SASL mechanism: the error code is that
 * of a wrong password.
 */
bool log_text_is_mechanism(const char *text);

#endif
