/*-------------------------------------------------------------------------
 *
 * shard_checks.h
 *	  What a call of a front requires of the session and of the database.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef SHARD_CHECKS_H
#define SHARD_CHECKS_H

#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/guc.h"

/* Whether types are looked up in pg_catalog first, and in no other schema. */
static inline bool
shard_path_is_own(void)
{
	List *path = fetch_search_path(true);
	bool  is_own = list_length(path) <= 2 &&
				  linitial_oid(path) == PG_CATALOG_NAMESPACE &&
				  (list_length(path) < 2 || isTempNamespace(lsecond_oid(path)));

	list_free(path);
	return is_own;
}

/*
 * Raises an error if the session lacks the settings with which a front
 * connects.  Statements of PL/Proxy name types without their schema, and an
 * answer has times as text.  A pooler does not pass these settings on, so
 * pgstock_shard.set_shard() sets them for the role, too.
 */
static inline void
shard_check_settings(void)
{
	const char *name = NULL;

	if (!shard_path_is_own())
		name = "search_path";
	else if (DateStyle != USE_ISO_DATES)
		name = "datestyle";
	else if (IntervalStyle != INTSTYLE_POSTGRES)
		name = "intervalstyle";
	if (name != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the session does not have the settings that a call "
						"needs"),
				 errdetail("\"%s\" is \"%s\"; pgstock_shard.set_shard() sets "
						   "it for the role pgstock_front.",
						   name, GetConfigOption(name, false, false)),
				 errhint("Run pgstock-shards create again, then restart the "
						 "pooler.")));
}

/* The number of this shard, a setting of the database; NULL: it has none. */
static inline const char *
shard_own_number(void)
{
	const char *shard = GetConfigOption("pgstock_shard.shard", true, false);

	return shard == NULL || shard[0] == '\0' ? NULL : shard;
}

/*
 * Raises an error unless this is one of the shards that a call is for.  Without
 * this check, a front whose connections were exchanged would send the calls for
 * an order to a database that does not have it.
 */
static inline void
shard_check_number(const NullableDatum *shards)
{
	const char	  *own = shard_own_number();
	ArrayType	  *numbers = NULL;
	int			   count = 0;
	StringInfoData expected;

	initStringInfo(&expected);
	if (!shards->isnull)
	{
		numbers = DatumGetArrayTypeP(shards->value);
		if (!array_contains_nulls(numbers))
			count = ArrayGetNItems(ARR_NDIM(numbers), ARR_DIMS(numbers));
	}
	for (int i = 0; i < count; i++)
	{
		char *number = psprintf("%d", ((int32 *) ARR_DATA_PTR(numbers))[i]);

		if (own != NULL && strcmp(own, number) == 0)
			return;
		appendStringInfo(&expected, "%s%s", i > 0 ? " or " : "", number);
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("database \"%s\" is not shard %s",
					get_database_name(MyDatabaseId), expected.data),
			 own != NULL ? errdetail("It is shard %s.", own)
						 : errdetail("It has no number."),
			 errhint("Compare pgstock_front.shard_status() with the "
					 "databases: pgstock_shard.set_shard() gives a database "
					 "its number.")));
}

#endif /* SHARD_CHECKS_H */
