/*
 * config_table.c - a configuration file: one table of options for reading,
 * reloading and printing it
 *
 * An INI file by libinih.  Nothing is guessed: an unknown key or section, a key
 * given twice, a value out of range are errors that name the line.  The text of
 * a secret is in no message.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/config_table.h"

#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

#include "common/spelling.h"

#define LINE_BYTES_MAX 65536 /* certificates are long */
#define FILE_BYTES_MAX 1048576

typedef struct ConfigReader
{
	const ConfigTable *table;
	void			  *values;
	bool			   seen[CONFIG_OPTIONS_MAX];
	const char		  *rest;  /* of the text, a NUL at its end */
	int				   line;  /* the number of the last one that was read */
	Buf				  *error; /* the first one */
	int				   error_line; /* where it is */
} ConfigReader;

/* ---- places ------------------------------------------------------------ */

static ConfigSource *
config_source(const ConfigTable *table, const void *values)
{
	char *base = (char *) (uintptr_t) values;

	return (ConfigSource *) (void *) (base + table->source);
}

void
config_table_add_place(const ConfigTable *table, const void *values,
					   const char *section, const char *key, Buf *text)
{
	const ConfigSource *source = config_source(table, values);
	int					line = 0;

	if (source->path == NULL)
		return;
	for (size_t i = 0; i < table->option_count; i++)
		if (strcmp(table->options[i].section, section) == 0 &&
			strcmp(table->options[i].key, key) == 0)
			line = source->lines[i];
	if (line > 0)
		buf_printf(text, "%s:%d: ", source->path, line);
	else
		buf_printf(text, "%s: ", source->path);
}

/* ---- properties -------------------------------------------------------- */

static char ***
config_properties(const ConfigTable *table, const void *values)
{
	char *base = (char *) (uintptr_t) values;

	Assert(table->properties != NULL);
	return (char ***) (void *) (base + table->properties->offset);
}

/* The value's place; NULL if the property is not set. */
static char **
config_find_property(const ConfigTable *table, const void *values,
					 const char *property)
{
	char **pair = *config_properties(table, values);

	for (; *pair != NULL; pair += 2)
		if (strcmp(pair[0], property) == 0)
			return &pair[1];
	return NULL;
}

const char *
config_table_property(const ConfigTable *table, const void *values,
					  const char *property)
{
	char **value = config_find_property(table, values, property);

	return value != NULL ? *value : NULL;
}

bool
config_table_set_property(const ConfigTable *table, void *values,
						  const char *property, const char *value, Buf *error)
{
	char ***pairs = config_properties(table, values);
	char  **known = config_find_property(table, values, property);
	size_t	count = strings_count(*pairs);

	if (!table->properties->check(property, value, error))
		return false;
	if (known != NULL)
	{
		secret_free(*known);
		*known = xstrdup(value);
		return true;
	}
	Assert(count % 2 == 0);
	*pairs = xrealloc(*pairs, (count + 3) * sizeof(char *));
	(*pairs)[count] = xstrdup(property);
	(*pairs)[count + 1] = xstrdup(value);
	(*pairs)[count + 2] = NULL;
	return true;
}

/* Takes over what may change; false if anything else differs. */
static bool
config_properties_reload(const ConfigTable *table, void *values,
						 const void *fresh)
{
	const ConfigProperties *properties = table->properties;
	char				  **pair = *config_properties(table, values);
	bool					same = true;

	Assert(strings_count(pair) % 2 == 0);
	if (strings_count(pair) != strings_count(*config_properties(table, fresh)))
		return false;
	for (; *pair != NULL; pair += 2)
	{
		const char *other = config_table_property(table, fresh, pair[0]);

		if (other != NULL && strcmp(other, pair[1]) == 0)
			continue;
		if (other == NULL || properties->reloads == NULL ||
			!properties->reloads(pair[0]))
			same = false;
		else
		{
			secret_free(pair[1]);
			pair[1] = xstrdup(other);
		}
	}
	return same;
}

