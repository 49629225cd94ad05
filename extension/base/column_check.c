/*-------------------------------------------------------------------------
 *
 * base/column_check.c
 *	  Whether our tables have the columns that we write.
 *
 * Rows are written without SQL (table.c), so a column that the owner has added
 * would stay NULL, or become so with the next change of the row, whatever its
 * default and its constraints are.  And a column of another type would be read
 * and written as if it had ours: a number as the address of a text.  So a table
 * with such a column is refused before it is used.
 *
 * The number of a table's columns, and their types and collations, are noted
 * when it is created.  They are compared once a session and table, and again
 * when a hash of those that the table has now has changed.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/base.h"

enum
{
	OWN_RELATION = 1,
	OWN_COLUMNS,
	OWN_TYPES
};

/* What the columns of each table were when they were compared; 0: never. */
static uint32 column_check_seen[TABLE_COUNT];

/* A column as it was made. */
typedef struct OwnColumn
{
	Oid type; /* InvalidOid: it was dropped before */
	Oid collation;
} OwnColumn;

static void
column_check_refuse_added(const char *table, const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"pgstock_internal.%s\" has a column \"%s\" that is "
					"not pgstock's",
					table, column),
			 errdetail("pgstock writes its tables without SQL, and would leave "
					   "the column NULL whatever its default is."),
			 errhint("Drop the column, and store its data in a table of your "
					 "own.")));
}

static void
column_check_refuse_dropped(const char *table, int number)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("column %d of table \"pgstock_internal.%s\" was dropped",
					number, table),
			 errdetail("pgstock reads and writes its tables without SQL, by "
					   "the columns that CREATE EXTENSION has made."),
			 errhint("Restore the database from a backup.")));
}

static const char *
column_check_type_text(Oid type, Oid collation)
{
	return OidIsValid(collation)
			   ? psprintf("%s COLLATE \"%s\"", format_type_be(type),
						  get_collation_name(collation))
			   : format_type_be(type);
}

static void
column_check_refuse_changed(const char *table, Form_pg_attribute attribute,
							OwnColumn own)
{
	const char *was = column_check_type_text(own.type, own.collation);

	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("column \"%s\" of table \"pgstock_internal.%s\" has another "
				"type than pgstock gave it",
				NameStr(attribute->attname), table),
		 errdetail("It is %s now, and was %s. pgstock reads and writes its "
				   "tables without SQL.",
				   column_check_type_text(attribute->atttypid,
										  attribute->attcollation),
				   was),
		 errhint("Change it back: ALTER TABLE pgstock_internal.%s ALTER "
				 "COLUMN %s TYPE %s;",
				 table, quote_identifier(NameStr(attribute->attname)), was)));
}

/*
 * How many columns the table was created with, and their types as text; -1
 * where that is not recorded.  A scan of its own, not by table.c, which calls
 * this.
 */
static int
column_check_created_with(const char *name, char **types)
{
	Relation own = table_open(relation_get_oid("own_columns"), AccessShareLock);
	TupleDesc	desc = RelationGetDescr(own);
	int			n = -1;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		isnull;

	ScanKeyEntryInitialize(&key, 0, OWN_RELATION, BTEqualStrategyNumber,
						   InvalidOid, C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(name));
	scan = systable_beginscan(own, relation_get_oid("own_columns_pkey"), true,
							  GetActiveSnapshot(), 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		n = DatumGetInt32(heap_getattr(tuple, OWN_COLUMNS, desc, &isnull));
		Assert(!isnull && n > 0);
		*types = TextDatumGetCString(
			heap_getattr(tuple, OWN_TYPES, desc, &isnull));
		Assert(!isnull);
	}
	systable_endscan(scan);
	table_close(own, NoLock);
	return n;
}

/* Reads the next "type:collation" of the text. */
static OwnColumn
column_check_next(char **types)
{
	OwnColumn own = {0};

	own.type = (Oid) strtoul(*types, types, 10);
	Assert(**types == ':');
	own.collation = (Oid) strtoul(*types + 1, types, 10);
	return own;
}

static uint32
column_check_hash(TupleDesc desc)
{
	uint32 hash = (uint32) desc->natts;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		hash = hash * 31 + attribute->atttypid;
		hash = hash * 31 + attribute->attcollation;
	}
	return hash != 0 ? hash : 1;
}

/* Refuses a table whose columns are not those that it was created with. */
void
column_check_table(TableId id, const char *name, Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);
	uint32	  hash = column_check_hash(desc);
	char	 *types = NULL;
	int		  own;

	Assert(id < TABLE_COUNT);
	if (hash == column_check_seen[id])
		return;
	own = column_check_created_with(name, &types);
	for (int i = 0; own >= 0 && i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		OwnColumn		  made = {0};

		if (i < own)
			made = column_check_next(&types);
		if (attribute->attisdropped
				? !OidIsValid(made.type)
				: made.type == attribute->atttypid &&
					  made.collation == attribute->attcollation)
			continue;
		if (i >= own)
			column_check_refuse_added(name, NameStr(attribute->attname));
		if (attribute->attisdropped)
			column_check_refuse_dropped(name, i + 1);
		column_check_refuse_changed(name, attribute, made);
	}
	column_check_seen[id] = hash;
}
