/*-------------------------------------------------------------------------
 *
 * shard_part_row.c
 *	  The row of an order's part in this shard, pgstock_shard.order_part.
 *
 * A step reads and writes it with the rights of the table's owner, also after
 * it has switched to the role of its caller.  What runs with these rights are
 * three statements whose plans are kept.  All names in them are qualified, so
 * they do not depend on search_path.  The owner of their schema could rename
 * it and put a table of its own in this one's place, so that owner must not
 * have fewer rights than the table's.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "shard.h"
#include "shard_part.h"

#define TABLE_NAME "order_part"

/* The statements. */
typedef enum PartStatement
{
	PART_READ,
	PART_TOUCH,
	PART_WRITE,
	PART_STATEMENTS,
} PartStatement;

/* The parameters of PART_WRITE; the others have only the first one. */
enum
{
	PARAM_ORDER,
	PARAM_HELD,
	PARAM_SAGA,
	PARAM_STEP,
	PARAM_VERB,
	PARAM_SHARDS,
	PARAM_ANSWER,
	PARAM_OVER_SAGA, /* the latest step that may be replaced */
	PARAM_OVER_STEP,
	PARAMS,
};

/* The columns of PART_READ. */
enum
{
	COLUMN_HELD = 1,
	COLUMN_SAGA,
	COLUMN_STEP,
	COLUMN_VERB,
	COLUMN_ANSWER,
};

typedef struct Statement
{
	const char *text; /* %1$s: the schema */
	int			nparams;
	int			result; /* of SPI */
} Statement;

/* part_row_take() reads these types: a column of another one is cast to it. */
static const Statement part_statements[PART_STATEMENTS] = {
	[PART_READ] = {"SELECT o.held::pg_catalog.int8, o.saga::pg_catalog.int8,"
				   " o.step::pg_catalog.int4, o.verb::pg_catalog.text,"
				   " o.answer::%1$s.answer"
				   " FROM %1$s.order_part o"
				   " WHERE o.order_id OPERATOR(pg_catalog.=) $1 FOR UPDATE",
				   1, SPI_OK_SELECT},
	[PART_TOUCH] = {"UPDATE %1$s.order_part o"
					" SET changed_at = pg_catalog.clock_timestamp()"
					" WHERE o.order_id OPERATOR(pg_catalog.=) $1",
					1, SPI_OK_UPDATE},
	[PART_WRITE] = {"INSERT INTO %1$s.order_part AS o"
					" (order_id, held, saga, step, verb, shards, answer)"
					" VALUES ($1, $2, $3, $4, $5, $6, $7)"
					" ON CONFLICT ON CONSTRAINT order_part_pkey DO UPDATE"
					" SET held = coalesce(excluded.held, o.held),"
					" saga = excluded.saga, step = excluded.step,"
					" verb = excluded.verb, shards = excluded.shards,"
					" answer = excluded.answer,"
					" changed_at = excluded.changed_at"
					" WHERE (o.saga, o.step) OPERATOR(pg_catalog.<=)"
					" ($8, $9)",
					PARAMS, SPI_OK_INSERT},
};

/* The table, as this session knows it. */
static struct
{
	Oid		   wrapper;	   /* the function that takes the step */
	uint64	   generation; /* when it was looked up; 0: it was not */
	Oid		   oid;
	Oid		   owner;
	NameData   schema;
	Oid		   answer_type;
	SPIPlanPtr plans[PART_STATEMENTS]; /* NULL: not prepared yet */
} part_table;

/* ---- The table ----------------------------------------------------------- */

static void
part_row_forget_plans(void)
{
	for (int i = 0; i < PART_STATEMENTS; i++)
	{
		SPIPlanPtr plan = part_table.plans[i];

		part_table.plans[i] = NULL;
		if (plan != NULL)
			SPI_freeplan(plan);
	}
}

static Oid
part_row_table_owner(Oid table)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid		  owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", table);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Notes the name of the schema, whose owner must be one to be trusted. */
static void
part_row_check_schema(Oid schema, Oid table_owner, NameData *name)
{
	HeapTuple tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(schema));
	Oid		  owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for schema %u", schema);
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	*name = ((Form_pg_namespace) GETSTRUCT(tuple))->nspname;
	ReleaseSysCache(tuple);
	if (owner != table_owner && !superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("schema \"%s\" does not belong to the owner of its "
						"table \"%s\"",
						NameStr(*name), TABLE_NAME),
				 errdetail("Its owner could replace the table, which steps of "
						   "orders over shards write with the rights of its "
						   "own owner."),
				 errhint("ALTER SCHEMA %s OWNER TO %s.",
						 quote_identifier(NameStr(*name)),
						 quote_identifier(
							 GetUserNameFromId(table_owner, false)))));
}

