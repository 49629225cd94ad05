/*
 * figures.c - numbers as people read them: counts, rates, bytes, durations
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/figures.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void
figures_add_count(Buf *text, int64_t count)
{
	char   digits[24];
	int	   len = snprintf(digits, sizeof(digits), "%" PRId64, count);
	size_t at = count < 0 ? 1 : 0;

	Assert(len > 0 && (size_t) len < sizeof(digits));
	for (size_t i = 0; i < (size_t) len; i++)
	{
		if (i > at && ((size_t) len - i) % 3 == 0)
			buf_add_str(text, ",");
		buf_add(text, &digits[i], 1);
	}
}

void
figures_add_rate(Buf *text, double per_second)
{
	Assert(per_second >= 0);
	if (per_second > 0 && per_second < 9.95)
		buf_printf(text, "%.1f", per_second);
	else
		figures_add_count(text, llround(Min(per_second, 1e15)));
	buf_add_str(text, "/s");
}

void
figures_add_bytes(Buf *text, int64_t bytes)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
	double					 number = (double) bytes;
	size_t					 unit = 0;

	Assert(bytes >= 0);
	/* 1023.6 kB would be shown as 1024 kB */
	while (number >= 1023.5 && unit + 1 < Lengthof(units))
	{
		number /= 1024;
		unit++;
	}
	buf_printf(text, unit > 0 && number < 9.95 ? "%.1f %s" : "%.0f %s", number,
			   units[unit]);
}

void
figures_add_duration(Buf *text, int64_t us)
{
	int64_t s = (us + SEC_US / 2) / SEC_US;

	Assert(us >= 0);
	if (us < SEC_US)
		buf_printf(text, "%" PRId64 " ms", us / MS_US);
	else if (us < 10 * SEC_US)
		buf_printf(text, "%.1f s", (double) us / SEC_US);
	else if (s < 60)
		buf_printf(text, "%" PRId64 " s", s);
	else if (s < 3600)
		buf_printf(text, "%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
	else if (s < 86400)
		buf_printf(text, "%" PRId64 " h %" PRId64 " min", s / 3600,
				   s % 3600 / 60);
	else
		buf_printf(text, "%" PRId64 " d %" PRId64 " h", s / 86400,
				   s % 86400 / 3600);
}

void
figures_add_clock(Buf *text, int64_t us)
{
	int64_t s = (us + SEC_US / 2) / SEC_US;

	Assert(us >= 0);
	if (s >= 3600)
		buf_printf(text, "%" PRId64 ":%02" PRId64 ":%02" PRId64, s / 3600,
				   s % 3600 / 60, s % 60);
	else
		buf_printf(text, "%" PRId64 ":%02" PRId64, s / 60, s % 60);
}
