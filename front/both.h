/*-------------------------------------------------------------------------
 *
 * both.h
 *	  What the modules pgstock_front and pgstock_shard both have.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef BOTH_H
#define BOTH_H

#include "postgres.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/*
 * Runs step(arg) in a subtransaction; its error, or NULL.  As in PL/pgSQL, the
 * cancellation of a statement is not an error of the call.
 */
static inline ErrorData *
both_try(void (*step)(void *), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int depth	  PG_USED_FOR_ASSERTS_ONLY = GetCurrentTransactionNestLevel();
	ErrorData *volatile error = NULL;

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
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	Assert(GetCurrentTransactionNestLevel() == depth);
	if (error != NULL && (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
						  error->sqlerrcode == ERRCODE_ASSERT_FAILURE))
		ReThrowError(error);
	return error;
}

/* Appends a quoted text; escape precedes " and \; '\0': they are doubled. */
static inline void
both_append_quoted(StringInfo to, const char *value, char escape)
{
	appendStringInfoCharMacro(to, '"');
	for (; *value != '\0'; value++)
	{
		if (*value == '"' || *value == '\\')
			appendStringInfoCharMacro(to, escape ? escape : *value);
		appendStringInfoCharMacro(to, *value);
	}
	appendStringInfoCharMacro(to, '"');
}

#endif /* BOTH_H */
