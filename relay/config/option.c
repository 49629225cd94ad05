/*
 * option.c - options of the configuration: what there is, text to value and
 * back
 *
 * Every limit that a person can set stands in this table, and nowhere else.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "config/option.h"

#include "alerts/format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DAY_US (INT64_C(86400) * SEC_US)

static const char *const log_levels[] = {
	"error", "warning", "info", "debug", NULL,
};
static const char *const log_formats[] = {"text", "json", NULL};
static const char *const modes[] = {"idempotent", "transactional", NULL};
const char *const		 config_publish_afters[] = {
		   [PUBLISH_AUTO] = "auto",
		   [PUBLISH_LOCAL] = "local",
		   [PUBLISH_REMOTE_FLUSH] = "remote_flush",
		   NULL,
};
static const char *const no_yes[] = {"no", "yes", NULL};
static const char *const profiles[] = {
	"cloudevents",
	"plain",
	"debezium",
	NULL,
};

#define AT(field) offsetof(Config, field)

const Option options[] = {
	{"relay", "name", OPTION_STRING, 0, AT(name), "main", NULL, 1, 48, NULL,
	 "Tells relays apart: in application_name and Kafka's client.id."},
	{"relay", "log_level", OPTION_CHOICE, OPTION_RELOADS, AT(log_level), "info",
	 NULL, 0, 0, log_levels, "error, warning, info or debug."},
	{"relay", "log_format", OPTION_CHOICE, OPTION_RELOADS, AT(log_format),
	 "text", NULL, 0, 0, log_formats, "text or json."},
	{"postgres", "conninfo", OPTION_STRING, OPTION_SECRET, AT(conninfo), "",
	 "host=localhost dbname=shop user=pgstock_relay", 0, 0, NULL,
	 "A libpq connection string or URI; PG* variables and the password\n"
	 "file work as well."},
	{"outbox", "mode", OPTION_CHOICE, 0, AT(mode), "idempotent", NULL, 0, 0,
	 modes,
	 "idempotent: each event at least once.  transactional: once, for\n"
	 "consumers that read only what is committed, some ms later."},
	{"outbox", "publish_after", OPTION_CHOICE, 0, AT(publish_after), "auto",
	 NULL, 0, 0, config_publish_afters,
	 "auto: an event is published when it is durable, at the synchronous\n"
	 "standby too where one is named. local: when it is here, whatever the\n"
	 "standby has. remote_flush: not as long as no standby is named."},
	{"outbox", "poll_interval", OPTION_DURATION, OPTION_RELOADS,
	 AT(poll_interval_us), "1s", NULL, 10 * MS_US, 60 * SEC_US, NULL,
	 "Looks at least this often, even if no notification arrives."},
	{"outbox", "batch_rows", OPTION_INT, OPTION_RELOADS, AT(batch_rows), "1000",
	 NULL, 1, 10000, NULL, "Events that are fetched at once."},
	{"outbox", "header_profile", OPTION_SET, OPTION_RELOADS, AT(header_profile),
	 "cloudevents, plain", NULL, 0, 0, profiles,
	 "Headers of an event: any of cloudevents, plain, debezium."},
	{"outbox", "retention", OPTION_DURATION, OPTION_RELOADS, AT(retention_us),
	 "7d", NULL, 0, 3650 * DAY_US, NULL,
	 "Published events stay in the outbox this long."},
	{"inbox", "topics", OPTION_NAMES, 0, AT(topics), "",
	 "order-created, payment-success, order-cancelled, order_failed", 0, 0,
	 NULL, "Topics to consume; without them nothing is."},
	{"inbox", "group", OPTION_STRING, 0, AT(group), "", "pgstock-12345678", 0,
	 255, NULL, "Consumer group; the database has one of its own as default."},
	{"inbox", "first_offset", OPTION_MOMENT, OPTION_RELOADS, AT(first_offset),
	 "earliest", NULL, 0, 0, NULL,
	 "Where to begin in a topic that the database does not know: earliest,\n"
	 "latest, or a time such as 2026-01-31T12:00:00Z. Partitions that it gets\n"
	 "later, and a topic that is made later, are read from their start."},
	{"inbox", "retry_delays", OPTION_DURATIONS, OPTION_RELOADS,
	 AT(retry_delays), "10s, 30s, 60s", NULL, MS_US, 7 * DAY_US, NULL,
	 "Pauses before a failed event is tried again, one for each try."},
	{"inbox", "order_wait", OPTION_DURATION, OPTION_RELOADS, AT(order_wait_us),
	 "15m", NULL, 0, 30 * DAY_US, NULL,
	 "How long a payment or cancellation waits for its order."},
	{"inbox", "dedup_retention", OPTION_DURATION, OPTION_RELOADS,
	 AT(dedup_retention_us), "7d", NULL, 60 * SEC_US, 3650 * DAY_US, NULL,
	 "Event ids are remembered this long: not shorter than the topics'\n"
	 "retention."},
	{"inbox", "dlq_topic", OPTION_STRING, OPTION_RELOADS, AT(dlq_topic),
	 "{topic}_dlq", NULL, 0, 0, NULL,
	 "Where an event goes that is given up; {topic} is its topic."},
	{"http", "listen", OPTION_STRING, 0, AT(http_listen), "127.0.0.1:9187",
	 NULL, 0, 0, NULL,
	 "Address of /metrics, /livez, /readyz and /status; empty: none."},
	{"webhook", "url", OPTION_STRING, OPTION_RELOADS | OPTION_SECRET,
	 AT(webhook_url), "", "https://hooks.example.com/stock", 0, 0, NULL,
	 "Where alerts go: of messages that were given up, and of their backlog;\n"
	 "without it none are sent."},
	{"webhook", "secret", OPTION_STRING, OPTION_RELOADS | OPTION_SECRET,
	 AT(webhook_secret), "", "a long random text", 0, 0, NULL,
	 "Alerts are signed with it."},
	{"webhook", "format", OPTION_CHOICE, OPTION_RELOADS, AT(webhook_format),
	 "json", NULL, 0, 0, alert_format_names,
	 "json, or a message for the chat of dingtalk, wecom or slack."},
	{"webhook", "backlog", OPTION_INT, OPTION_RELOADS, AT(webhook_backlog),
	 "10", NULL, 0, 1000000000, NULL,
	 "Alerts if more messages than that are given up and not handled."},
	{"webhook", "allow", OPTION_NAMES, OPTION_RELOADS, AT(webhook_allow), "",
	 "alerts.example.com, 10.1.0.0/16", 0, 0, NULL,
	 "Hosts that url may name, and networks that it may lead to; without\n"
	 "networks: any public address, no other."},
	{"webhook", "ca", OPTION_STRING, OPTION_RELOADS, AT(webhook_ca), "",
	 "/etc/ssl/certs/company.pem", 0, 0, NULL,
	 "Certificates to trust in place of the system's."},
	{"webhook", "allow_http", OPTION_CHOICE, OPTION_RELOADS,
	 AT(webhook_allow_http), "no", NULL, 0, 0, no_yes,
	 "yes: url may begin with http://, and what is sent can be read on its\n"
	 "way."},
};

const size_t options_count = Lengthof(options);

/* ---- durations --------------------------------------------------------- */

