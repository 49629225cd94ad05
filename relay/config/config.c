/*
 * config.c - the configuration: file, command line, reload
 *
 * An INI file by libinih.  Nothing is guessed: an unknown key or section, a key
 * given twice, a value out of range, a property that librdkafka does not know
 * are errors that name the line.  The text of a secret is in no message.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "config/config.h"

#include <errno.h>
#include <ini.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "alerts/destination.h"
#include "common/http_server.h"
#include "common/pg_connection.h"
#include "config/kafka_property.h"
#include "config/option.h"

#define LINE_MAX_BYTES 65536 /* certificates are long */
#define FILE_MAX_BYTES 1048576
#define OPTIONS_MAX	   64

typedef struct Parser
{
	Config *config;
	bool	seen[OPTIONS_MAX];
	Buf	   *error; /* the first one */
} Parser;

/* ---- reading the file -------------------------------------------------- */

static void
suggest_key(Parser *parser, const char *section, const char *key)
{
	const Option *best = NULL;
	unsigned	  best_distance = UINT32_MAX;

	for (size_t i = 0; i < options_count; i++)
	{
		unsigned distance = 2 * edit_distance(key, options[i].key) +
							(strcmp(section, options[i].section) != 0);

		if (distance < best_distance)
		{
			best = &options[i];
			best_distance = distance;
		}
	}
	Assert(best != NULL);
	buf_printf(parser->error,
			   "unknown key \"%s\" in [%s]: the nearest is "
			   "\"%s\" in [%s]",
			   key, section, best->key, best->section);
}

static bool
set_kafka(Parser *parser, const char *property, const char *value)
{
	Config *config = parser->config;
	size_t	count = strings_count(config->kafka);

	if (config_kafka_get(config, property) != NULL)
	{
		buf_printf(parser->error, "key \"%s\" in [kafka] is given twice",
				   property);
		return false;
	}
	if (!kafka_check_property(property, value, parser->error))
		return false;
	config->kafka = xrealloc(config->kafka, (count + 3) * sizeof(char *));
	config->kafka[count] = xstrdup(property);
	config->kafka[count + 1] = xstrdup(value);
	config->kafka[count + 2] = NULL;
	return true;
}

static bool
set_option(Parser *parser, size_t index, const char *value)
{
	const Option *option = &options[index];
	Buf			  why = {0};
	bool		  good;

	if (parser->seen[index])
	{
		buf_printf(parser->error, "key \"%s\" in [%s] is given twice",
				   option->key, option->section);
		return false;
	}
	parser->seen[index] = true;
	good = option_set(option, parser->config, value, &why);
	if (!good)
		buf_printf(parser->error, "\"%s\" in [%s] %s", option->key,
				   option->section, buf_str(&why));
	buf_free(&why);
	return good;
}

static bool
is_section(const char *section)
{
	if (strcmp(section, "kafka") == 0)
		return true;
	for (size_t i = 0; i < options_count; i++)
		if (strcmp(options[i].section, section) == 0)
			return true;
	return false;
}

/* libinih's handler: 0 is an error */
static int
config_line(void *arg, const char *section, const char *key, const char *value)
{
	Parser *parser = arg;

	if (parser->error->len > 0)
		return 0;
	if (strcmp(section, "kafka") == 0)
		return set_kafka(parser, key, value);
	for (size_t i = 0; i < options_count; i++)
		if (strcmp(options[i].section, section) == 0 &&
			strcmp(options[i].key, key) == 0)
			return set_option(parser, i, value);
	if (is_section(section))
		suggest_key(parser, section, key);
	else
		buf_printf(parser->error,
				   "unknown section [%s]: there are [relay], "
				   "[postgres], [kafka], [outbox], [inbox], [http] and "
				   "[webhook]",
				   section);
	return 0;
}

/*
 * libinih reads a line up to a NUL byte, and takes the rest of one that is too
 * long for a line of its own: both would change what the file says in silence.
 */
static bool
lines_are_whole(const char *path, const char *text, size_t len, Buf *error)
{
	const char *begin = text;

	for (int line = 1; begin < text + len; line++)
	{
		size_t		rest = (size_t) (text + len - begin);
		const char *end = memchr(begin, '\n', rest);
		size_t		line_len = end != NULL ? (size_t) (end - begin) : rest;
		const char *what = NULL;

		if (memchr(begin, '\0', line_len) != NULL)
			what = "holds a NUL byte";
		else if (line_len >= LINE_MAX_BYTES - 1)
			what = "is longer than 65534 bytes";
		if (what != NULL)
		{
			buf_printf(error, "%s:%d: the line %s", path, line, what);
			return false;
		}
		begin += line_len + 1;
	}
	return true;
}

