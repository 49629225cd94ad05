/*
 * config.h - the relay's configuration: its values
 *
 * The options and their limits are in options.c; load.c reads the file and the
 * command line.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_CONFIG_CONFIG_H
#define PGSTOCK_CONFIG_CONFIG_H

#include <stdio.h>

#include "common/config_table.h"

/* [inbox] first_offset; anything else is milliseconds since 1970 */
#define FIRST_OFFSET_EARLIEST (-2)
#define FIRST_OFFSET_LATEST	  (-1)

/* The topic of levels, where [levels] names none. */
#define TOPIC_LEVELS "stock-levels"

/* [outbox] mode */
#define MODE_IDEMPOTENT	   0
#define MODE_TRANSACTIONAL 1

/* [outbox] publish_after, as the database knows them too */
enum
{
	PUBLISH_AUTO,
	PUBLISH_LOCAL,
	PUBLISH_REMOTE_FLUSH,
};
extern const char *const config_publish_afters[];

/* [webhook] format */
enum
{
	ALERT_FORMAT_JSON,
	ALERT_FORMAT_DINGTALK,
	ALERT_FORMAT_WECOM,
	ALERT_FORMAT_SLACK,
	ALERT_FORMATS, /* their number */
};
extern const char *const config_alert_formats[]; /* NULL at the end */

#define CONFIG_NAME_MAX 48 /* bytes of [relay] name */

typedef struct Config
{
	/* [relay] */
	char   *name;		/* in application_name and client.id */
	int64_t log_level;	/* LogLevel */
	int64_t log_format; /* LogFormat */
	/* [postgres] */
	char *conninfo; /* may hold a secret */
	/* [kafka]: name, value, name, value, ..., NULL; may hold secrets */
	char **kafka;
	/* [outbox] */
	int64_t mode;
	int64_t publish_after; /* of config_publish_afters */
	int64_t poll_interval_us;
	int64_t batch_rows;
	int64_t header_profile; /* set of HeaderProfile */
	int64_t retention_us;
	/* [inbox] */
	char	**topics;
	char	 *group; /* empty: the database's */
	int64_t	  first_offset;
	Durations retry_delays;
	int64_t	  order_wait_us;
	int64_t	  dedup_retention_us;
	char	 *dlq_topic; /* {topic} stands for the topic */
	/* [levels] */
	char   *levels_topic; /* empty: no level stream */
	int64_t levels_per_second;
	/* [http] */
	char *http_listen; /* empty: none */
	/* [webhook] */
	char   *webhook_url;	/* a secret; empty: no alerts */
	char   *webhook_secret; /* empty: no signature */
	int64_t webhook_format; /* of config_alert_formats */
	int64_t webhook_backlog;
	char  **webhook_allow; /* hosts and networks */
	char   *webhook_ca;	   /* empty: the system's */
	bool	webhook_allow_http;
	/* for messages */
	ConfigSource source;
	bool		 conninfo_overridden; /* by --postgres */
} Config;

void config_free(Config *config);

/*
 * Takes over from fresh what may change while running.  The names of options
 * that differ and need a restart are appended to *restart.
 */
void config_reload(Config *config, const Config *fresh, Buf *restart);

/* A file with every key, its default and what it means. */
void config_print_sample(FILE *to);

/* The same with the values in force, secrets masked. */
void config_print(const Config *config, FILE *to);

/* Where dead letters of a topic go; freed by the caller. */
char *config_dlq_topic(const Config *config, const char *topic);

/* Where the value is from, before a message about it: "FILE:LINE: ". */
void config_add_place(const Config *config, const char *section,
					  const char *key, Buf *text);

const char *config_kafka_get(const Config *config, const char *property);

#endif
