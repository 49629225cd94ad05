/*
 * config_table.h - a configuration file: one table of options for reading,
 * reloading and printing it
 *
 * The daemon describes its configuration by a table and keeps the values in a
 * struct of its own, which begins as zeros.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_CONFIG_TABLE_H
#define PGSTOCK_COMMON_CONFIG_TABLE_H

#include <stdio.h>

#include "common/option.h"

#define CONFIG_OPTIONS_MAX 64

/*
 * A section whose keys are another library's properties, passed on as they
 * are: name, value, name, value, ..., NULL.
 */
typedef struct ConfigProperties
{
	const char *section;
	const char *printed_after; /* the section of options before it */
	const char *help;
	const char *sample; /* its line in a sample */
	size_t		offset; /* of the char ** in the daemon's struct */
	/* False, and a sentence in *error, if it cannot be set. */
	bool (*check)(const char *property, const char *value, Buf *error);
	bool (*is_secret)(const char *property);
	/* Whether its value may change while running; NULL: that of none may. */
	bool (*reloads)(const char *property);
} ConfigProperties;

/* Which file the values are from, and where in it. */
typedef struct ConfigSource
{
	char *path;						 /* NULL: none was read */
	int	  lines[CONFIG_OPTIONS_MAX]; /* by option; 0: it has the default */
} ConfigSource;

typedef struct ConfigTable
{
	const Option		   *options;
	size_t					option_count;
	const ConfigProperties *properties; /* NULL: no such section */
	size_t source; /* offset of the ConfigSource in the daemon's struct */
} ConfigTable;

/* Sets every option to its default. */
void config_table_init(const ConfigTable *table, void *values);
void config_table_clear(const ConfigTable *table, void *values);

/*
 * False, and one sentence in *error that names the line, if anything is wrong
 * in the file.
 */
bool config_table_read(const ConfigTable *table, void *values, const char *path,
					   Buf *error) MUST_CHECK;

/*
 * "FILE:LINE: ", or "FILE: " where the option, if it is one, has its default;
 * nothing if no file was read.
 */
void config_table_add_place(const ConfigTable *table, const void *values,
							const char *section, const char *key, Buf *text);

/* NULL if the property is not set. */
const char *config_table_property(const ConfigTable *table, const void *values,
								  const char *property);

/* Sets a property anew, or in place of the file's. */
bool config_table_set_property(const ConfigTable *table, void *values,
							   const char *property, const char *value,
							   Buf *error) MUST_CHECK;

/*
 * Copies from fresh what may change while running.  The names of options that
 * differ and need a restart are appended to *restart.
 */
void config_table_reload(const ConfigTable *table, void *values,
						 const void *fresh, Buf *restart);

/*
 * A file with every key, its value and what it means, secrets masked; values
 * NULL: a sample with the defaults.
 */
void config_table_print(const ConfigTable *table, const void *values, FILE *to);

#endif
