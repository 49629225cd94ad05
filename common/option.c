/*
 * option.c - one option of a configuration: its type and limits, text to value
 * and back
 *
 * Invariant: what option_get() writes, option_set() reads as the same value; a
 * reload rests on it.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/option.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/rfc3339.h"

#define DAY_US (INT64_C(86400) * SEC_US)

/* In the order of the values of a bool. */
static const char *const option_no_yes[] = {"no", "yes", NULL};

/* ---- durations --------------------------------------------------------- */

static const struct
{
	const char *name;
	int64_t		us;
} option_units[] = {
	{"d", DAY_US},		{"h", INT64_C(3600) * SEC_US},
	{"m", 60 * SEC_US}, {"s", SEC_US},
	{"ms", MS_US},
};

bool
option_parse_duration(const char *text, int64_t *us)
{
	char	 *end;
	long long number;

	errno = 0;
	number = strtoll(text, &end, 10);
	if (end == text || errno != 0 || number < 0)
		return false;
	for (size_t i = 0; i < Lengthof(option_units); i++)
		if (strcmp(end, option_units[i].name) == 0)
			return !__builtin_mul_overflow(number, option_units[i].us, us);
	return false;
}

/* In the largest unit that leaves no remainder. */
static void
option_show_duration(Buf *text, int64_t us)
{
	Assert(us >= 0);
	for (size_t i = 0; i < Lengthof(option_units); i++)
	{
		int64_t unit = option_units[i].us;

		if (us % unit != 0 || (us == 0 && unit != SEC_US))
			continue;
		buf_printf(text, "%" PRId64 "%s", us / unit, option_units[i].name);
		return;
	}
	Assert(!"whole milliseconds");
}

/* ---- text to value ----------------------------------------------------- */

static bool
option_in_range(const Option *option, int64_t value, bool duration, Buf *error)
{
	Assert(option->min <= option->max);
	if (value >= option->min && value <= option->max)
		return true;
	buf_add_str(error, "must be between ");
	if (duration)
	{
		option_show_duration(error, option->min);
		buf_add_str(error, " and ");
		option_show_duration(error, option->max);
	}
	else
		buf_printf(error, "%" PRId64 " and %" PRId64, option->min, option->max);
	return false;
}

static bool
option_set_duration(const Option *option, int64_t *us, const char *text,
					Buf *error)
{
	if (!option_parse_duration(text, us))
	{
		buf_printf(error,
				   "\"%s\" is not a duration: a whole number and one "
				   "of ms, s, m, h, d are wanted, such as 250ms",
				   text);
		return false;
	}
	return option_in_range(option, *us, true, error);
}

static bool
option_set_durations(const Option *option, Durations *durations,
					 const char *text, Buf *error)
{
	char **items = strings_split(text);
	size_t count = strings_count(items);
	bool   good = count <= DURATIONS_MAX;

	if (!good)
		buf_printf(error, "holds more than %d durations", DURATIONS_MAX);
	durations->count = 0;
	for (size_t i = 0; good && i < count; i++)
	{
		good = option_set_duration(option, &durations->us[i], items[i], error);
		durations->count++;
	}
	strings_free(items);
	return good;
}

static bool
option_set_int(const Option *option, int64_t *value, const char *text,
			   Buf *error)
{
	char *end;

	errno = 0;
	*value = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0)
	{
		buf_printf(error, "\"%s\" is not a whole number", text);
		return false;
	}
	return option_in_range(option, *value, false, error);
}

/* The index of the choice; -1 and *error if the text is none of them. */
static int
option_find_choice(const char *const *choices, const char *text, Buf *error)
{
	for (int i = 0; choices[i] != NULL; i++)
		if (strcmp(choices[i], text) == 0)
			return i;
	buf_printf(error, "\"%s\" is not one of", text);
	for (int i = 0; choices[i] != NULL; i++)
		buf_printf(error, "%s %s", i > 0 ? "," : "", choices[i]);
	return -1;
}

static bool
option_set_bool(bool *value, const char *text, Buf *error)
{
	int choice = option_find_choice(option_no_yes, text, error);

	*value = choice > 0;
	return choice >= 0;
}

static bool
option_set_choices(const Option *option, int64_t *set, const char *text,
				   Buf *error)
{
	char **items = strings_split(text);
	bool   good = items[0] != NULL;

	if (!good)
		buf_add_str(error, "must name at least one");
	*set = 0;
	for (size_t i = 0; good && items[i] != NULL; i++)
	{
		int choice = option_find_choice(option->choices, items[i], error);

		good = choice >= 0;
		Assert(choice < 63); /* each has a bit */
		if (good)
			*set |= INT64_C(1) << choice;
	}
	strings_free(items);
	return good;
}

/* The value of a moment's choice: the last is -1, the one before -2. */
static int64_t
option_choice_moment(const Option *option, int index)
{
	int count = 0;

	while (option->choices[count] != NULL)
		count++;
	Assert(index >= 0 && index < count);
	return index - count;
}