/* The table was changed, or, as InvalidOid says, any may have been. */
static void
part_row_forget_table(Datum arg, Oid table)
{
	if (table == part_table.oid || !OidIsValid(table))
		part_table.generation = 0;
}

/* A role was changed: the owner of the schema may be no superuser now. */
static void
part_row_forget_roles(Datum arg, int cache, uint32 hash)
{
	part_table.generation = 0;
}

static void
part_row_watch(void)
{
	static bool is_watching = false;

	if (is_watching)
		return;
	CacheRegisterRelcacheCallback(part_row_forget_table, 0);
	CacheRegisterSyscacheCallback(AUTHOID, part_row_forget_roles, 0);
	is_watching = true;
}

/* Finds the table of the extension that has the function. */
static void
part_row_look_up(Oid wrapper)
{
	uint64	 generation = shard_generation;
	Oid		 schema = get_func_namespace(wrapper);
	Oid		 oid = get_relname_relid(TABLE_NAME, schema);
	Oid		 extension = getExtensionOfObject(ProcedureRelationId, wrapper);
	Oid		 answer_type = get_func_rettype(wrapper);
	NameData name;

	part_row_watch();
	if (!OidIsValid(oid) || !OidIsValid(extension) ||
		getExtensionOfObject(RelationRelationId, oid) != extension)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("extension \"pgstock_shard\" has no table "
							   "\"%s\"",
							   TABLE_NAME),
						errhint(VERSION_HINT)));
	part_table.owner = part_row_table_owner(oid);
	part_row_check_schema(schema, part_table.owner, &name);
	if (oid != part_table.oid || answer_type != part_table.answer_type ||
		namestrcmp(&name, NameStr(part_table.schema)) != 0)
		part_row_forget_plans();
	part_table.oid = oid;
	part_table.answer_type = answer_type;
	part_table.schema = name;
	part_table.wrapper = wrapper;
	part_table.generation = generation;
}

static bool
part_row_is_known(Oid wrapper)
{
	return part_table.generation == shard_generation &&
		   part_table.wrapper == wrapper;
}

/*
 * Looks up the table, and locks it: from then on neither its owner nor its name
 * changes until the end of the transaction.
 */
static void
part_row_use_table(Oid wrapper)
{
	for (bool is_locked = false; !is_locked;)
	{
		CHECK_FOR_INTERRUPTS();
		if (!part_row_is_known(wrapper))
		{
			part_table.generation = 0; /* if an error interrupts it */
			part_row_look_up(wrapper);
		}
		LockRelationOid(part_table.oid, RowExclusiveLock);
		is_locked = part_row_is_known(wrapper);
	}
	Assert(OidIsValid(part_table.oid) && OidIsValid(part_table.owner));
}

/* ---- The statements ------------------------------------------------------ */

/* The plan of a statement; the role is the table's owner. */
static SPIPlanPtr
part_row_plan(PartStatement which)
{
	const Statement *statement = &part_statements[which];
	Oid				 types[PARAMS] = {TEXTOID,
									  INT8OID,
									  INT8OID,
									  INT4OID,
									  TEXTOID,
									  INT4ARRAYOID,
									  part_table.answer_type,
									  INT8OID,
									  INT8OID};
	SPIPlanPtr		 plan = part_table.plans[which];

	Assert(GetUserId() == part_table.owner);
	if (plan != NULL)
		return plan;
	plan = SPI_prepare_cursor(psprintf(statement->text,
									   quote_identifier(
										   NameStr(part_table.schema))),
							  statement->nparams, types,
							  CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare a statement of an order's part: %s",
			 SPI_result_code_string(SPI_result));
	part_table.plans[which] = plan;
	return plan;
}

