/*-------------------------------------------------------------------------
 *
 * base/row.c
 *	  The columns of the row in a table's slot, numbered from 1 as in SQL.
 *
 * All files number columns so: an enum that begins with 1, in the order of
 * its CREATE TABLE in sql/.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/base.h"

/* The tables in sql/ and the enums of the callers must agree. */
#define ROW_TYPE(slot, column) \
	(TupleDescAttr((slot)->tts_tupleDescriptor, (column) -1)->atttypid)

bool
row_is_null(TupleTableSlot *slot, AttrNumber column)
{
	Assert(column >= 1 && column <= slot->tts_tupleDescriptor->natts);
	return slot->tts_isnull[column - 1];
}

/* A column that is not NULL. */
Datum
row_get(TupleTableSlot *slot, AttrNumber column)
{
	Assert(!row_is_null(slot, column));
	return slot->tts_values[column - 1];
}

void
row_put(TupleTableSlot *slot, AttrNumber column, Datum value)
{
	Assert(column >= 1 && column <= slot->tts_tupleDescriptor->natts);
	slot->tts_values[column - 1] = value;
	slot->tts_isnull[column - 1] = false;
}

void
row_put_text(TupleTableSlot *slot, AttrNumber column, const char *value)
{
	Assert(ROW_TYPE(slot, column) == TEXTOID);
	if (value != NULL)
		row_put(slot, column, CStringGetTextDatum(value));
}

char *
row_get_text(TupleTableSlot *slot, AttrNumber column)
{
	Assert(ROW_TYPE(slot, column) == TEXTOID);
	if (row_is_null(slot, column))
		return NULL;
	return TextDatumGetCString(row_get(slot, column));
}

int64
row_get_int64(TupleTableSlot *slot, AttrNumber column)
{
	Assert(ROW_TYPE(slot, column) == INT8OID);
	return DatumGetInt64(row_get(slot, column));
}

TimestampTz
row_get_time(TupleTableSlot *slot, AttrNumber column, TimestampTz if_null)
{
	Assert(ROW_TYPE(slot, column) == TIMESTAMPTZOID);
	if (row_is_null(slot, column))
		return if_null;
	return DatumGetTimestampTz(row_get(slot, column));
}

void
row_put_bytes(TupleTableSlot *slot, AttrNumber column, bytea *value)
{
	Assert(ROW_TYPE(slot, column) == BYTEAOID);
	if (value != NULL)
		row_put(slot, column, PointerGetDatum(value));
}

/* A copy, so that it outlives the row. */
bytea *
row_get_bytes(TupleTableSlot *slot, AttrNumber column)
{
	Assert(ROW_TYPE(slot, column) == BYTEAOID);
	if (row_is_null(slot, column))
		return NULL;
	return DatumGetByteaPCopy(row_get(slot, column));
}

int32
row_get_int32(TupleTableSlot *slot, AttrNumber column)
{
	Assert(ROW_TYPE(slot, column) == INT4OID);
	return DatumGetInt32(row_get(slot, column));
}

Oid
row_get_oid(TupleTableSlot *slot, AttrNumber column)
{
	Assert(ROW_TYPE(slot, column) == OIDOID);
	return DatumGetObjectId(row_get(slot, column));
}
