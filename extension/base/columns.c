/*-------------------------------------------------------------------------
 *
 * base/columns.c
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

#include "utils/rel.h"

#include "base/base.h"

enum
{
	OWN_RELATION = 1,
	OWN_COLUMNS
};

/* How many columns, dropped ones too, each table had when it was looked at. */
static int columns_checked[TABLE_COUNT];

static void
columns_refuse(const char *table, const char *column)
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

/* How many columns the table was created with; all, where nothing says so. */
static int
columns_created_with(Call *call, const char *name)
{
	Table		   *own = table_use(call, TABLE_OWN_COLUMNS);
	ItemPointerData tid;

	if (!table_find_text(call, own, "own_columns_pkey", name, &tid))
		return MaxAttrNumber;
	return row_get_int32(own->slot, OWN_COLUMNS);
}

/* Refuses a table that has got more columns. */
void
columns_check(Call *call, TableId id, const char *name, Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);
	int		  own;

	if (desc->natts == columns_checked[id] || id == TABLE_OWN_COLUMNS)
		return;
	own = columns_created_with(call, name);
	Assert(own > 0 && id < TABLE_COUNT);
	for (int i = own; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			columns_refuse(name, NameStr(TupleDescAttr(desc, i)->attname));
	}
	columns_checked[id] = desc->natts;
}