static bool
config_is_properties(const ConfigTable *table, const char *section)
{
	return table->properties != NULL &&
		   strcmp(section, table->properties->section) == 0;
}

/* ---- sections ---------------------------------------------------------- */

/*
 * The next section in the order of printing; NULL after the last.  *at, which
 * begins as 0, is the option that the section begins with, or follows.
 */
static const char *
config_next_section(const ConfigTable *table, const char *section, size_t *at)
{
	const ConfigProperties *properties = table->properties;

	if (properties != NULL && section != NULL &&
		strcmp(section, properties->printed_after) == 0)
		return properties->section;
	for (; *at < table->option_count; ++*at)
		if (*at == 0 || strcmp(table->options[*at].section,
							   table->options[*at - 1].section) != 0)
			return table->options[(*at)++].section;
	return NULL;
}

static void
config_add_sections(const ConfigTable *table, Buf *text)
{
	size_t		at = 0;
	const char *section = config_next_section(table, NULL, &at);

	for (bool first = true; section != NULL; first = false)
	{
		const char *next = config_next_section(table, section, &at);

		buf_printf(text, "%s[%s]",
				   first		  ? ""
				   : next != NULL ? ", "
								  : " and ",
				   section);
		section = next;
	}
}

/* ---- reading ----------------------------------------------------------- */

/* One slip within a section is likelier than the right key in another one. */
static void
config_suggest_key(ConfigReader *reader, const char *section, const char *key)
{
	const ConfigTable *table = reader->table;
	const Option	  *best = &table->options[0];
	unsigned		   best_distance = UINT32_MAX;

	Assert(table->option_count > 0);
	Assert(reader->error->len == 0); /* the first error is reported */
	for (size_t i = 0; i < table->option_count; i++)
	{
		const Option *option = &table->options[i];
		unsigned	  distance = 2 * spelling_distance(key, option->key) +
							3 * (strcmp(section, option->section) != 0);

		if (distance < best_distance)
		{
			best = option;
			best_distance = distance;
		}
	}
	buf_printf(reader->error,
			   "unknown key \"%s\" in [%s]: the nearest is "
			   "\"%s\" in [%s]",
			   key, section, best->key, best->section);
}

static void
config_refuse_twice(ConfigReader *reader, const char *section, const char *key)
{
	Assert(reader->error->len == 0);
	buf_printf(reader->error, "key \"%s\" in [%s] is given twice", key,
			   section);
}

static bool
config_read_property(ConfigReader *reader, const char *section,
					 const char *property, const char *value)
{
	const ConfigTable *table = reader->table;

	if (config_find_property(table, reader->values, property) != NULL)
	{
		config_refuse_twice(reader, section, property);
		return false;
	}
	return config_table_set_property(table, reader->values, property, value,
									 reader->error);
}

static bool
config_read_option(ConfigReader *reader, size_t index, const char *value)
{
	const Option *option = &reader->table->options[index];
	Buf			  why = {0};
	bool		  good;

	Assert(index < reader->table->option_count && reader->line > 0);
	if (reader->seen[index])
	{
		config_refuse_twice(reader, option->section, option->key);
		return false;
	}
	reader->seen[index] = true;
	config_source(reader->table, reader->values)->lines[index] = reader->line;
	good = option_set(option, reader->values, value, &why);
	if (!good)
		buf_printf(reader->error, "\"%s\" in [%s] %s", option->key,
				   option->section, buf_str(&why));
	buf_free(&why);
	return good;
}

/* libinih's handler: 0 is an error */
static int
config_read_line(void *arg, const char *section, const char *key,
				 const char *value)
{
	ConfigReader	  *reader = arg;
	const ConfigTable *table = reader->table;
	bool			   known = false;

	if (reader->error->len > 0)
		return 0;
	reader->error_line = reader->line; /* if there is one */
	if (config_is_properties(table, section))
		return config_read_property(reader, section, key, value);
	for (size_t i = 0; i < table->option_count; i++)
	{
		if (strcmp(table->options[i].section, section) != 0)
			continue;
		known = true;
		if (strcmp(table->options[i].key, key) == 0)
			return config_read_option(reader, i, value);
	}
	if (known)
		config_suggest_key(reader, section, key);
	else
	{
		buf_printf(reader->error, "unknown section [%s]: there are ", section);
		config_add_sections(table, reader->error);
	}
	return 0;
}