static bool
option_set_moment(const Option *option, int64_t *moment, const char *text,
				  Buf *error)
{
	int64_t us;

	for (int i = 0; option->choices[i] != NULL; i++)
		if (strcmp(option->choices[i], text) == 0)
		{
			*moment = option_choice_moment(option, i);
			return true;
		}
	switch (rfc3339_parse(text, &us))
	{
		case RFC3339_VALID:
			*moment = us / MS_US;
			return true;
		case RFC3339_NO_SUCH_DAY:
			buf_printf(error, "\"%s\" names a day that its month has not",
					   text);
			return false;
		case RFC3339_BEFORE_1970:
			buf_add_str(error, "is before 1970");
			return false;
		case RFC3339_MALFORMED:
			break;
	}
	buf_printf(error, "\"%s\" is not ", text);
	for (int i = 0; option->choices[i] != NULL; i++)
		buf_printf(error, "%s%s", i > 0 ? ", " : "", option->choices[i]);
	buf_add_str(error, " or a time such as " RFC3339_EXAMPLE);
	return false;
}

/*
 * A limit of bytes means that the text becomes part of a name which another
 * program would cut: two daemons that differ behind the cut would look alike.
 */
static bool
option_check_text(const Option *option, const char *text, Buf *error)
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
option_set_names(char ***field, const char *text, Buf *error)
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

static void *
option_field(const Option *option, const void *values)
{
	return (char *) (uintptr_t) values + option->offset;
}

void
option_clear(const Option *option, void *values)
{
	void *field = option_field(option, values);

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

bool
option_set(const Option *option, void *values, const char *text, Buf *error)
{
	void *field = option_field(option, values);

	option_clear(option, values);
	switch (option->type)
	{
		case OPTION_STRING:
			*(char **) field = xstrdup(text);
			return option_check_text(option, text, error);
		case OPTION_NAMES:
			return option_set_names(field, text, error);
		case OPTION_INT:
			return option_set_int(option, field, text, error);
		case OPTION_BOOL:
			return option_set_bool(field, text, error);
		case OPTION_CHOICE:
			*(int64_t *) field = option_find_choice(option->choices, text,
													error);
			return *(int64_t *) field >= 0;
		case OPTION_SET:
			return option_set_choices(option, field, text, error);
		case OPTION_DURATION:
			return option_set_duration(option, field, text, error);
		case OPTION_DURATIONS:
			return option_set_durations(option, field, text, error);
		case OPTION_MOMENT:
			return option_set_moment(option, field, text, error);
	}
	Assert(!"a known type");
}

void
option_add_range(const Option *option, Buf *text)
{
	switch (option->type)
	{
		case OPTION_INT:
			buf_printf(text, "%" PRId64 " to %" PRId64, option->min,
					   option->max);
			break;
		case OPTION_DURATION:
		case OPTION_DURATIONS:
			option_show_duration(text, option->min);
			buf_add_str(text, " to ");
			option_show_duration(text, option->max);
			break;
		case OPTION_STRING:
			if (option->max > 0)
				buf_printf(text, "%" PRId64 " to %" PRId64 " bytes",
						   option->min, option->max);
			break;
		case OPTION_NAMES:
		case OPTION_BOOL:
		case OPTION_CHOICE:
		case OPTION_SET:
		case OPTION_MOMENT:
			break;
	}
}

/* ---- value to text ----------------------------------------------------- */

static void
option_add_item(Buf *text, const char *item)
{
	if (text->len > 0)
		buf_add_str(text, ", ");
	buf_add_str(text, item);
}

static void
option_show_moment(const Option *option, Buf *text, int64_t moment)
{
	for (int i = 0; option->choices[i] != NULL; i++)
		if (moment == option_choice_moment(option, i))
		{
			buf_add_str(text, option->choices[i]);
			return;
		}
	Assert(moment >= 0);
	rfc3339_add_second(text, moment / 1000);
	if (moment % 1000 != 0)
		buf_printf(text, ".%03d", (int) (moment % 1000));
	buf_add_str(text, "Z");
}

static void
option_show_durations(Buf *text, const Durations *durations)
{
	Assert(durations->count <= DURATIONS_MAX);
	for (unsigned i = 0; i < durations->count; i++)
	{
		if (i > 0)
			buf_add_str(text, ", ");
		option_show_duration(text, durations->us[i]);
	}
}

void
option_get(const Option *option, const void *values, Buf *text)
{
	const void	  *field = option_field(option, values);
	const int64_t *number = field;

	buf_clear(text);
	switch (option->type)
	{
		case OPTION_STRING:
			buf_add_str(text, *(char *const *) field);
			break;
		case OPTION_NAMES:
			for (char *const *name = *(char **const *) field; *name; name++)
				option_add_item(text, *name);
			break;
		case OPTION_INT:
			buf_printf(text, "%" PRId64, *number);
			break;
		case OPTION_BOOL:
			buf_add_str(text, option_no_yes[*(const bool *) field]);
			break;
		case OPTION_CHOICE:
			buf_add_str(text, option->choices[*number]);
			break;
		case OPTION_SET:
			for (int i = 0; option->choices[i] != NULL; i++)
				if (*number & (INT64_C(1) << i))
					option_add_item(text, option->choices[i]);
			break;
		case OPTION_DURATION:
			option_show_duration(text, *number);
			break;
		case OPTION_DURATIONS:
			option_show_durations(text, field);
			break;
		case OPTION_MOMENT:
			option_show_moment(option, text, *number);
			break;
	}
	buf_str(text);
}
