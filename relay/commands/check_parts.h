/*
 * check_parts.h - "check": its table of checks, and what they share
 *
 * Each check is one row with a short function; the rows of a subject are a
 * group, with a file of its own.  docs/checks.md lists all of them.  "adopt"
 * uses the group about the session.
 *
 * From the top: check.c; the groups; check_broker.c, whose helpers other groups
 * use; check_settings.c, check_network.c, check_advice.c,
 * check_certificate.c; check_report.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMANDS_CHECK_PARTS_H
#define PGSTOCK_COMMANDS_CHECK_PARTS_H

#include "commands/command.h"
#include "kafka/describe.h"

typedef enum CheckSeverity
{
	CHECK_OK,
	CHECK_NOTE,		  /* worth knowing */
	CHECK_WARNING,	  /* the relay works, and something will fail one day */
	CHECK_ERROR,	  /* the relay would not work: the exit code is not 0 */
	CHECK_SEVERITIES, /* their number */
} CheckSeverity;

/* What a check needs; the checks that find it provide it. */
#define HAVE_DATABASE  1u /* a session, of a primary */
#define HAVE_EXTENSION 2u /* in a version that this relay speaks to */
#define HAVE_BROKER	   4u /* the metadata of all topics */
#define HAVE_ANSWERS   8u /* every broker can be reached */

typedef struct CheckRow CheckRow;

typedef struct Check
{
	const Config *config;
	const char	 *path; /* of the configuration, NULL: none */
	bool		  json;
	PGconn		 *pg;	   /* NULL: no database */
	rd_kafka_t	 *client;  /* NULL: no broker */
	KafkaTrouble  trouble; /* of client */
	ApiServer	  server;
	int64_t		  ahead_us; /* the server's clock, of this host's */
	int64_t		  about_us; /* ... give or take this */
	ApiHello	  hello;
	PGresult	 *facts;	 /* of relay_check() */
	char		**published; /* topics to publish to, with dead letters */
	const struct rd_kafka_metadata	*metadata;
	KafkaSettings					*topic_settings;
	rd_kafka_resp_err_t				 settings_error;
	KafkaSettings					*broker_settings;
	KafkaGroup						 group;		/* zeros: not known */
	PGresult						*offsets;	/* of relay_offsets() */
	rd_kafka_topic_partition_list_t *committed; /* in Kafka, before offsets */
	unsigned						 have;		/* HAVE_... */
	/* the report */
	const CheckRow *row;  /* that runs */
	Buf				todo; /* of the next finding */
	Buf				findings;
	unsigned		count[CHECK_SEVERITIES];
	ExitCode		code;
} Check;

struct CheckRow
{
	const char	 *name;
	CheckSeverity severity; /* of what it finds */
	ExitCode	  code;		/* of an error */
	unsigned	  needs;	/* HAVE_... */
	void (*run)(Check *check);
	const char *why; /* what follows if nothing is done: a sentence */
};

typedef struct CheckGroup
{
	const CheckRow *rows;
	size_t			count;
} CheckGroup;

extern const CheckGroup check_configuration_group;
extern const CheckGroup check_session_group;
extern const CheckGroup check_server_group;
extern const CheckGroup check_extension_group;
extern const CheckGroup check_broker_group;
extern const CheckGroup check_versions_group;
extern const CheckGroup check_transactions_group;
extern const CheckGroup check_published_group;
extern const CheckGroup check_consumed_group;

/* Those rows whose needs are there. */
void check_run(Check *check, const CheckGroup *group);

/* ---- check_report.c ---- */

/* Of the row that runs: it has found nothing wrong with this. */
void check_pass(Check *check, const char *format, ...) PRINTF_LIKE(2, 3);

/* The next step, one or more sentences or a command; before check_find(). */
void check_advise(Check *check, const char *format, ...) PRINTF_LIKE(2, 3);

/* The same, of a phrase as the log has it, or of a sentence if that is "". */
void check_advise_phrase(Check *check, const char *phrase,
						 const char *otherwise);

/* What is wrong and where, with the present value. */
void check_find(Check *check, const char *format, ...) PRINTF_LIKE(2, 3);

/* The end of the output. */
void check_report_end(Check *check);