/*
 * libinih reads a line up to a NUL byte, and takes the rest of one that is too
 * long for a line of its own: both would change what the file says in silence.
 */
static bool
config_check_lines(const char *path, const char *text, size_t len, Buf *error)
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
		else if (line_len >= LINE_BYTES_MAX - 1)
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

/* Into text, which is FILE_BYTES_MAX long; the length, or -1 and *error. */
static ssize_t
config_read_file(const char *path, char *text, Buf *error)
{
	FILE  *file;
	size_t len = 0;
	bool   good;

	errno = 0;
	file = fopen(path, "re");
	if (file != NULL)
		len = fread(text, 1, FILE_BYTES_MAX, file);
	good = file != NULL && !ferror(file);
	if (!good)
		buf_printf(error, "could not read \"%s\": %s", path, strerror(errno));
	else if (len == FILE_BYTES_MAX)
	{
		buf_printf(error, "\"%s\" is larger than %d bytes", path,
				   FILE_BYTES_MAX - 1);
		good = false;
	}
	if (file != NULL)
		fclose(file);
	return good ? (ssize_t) len : -1;
}

/* As fgets(): a line with its end, or as much of it as there is room for. */
static char *
config_next_line(char *to, int size, void *stream)
{
	ConfigReader *reader = stream;
	size_t		  len = strcspn(reader->rest, "\n");
	size_t taken = Min(len + (reader->rest[len] == '\n'), (size_t) size - 1);

	Assert(size > 1);
	if (taken == 0)
		return NULL;
	/* a line that is read in parts is one line */
	if (reader->line == 0 || reader->rest[-1] == '\n')
		reader->line++;
	memcpy(to, reader->rest, taken);
	to[taken] = '\0';
	reader->rest += taken;
	return to;
}

/*
 * Debian's libinih lets a program choose what upstream fixes when it is built:
 * long lines, and no comment inside a value, for a password may hold " ;".
 */
static bool
config_parse(ConfigReader *reader, const char *path, const char *text)
{
	int line;

	ini_use_stack = false;
	ini_allow_realloc = true;
	ini_max_line = LINE_BYTES_MAX;
	ini_allow_inline_comments = false;
	ini_allow_multiline = false;
	reader->rest = text;
	line = ini_parse_stream(config_next_line, reader, config_read_line, reader);
	if (line == 0)
		return true;
	if (line < 0)
		buf_printf(reader->error, "could not read \"%s\": out of memory", path);
	else
	{
		bool  ours = reader->error->len > 0 && reader->error_line <= line;
		char *what = xstrdup(ours ? buf_str(reader->error)
								  : "neither a [section] nor key = value");

		buf_clear(reader->error);
		buf_printf(reader->error, "%s:%d: %s", path, line, what);
		free(what);
	}
	return false;
}

bool
config_table_read(const ConfigTable *table, void *values, const char *path,
				  Buf *error)
{
	ConfigReader reader = {.table = table, .values = values, .error = error};
	char		*text = xcalloc(1, FILE_BYTES_MAX + 1);
	ssize_t		 len = config_read_file(path, text, error);
	bool		 good = len >= 0 &&
				config_check_lines(path, text, (size_t) len, error) &&
				config_parse(&reader, path, text);

	Assert(good == (error->len == 0));
	free(config_source(table, values)->path);
	config_source(table, values)->path = xstrdup(path);
	explicit_bzero(text, FILE_BYTES_MAX);
	free(text);
	return good;
}

/* ---- life, reload ------------------------------------------------------ */

