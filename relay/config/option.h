/*
 * option.h - options of the configuration: what there is, text to value and
 * back
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_CONFIG_OPTION_H
#define PGSTOCK_CONFIG_OPTION_H

#include "config/config.h"

typedef enum OptionType
{
	OPTION_STRING,	  /* char * */
	OPTION_NAMES,	  /* char **, comma-separated */
	OPTION_INT,		  /* int64_t */
	OPTION_CHOICE,	  /* int64_t: index into choices */
	OPTION_SET,		  /* int64_t: bits by index into choices */
	OPTION_DURATION,  /* int64_t, microseconds */
	OPTION_DURATIONS, /* Durations */
	OPTION_MOMENT,	  /* int64_t, see FIRST_OFFSET_... */
} OptionType;

#define OPTION_RELOADS 1 /* may change while running */
#define OPTION_SECRET  2 /* never shown */

typedef struct Option
{
	const char		  *section;
	const char		  *key;
	OptionType		   type;
	unsigned		   flags;
	size_t			   offset;	/* in Config */
	const char		  *value;	/* default, as text */
	const char		  *example; /* shown where there is no default */
	int64_t			   min;		/* of a number or duration; bytes of a text */
	int64_t			   max;
	const char *const *choices; /* NULL at the end */
	const char		  *help;
} Option;

extern const Option options[];
extern const size_t options_count;

bool option_set(const Option *option, Config *config, const char *text,
				Buf *error) MUST_CHECK;
void option_get(const Option *option, const Config *config, Buf *text);
void option_clear(const Option *option, Config *config);

/* The nearest of what there is, for an error message. */
unsigned edit_distance(const char *a, const char *b);

#endif
