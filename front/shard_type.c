/*-------------------------------------------------------------------------
 *
 * shard_type.c
 *	  The type of a call: a front sends all arguments as one row, as text.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "shard.h"

/* Whether a row type has columns of these types; ignores dropped columns. */
bool
shard_has_columns(TupleDesc desc, const Oid *types, int count)
{
	int n = 0;

	Assert(count >= 0 && count <= COLUMNS_MAX);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (column->attisdropped)
			continue;
		if (n == count || column->atttypid != types[n])
			return false;
		n++;
	}
	return n == count;
}

/* Notes the types of the columns, except dropped ones. */
static void
type_note_columns(ShardCallType *type)
{
	TupleDesc desc = lookup_rowtype_tupdesc(type->oid, -1);

	type->ncolumns = 0;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (column->attisdropped)
			continue;
		if (type->ncolumns == COLUMNS_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a call has at most %d columns", COLUMNS_MAX)));
		type->column_types[type->ncolumns++] = column->atttypid;
	}
	Assert(shard_has_columns(desc, type->column_types, type->ncolumns));
	ReleaseTupleDesc(desc);
}

/* Finds the type that has the name of a function that a front calls. */
void
shard_find_type(ShardCallType *type, Oid wrapper)
{
	char *name = get_func_name(wrapper);
	Oid	  input;
	Oid	  typioparam;

	if (name == NULL)
		elog(ERROR, "cache lookup failed for function %u", wrapper);
	type->oid = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
								CStringGetDatum(name),
								ObjectIdGetDatum(get_func_namespace(wrapper)));
	if (!OidIsValid(type->oid))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("there is no type \"%s\"", name)));
	if (!type_is_rowtype(type->oid))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("type \"%s\" is not a row type", name)));
	type_note_columns(type);
	getTypeInputInfo(type->oid, &input, &typioparam);
	if (type->read.fn_oid != input)
		fmgr_info_cxt(input, &type->read, TopMemoryContext);
}

/* Reads a call as a row of its type: its columns, except dropped ones. */
void
shard_read_row(ShardCallType *type, char *input, NullableDatum *columns)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(
		InputFunctionCall(&type->read, input, type->oid, -1));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header),
						   .t_data = header};
	TupleDesc desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header),
											HeapTupleHeaderGetTypMod(header));
	Datum	 *values = palloc(desc->natts * sizeof(Datum));
	bool	 *nulls = palloc(desc->natts * sizeof(bool));
	bool fits = shard_has_columns(desc, type->column_types, type->ncolumns);
	int	 n = 0;

	Assert(OidIsValid(type->read.fn_oid));
	heap_deform_tuple(&tuple, desc, values, nulls);
	for (int i = 0; fits && i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			columns[n++] = (NullableDatum){.value = values[i],
										   .isnull = nulls[i]};
	Assert(!fits || n == type->ncolumns);
	ReleaseTupleDesc(desc);
	if (!fits)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the columns of the call do not match the "
							   "arguments of the function")));
}
