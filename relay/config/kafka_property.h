/*
 * kafka_property.h - the properties of librdkafka that [kafka] may set
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_CONFIG_KAFKA_PROPERTY_H
#define PGSTOCK_CONFIG_KAFKA_PROPERTY_H

#include "common/util.h"

#define KAFKA_ERROR_MAX 512 /* bytes of librdkafka's error texts */

/*
 * The coordinator aborts a transaction that is open for so long without a
 * request; socket.timeout.ms may not be longer.
 */
#define KAFKA_TRANSACTION_MS 30000

typedef enum KafkaValue
{
	KAFKA_TEXT,		 /* librdkafka judges it */
	KAFKA_ADDRESSES, /* host:port, ... */
	KAFKA_URL,		 /* without user and password */
	KAFKA_FLAG,		 /* true or false */
	KAFKA_NUMBER,	 /* min to max */
	KAFKA_NUMBER_0,	 /* the same, or 0 */
	KAFKA_CHOICE,	 /* one of choices */
} KafkaValue;

typedef struct KafkaProperty
{
	const char *name;
	KafkaValue	value;
	int64_t		min;
	int64_t		max;
	const char *choices; /* comma-separated */
} KafkaProperty;

extern const KafkaProperty kafka_properties[];
extern const size_t		   kafka_properties_count;

/*
 * A property and its value from [kafka]; the reason it is refused goes to
 * *error.
 */
bool kafka_check_property(const char *property, const char *value,
						  Buf *error) MUST_CHECK;
bool kafka_property_is_secret(const char *property);

/* Whether its value may change while the relay runs. */
bool kafka_property_reloads(const char *property);

/* Why a property cannot be set; NULL: it can, or it is unknown. */
const char *kafka_property_refusal(const char *property);

#endif