/* Into text, which is FILE_MAX_BYTES long; the length, or -1 and *error. */
static ssize_t
read_file(const char *path, char *text, Buf *error)
{
	FILE  *file;
	size_t len = 0;
	bool   good;

	errno = 0;
	file = fopen(path, "re");
	if (file != NULL)
		len = fread(text, 1, FILE_MAX_BYTES, file);
	good = file != NULL && !ferror(file);
	if (!good)
		buf_printf(error, "could not read \"%s\": %s", path, strerror(errno));
	else if (len == FILE_MAX_BYTES)
	{
		buf_printf(error, "\"%s\" is larger than %d bytes", path,
				   FILE_MAX_BYTES - 1);
		good = false;
	}
	if (file != NULL)
		fclose(file);
	return good ? (ssize_t) len : -1;
}

/*
 * Debian's libinih lets a program choose what upstream fixes when it is built:
 * long lines, and no comment inside a value, for a password may hold " ;".
 */
static bool
config_parse(Parser *parser, const char *path, const char *text)
{
	int line;

	ini_use_stack = false;
	ini_allow_realloc = true;
	ini_max_line = LINE_MAX_BYTES;
	ini_allow_inline_comments = false;
	ini_allow_multiline = false;
	line = ini_parse_string(text, config_line, parser);
	if (line == 0)
		return true;
	if (line < 0)
		buf_printf(parser->error, "could not read \"%s\": out of memory", path);
	else
	{
		char *what = parser->error->len > 0
						 ? xstrdup(buf_str(parser->error))
						 : xstrdup("neither a [section] nor key = value");

		buf_clear(parser->error);
		buf_printf(parser->error, "%s:%d: %s", path, line, what);
		free(what);
	}
	return false;
}

static bool
config_read(Parser *parser, const char *path)
{
	char   *text = xcalloc(1, FILE_MAX_BYTES + 1);
	ssize_t len = read_file(path, text, parser->error);
	bool	good = len >= 0 &&
				lines_are_whole(path, text, (size_t) len, parser->error) &&
				config_parse(parser, path, text);

	explicit_bzero(text, FILE_MAX_BYTES);
	free(text);
	return good;
}

/* ---- what must hold for the whole -------------------------------------- */

/* libpq would say so at each try to connect, for ever. */
static bool
check_ports(const PQconninfoOption *parsed, Buf *error)
{
	bool good = true;

	for (const PQconninfoOption *o = parsed; good && o->keyword != NULL; o++)
	{
		char **ports;

		if (strcmp(o->keyword, "port") != 0 || o->val == NULL)
			continue;
		ports = strings_split(o->val);
		for (char **port = ports; good && *port != NULL; port++)
		{
			good = is_port(*port);
			if (!good)
				buf_printf(error,
						   "\"conninfo\" in [postgres]: port \"%s\" is not a "
						   "number between 1 and 65535",
						   *port);
		}
		strings_free(ports);
	}
	return good;
}

/*
 * libpq's own message may quote the string, so it is given only where that
 * cannot hold a password.
 */
static bool
check_conninfo(const char *conninfo, Buf *error)
{
	char			 *message = NULL;
	PQconninfoOption *parsed = PQconninfoParse(conninfo, &message);
	bool			  good = parsed != NULL;

	if (!good)
	{
		bool quotable = strstr(conninfo, "pass") == NULL &&
						strstr(conninfo, "://") == NULL;

		buf_printf(error,
				   "\"conninfo\" in [postgres] is not a connection "
				   "string%s%s",
				   quotable && message != NULL ? ": " : "",
				   quotable && message != NULL ? message : "");
		while (error->len > 0 && error->data[error->len - 1] == '\n')
			error->len--;
	}
	else
		good = check_ports(parsed, error);
	pgconn_free_parsed(parsed);
	PQfreemem(message);
	return good;
}

