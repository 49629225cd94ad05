/*-------------------------------------------------------------------------
 *
 * base/rfc3339.c
 *	  Times as RFC 3339 has them: written, and read without raising an error.
 *
 * The server's own parser takes much more than RFC 3339 (names of months,
 * relative days, the session's DateStyle) and raises an error for the rest; a
 * time in a message must mean the same in each session.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "base/base.h"

/* ---- Writing ---- */

/* RFC 3339 in UTC with microseconds. */
char *
rfc3339_from_time(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t		 fsec;

	Assert(!TIMESTAMP_NOT_FINITE(at));
	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("timestamp out of range")));
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year,
					tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
					(int) fsec);
}

/* ---- Reading ---- */

/*
 * Reads one of the characters of "before", if it has any, then a number of
 * exactly so many digits and at most max.
 */
static bool
rfc3339_take_number(const char **at, const char *before, int digits, int max,
					int *n)
{
	Assert(digits > 0 && digits < 10); /* int holds them */
	if (before[0] != '\0' && (**at == '\0' || strchr(before, *(*at)++) == NULL))
		return false;
	for (*n = 0; digits > 0; digits--, (*at)++)
	{
		if (**at < '0' || **at > '9')
			return false;
		*n = *n * 10 + (**at - '0');
	}
	return *n <= max;
}

/* Reads a fraction of a second, cut at the microsecond; none is 0. */
static bool
rfc3339_take_fraction(const char **at, fsec_t *fsec)
{
	int unit = USECS_PER_SEC / 10;

	*fsec = 0;
	if (**at != '.')
		return true;
	if (strspn(++*at, "0123456789") == 0)
		return false;
	for (; **at >= '0' && **at <= '9'; (*at)++, unit /= 10)
		*fsec += (**at - '0') * unit;
	Assert(*fsec >= 0 && *fsec < USECS_PER_SEC);
	return true;
}

/*
 * Reads the zone, as seconds to the west, and the end.  Many producers leave
 * it out, and nearly all of those mean UTC.
 */
static bool
rfc3339_take_zone(const char *at, int *tz, bool *missing)
{
	bool east = *at == '+';
	int	 hours;
	int	 minutes;

	*tz = 0;
	*missing = *at == '\0';
	if (*missing || pg_strcasecmp(at, "Z") == 0)
		return true;
	if (!rfc3339_take_number(&at, "+-", 2, 23, &hours) ||
		!rfc3339_take_number(&at, ":", 2, 59, &minutes))
		return false;
	*tz = (hours * SECS_PER_HOUR + minutes * SECS_PER_MINUTE) * (east ? -1 : 1);
	Assert(*tz > -SECS_PER_DAY && *tz < SECS_PER_DAY);
	return *at == '\0';
}

/*
 * Reads a text that is RFC 3339 to the letter, or lacks only its zone, which
 * *no_zone reports.  False for any other text; *at may be unchanged then.
 */
bool
rfc3339_parse(const char *string, TimestampTz *at, bool *no_zone)
{
	struct pg_tm tm = {0};
	fsec_t		 fsec;
	int			 tz;

	return rfc3339_take_number(&string, "", 4, 9999, &tm.tm_year) &&
		   rfc3339_take_number(&string, "-", 2, MONTHS_PER_YEAR, &tm.tm_mon) &&
		   rfc3339_take_number(&string, "-", 2, 31, &tm.tm_mday) &&
		   rfc3339_take_number(&string, "Tt ", 2, 23, &tm.tm_hour) &&
		   rfc3339_take_number(&string, ":", 2, 59, &tm.tm_min) &&
		   rfc3339_take_number(&string, ":", 2, 60, &tm.tm_sec) &&
		   rfc3339_take_fraction(&string, &fsec) &&
		   rfc3339_take_zone(string, &tz, no_zone) &&
		   ValidateDate(DTK_DATE_M, false, false, false, &tm) == 0 &&
		   tm2timestamp(&tm, fsec, &tz, at) == 0;
}