/* NULL if the call fails, which is reported. */
PGresult *check_call(Check *check, ApiCall call, const PgParam *params,
					 const char *what, const char *todo) MUST_CHECK;

/* ---- check_certificate.c ---- */

/*
 * Appends why the server's certificate was refused, and the next step, a
 * phrase; false if it is not refused now.  pg: the connection that failed so.
 */
bool check_explain_certificate(const PGconn *pg, Buf *why,
							   Buf *advice) MUST_CHECK;

/* ---- check_advice.c ---- */

/* What to do about a reason that libpq or librdkafka gives in English. */
void check_database_advice(const char *reason, const char *conninfo, Buf *to);
const char *check_broker_advice(const char *reason);

/* ---- check_server.c ---- */

/*
 * The minor version that a server should have, as PQserverVersion() has it; 0:
 * any.
 */
int check_minor_version_min(int version);

/* ---- check_versions.c ---- */

/* Whether version is in the list "A, B", or begins with an entry of it. */
bool check_is_tested(const char *tested, const char *version);

/* ---- check_published.c ---- */

/*
 * Whether a record counts as written while only one of several replicas has
 * it.
 */
bool check_min_isr_is_low(int replicas, int64_t min_isr);

/* ---- check_broker_clock.c ---- */

void check_broker_clock(Check *check);

/* ---- check_extension.c ---- */

/* kafka: the position topic's record, data NULL: none */
void check_position(Check *check, Slice kafka);

/* ---- check_network.c ---- */

/* Whether a connection can be made; if not, *why. */
bool check_connects(const char *host, int port, Buf *why) MUST_CHECK;

/*
 * The beginning of what is served at an address such as [http] listen; false:
 * nothing.
 */
bool check_read_page(const char *listen, const char *path,
					 Buf *page) MUST_CHECK;

/* ---- check_broker.c ---- */

/* Of a topic that may be new. */
rd_kafka_resp_err_t check_find_range(Check *check, const char *topic,
									 int partition, int64_t *first,
									 int64_t *end) MUST_CHECK;

/*
 * The list of all topics leaves out those that the principal may not describe;
 * asked for by its name, such a topic has this error, whether it exists or not.
 */
rd_kafka_resp_err_t check_topic_error(const Check *check,
									  const char  *name) MUST_CHECK;

/* Whether the broker would create the topic; it does not.  Takes topic over. */
void check_topic_creation(Check *check, const char *name,
						  rd_kafka_NewTopic_t *topic);

/* ---- check_settings.c ---- */

/* A value of relay_check(); NULL, or unknown: none. */
const char *check_fact(const Check *check, const char *name);
int64_t		check_fact_number(const Check *check, const char *name,
							  int64_t unknown);

/* A topic's setting; NULL, or unknown: the broker did not return it. */
const char *check_setting(const Check *check, const char *topic,
						  const char *name);
int64_t		check_setting_number(const Check *check, const char *topic,
								 const char *name, int64_t unknown);

/* The same of the broker; "": it did not return it. */
const char *check_broker_setting(const Check *check, const char *name);

/* Whether its records have the time of the broker, not of their producer. */
bool check_has_broker_times(const Check *check, const char *topic);

/* bootstrap.servers, for a command that is advised */
const char *check_servers(const Check *check);

/* Advises the command that sets it: "name=value". */
void check_advise_setting(Check *check, const char *topic, const char *setting);

/* A topic of the metadata that exists and can be used, or NULL. */
const struct rd_kafka_metadata_topic *check_topic(const Check *check,
												  const char  *name);

/* The topics for which bad() is true, in one list; "" if for none. */
typedef bool (*CheckTopicIsBad)(const Check *check, const char *topic);
void check_list_topics(const Check *check, char *const *topics,
					   CheckTopicIsBad bad, Buf *to);

typedef enum CheckTopics
{
	CHECK_PUBLISHED,
	CHECK_CONSUMED,
	CHECK_BOTH,
} CheckTopics;

/*
 * One finding about all of these topics for which bad() is true, which is what;
 * setting puts it right.
 */
void check_find_topics(Check *check, CheckTopicIsBad bad, CheckTopics which,
					   const char *setting, const char *what);

#endif
