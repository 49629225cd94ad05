/*
 * rfc3339.c - moments as text: 2026-01-31T12:00:00.25Z
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/rfc3339.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

/*
 * The first second of the year 10000, which has no form of four digits: it is
 * where a zone leads that is behind UTC.
 */
#define END_US (INT64_C(253402300800) * SEC_US)

/* timegm() takes the 31st of February for a day in March. */
static bool
rfc3339_day_exists(const struct tm *day)
{
	struct tm normal = *day;

	(void) timegm(&normal);
	return normal.tm_mday == day->tm_mday && normal.tm_mon == day->tm_mon;
}

/* Microseconds; digits behind the sixth are cut off.  Returns what follows. */
static const char *
rfc3339_parse_fraction(const char *text, int64_t *us)
{
	int64_t unit = SEC_US / 10;

	*us = 0;
	if (text[0] != '.' || !isdigit((unsigned char) text[1]))
		return text;
	for (text++; isdigit((unsigned char) text[0]); text++)
	{
		*us += (text[0] - '0') * unit;
		unit /= 10;
	}
	Assert(*us < SEC_US);
	return text;
}

Rfc3339
rfc3339_parse(const char *text, int64_t *us)
{
	struct tm	utc = {0};
	struct tm	zone = {0};
	int64_t		fraction;
	int64_t		moment;
	const char *end = strptime(text, "%Y-%m-%d", &utc);

	if (end == NULL || (end[0] != 'T' && end[0] != ' '))
		return RFC3339_MALFORMED;
	end = strptime(end + 1, "%H:%M:%S", &utc);
	if (end == NULL)
		return RFC3339_MALFORMED;
	end = strptime(rfc3339_parse_fraction(end, &fraction), "%z", &zone);
	if (end == NULL || end[0] != '\0')
		return RFC3339_MALFORMED;
	if (!rfc3339_day_exists(&utc))
		return RFC3339_NO_SUCH_DAY;
	moment = ((int64_t) timegm(&utc) - zone.tm_gmtoff) * SEC_US + fraction;
	if (moment < 0)
		return RFC3339_BEFORE_1970;
	if (moment >= END_US)
		return RFC3339_MALFORMED;
	*us = moment;
	return RFC3339_VALID;
}

void
rfc3339_add_second(Buf *text, int64_t second)
{
	time_t	  time = (time_t) second;
	struct tm utc;
	char	  shown[32];

	gmtime_r(&time, &utc);
	strftime(shown, sizeof(shown), "%Y-%m-%dT%H:%M:%S", &utc);
	buf_add_str(text, shown);
}