static const struct
{
	const char *name;
	int64_t		us;
} units[] = {
	{"d", DAY_US},		{"h", INT64_C(3600) * SEC_US},
	{"m", 60 * SEC_US}, {"s", SEC_US},
	{"ms", MS_US},
};

static bool
parse_duration(const char *text, int64_t *us)
{
	char	 *end;
	long long number;

	errno = 0;
	number = strtoll(text, &end, 10);
	if (end == text || errno != 0 || number < 0)
		return false;
	for (size_t i = 0; i < Lengthof(units); i++)
		if (strcmp(end, units[i].name) == 0)
			return !__builtin_mul_overflow(number, units[i].us, us);
	return false;
}

/* In the largest unit that leaves no rest. */
static void
show_duration(Buf *text, int64_t us)
{
	for (size_t i = 0; i < Lengthof(units); i++)
	{
		if (us % units[i].us != 0 || (us == 0 && units[i].us != SEC_US))
			continue;
		buf_printf(text, "%" PRId64 "%s", us / units[i].us, units[i].name);
		return;
	}
	Assert(!"whole milliseconds");
}

/* ---- text to value ----------------------------------------------------- */

static bool
in_range(const Option *option, int64_t value, bool duration, Buf *error)
{
	if (value >= option->min && value <= option->max)
		return true;
	buf_add_str(error, "must be between ");
	if (duration)
	{
		show_duration(error, option->min);
		buf_add_str(error, " and ");
		show_duration(error, option->max);
	}
	else
		buf_printf(error, "%" PRId64 " and %" PRId64, option->min, option->max);
	return false;
}