static bool
conninfo_holds_password(const char *conninfo)
{
	PQconninfoOption *parsed = PQconninfoParse(conninfo, NULL);
	bool			  found = false;

	for (PQconninfoOption *o = parsed; o != NULL && o->keyword != NULL; o++)
		if (strstr(o->keyword, "password") != NULL && o->val != NULL)
			found = true;
	pgconn_free_parsed(parsed);
	return found;
}

static bool
is_topic(const char *name)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyz"
								"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t			  len = strlen(name);

	return len >= 1 && len <= 249 && strspn(name, legal) == len &&
		   strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

char *
config_dlq_topic(const Config *config, const char *topic)
{
	const char *mark = strstr(config->dlq_topic, "{topic}");

	if (mark == NULL)
		return xstrdup(config->dlq_topic);
	return xasprintf("%.*s%s%s", (int) (mark - config->dlq_topic),
					 config->dlq_topic, topic, mark + strlen("{topic}"));
}

/* A dead letter that came back would be given up again, for ever. */
static bool
check_dlq(const Config *config, const char *topic, Buf *error)
{
	char *dlq = config_dlq_topic(config, topic);
	bool  good = is_topic(dlq);

	if (!good)
		buf_printf(error,
				   "\"%s\" in [inbox] dlq_topic cannot be the name of a "
				   "topic for \"%s\"",
				   config->dlq_topic, topic);
	else if (strcmp(dlq, topic) == 0)
	{
		buf_printf(error,
				   "\"%s\" in [inbox] dlq_topic is \"%s\" itself, which is "
				   "consumed",
				   config->dlq_topic, topic);
		good = false;
	}
	free(dlq);
	return good;
}

static bool
check_topics(const Config *config, Buf *error)
{
	char *dlq = config_dlq_topic(config, "t");
	bool  good = is_topic(dlq);

	free(dlq);
	if (!good)
		buf_printf(error,
				   "\"%s\" in [inbox] dlq_topic cannot be the name of a "
				   "topic",
				   config->dlq_topic);
	for (char **topic = config->topics; good && *topic != NULL; topic++)
	{
		good = is_topic(*topic);
		if (!good)
			buf_printf(error,
					   "\"%s\" in [inbox] topics cannot be the name of "
					   "a topic",
					   *topic);
		good = good && check_dlq(config, *topic, error);
	}
	return good;
}

static bool
names_broker(const Config *config)
{
	return config_kafka_get(config, "bootstrap.servers") != NULL ||
		   config_kafka_get(config, "metadata.broker.list") != NULL;
}

static bool
config_check(const Config *config, bool offline, Buf *error)
{
	if (!check_conninfo(config->conninfo, error) ||
		!check_topics(config, error) || !webhook_check(config, error))
		return false;
	if (config->http_listen[0] != '\0')
	{
		buf_add_str(error, "\"listen\" in [http]: ");
		if (!http_check_listen(config->http_listen, error))
			return false;
		buf_clear(error);
	}
	if (!offline && !names_broker(config))
	{
		buf_add_str(error, "no broker is named: \"bootstrap.servers\" in "
						   "[kafka], or --kafka");
		return false;
	}
	return true;
}

/* ---- load, free, reload ------------------------------------------------ */

static Config *
config_new(void)
{
	Config *config = xcalloc(1, sizeof(Config));
	Buf		error = {0};

	Assert(options_count <= OPTIONS_MAX);
	config->kafka = xcalloc(1, sizeof(char *));
	for (size_t i = 0; i < options_count; i++)
		if (!option_set(&options[i], config, options[i].value, &error))
			Assert(!"defaults are legal");
	return config;
}

static bool
config_override(Parser *parser, const ConfigOverrides *from)
{
	Config *config = parser->config;

	if (from->postgres != NULL)
	{
		if (conninfo_holds_password(from->postgres))
		{
			buf_add_str(parser->error,
						"--postgres holds a password, which "
						"every user of this machine can read: use the "
						"configuration file, PGPASSFILE or PGPASSWORD");
			return false;
		}
		secret_free(config->conninfo);
		config->conninfo = xstrdup(from->postgres);
	}
	if (from->kafka == NULL)
		return true;
	for (char **pair = config->kafka; *pair != NULL; pair += 2)
		if (strcmp(pair[0], "bootstrap.servers") == 0)
		{
			free(pair[1]);
			pair[1] = xstrdup(from->kafka);
			return kafka_check_property(pair[0], pair[1], parser->error);
		}
	return set_kafka(parser, "bootstrap.servers", from->kafka);
}

