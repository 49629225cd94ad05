/*-------------------------------------------------------------------------
 *
 * front_setting.c
 *	  The settings of orders over shards: their defaults and bounds.
 *
 * They are settings of the coordinator's database.  A call reads one or two of
 * them, and they are seldom set: then the default costs no call of SQL.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "front.h"

PG_FUNCTION_INFO_V1(pgstock_front_setting);

#define PREFIX "pgstock_front."

typedef struct Setting
{
	const char *name;
	const char *otherwise; /* its value where it is not set */
	const char *lowest;
} Setting;

enum
{
	SETTING_HOLD,
	SETTING_PATIENCE,
	SETTING_RETENTION,
	SETTINGS,
};

/* dev/check-options compares docs/sharding.md with this table. */
static const Setting front_settings[SETTINGS] = {
	[SETTING_HOLD] = {"pgstock_front.hold", "20s", "1ms"},
	[SETTING_PATIENCE] = {"pgstock_front.patience", "10s", "1ms"},
	[SETTING_RETENTION] = {"pgstock_front.saga_retention", "30 days", "1 day"},
};

static int
front_setting_number(const text *name)
{
	size_t length = VARSIZE_ANY_EXHDR(name);

	for (int i = 0; i < SETTINGS; i++)
	{
		const char *own = front_settings[i].name + strlen(PREFIX);

		if (strlen(own) == length &&
			memcmp(own, VARDATA_ANY(name), length) == 0)
			return i;
	}
	elog(ERROR, "unknown setting \"%s\"", text_to_cstring(name));
	return 0; /* not reached */
}

static Interval *
front_interval(const char *value)
{
	return DatumGetIntervalP(
		DirectFunctionCall3(interval_in, CStringGetDatum(value),
							ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static bool
front_is_less(const Interval *a, const Interval *b)
{
	return DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(a),
											IntervalPGetDatum(b)));
}

/* Returns a default; a session parses it once. */
static Interval *
front_default(int number)
{
	static Interval defaults[SETTINGS];
	static bool		is_parsed[SETTINGS];

	Assert(number >= 0 && number < SETTINGS);
	if (!is_parsed[number])
	{
		defaults[number] = *front_interval(front_settings[number].otherwise);
		is_parsed[number] = true;
		Assert(!front_is_less(&defaults[number],
							  front_interval(front_settings[number].lowest)));
	}
	return &defaults[number];
}

pg_noreturn static void
front_bad_setting(int number, const char *fault, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("setting %s %s", front_settings[number].name, fault),
					errdetail_internal("%s", detail),
					errhint("Use ALTER DATABASE ... SET in the coordinator's "
							"database; open sessions keep the old value.")));
}

/*
 * A session that finishes the step of another one needs time to do so before
 * the hold ends.
 */
static void
front_check_pair(int number)
{
	char	 *texts[SETTINGS];
	Interval *values[SETTINGS];
	Datum	  twice;

	Assert(number == SETTING_HOLD || number == SETTING_PATIENCE);
	for (int i = SETTING_HOLD; i <= SETTING_PATIENCE; i++)
	{
		texts[i] = front_setting(front_settings[i].name);
		if (texts[i] == NULL)
			texts[i] = pstrdup(front_settings[i].otherwise);
		values[i] = front_interval(texts[i]);
	}
	twice = DirectFunctionCall2(interval_pl,
								IntervalPGetDatum(values[SETTING_PATIENCE]),
								IntervalPGetDatum(values[SETTING_PATIENCE]));
	if (front_is_less(values[SETTING_HOLD], DatumGetIntervalP(twice)))
		front_bad_setting(number,
						  "is unsuitable: hold must be at least twice patience",
						  psprintf("hold is %s, patience is %s.",
								   texts[SETTING_HOLD],
								   texts[SETTING_PATIENCE]));
}

/*
 * Returns a setting of this database, or its default; raises an error if it is
 * outside of its bounds.  A hold of zero would never expire.
 */
Datum
pgstock_front_setting(PG_FUNCTION_ARGS)
{
	int			number = front_setting_number(PG_GETARG_TEXT_PP(0));
	const char *lowest = front_settings[number].lowest;
	char	   *given = front_setting(front_settings[number].name);
	Interval   *value;

	if (given == NULL)
		PG_RETURN_INTERVAL_P(front_default(number));
	value = front_interval(given);
	if (front_is_less(value, front_interval(lowest)))
		front_bad_setting(number, psprintf("must be at least %s", lowest),
						  psprintf("It is %s.", given));
	if (number != SETTING_RETENTION)
		front_check_pair(number);
	PG_RETURN_INTERVAL_P(value);
}