static bool
set_duration(const Option *option, int64_t *us, const char *text, Buf *error)
{
	if (!parse_duration(text, us))
	{
		buf_printf(error,
				   "\"%s\" is not a duration: a whole number and one "
				   "of ms, s, m, h, d are wanted, such as 250ms",
				   text);
		return false;
	}
	return in_range(option, *us, true, error);
}

static bool
set_durations(const Option *option, Durations *durations, const char *text,
			  Buf *error)
{
	char **items = strings_split(text);
	size_t count = strings_count(items);
	bool   good = count <= RETRY_DELAYS_MAX;

	if (!good)
		buf_printf(error, "holds more than %d durations", RETRY_DELAYS_MAX);
	durations->count = 0;
	for (size_t i = 0; good && i < count; i++)
	{
		good = set_duration(option, &durations->us[i], items[i], error);
		durations->count++;
	}
	strings_free(items);
	return good;
}

static bool
set_int(const Option *option, int64_t *value, const char *text, Buf *error)
{
	char *end;

	errno = 0;
	*value = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0)
	{
		buf_printf(error, "\"%s\" is not a whole number", text);
		return false;
	}
	return in_range(option, *value, false, error);
}

static int
find_choice(const Option *option, const char *text, Buf *error)
{
	for (int i = 0; option->choices[i] != NULL; i++)
		if (strcmp(option->choices[i], text) == 0)
			return i;
	buf_printf(error, "\"%s\" is not one of", text);
	for (int i = 0; option->choices[i] != NULL; i++)
		buf_printf(error, "%s %s", i > 0 ? "," : "", option->choices[i]);
	return -1;
}

static bool
set_choices(const Option *option, int64_t *set, const char *text, Buf *error)
{
	char **items = strings_split(text);
	bool   good = items[0] != NULL;

	if (!good)
		buf_add_str(error, "must name at least one");
	*set = 0;
	for (size_t i = 0; good && items[i] != NULL; i++)
	{
		int choice = find_choice(option, items[i], error);

		good = choice >= 0;
		if (good)
			*set |= INT64_C(1) << choice;
	}
	strings_free(items);
	return good;
}

static bool
set_moment(int64_t *moment, const char *text, Buf *error)
{
	struct tm	utc = {0};
	const char *end;
	long		east;

	*moment = FIRST_OFFSET_EARLIEST;
	if (strcmp(text, "earliest") == 0)
		return true;
	*moment = FIRST_OFFSET_LATEST;
	if (strcmp(text, "latest") == 0)
		return true;
	end = strptime(text, "%Y-%m-%dT%H:%M:%S%z", &utc);
	if (end == NULL || *end != '\0')
	{
		buf_printf(error,
				   "\"%s\" is not earliest, latest or a time such as "
				   "2026-01-31T12:00:00Z",
				   text);
		return false;
	}
	east = utc.tm_gmtoff;
	if (!is_day(&utc))
	{
		buf_printf(error, "\"%s\" names a day that its month has not", text);
		return false;
	}
	*moment = ((int64_t) timegm(&utc) - east) * 1000;
	if (*moment < 0)
	{
		buf_add_str(error, "is before 1970");
		return false;
	}
	return true;
}

static void *
option_field(const Option *option, const Config *config)
{
	return (char *) (uintptr_t) config + option->offset;
}

void
option_clear(const Option *option, Config *config)
{
	void *field = option_field(option, config);

	if (option->type == OPTION_STRING)
	{
		secret_free(*(char **) field);
		*(char **) field = NULL;
	}
	else if (option->type == OPTION_NAMES)
	{
		strings_free(*(char ***) field);
		*(char ***) field = NULL;
	}
}

/*
 * Where there is a limit, the text goes to others that would cut it: what tells
 * relays or groups apart must not end before it differs.
 */
