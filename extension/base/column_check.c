/*-------------------------------------------------------------------------
 *
 * base/column_check.c
 *	  Whether our tables have the columns that we write.
 *
 * Rows are written without SQL (table.c), so a column that the owner has added
 * would stay NULL, or become so with the next change of the row, whatever its
 * default and its constraints are.  So a table with such a column is refused
 * before it is used, rather than filled with something else than what its owner
 * reads in its definition.
 *
 * How many columns each table has is noted when they are created, and compared
 * once a session and table, and again when the number has changed.
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
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/base.h"

enum
{
	OWN_RELATION = 1,
	OWN_COLUMNS
};

/* How many columns, dropped ones too, each table had when it was looked at. */
static int column_check_counts[TABLE_COUNT];

static void
column_check_refuse(const char *table, const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"pgstock_internal.%s\" has a column \"%s\" that is "
					"not pgstock's",
					table, column),
			 errdetail("pgstock writes its tables without SQL, and would leave "
					   "the column NULL whatever its default is."),
			 errhint("Drop the column, and keep what it was for in a table of "
					 "your own.")));
}

/*
 * How many columns the table was created with; all, where that is not
 * recorded.  A scan of its own, not by table.c, which calls this.
 */
static int
column_check_created_with(const char *name)
{
	Relation own = table_open(relation_get_oid("own_columns"), AccessShareLock);
	int		 n = MaxAttrNumber;
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
		n = DatumGetInt32(
			heap_getattr(tuple, OWN_COLUMNS, RelationGetDescr(own), &isnull));
		Assert(!isnull);
	}
	systable_endscan(scan);
	table_close(own, NoLock);
	return n;
}

/* Refuses a table that has got more columns. */
void
column_check_table(TableId id, const char *name, Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);
	int		  own;

	Assert(id < TABLE_COUNT);
	if (desc->natts == column_check_counts[id])
		return;
	own = column_check_created_with(name);
	Assert(own > 0);
	for (int i = own; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			column_check_refuse(name, NameStr(TupleDescAttr(desc, i)->attname));
	}
	column_check_counts[id] = desc->natts;
}