Config *
config_load(const ConfigOverrides *from, Buf *error)
{
	Parser parser = {.config = config_new(), .error = error};

	if ((from->path == NULL || config_read(&parser, from->path)) &&
		config_override(&parser, from) &&
		config_check(parser.config, from->offline, error))
		return parser.config;
	buf_str(error);
	config_free(parser.config);
	return NULL;
}

void
config_free(Config *config)
{
	if (config == NULL)
		return;
	for (size_t i = 0; i < options_count; i++)
		option_clear(&options[i], config);
	for (char **pair = config->kafka; *pair != NULL; pair += 2)
	{
		free(pair[0]);
		secret_free(pair[1]);
	}
	free(config->kafka);
	free(config);
}

static bool
kafka_equal(const Config *a, const Config *b)
{
	if (strings_count(a->kafka) != strings_count(b->kafka))
		return false;
	for (char **pair = a->kafka; *pair != NULL; pair += 2)
	{
		const char *other = config_kafka_get(b, pair[0]);

		if (other == NULL || strcmp(other, pair[1]) != 0)
			return false;
	}
	return true;
}

void
config_reload(Config *config, const Config *fresh, Buf *restart)
{
	Buf ours = {0};
	Buf theirs = {0};

	for (size_t i = 0; i < options_count; i++)
	{
		const Option *option = &options[i];

		option_get(option, config, &ours);
		option_get(option, fresh, &theirs);
		if (strcmp(buf_str(&ours), buf_str(&theirs)) == 0)
			continue;
		if (!(option->flags & OPTION_RELOADS))
			buf_printf(restart, "%s[%s] %s", restart->len > 0 ? ", " : "",
					   option->section, option->key);
		else if (!option_set(option, config, buf_str(&theirs), restart))
			Assert(!"what was legal once is so again");
	}
	if (!kafka_equal(config, fresh))
		buf_printf(restart, "%s[kafka]", restart->len > 0 ? ", " : "");
	buf_free(&ours);
	buf_free(&theirs);
}

const char *
config_kafka_get(const Config *config, const char *property)
{
	for (char *const *pair = config->kafka; *pair != NULL; pair += 2)
		if (strcmp(pair[0], property) == 0)
			return pair[1];
	return NULL;
}

/* ---- showing ----------------------------------------------------------- */

static void
print_help(FILE *to, const char *help)
{
	while (help[0] != '\0')
	{
		size_t len = strcspn(help, "\n");

		fprintf(to, "# %.*s\n", (int) len, help);
		help += len + (help[len] == '\n');
	}
}

static void
print_kafka(const Config *config, FILE *to)
{
	fputs("\n[kafka]\n", to);
	print_help(to, "Properties of librdkafka, as they are: security.protocol,\n"
				   "sasl.username, ... docs/relay.md lists them.");
	if (config == NULL)
		fputs("bootstrap.servers = localhost:9092\n", to);
	else
		for (char **pair = config->kafka; *pair != NULL; pair += 2)
			fprintf(to, "%s = %s\n", pair[0],
					kafka_property_is_secret(pair[0]) ? "********" : pair[1]);
}

static void
print_options(const Config *config, FILE *to)
{
	const char *section = "";
	Buf			value = {0};

	for (size_t i = 0; i < options_count; i++)
	{
		const Option *option = &options[i];

		if (strcmp(section, option->section) != 0)
		{
			if (strcmp(section, "postgres") == 0)
				print_kafka(config, to);
			section = option->section;
			fprintf(to, "%s[%s]\n", i > 0 ? "\n" : "", section);
		}
		print_help(to, option->help);
		buf_clear(&value);
		if (config == NULL)
			buf_add_str(&value, option->value);
		else
			option_get(option, config, &value);
		if (config != NULL && (option->flags & OPTION_SECRET) && value.len > 0)
			fprintf(to, "%s = ********\n", option->key);
		else if (value.len > 0 || option->example == NULL)
			fprintf(to, "%s = %s\n", option->key, buf_str(&value));
		else
			fprintf(to, "#%s = %s\n", option->key, option->example);
	}
	buf_free(&value);
}

void
config_print_sample(FILE *to)
{
	print_options(NULL, to);
}

void
config_print(const Config *config, FILE *to)
{
	print_options(config, to);
}