/* Reads the columns of PART_READ; what is no number is copied to a context. */
static void
part_row_take(PartRow *row, MemoryContext context)
{
	HeapTuple	  tuple = SPI_tuptable->vals[0];
	TupleDesc	  desc = SPI_tuptable->tupdesc;
	MemoryContext old = MemoryContextSwitchTo(context);
	bool		  nulls[COLUMN_ANSWER + 1];
	Datum		  values[COLUMN_ANSWER + 1];

	Assert(desc->natts == COLUMN_ANSWER);
	Assert(TupleDescAttr(desc, COLUMN_ANSWER - 1)->atttypid ==
		   part_table.answer_type);
	for (int i = COLUMN_HELD; i <= COLUMN_ANSWER; i++)
		values[i] = SPI_getbinval(tuple, desc, i, &nulls[i]);
	if (nulls[COLUMN_SAGA] || nulls[COLUMN_STEP] || nulls[COLUMN_VERB])
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a row of table \"%s\" is incomplete", TABLE_NAME),
				 errdetail(
					 "Its saga, step or verb is NULL, which the extension "
					 "does not permit."),
				 errhint("Restore the row from a backup, and the NOT NULL "
						 "constraints of the table.")));
	row->is_held = !nulls[COLUMN_HELD];
	row->held = row->is_held ? DatumGetInt64(values[COLUMN_HELD]) : 0;
	row->saga = DatumGetInt64(values[COLUMN_SAGA]);
	row->step = DatumGetInt32(values[COLUMN_STEP]);
	row->verb = TextDatumGetCString(values[COLUMN_VERB]);
	row->is_answered = !nulls[COLUMN_ANSWER];
	if (row->is_answered)
		row->answer = PointerGetDatum(
			PG_DETOAST_DATUM_COPY(values[COLUMN_ANSWER]));
	MemoryContextSwitchTo(old);
}

/*
 * Runs a statement with the rights of the table's owner.  If row is not NULL,
 * it is filled with the statement's row.  Returns the number of rows.  After an
 * error, the end of the subtransaction restores the role.
 */
static uint64
part_row_run(Oid wrapper, PartStatement which, Datum *values, const char *nulls,
			 PartRow *row)
{
	MemoryContext context = CurrentMemoryContext;
	Oid			  user;
	int			  security;
	int			  result;
	uint64		  count;

	Assert(which < PART_STATEMENTS);
	part_row_use_table(wrapper);
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(part_table.owner,
						   security | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	result = SPI_execute_plan(part_row_plan(which), values, nulls, false, 0);
	if (result != part_statements[which].result)
		elog(ERROR, "a statement of an order's part failed: %s",
			 SPI_result_code_string(result));
	count = SPI_processed;
	Assert(count <= 1);
	if (row != NULL && count == 1)
		part_row_take(row, context);
	SPI_finish();
	SetUserIdAndSecContext(user, security);
	Assert(CurrentMemoryContext == context);
	return count;
}

/* Reads and locks the order's row. */
void
shard_part_read(Oid wrapper, const PartStep *step, PartRow *row)
{
	Datum value = step->order_id;

	memset(row, 0, sizeof(PartRow));
	row->is_found = part_row_run(wrapper, PART_READ, &value, NULL, row) == 1;
	Assert(row->is_found == (row->verb != NULL));
}

/*
 * Changes only changed_at.  A stored answer may depend on a commit that is not
 * flushed yet: because of this write, the caller's commit flushes that one too.
 */
void
shard_part_touch(Oid wrapper, const PartStep *step)
{
	Datum value = step->order_id;

	part_row_run(wrapper, PART_TOUCH, &value, NULL, NULL);
}

/*
 * Stores that a step was taken, and its answer; is_held: lines here belong to
 * its saga now.  Returns false if the row is that of a step which must not be
 * replaced.
 */
bool
shard_part_write(Oid wrapper, const PartStep *step, Datum answer, bool is_held,
				 PartOver over)
{
	char  nulls[PARAMS + 1];
	Datum values[PARAMS];

	Assert(answer != (Datum) 0);
	Assert(over <= PART_OVER_SAME);
	memset(nulls, ' ', PARAMS);
	values[PARAM_ORDER] = step->order_id;
	values[PARAM_HELD] = Int64GetDatum(step->saga);
	if (!is_held)
		nulls[PARAM_HELD] = 'n';
	values[PARAM_SAGA] = Int64GetDatum(step->saga);
	values[PARAM_STEP] = Int32GetDatum(step->number);
	values[PARAM_VERB] = step->verb;
	values[PARAM_SHARDS] = step->shards;
	values[PARAM_ANSWER] = answer;
	values[PARAM_OVER_SAGA] = Int64GetDatum(
		over == PART_OVER_NONE ? PG_INT64_MIN : step->saga);
	values[PARAM_OVER_STEP] = Int64GetDatum(
		over == PART_OVER_SAME ? step->number : (int64) step->number - 1);
	return part_row_run(wrapper, PART_WRITE, values, nulls, NULL) == 1;
}
