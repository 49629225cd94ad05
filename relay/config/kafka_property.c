/*
 * kafka_property.c - the properties of librdkafka that [kafka] may set
 *
 * A list of allowed properties, rather than of forbidden ones: librdkafka has
 * some 180 properties, the hidden ones not counted, and each release adds more.
 * One that was not examined may break a promise in silence, as
 * test.mock.num.brokers did, which makes the producer use brokers that do not
 * exist and acknowledge everything.
 *
 * A range is narrower than librdkafka's own where the relay's time limits rest
 * on it: within these ranges every combination makes a client that works.
 * Names of releases newer than the one at hand are refused by that one.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "config/kafka_property.h"

#include <errno.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>

#include "common/spelling.h"

#define TEXT(name)                   \
	{                                \
		name, KAFKA_TEXT, 0, 0, NULL \
	}
#define FLAG(name)                   \
	{                                \
		name, KAFKA_FLAG, 0, 0, NULL \
	}
#define ADDRESSES(name)                   \
	{                                     \
		name, KAFKA_ADDRESSES, 0, 0, NULL \
	}
#define URL(name)                   \
	{                               \
		name, KAFKA_URL, 0, 0, NULL \
	}
#define CHOICE(name, choices)             \
	{                                     \
		name, KAFKA_CHOICE, 0, 0, choices \
	}
#define NUMBER(name, min, max)             \
	{                                      \
		name, KAFKA_NUMBER, min, max, NULL \
	}
#define NUMBER_0(name, min, max)             \
	{                                        \
		name, KAFKA_NUMBER_0, min, max, NULL \
	} /* 0: off */

#define MEBIBYTE 1048576
#define CODECS	 "none, gzip, snappy, lz4, zstd"

