/*-------------------------------------------------------------------------
 *
 * pgstock_compat.h
 *	  Every difference between server versions, and no other place has one.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGSTOCK_COMPAT_H
#define PGSTOCK_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "utils/acl.h"
#include "utils/backend_status.h"

#if PG_VERSION_NUM < 150000
#error "pgstock needs PostgreSQL 15 or newer"
#endif

/* Inserts the index entries of a tuple just inserted. */
static inline void
compat_insert_index_tuples(ResultRelInfo *target, TupleTableSlot *slot,
						   EState *estate)
{
#if PG_VERSION_NUM >= 160000
	ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL, false);
#else
	ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL);
#endif
}

/* Updates a tuple that we have locked; true if its indexes need entries. */
static inline bool
compat_update_tuple(Relation rel, ItemPointer tid, TupleTableSlot *slot,
					Snapshot snapshot)
{
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes which;

	simple_table_tuple_update(rel, tid, slot, snapshot, &which);
	return which != TU_None;
#else
	bool indexes;

	simple_table_tuple_update(rel, tid, slot, snapshot, &indexes);
	return indexes;
#endif
}

static inline IndexScanDesc
compat_index_beginscan(Relation rel, Relation index, Snapshot snapshot,
					   int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(rel, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(rel, index, snapshot, nkeys, 0);
#endif
}

/* Whether a role may execute a function. */
static inline AclResult
compat_function_access(Oid function, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE);
#else
	return pg_proc_aclcheck(function, role, ACL_EXECUTE);
#endif
}

/* What is known of a backend, by its number among those that there are. */
static inline const PgBackendStatus *
compat_backend_status(int n)
{
#if PG_VERSION_NUM >= 160000
	return &pgstat_get_local_beentry_by_index(n)->backendStatus;
#else
	return &pgstat_fetch_stat_local_beentry(n)->backendStatus;
#endif
}

#endif /* PGSTOCK_COMPAT_H */
