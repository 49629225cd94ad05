/*-------------------------------------------------------------------------
 *
 * base/compat.h
 *	  Every difference between server versions, and no other place has one.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef COMPAT_H
#define COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/backend_status.h"

#if PG_VERSION_NUM < 150000
#error "pgstock needs PostgreSQL 15 or newer"
#endif

/* Stands before the declaration of a function that does not return. */
#ifndef pg_noreturn
#define pg_noreturn pg_attribute_noreturn()
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

#if PG_VERSION_NUM < 160000
/* Which indexes are to know of a tuple's new version. */
typedef enum TU_UpdateIndexes
{
	TU_None,
	TU_All,
	TU_Summarizing
} TU_UpdateIndexes;
#endif

/*
 * Updates a tuple, waiting for another transaction that has changed it; which
 * of its indexes need an entry.
 */
static inline TM_Result
compat_update_tuple(Relation rel, ItemPointer tid, TupleTableSlot *slot,
					Snapshot snapshot, TU_UpdateIndexes *which)
{
	TM_FailureData failure;
	LockTupleMode  mode;
#if PG_VERSION_NUM >= 160000
	return table_tuple_update(rel, tid, slot, GetCurrentCommandId(true),
							  snapshot, InvalidSnapshot, true, &failure, &mode,
							  which);
#else
	bool	  indexes = false;
	TM_Result result = table_tuple_update(rel, tid, slot,
										  GetCurrentCommandId(true), snapshot,
										  InvalidSnapshot, true, &failure,
										  &mode, &indexes);

	*which = indexes ? TU_All : TU_None;
	return result;
#endif
}

/*
 * Whether this is one of them.  From PostgreSQL 16 on, a new version can be
 * heap-only although a column of a BRIN index has changed: an entry for it in
 * any other index would be a corrupt one.
 */
static inline bool
compat_index_needs_entry(const IndexInfo *index, TU_UpdateIndexes which)
{
#if PG_VERSION_NUM >= 160000
	return which == TU_All ||
		   (which == TU_Summarizing && index->ii_Summarizing);
#else
	return which == TU_All;
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

/* Whether a role may use what is in a schema. */
static inline AclResult
compat_schema_access(Oid schema, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(NamespaceRelationId, schema, role, ACL_USAGE);
#else
	return pg_namespace_aclcheck(schema, role, ACL_USAGE);
#endif
}

/* Whether a role may SET ROLE to another one. */
static inline bool
compat_may_set_role(Oid role, Oid other)
{
#if PG_VERSION_NUM >= 160000
	return member_can_set_role(role, other);
#else
	return is_member_of_role(role, other);
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

/* What SendProcSignal wants beside the pid. */
static inline int
compat_proc_number(const PGPROC *proc)
{
#if PG_VERSION_NUM >= 170000
	return GetNumberFromPGProc(proc);
#else
	return proc->backendId;
#endif
}

/*
 * Gets a lock; false, and no error, where the table of locks is full, or
 * another session holds it and we do not wait.
 */
static inline bool
compat_lock(const LOCKTAG *tag, LOCKMODE mode, bool of_session, bool no_wait)
{
#if PG_VERSION_NUM >= 180000
	return LockAcquireExtended(tag, mode, of_session, no_wait, false, NULL,
							   false) != LOCKACQUIRE_NOT_AVAIL;
#else
	return LockAcquireExtended(tag, mode, of_session, no_wait, false, NULL) !=
		   LOCKACQUIRE_NOT_AVAIL;
#endif
}

/* Gets a lock if that takes no wait and no error. */
static inline bool
compat_try_lock(const LOCKTAG *tag, LOCKMODE mode, bool of_session)
{
	return compat_lock(tag, mode, of_session, true);
}

static inline bool
compat_is_held(const PROCLOCK *held, const LOCKTAG *tag, LOCKMODE mode)
{
	return memcmp(&held->tag.myLock->tag, tag, sizeof(LOCKTAG)) == 0 &&
		   (held->holdMask & LOCKBIT_ON(mode)) != 0;
}

/* Whether a process holds a lock; the partition's LWLock must be held. */
static inline bool
compat_proc_holds(PGPROC *proc, int partition, const LOCKTAG *tag,
				  LOCKMODE mode)
{
#if PG_VERSION_NUM >= 160000
	dlist_iter i;

	dlist_foreach(i, &proc->myProcLocks[partition])
	{
		if (compat_is_held(dlist_container(PROCLOCK, procLink, i.cur), tag,
						   mode))
			return true;
	}
#else
	SHM_QUEUE *list = &proc->myProcLocks[partition];
	PROCLOCK  *held = (PROCLOCK *) SHMQueueNext(list, list,
												offsetof(PROCLOCK, procLink));

	for (; held != NULL;
		 held = (PROCLOCK *) SHMQueueNext(list, &held->procLink,
										  offsetof(PROCLOCK, procLink)))
	{
		if (compat_is_held(held, tag, mode))
			return true;
	}
#endif
	return false;
}

#endif /* COMPAT_H */