/* docs/relay.md lists them, dev/check-options compares. */
const KafkaProperty kafka_properties[] = {
	/* where the brokers are */
	ADDRESSES("bootstrap.servers"),
	ADDRESSES("metadata.broker.list"),
	TEXT("client.id"),
	TEXT("client.rack"),
	CHOICE("broker.address.family", "any, v4, v6"),
	NUMBER("broker.address.ttl", 0, 3600000),
	CHOICE("client.dns.lookup",
		   "use_all_dns_ips, resolve_canonical_bootstrap_servers_only"),
	CHOICE("metadata.recovery.strategy", "none, rebootstrap"),
	NUMBER("metadata.recovery.rebootstrap.trigger.ms", 1000, 3600000),
	FLAG("enable.metrics.push"),

	/* authentication of the relay and the broker */
	TEXT("security.protocol"),
	TEXT("ssl.cipher.suites"),
	TEXT("ssl.curves.list"),
	TEXT("ssl.sigalgs.list"),
	TEXT("ssl.key.location"),
	TEXT("ssl.key.password"),
	TEXT("ssl.key.pem"),
	TEXT("ssl.certificate.location"),
	TEXT("ssl.certificate.pem"),
	TEXT("ssl.ca.location"),
	TEXT("ssl.ca.pem"),
	TEXT("ssl.crl.location"),
	TEXT("ssl.keystore.location"),
	TEXT("ssl.keystore.password"),
	TEXT("ssl.providers"),
	TEXT("ssl.engine.location"),
	TEXT("ssl.engine.id"),
	FLAG("enable.ssl.certificate.verification"),
	CHOICE("ssl.endpoint.identification.algorithm", "none, https"),
	TEXT("https.ca.location"),
	TEXT("https.ca.pem"),
	TEXT("sasl.mechanism"),
	TEXT("sasl.mechanisms"),
	TEXT("sasl.username"),
	TEXT("sasl.password"),
	TEXT("sasl.kerberos.service.name"),
	TEXT("sasl.kerberos.principal"),
	TEXT("sasl.kerberos.kinit.cmd"),
	TEXT("sasl.kerberos.keytab"),
	NUMBER_0("sasl.kerberos.min.time.before.relogin", 1000, 86400000),
	TEXT("sasl.oauthbearer.config"),
	TEXT("sasl.oauthbearer.method"),
	TEXT("sasl.oauthbearer.client.id"),
	TEXT("sasl.oauthbearer.client.secret"),
	TEXT("sasl.oauthbearer.client.credentials.client.id"),
	TEXT("sasl.oauthbearer.client.credentials.client.secret"),
	TEXT("sasl.oauthbearer.scope"),
	TEXT("sasl.oauthbearer.extensions"),
	URL("sasl.oauthbearer.token.endpoint.url"),
	TEXT("sasl.oauthbearer.grant.type"),
	TEXT("sasl.oauthbearer.assertion.algorithm"),
	TEXT("sasl.oauthbearer.assertion.private.key.file"),
	TEXT("sasl.oauthbearer.assertion.private.key.passphrase"),
	TEXT("sasl.oauthbearer.assertion.private.key.pem"),
	TEXT("sasl.oauthbearer.assertion.file"),
	TEXT("sasl.oauthbearer.assertion.claim.aud"),
	NUMBER("sasl.oauthbearer.assertion.claim.exp.seconds", 1, 86400),
	TEXT("sasl.oauthbearer.assertion.claim.iss"),
	FLAG("sasl.oauthbearer.assertion.claim.jti.include"),
	NUMBER("sasl.oauthbearer.assertion.claim.nbf.seconds", 0, 86400),
	TEXT("sasl.oauthbearer.assertion.claim.sub"),
	TEXT("sasl.oauthbearer.assertion.jwt.template.file"),
	TEXT("sasl.oauthbearer.metadata.authentication.type"),
	FLAG("enable.sasl.oauthbearer.unsecure.jwt"),

	/* connections: a transaction ends after KAFKA_TRANSACTION_MS */
	NUMBER("socket.timeout.ms", 1000, KAFKA_TRANSACTION_MS),
	NUMBER("socket.connection.setup.timeout.ms", 1000, 60000),
	NUMBER_0("socket.send.buffer.bytes", 4096, 100000000),
	NUMBER_0("socket.receive.buffer.bytes", 4096, 100000000),
	FLAG("socket.keepalive.enable"),
	FLAG("socket.nagle.disable"),
	NUMBER_0("connections.max.idle.ms", 30000, INT32_MAX),
	NUMBER("reconnect.backoff.ms", 0, 1000),
	NUMBER("reconnect.backoff.max.ms", 1000, 60000),
	NUMBER("retry.backoff.ms", 1, 10000),
	NUMBER("retry.backoff.max.ms", 1, 30000),
	NUMBER("api.version.request.timeout.ms", 1000, 60000),
	NUMBER("request.timeout.ms", 1000, 60000),

	/* metadata of topics */
	NUMBER("topic.metadata.refresh.interval.ms", 1000, 300000),
	NUMBER("topic.metadata.refresh.fast.interval.ms", 10, 10000),
	NUMBER("topic.metadata.refresh.fast.cnt", 0, 1000),
	FLAG("topic.metadata.refresh.sparse"),
	NUMBER("topic.metadata.propagation.max.ms", 0, 60000),
	NUMBER("metadata.max.age.ms", 3000, 3600000),

	/* the producer */
	CHOICE("partitioner", "murmur2_random, murmur2, consistent_random, "
						  "consistent, fnv1a_random, fnv1a"),
	CHOICE("compression.type", CODECS),
	CHOICE("compression.codec", CODECS),
	NUMBER("compression.level", -1, 12),
	NUMBER("linger.ms", 0, 1000),
	NUMBER("queue.buffering.max.ms", 0, 1000),
	NUMBER("sticky.partitioning.linger.ms", 0, 1000),
	NUMBER("batch.num.messages", 1, 1000000),
	NUMBER("batch.size", 1024, 1000000),

	/* the consumer */
	NUMBER("session.timeout.ms", 6000, 60000),
	NUMBER("heartbeat.interval.ms", 500, 3000),
	NUMBER("max.poll.interval.ms", 60000, 86400000),
	NUMBER("coordinator.query.interval.ms", 1000, 3600000),
	NUMBER("queued.min.messages", 1, 1000000),
	NUMBER("queued.max.messages.kbytes", 1024, 1048576),
	NUMBER("fetch.wait.max.ms", 0, 10000),
	NUMBER("fetch.queue.backoff.ms", 0, 10000),
	NUMBER("fetch.error.backoff.ms", 0, 10000),
	NUMBER("fetch.min.bytes", 1, 1000000),
	NUMBER("fetch.max.bytes", MEBIBYTE, 1000000000),
	NUMBER("fetch.message.max.bytes", 1024, 100000000),
	NUMBER("max.partition.fetch.bytes", 1024, 100000000),

	/* looking at it */
	TEXT("debug"),
	FLAG("log.connection.close"),
	FLAG("log.thread.name"),
};

