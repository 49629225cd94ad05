/*
 * options.c - the relay's options: their names, limits, defaults and docstrings
 *
 * Every limit that a person can set is in this table and in kafka_property.c,
 * and nowhere else.  deploy/pgstock-relay.conf is printed from it.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "config/options.h"

#include "common/log.h"
#include "config/config.h"
#include "config/kafka_property.h"

#define DAY_US (INT64_C(86400) * SEC_US)

static const char *const log_levels[] = {
	"error", "warning", "info", "debug", NULL,
};
static const char *const log_formats[] = {"text", "json", NULL};
_Static_assert(Lengthof(log_levels) == LEVEL_DEBUG + 2, "a name for each");
_Static_assert(Lengthof(log_formats) == LOG_JSON + 2, "a name for each");
static const char *const modes[] = {"idempotent", "transactional", NULL};
_Static_assert(Lengthof(modes) == MODE_TRANSACTIONAL + 2, "a name for each");
const char *const config_publish_afters[] = {
	[PUBLISH_AUTO] = "auto",
	[PUBLISH_LOCAL] = "local",
	[PUBLISH_REMOTE_FLUSH] = "remote_flush",
	NULL,
};
_Static_assert(Lengthof(config_publish_afters) == PUBLISH_REMOTE_FLUSH + 2,
			   "a name for each");
static const char *const profiles[] = {
	"cloudevents",
	"plain",
	"debezium",
	NULL,
};

/* FIRST_OFFSET_EARLIEST, FIRST_OFFSET_LATEST */
static const char *const first_offsets[] = {"earliest", "latest", NULL};
_Static_assert(Lengthof(first_offsets) - 1 == -FIRST_OFFSET_EARLIEST,
			   "the first name has the lowest number, the last name -1");
const char *const config_alert_formats[] = {
	[ALERT_FORMAT_JSON] = "json",	[ALERT_FORMAT_DINGTALK] = "dingtalk",
	[ALERT_FORMAT_WECOM] = "wecom", [ALERT_FORMAT_SLACK] = "slack",
	[ALERT_FORMATS] = NULL,
};

#define AT(field) offsetof(Config, field)

