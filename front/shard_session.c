/*-------------------------------------------------------------------------
 *
 * shard_session.c
 *	  What a call requires of the session and of the database, and the role
 *	  as which it acts.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "shard.h"

/* Whether types are looked up in pg_catalog first, and in no other schema. */
static bool
session_path_is_own(void)
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
void
shard_check_settings(void)
{
	const char *name = NULL;

	if (!session_path_is_own())
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
const char *
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
void
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
		Assert(ARR_ELEMTYPE(numbers) == INT4OID);
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

void
shard_set(const char *name, const char *value)
{
	set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
					  true, 0, false);
}

/* Switches to the role that has called the front. */
static void
shard_set_role(const char *role)
{
	Oid oid = get_role_oid(role, true);

	if (!OidIsValid(oid) || !compat_may_set_role(GetSessionUserId(), oid))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 OidIsValid(oid)
					 ? errmsg("permission denied to set role \"%s\"", role)
					 : errmsg("role \"%s\" does not exist", role),
				 errhint("pgstock-shards role %s LEVEL makes the role in each "
						 "shard, and pgstock_front a member of it.",
						 role)));
	shard_set("role", role);
	Assert(GetUserId() == oid);
}

/*
 * Sets role, trace and actor of a call until the end of the transaction; each
 * may be NULL, and is then unchanged.
 */
void
shard_act_as(const NullableDatum *role, const NullableDatum *trace,
			 const NullableDatum *actor)
{
	if (!role->isnull)
		shard_set_role(TextDatumGetCString(role->value));
	if (!trace->isnull)
		shard_set("pgstock.trace_id", TextDatumGetCString(trace->value));
	if (!actor->isnull)
		shard_set("pgstock.actor", TextDatumGetCString(actor->value));
}