const size_t kafka_properties_count = Lengthof(kafka_properties);

/* ---- what cannot be set ------------------------------------------------ */

#define DURABLE	 "an event counts as published when all brokers in sync have it"
#define ORDER	 "the order of events within a key rests on it"
#define OFFSETS	 "offsets are the database's"
#define MEMORY	 "it follows from pgstock.max_event_bytes in PostgreSQL"
#define PROGRAM	 "it is a program's, not a file's"
#define GROUP	 "how partitions are spread and given back rests on it"
#define OLD		 "it is for brokers that the relay does not work with"
#define NOTHING	 "it does nothing"
#define NOT_HERE "the relay has no use for it"

/* A name that ends in '*' stands for all that begin so. */
static const char *const refusals[][2] = {
	{"acks", DURABLE},
	{"request.required.acks", DURABLE},
	{"enable.idempotence", DURABLE},
	{"message.timeout.ms", "an event is tried until Kafka has it"},
	{"delivery.timeout.ms", "an event is tried until Kafka has it"},
	{"retries", "an event is tried until Kafka has it"},
	{"message.send.max.retries", "an event is tried until Kafka has it"},
	{"enable.gapless.guarantee", ORDER},
	{"max.in.flight*", ORDER},
	{"queuing.strategy", ORDER},
	{"queue.buffering.backpressure.threshold", ORDER},
	{"msg_order_cmp", ORDER},
	{"partitioner_cb", PROGRAM},
	{"transactional.id", "use [outbox] mode"},
	{"transaction.timeout.ms", "the relay's own time limits rest on it"},
	{"message.max.bytes", "use pgstock.max_event_bytes in PostgreSQL"},
	{"message.copy.max.bytes", MEMORY},
	{"queue.buffering.max.kbytes", MEMORY},
	{"queue.buffering.max.messages", "use [outbox] batch_rows"},
	{"receive.message.max.bytes", "it follows from fetch.max.bytes"},
	{"delivery.report.only.error", "each acknowledgement is counted"},
	{"produce.offset.report", NOTHING},
	{"group.id", "use [inbox] group"},
	{"group.instance.id", GROUP},
	{"group.protocol*", GROUP},
	{"group.remote.assignor", GROUP},
	{"partition.assignment.strategy", GROUP},
	{"auto.offset.reset", "use [inbox] first_offset"},
	{"auto.commit.*", OFFSETS},
	{"enable.auto.*", OFFSETS},
	{"offset.store.*", OFFSETS},
	{"enable.partition.eof", NOT_HERE},
	{"isolation.level", "only committed messages are applied"},
	{"check.crcs", "damaged messages are never applied"},
	{"allow.auto.create.topics", "topics to consume are never created"},
	{"topic.blacklist", "a topic that is hidden seems to be missing"},
	{"consume.callback.max.messages", NOT_HERE},
	{"test.*", "it is for librdkafka's own tests: no event would leave"},
	{"plugin.library.paths", "a plugin may change or drop any message"},
	{"interceptors", PROGRAM},
	{"statistics.interval.ms", "use /metrics"},
	{"log_level", "use [relay] log_level"},
	{"log.queue", PROGRAM},
	{"enabled_events", PROGRAM},
	{"opaque", PROGRAM},
	{"default_topic_conf", PROGRAM},
	{"internal.*", PROGRAM},
	{"enable.random.seed", PROGRAM},
	{"builtin.features", PROGRAM},
	{"background_event_cb", PROGRAM},
	{"error_cb", PROGRAM},
	{"throttle_cb", PROGRAM},
	{"stats_cb", PROGRAM},
	{"log_cb", PROGRAM},
	{"socket_cb", PROGRAM},
	{"connect_cb", PROGRAM},
	{"closesocket_cb", PROGRAM},
	{"open_cb", PROGRAM},
	{"resolve_cb", PROGRAM},
	{"dr_cb", PROGRAM},
	{"dr_msg_cb", PROGRAM},
	{"consume_cb", PROGRAM},
	{"rebalance_cb", PROGRAM},
	{"offset_commit_cb", PROGRAM},
	{"oauthbearer_token_refresh_cb", PROGRAM},
	{"ssl.certificate.verify_cb", PROGRAM},
	{"ssl_*", PROGRAM},
	{"ssl.ca.certificate.stores", "it is for another operating system"},
	{"socket.max.fails", "a connection that failed is not used again"},
	{"socket.blocking.max.ms", NOTHING},
	{"reconnect.backoff.jitter.ms", NOTHING},
	{"api.version.request", OLD},
	{"api.version.fallback.ms", OLD},
	{"broker.version.fallback", OLD},
};

