/*-------------------------------------------------------------------------
 *
 * pgstock.c
 *	  Module start.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/statistics.h"
#include "inbox/inbox.h"
#include "outbox/outbox.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

/*
 * Settings first: the callbacks read them.  The server calls the callbacks of a
 * transaction's end in the opposite order, so commit's is the last of ours:
 * none runs, or fails, between its change of synchronous_commit at PRE_COMMIT
 * and the commit record.  The order of the others is free.
 */
void
_PG_init(void)
{
	static bool loaded PG_USED_FOR_ASSERTS_ONLY = false;

	/* each init registers callbacks: twice, they would run twice */
	Assert(!loaded);
	loaded = true;
	settings_init();
	version_init();
	durability_init();
	wakeup_init();
	receipt_init();
	handler_fence_init();
	due_time_init();
	statistics_init();
	launcher_init();
	relation_init();
	event_format_init();
	rotation_init();
	level_mark_init();
}