static const Option options[] = {
	{"relay", "name", OPTION_STRING, 0, AT(name), "main", NULL, 1,
	 CONFIG_NAME_MAX, NULL,
	 "Distinguishes relays in application_name and Kafka's client.id; {host}\n"
	 "stands for the host's name."},
	{"relay", "log_level", OPTION_CHOICE, OPTION_RELOADS, AT(log_level), "info",
	 NULL, 0, 0, log_levels, "error, warning, info or debug."},
	{"relay", "log_format", OPTION_CHOICE, OPTION_RELOADS, AT(log_format),
	 "text", NULL, 0, 0, log_formats, "text or json."},
	{"postgres", "conninfo", OPTION_STRING, OPTION_SECRET, AT(conninfo), "",
	 "host=localhost dbname=shop user=pgstock_relay", 0, 0, NULL,
	 "A libpq connection string or URI; PG* variables and the password\n"
	 "file work too."},
	{"outbox", "mode", OPTION_CHOICE, 0, AT(mode), "idempotent", NULL, 0, 0,
	 modes,
	 "idempotent: each event at least once.  transactional: each event once\n"
	 "for read_committed consumers, some ms later."},
	{"outbox", "publish_after", OPTION_CHOICE, 0, AT(publish_after), "auto",
	 NULL, 0, 0, config_publish_afters,
	 "auto: when an event is durable, also on the synchronous standby if one\n"
	 "is configured.  local: when it is durable on this server.\n"
	 "remote_flush: as auto, but nothing is published while no standby is\n"
	 "configured."},
	{"outbox", "poll_interval", OPTION_DURATION, OPTION_RELOADS,
	 AT(poll_interval_us), "1s", NULL, 10 * MS_US, 60 * SEC_US, NULL,
	 "The relay looks for events at least this often."},
	{"outbox", "batch_rows", OPTION_INT, OPTION_RELOADS, AT(batch_rows), "1000",
	 NULL, 1, 10000, NULL, "Events fetched at once."},
	{"outbox", "header_profile", OPTION_SET, OPTION_RELOADS, AT(header_profile),
	 "cloudevents, plain", NULL, 0, 0, profiles,
	 "Headers of an event: any of cloudevents, plain, debezium."},
	{"outbox", "retention", OPTION_DURATION, OPTION_RELOADS, AT(retention_us),
	 "7d", NULL, 0, 3650 * DAY_US, NULL,
	 "How long published events stay in the outbox."},
	{"inbox", "topics", OPTION_NAMES, 0, AT(topics), "",
	 "order-created, payment-success, order-cancelled, order_failed", 0, 0,
	 NULL, "Topics to consume; default: none."},
	{"inbox", "group", OPTION_STRING, 0, AT(group), "", "pgstock-12345678", 0,
	 255, NULL, "Consumer group; default: the database's own."},
	{"inbox", "first_offset", OPTION_MOMENT, OPTION_RELOADS, AT(first_offset),
	 "earliest", NULL, 0, 0, first_offsets,
	 "Where to begin in a topic that the database does not know: earliest,\n"
	 "latest, or a time such as 2026-01-31T12:00:00Z.  Partitions that are\n"
	 "added later, and a topic that is created later, are read from their\n"
	 "start."},
	{"inbox", "retry_delays", OPTION_DURATIONS, OPTION_RELOADS,
	 AT(retry_delays), "10s, 30s, 60s", NULL, MS_US, 7 * DAY_US, NULL,
	 "Pauses before each retry of a failed message."},
	{"inbox", "order_wait", OPTION_DURATION, OPTION_RELOADS, AT(order_wait_us),
	 "15m", NULL, 0, 30 * DAY_US, NULL,
	 "How long a payment or cancellation waits for its order."},
	{"inbox", "dedup_retention", OPTION_DURATION, OPTION_RELOADS,
	 AT(dedup_retention_us), "7d", NULL, 60 * SEC_US, 3650 * DAY_US, NULL,
	 "How long ids of messages are remembered: at least the topics'\n"
	 "retention."},
	{"inbox", "dlq_topic", OPTION_STRING, OPTION_RELOADS, AT(dlq_topic),
	 "{topic}_dlq", NULL, 0, 0, NULL,
	 "Topic of dead letters; {topic} is the message's topic."},
	{"levels", "topic", OPTION_STRING, 0, AT(levels_topic), "", TOPIC_LEVELS, 0,
	 249, NULL,
	 "Compacted topic with the present level of each product and location;\n"
	 "default: there is none."},
	{"levels", "max_per_second", OPTION_INT, OPTION_RELOADS,
	 AT(levels_per_second), "5", NULL, 1, 100, NULL,
	 "Records of one level in a second, however often it changes."},
	{"http", "listen", OPTION_STRING, 0, AT(http_listen), "127.0.0.1:29187",
	 NULL, 0, 0, NULL,
	 "Address of /metrics, /livez, /readyz and /status; empty: no HTTP."},
	{"webhook", "url", OPTION_STRING, OPTION_RELOADS | OPTION_SECRET,
	 AT(webhook_url), "", "https://hooks.example.com/stock", 0, 0, NULL,
	 "Receiver of alerts about dead letters and their backlog; default: none\n"
	 "are sent."},
	{"webhook", "secret", OPTION_STRING, OPTION_RELOADS | OPTION_SECRET,
	 AT(webhook_secret), "", "a long random text", 0, 0, NULL,
	 "Key that signs the alerts."},
	{"webhook", "format", OPTION_CHOICE, OPTION_RELOADS, AT(webhook_format),
	 "json", NULL, 0, 0, config_alert_formats,
	 "json, or a text message for dingtalk, wecom or slack."},
	{"webhook", "backlog", OPTION_INT, OPTION_RELOADS, AT(webhook_backlog),
	 "10", NULL, 0, 1000000000, NULL,
	 "An alert is sent if more dead letters than this are open."},
	{"webhook", "allow", OPTION_NAMES, OPTION_RELOADS, AT(webhook_allow), "",
	 "alerts.example.com, 10.1.0.0/16", 0, 0, NULL,
	 "Host names that url may use, and networks that may contain its address;\n"
	 "without networks the address must be public."},
	{"webhook", "ca", OPTION_STRING, OPTION_RELOADS, AT(webhook_ca), "",
	 "/etc/ssl/certs/company.pem", 0, 0, NULL,
	 "Certificates to trust instead of the system's."},
	{"webhook", "allow_http", OPTION_BOOL, OPTION_RELOADS,
	 AT(webhook_allow_http), "no", NULL, 0, 0, NULL,
	 "yes: url may begin with http://; alerts can then be read in transit."},
};

/* Properties that are passed to librdkafka unchanged. */
static const ConfigProperties kafka = {
	.section = "kafka",
	.printed_after = "postgres",
	.help = "Properties of librdkafka by their own names: security.protocol,\n"
			"sasl.username, ...; docs/relay.md lists them.",
	.sample = "bootstrap.servers = localhost:9092",
	.offset = AT(kafka),
	.check = kafka_check_property,
	.is_secret = kafka_property_is_secret,
	.reloads = kafka_property_reloads,
};

const ConfigTable relay_options = {
	.options = options,
	.option_count = Lengthof(options),
	.properties = &kafka,
	.source = AT(source),
};