const char *
kafka_property_refusal(const char *property)
{
	for (size_t i = 0; i < Lengthof(refusals); i++)
	{
		const char *name = refusals[i][0];
		size_t		len = strlen(name);

		if (name[len - 1] == '*' ? strncmp(name, property, len - 1) == 0
								 : strcmp(name, property) == 0)
			return refusals[i][1];
	}
	return NULL;
}

bool
kafka_property_is_secret(const char *property)
{
	static const char *const marks[] = {
		"password", "passphrase",		  "secret",
		"key.pem",	"oauthbearer.config", "kinit.cmd",
	};

	for (size_t i = 0; i < Lengthof(marks); i++)
		if (strstr(property, marks[i]) != NULL)
			return true;
	return false;
}

/* rd_kafka_sasl_set_credentials() changes them for clients that are open. */
bool
kafka_property_reloads(const char *property)
{
	return strcmp(property, "sasl.username") == 0 ||
		   strcmp(property, "sasl.password") == 0;
}

static const KafkaProperty *
kafka_find_property(const char *property)
{
	for (size_t i = 0; i < kafka_properties_count; i++)
		if (strcmp(kafka_properties[i].name, property) == 0)
			return &kafka_properties[i];
	return NULL;
}

static const char *
kafka_nearest_property(const char *property)
{
	const char *best = kafka_properties[0].name;
	unsigned	best_distance = UINT32_MAX;

	for (size_t i = 0; i < kafka_properties_count; i++)
	{
		unsigned distance = spelling_distance(property,
											  kafka_properties[i].name);

		if (distance >= best_distance)
			continue;
		best_distance = distance;
		best = kafka_properties[i].name;
	}
	Assert(best_distance < UINT32_MAX);
	return best;
}

/* ---- values ------------------------------------------------------------ */

static bool
kafka_is_flag(const char *value, Buf *error)
{
	if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0)
		return true;
	buf_printf(error, "\"%s\" is neither true nor false", value);
	return false;
}

static bool
kafka_is_number(const KafkaProperty *property, const char *value, Buf *error)
{
	const char *digits = value + (value[0] == '-');
	char	   *end;
	int64_t		number;

	Assert(property->min < property->max);
	/* "0 or between ..." is of a range that lacks 0 */
	Assert(property->value != KAFKA_NUMBER_0 || property->min > 0);
	errno = 0;
	number = strtoll(value, &end, 10);
	if (digits[0] == '\0' || digits[strspn(digits, "0123456789")] != '\0' ||
		errno != 0)
	{
		buf_printf(error, "\"%s\" is not a whole number", value);
		return false;
	}
	if ((number >= property->min && number <= property->max) ||
		(property->value == KAFKA_NUMBER_0 && number == 0))
		return true;
	buf_printf(error, "must be %sbetween %" PRId64 " and %" PRId64,
			   property->value == KAFKA_NUMBER_0 ? "0 or " : "", property->min,
			   property->max);
	return false;
}

static bool
kafka_is_choice(const KafkaProperty *property, const char *value, Buf *error)
{
	char **choices = strings_split(property->choices);
	bool   found = false;

	Assert(choices[0] != NULL);
	for (char **choice = choices; *choice != NULL; choice++)
		found = found || strcmp(*choice, value) == 0;
	strings_free(choices);
	if (!found)
		buf_printf(error, "\"%s\" is not one of %s", value, property->choices);
	return found;
}