static bool
is_text(const Option *option, const char *text, Buf *error)
{
	size_t len = strlen(text);

	if (option->max == 0)
		return true;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char) text[i] < 0x20 || text[i] == 0x7f)
		{
			buf_add_str(error, "holds a control character");
			return false;
		}
	if (len >= (size_t) option->min && len <= (size_t) option->max)
		return true;
	buf_printf(error, "must have %" PRId64 " to %" PRId64 " bytes", option->min,
			   option->max);
	return false;
}

static bool
set_names(char ***field, const char *text, Buf *error)
{
	char **names = strings_split(text);

	*field = names;
	for (size_t i = 0; names[i] != NULL; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(names[i], names[j]) == 0)
			{
				buf_printf(error, "names \"%s\" twice", names[i]);
				return false;
			}
	return true;
}

bool
option_set(const Option *option, Config *config, const char *text, Buf *error)
{
	void *field = option_field(option, config);

	option_clear(option, config);
	switch (option->type)
	{
		case OPTION_STRING:
			*(char **) field = xstrdup(text);
			return is_text(option, text, error);
		case OPTION_NAMES:
			return set_names(field, text, error);
		case OPTION_INT:
			return set_int(option, field, text, error);
		case OPTION_CHOICE:
			*(int64_t *) field = find_choice(option, text, error);
			return *(int64_t *) field >= 0;
		case OPTION_SET:
			return set_choices(option, field, text, error);
		case OPTION_DURATION:
			return set_duration(option, field, text, error);
		case OPTION_DURATIONS:
			return set_durations(option, field, text, error);
		case OPTION_MOMENT:
			return set_moment(field, text, error);
	}
	Assert(!"a known type");
}

/* ---- value to text ----------------------------------------------------- */

static void
add_item(Buf *text, const char *item)
{
	if (text->len > 0)
		buf_add_str(text, ", ");
	buf_add_str(text, item);
}

static void
show_moment(Buf *text, int64_t moment)
{
	time_t	  second = (time_t) (moment / 1000);
	struct tm utc;
	char	  shown[32];

	gmtime_r(&second, &utc);
	strftime(shown, sizeof(shown), "%Y-%m-%dT%H:%M:%SZ", &utc);
	buf_add_str(text, moment == FIRST_OFFSET_EARLIEST ? "earliest"
					  : moment == FIRST_OFFSET_LATEST ? "latest"
													  : shown);
}

static void
show_durations(Buf *text, const Durations *durations)
{
	for (unsigned i = 0; i < durations->count; i++)
	{
		if (i > 0)
			buf_add_str(text, ", ");
		show_duration(text, durations->us[i]);
	}
}

void
option_get(const Option *option, const Config *config, Buf *text)
{
	const void	  *field = option_field(option, config);
	const int64_t *number = field;

	buf_clear(text);
	switch (option->type)
	{
		case OPTION_STRING:
			buf_add_str(text, *(char *const *) field);
			break;
		case OPTION_NAMES:
			for (char *const *name = *(char **const *) field; *name; name++)
				add_item(text, *name);
			break;
		case OPTION_INT:
			buf_printf(text, "%" PRId64, *number);
			break;
		case OPTION_CHOICE:
			buf_add_str(text, option->choices[*number]);
			break;
		case OPTION_SET:
			for (int i = 0; option->choices[i] != NULL; i++)
				if (*number & (INT64_C(1) << i))
					add_item(text, option->choices[i]);
			break;
		case OPTION_DURATION:
			show_duration(text, *number);
			break;
		case OPTION_DURATIONS:
			show_durations(text, field);
			break;
		case OPTION_MOMENT:
			show_moment(text, *number);
			break;
	}
	buf_str(text);
}

/* ---- spelling ---------------------------------------------------------- */

#define WORD_MAX 64

unsigned
edit_distance(const char *a, const char *b)
{
	size_t	 a_len = Min(strlen(a), WORD_MAX);
	size_t	 b_len = Min(strlen(b), WORD_MAX);
	unsigned row[WORD_MAX + 1];

	for (size_t j = 0; j <= b_len; j++)
		row[j] = (unsigned) j;
	for (size_t i = 1; i <= a_len; i++)
	{
		unsigned diagonal = row[0];

		row[0] = (unsigned) i;
		for (size_t j = 1; j <= b_len; j++)
		{
			unsigned change = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = Min(change, Min(row[j], row[j - 1]) + 1);
		}
	}
	return row[b_len];
}
