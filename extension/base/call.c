/*-------------------------------------------------------------------------
 *
 * base/call.c
 *	  One call of an SQL function: its time, actor, trace, snapshot and tables.
 *
 * Each function that writes rows begins with call_begin() and ends with
 * call_end(); the unit of work (stock/work.c) does so too.  After an error
 * nothing is left to clean up: the resource owner closes the tables, and the
 * transaction's end pops the snapshot.
 *
 * Snapshots: READ COMMITTED takes one at the start of the call, and another
 * one whenever the call has waited for locks (call_refresh_snapshot).  Above
 * that the transaction's own snapshot serves, and a row that changed since is
 * SQLSTATE 40001.
 *
 * A function that only reads, in a read-only transaction or on a standby too,
 * is between call_begin_reading() and call_end_reading(), under the snapshot of
 * the statement that calls it.
 *
 * Cause: what a registered handler does is done for the message that it
 * handles, and for the role that registered it.  The handler's caller sets the
 * cause before with call_set_cause(), and resets it after.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/base.h"

#define TRACEPARENT_BYTES 55

StaticAssertDecl(TRACEPARENT_BYTES == 2 + 1 + 32 + 1 + 16 + 1 + 2,
				 "version, trace id, parent id, flags");

/* What the calls of this backend are caused by; NULL: the client. */
static const Cause *call_cause;

/* The cause of all calls from here on; NULL: the client.  Must outlive them. */
void
call_set_cause(const Cause *cause)
{
	Assert(cause == NULL || (call_cause == NULL && cause->role != NULL));
	call_cause = cause;
}

/*
 * The calling role, not the definer of a function around us; in a registered
 * handler the role that registered it, not the relay.
 */
static const char *
call_find_actor(void)
{
	const char *role = call_cause ? call_cause->role
								  : GetUserNameFromId(GetOuterUserId(), false);

	if (pgstock_actor == NULL || pgstock_actor[0] == '\0')
		return role;
	return psprintf("%s/%s", role, pgstock_actor);
}

/* W3C: version "-" trace id "-" parent id "-" flags, in lower-case hex. */
bool
traceparent_is_valid(const char *value)
{
	return strlen(value) == TRACEPARENT_BYTES &&
		   strspn(value, "0123456789abcdef-") == TRACEPARENT_BYTES &&
		   value[2] == '-' && value[35] == '-' && value[52] == '-';
}

/* The trace id of a valid traceparent. */
char *
traceparent_trace_id(const char *value)
{
	Assert(traceparent_is_valid(value));
	return pnstrdup(value + 3, 32);
}

/* The trace of what follows: an id, or a W3C traceparent. */
void
call_set_trace(Call *call, const char *trace)
{
	Assert(trace != NULL && trace[0] != '\0');
	call->trace_id = trace;
	call->traceparent = NULL;
	if (traceparent_is_valid(trace))
	{
		call->traceparent = trace;
		call->trace_id = traceparent_trace_id(trace);
	}
}

/* The trace of the transaction or of the cause, and no message's attributes. */
void
call_reset_trace(Call *call)
{
	call->causation_id = call_cause ? call_cause->event_id : NULL;
	call->attributes = NULL;
	call->subject = NULL;
	call->traceparent = call_cause ? call_cause->traceparent : NULL;
	call->trace_id = call_cause ? call_cause->trace_id : NULL;
	Assert(call->traceparent == NULL || call->trace_id != NULL);
	if (pgstock_trace_id != NULL && pgstock_trace_id[0] != '\0')
		call_set_trace(call, pgstock_trace_id);
}

/*
 * What follows answers a message, which is about an order.  Its attributes
 * return in the events; its trace, if it has one, replaces the transaction's.
 */
void
call_set_message(Call *call, const Cause *message, const char *order_id,
				 const char *attributes)
{
	Assert(message->role == NULL && order_id != NULL);
	Assert(message->traceparent == NULL || message->trace_id != NULL);
	call->causation_id = message->event_id;
	call->subject = order_id;
	call->attributes = attributes;
	if (message->trace_id == NULL)
		return;
	call->trace_id = message->trace_id;
	call->traceparent = message->traceparent;
}

/* Those of the caller, in place of a message's. */
void
call_set_attributes(Call *call, const char *attributes)
{
	Assert(attributes != NULL);
	call->attributes = attributes;
}

/*
 * What the events of an order have of the message, until call_resume_message():
 * nothing but the trace, if the message is about another order, which needed
 * this one's stock.
 */
void
call_suspend_message(Call *call, const char *order_id, CallMessage *message)
{
	message->causation_id = call->causation_id;
	message->attributes = call->attributes;
	if (call->subject != NULL && strcmp(call->subject, order_id) != 0)
	{
		call->causation_id = NULL;
		call->attributes = NULL;
	}
}

void
call_resume_message(Call *call, const CallMessage *message)
{
	call->causation_id = message->causation_id;
	call->attributes = message->attributes;
}

/* Begins a call of the named function, which writes. */
void
call_begin(Call *call, const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);

	Assert(IsTransactionState());
	version_check();
	memset(call, 0, sizeof(*call));
	call->now = GetCurrentTimestamp();
	call->actor = call_find_actor();
	call_reset_trace(call);
	Assert(call->lock_class == LOCK_NONE && call->actor != NULL);
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* In READ COMMITTED: shows what other sessions have committed since. */
void
call_refresh_snapshot(void)
{
	Assert(ActiveSnapshotSet());
	PopActiveSnapshot();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/*
 * Waits so many milliseconds, or less if an interrupt arrives, which is
 * processed at once: the caller may hold locks.
 */
void
call_pause(long ms)
{
	Assert(ms > 0);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 ms, PG_WAIT_EXTENSION);
	CHECK_FOR_INTERRUPTS();
}

/* Ends the call; the commands after it in this transaction see its rows. */
void
call_end(Call *call)
{
	Assert(ActiveSnapshotSet());
	Assert(call->now != 0); /* call_begin */
	tables_close(call);
	PopActiveSnapshot();
	CommandCounterIncrement();
}

/* Begins a call that writes no row: it locks tables as SELECT does. */
void
call_begin_reading(Call *call)
{
	Assert(IsTransactionState() && ActiveSnapshotSet());
	version_check();
	memset(call, 0, sizeof(*call));
	call->now = GetCurrentTimestamp();
	call->reads = true;
}

void
call_end_reading(Call *call)
{
	Assert(call->reads && call->estate == NULL);
	tables_close(call);
}