/* [PROTOCOL://]HOST[:PORT]; librdkafka itself takes the port modulo 65536. */
static bool
kafka_is_address(const char *address)
{
	const char *host = strstr(address, "://");
	const char *colon;
	const char *inner;

	host = host != NULL ? host + 3 : address;
	if (host[0] == '[')
	{
		inner = strchr(host, ']');
		if (inner == NULL || inner == host + 1)
			return false;
		colon = inner[1] != '\0' ? inner + 1 : NULL;
		return colon == NULL || (colon[0] == ':' && is_port(colon + 1));
	}
	colon = strchr(host, ':');
	if (host[0] == '\0' || strchr(host, ' ') != NULL ||
		(colon == host && colon[1] != ':'))
		return false;
	/* more than one colon: an IPv6 address without brackets and port */
	return colon == NULL || strchr(colon + 1, ':') != NULL ||
		   is_port(colon + 1);
}

static bool
kafka_are_addresses(const char *value, Buf *error)
{
	char **addresses = strings_split(value);
	bool   good = addresses[0] != NULL;

	if (!good)
		buf_add_str(error, "must name at least one host:port");
	for (char **address = addresses; good && *address != NULL; address++)
	{
		good = kafka_is_address(*address);
		if (!good)
			buf_printf(error, "\"%s\" is not host:port", *address);
	}
	strings_free(addresses);
	return good;
}

/* librdkafka writes it to its log.  It is not repeated here either. */
static bool
kafka_is_url(const char *value, Buf *error)
{
	const char *host = strstr(value, "://");
	const char *user;

	host = host != NULL ? host + 3 : value;
	user = memchr(host, '@', strcspn(host, "/?#"));
	if (user != NULL)
		buf_add_str(error,
					"a URL with a user or password would be in the log; use "
					"sasl.oauthbearer.client.id and .client.secret");
	return user == NULL;
}

static bool
kafka_check_value(const KafkaProperty *property, const char *value, Buf *error)
{
	switch (property->value)
	{
		case KAFKA_FLAG:
			return kafka_is_flag(value, error);
		case KAFKA_NUMBER:
		case KAFKA_NUMBER_0:
			return kafka_is_number(property, value, error);
		case KAFKA_CHOICE:
			return kafka_is_choice(property, value, error);
		case KAFKA_ADDRESSES:
			return kafka_are_addresses(value, error);
		case KAFKA_URL:
			return kafka_is_url(value, error);
		case KAFKA_TEXT:
			break;
	}
	return true;
}

/* Whether librdkafka itself accepts it. */
static bool
kafka_try_property(const char *property, const char *value, Buf *error)
{
	char				reason[KAFKA_ERROR_MAX];
	rd_kafka_conf_t	   *conf = rd_kafka_conf_new();
	rd_kafka_conf_res_t result = rd_kafka_conf_set(conf, property, value,
												   reason, sizeof(reason));

	rd_kafka_conf_destroy(conf);
	if (result == RD_KAFKA_CONF_OK)
		return true;
	if (result == RD_KAFKA_CONF_UNKNOWN)
		buf_printf(error, "librdkafka %s does not know it",
				   rd_kafka_version_str());
	else
		buf_add_str(error, kafka_property_is_secret(property)
							   ? "has a value that librdkafka refuses"
							   : reason);
	return false;
}

bool
kafka_check_property(const char *property, const char *value, Buf *error)
{
	const KafkaProperty *known = kafka_find_property(property);
	const char			*refusal = kafka_property_refusal(property);
	Buf					 why = {0};
	bool				 good = false;

	if (known != NULL)
	{
		Assert(refusal == NULL); /* it is in one list, not in both */
		good = kafka_check_value(known, value, &why) &&
			   kafka_try_property(property, value, &why);
		Assert(good == (why.len == 0));
		if (!good)
			buf_printf(error, "\"%s\" in [kafka]: %s", property, buf_str(&why));
	}
	else if (refusal != NULL)
		buf_printf(error, "\"%s\" in [kafka] cannot be set: %s", property,
				   refusal);
	else
		buf_printf(error,
				   "unknown key \"%s\" in [kafka]: the nearest is "
				   "\"%s\"",
				   property, kafka_nearest_property(property));
	buf_free(&why);
	return good;
}