void
config_table_init(const ConfigTable *table, void *values)
{
	Buf error = {0};

	Assert(table->option_count <= CONFIG_OPTIONS_MAX);
	if (table->properties != NULL)
		*config_properties(table, values) = xcalloc(1, sizeof(char *));
	for (size_t i = 0; i < table->option_count; i++)
	{
		const Option *option = &table->options[i];

		if (!option_set(option, values, option->value, &error))
			Assert(!"defaults are legal");
	}
}

void
config_table_clear(const ConfigTable *table, void *values)
{
	char	   ***properties;
	ConfigSource *source = config_source(table, values);

	for (size_t i = 0; i < table->option_count; i++)
		option_clear(&table->options[i], values);
	free(source->path);
	source->path = NULL;
	if (table->properties == NULL)
		return;
	properties = config_properties(table, values);
	for (char **pair = *properties; *pair != NULL; pair += 2)
	{
		free(pair[0]);
		secret_free(pair[1]);
	}
	free(*properties);
	*properties = NULL;
}

void
config_table_reload(const ConfigTable *table, void *values, const void *fresh,
					Buf *restart)
{
	Buf ours = {0};
	Buf theirs = {0};

	for (size_t i = 0; i < table->option_count; i++)
	{
		const Option *option = &table->options[i];

		option_get(option, values, &ours);
		option_get(option, fresh, &theirs);
		if (strcmp(buf_str(&ours), buf_str(&theirs)) == 0)
			continue;
		if (!(option->flags & OPTION_RELOADS))
			buf_printf(restart, "%s[%s] %s", restart->len > 0 ? ", " : "",
					   option->section, option->key);
		else if (!option_set(option, values, buf_str(&theirs), restart))
			Assert(!"what was legal once is so again");
	}
	if (table->properties != NULL &&
		!config_properties_reload(table, values, fresh))
		buf_printf(restart, "%s[%s]", restart->len > 0 ? ", " : "",
				   table->properties->section);
	buf_free(&ours);
	buf_free(&theirs);
}

/* ---- printing ---------------------------------------------------------- */

static void
config_print_help(const char *help, FILE *to)
{
	while (help[0] != '\0')
	{
		size_t len = strcspn(help, "\n");

		fprintf(to, "# %.*s\n", (int) len, help);
		help += len + (help[len] == '\n');
	}
}

static void
config_print_properties(const ConfigTable *table, const void *values, FILE *to)
{
	const ConfigProperties *properties = table->properties;

	config_print_help(properties->help, to);
	if (values == NULL)
		fprintf(to, "%s\n", properties->sample);
	else
		for (char **pair = *config_properties(table, values); *pair != NULL;
			 pair += 2)
			fprintf(to, "%s = %s\n", pair[0],
					properties->is_secret(pair[0]) ? "********" : pair[1]);
}

static void
config_print_option(const Option *option, const void *values, FILE *to)
{
	Buf	 value = {0};
	bool masked = values != NULL && (option->flags & OPTION_SECRET);

	config_print_help(option->help, to);
	if (values == NULL)
		buf_add_str(&value, option->value);
	else
		option_get(option, values, &value);
	if (masked && value.len > 0)
		fprintf(to, "%s = ********\n", option->key);
	else if (value.len > 0 || option->example == NULL)
		fprintf(to, "%s = %s\n", option->key, buf_str(&value));
	else
		fprintf(to, "#%s = %s\n", option->key, option->example);
	buf_free(&value);
}

void
config_table_print(const ConfigTable *table, const void *values, FILE *to)
{
	size_t		at = 0;
	const char *section = NULL;

	for (int n = 0; (section = config_next_section(table, section, &at)); n++)
	{
		fprintf(to, "%s[%s]\n", n > 0 ? "\n" : "", section);
		if (config_is_properties(table, section))
			config_print_properties(table, values, to);
		for (size_t i = 0; i < table->option_count; i++)
			if (strcmp(table->options[i].section, section) == 0)
				config_print_option(&table->options[i], values, to);
	}
}
