/*-------------------------------------------------------------------------
 *
 * base/relation.c
 *	  The relations in pgstock_internal, found by name.
 *
 * Their oids are cached by name until a relation of a cached oid changes (DROP
 * and CREATE EXTENSION in one session, a rename), as the server's own caches
 * keep them.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_sequence.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/base.h"

/* A power of two, and more than twice as many as there are relations. */
#define CACHE_SIZE 128

StaticAssertDecl((CACHE_SIZE & (CACHE_SIZE - 1)) == 0,
				 "a hash that overflows continues with the next entry");
StaticAssertDecl(CACHE_SIZE > 2 * TABLE_COUNT, "it is never half full");

typedef struct CachedRelation
{
	NameData name; /* empty: the entry is free */
	Oid		 oid;
} CachedRelation;

/* An open hash table: a name is at its hash, or in the entries that follow. */
static CachedRelation relation_cache[CACHE_SIZE];
static int			  relation_cached = 0;

/* Relation oid has changed; InvalidOid: any may have. */
static void
relation_on_change(Datum arg, Oid oid)
{
	bool stale = oid == InvalidOid;

	for (int i = 0; i < CACHE_SIZE && !stale && relation_cached > 0; i++)
		stale = relation_cache[i].oid == oid;
	if (stale && relation_cached > 0)
	{
		memset(relation_cache, 0, sizeof(relation_cache));
		relation_cached = 0;
		version_forget();
	}
}

void
relation_init(void)
{
	CacheRegisterRelcacheCallback(relation_on_change, (Datum) 0);
}

/* The entry of the name, or the free one where it would be. */
static CachedRelation *
relation_cache_entry(const char *name)
{
	uint32 hash = hash_bytes((const unsigned char *) name, strlen(name));

	Assert(strlen(name) > 0 && strlen(name) < NAMEDATALEN);
	Assert(relation_cached <= CACHE_SIZE / 2);
	for (;; hash++)
	{
		CachedRelation *entry = &relation_cache[hash % CACHE_SIZE];

		if (entry->oid == InvalidOid || strcmp(NameStr(entry->name), name) == 0)
			return entry;
	}
}

/* Its oid, whatever was found before; InvalidOid: there is none. */
Oid
relation_look_up(const char *name)
{
	return get_relname_relid(name,
							 get_namespace_oid("pgstock_internal", false));
}

/* The relation's oid. */
Oid
relation_get_oid(const char *name)
{
	CachedRelation *entry = relation_cache_entry(name);
	Oid				oid = entry->oid;

	if (OidIsValid(oid))
		return oid;
	oid = relation_look_up(name);
	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"pgstock_internal.%s\" does not exist",
						name),
				 errdetail("The extension is older than its library, or the "
						   "relation was renamed or dropped."),
				 errhint("Run ALTER EXTENSION pgstock UPDATE. If the relation "
						 "is still missing, rename it back, or restore it from "
						 "a backup. DROP EXTENSION would delete all stock.")));
	/* again: looking it up may have emptied the cache */
	entry = relation_cache_entry(name);
	Assert(!OidIsValid(entry->oid));
	if (relation_cached < CACHE_SIZE / 2)
	{
		namestrcpy(&entry->name, name);
		entry->oid = oid;
		relation_cached++;
	}
	return oid;
}

/*
 * The sequence's oid, for nextval_internal.  Numbers that a session keeps for
 * later, or that do not rise, are refused: the outbox's window takes a number
 * for one that was drawn just now, and would leave out events.
 */
Oid
relation_sequence(const char *name)
{
	Oid				 oid = relation_get_oid(name);
	HeapTuple		 tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(oid));
	Form_pg_sequence form;
	bool			 as_made;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for sequence %u", oid);
	form = (Form_pg_sequence) GETSTRUCT(tuple);
	as_made = form->seqcache == 1 && form->seqincrement == 1 && !form->seqcycle;
	ReleaseSysCache(tuple);
	if (!as_made)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequence \"pgstock_internal.%s\" was altered", name),
				 errdetail("Its numbers must be drawn one by one, and rise."),
				 errhint("Run ALTER SEQUENCE pgstock_internal.%s CACHE 1 "
						 "INCREMENT 1 NO CYCLE.",
						 name)));
	return oid;
}
