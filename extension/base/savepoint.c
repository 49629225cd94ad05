/*-------------------------------------------------------------------------
 *
 * base/savepoint.c
 *	  A step in a subtransaction of its own, whose error is returned.
 *
 * At most SAVEPOINTS_MAX of them to a transaction: beyond 64 subtransactions
 * each snapshot in the cluster does more work.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/base.h"

/*
 * Runs step(arg) in a subtransaction; its error, or NULL.  The error lies in
 * the caller's memory context.  What the step changed in memory stays changed.
 */
ErrorData *
savepoint_run(void (*step)(void *), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int depth	  PG_USED_FOR_ASSERTS_ONLY = GetCurrentTransactionNestLevel();
	ErrorData *volatile failure = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		step(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		failure = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	Assert(GetCurrentTransactionNestLevel() == depth);
	return failure;
}
