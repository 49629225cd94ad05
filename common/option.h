/*
 * option.h - one option of a configuration: its type and limits, text to value
 * and back
 *
 * A daemon lists its options in one table; reading, reloading and printing the
 * configuration follow that table (config_table.h).
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_OPTION_H
#define PGSTOCK_COMMON_OPTION_H

#include "common/util.h"

#define DURATIONS_MAX 16

typedef struct Durations
{
	unsigned count;
	int64_t	 us[DURATIONS_MAX];
} Durations;

/* The C type of the field that holds the value. */
typedef enum OptionType
{
	OPTION_STRING,	  /* char * */
	OPTION_NAMES,	  /* char **, comma-separated, each once */
	OPTION_INT,		  /* int64_t */
	OPTION_BOOL,	  /* bool: yes or no */
	OPTION_CHOICE,	  /* int64_t: index into choices */
	OPTION_SET,		  /* int64_t: bits by index into choices */
	OPTION_DURATION,  /* int64_t, microseconds */
	OPTION_DURATIONS, /* Durations, comma-separated */
	OPTION_MOMENT, /* int64_t: milliseconds since 1970, or one of choices: the
					   * last is -1, the one before -2 */
} OptionType;

#define OPTION_RELOADS 1 /* may change while running */
#define OPTION_SECRET  2 /* never printed */

typedef struct Option
{
	const char		  *section;
	const char		  *key;
	OptionType		   type;
	unsigned		   flags;
	size_t			   offset;	/* of the field in the daemon's struct */
	const char		  *value;	/* default, as text */
	const char		  *example; /* printed where there is no default */
	int64_t			   min;		/* of a number or duration; bytes of a text */
	int64_t			   max;		/* 0 for a text: no limit */
	const char *const *choices; /* NULL at the end */
	const char		  *help;
} Option;

/* "5s", "250ms": false if the text is no duration. */
bool option_parse_duration(const char *text, int64_t *us) MUST_CHECK;

/*
 * values: the daemon's struct.  False, and a phrase in *error that follows the
 * option's name, if the text is not a legal value.
 */
bool option_set(const Option *option, void *values, const char *text,
				Buf *error) MUST_CHECK;
/*
 * "1s to 1m": what a number, duration or short text may be; nothing for others.
 */
void option_add_range(const Option *option, Buf *text);
/* In place of what *text holds. */
void option_get(const Option *option, const void *values, Buf *text);
void option_clear(const Option *option, void *values);

#endif
