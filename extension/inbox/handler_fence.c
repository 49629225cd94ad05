/*-------------------------------------------------------------------------
 *
 * inbox/handler_fence.c
 *	  Isolates a call of a registered handler from the relay's session.
 *
 * A handler is foreign code in our transaction.  So its call is fenced in:
 *
 *	- a subtransaction, with SET CONSTRAINTS ALL IMMEDIATE at its end, from
 *	  where on no constraint can be deferred any more: a deferred trigger runs
 *	  there, as the handler's role and in its time, not at COMMIT, where its
 *	  error would undo every other message of the transaction;
 *	- the role that registered it, and a search_path of the handler's schema
 *	  and the extension's (handler_registration.c);
 *	  SECURITY_LOCAL_USERID_CHANGE keeps SET ROLE, RESET ROLE and SET SESSION
 *	  AUTHORIZATION from reaching the relay's role;
 *	- a time limit of our own: statement_timeout is armed once for the relay's
 *	  whole call, and a handler may change it.  The timer fires repeatedly,
 *	  since a handler can catch a cancel; one that catches them all ends with
 *	  its session, since it would keep its locks for ever;
 *	- all that would outlive it in the session or the transaction is undone
 *	  (settings, temporary objects, session advisory locks, cursors, large
 *	  objects that are open) or refused (the utility hook).
 *
 * One call leaves to the next one in the same transaction its locks, the
 * constraint mode and its notifications for COMMIT.
 * registered_handler.c allows for that.
 *
 * A SECURITY_RESTRICTED_OPERATION would refuse most of the leftovers too, but
 * also every deferred constraint.
 *
 * On an error the subtransaction's abort restores role, settings and temporary
 * tables; the fence itself ends the timer.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "libpq/be-fsstubs.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/portal.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "inbox/inbox.h"

/* The interval at which a cancel that was caught is repeated. */
#define CANCEL_AGAIN_MS 100

/* A handler that catches so many cancels ends with its process. */
#define CANCELS_CAUGHT_MAX 20

/* The message whose handler runs in this backend, or NULL. */
static const Message *fence_running;

/* The handler has returned, and its deferred triggers are fired. */
static bool fence_settling;

/* ---- Commands that a running handler may not use ---- */

static ProcessUtility_hook_type fence_next_utility;

/*
 * Whether the command leaves something in the session that no rollback takes
 * back, or takes away what the relay has there.
 */
static bool
fence_outlives_handler(const Node *command)
{
	switch (nodeTag(command))
	{
		case T_ConstraintsSetStmt:
			return fence_settling &&
				   ((const ConstraintsSetStmt *) command)->deferred;
		case T_ListenStmt:
		case T_UnlistenStmt:
		case T_PrepareStmt:
		case T_DeallocateStmt:
		case T_DiscardStmt:
		case T_LoadStmt:
			return true;
		case T_DeclareCursorStmt:
			return (((const DeclareCursorStmt *) command)->options &
					CURSOR_OPT_HOLD) != 0;
		default:
			return false;
	}
}

static void
fence_on_utility(PlannedStmt *statement, const char *query, bool read_only_tree,
				 ProcessUtilityContext context, ParamListInfo params,
				 QueryEnvironment *environment, DestReceiver *receiver,
				 QueryCompletion *completion)
{
	if (fence_running != NULL && fence_outlives_handler(statement->utilityStmt))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s is not allowed in a handler",
						GetCommandTagName(
							CreateCommandTag(statement->utilityStmt))),
				 fence_settling
					 ? errdetail("A trigger that was deferred to the handler's "
								 "end cannot defer another one.")
					 : errdetail("It would outlive the handler in the relay's "
								 "session.")));
	(fence_next_utility
		 ? fence_next_utility
		 : standard_ProcessUtility)(statement, query, read_only_tree, context,
									params, environment, receiver, completion);
}

void
handler_fence_init(void)
{
	fence_next_utility = ProcessUtility_hook;
	ProcessUtility_hook = fence_on_utility;
}

/* ---- The time limit ---- */

static TimeoutId			 fence_limit_timer; /* 0: not yet registered */
static volatile sig_atomic_t fence_limit_reached;
static volatile sig_atomic_t fence_cancels_caught;

/* In a signal handler.  A cancel that is pending no more was raised. */
static void
fence_on_limit(void)
{
	if (fence_limit_reached && !QueryCancelPending)
		fence_cancels_caught++;
	if (fence_cancels_caught >= CANCELS_CAUGHT_MAX)
		ProcDiePending = true;
	fence_limit_reached = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

static void
fence_limit_begin(void)
{
	if (fence_limit_timer == 0)
		fence_limit_timer = RegisterTimeout(USER_TIMEOUT, fence_on_limit);
	Assert(!get_timeout_active(fence_limit_timer));
	fence_limit_reached = false;
	fence_cancels_caught = 0;
	enable_timeout_every(fence_limit_timer,
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													 pgstock_handler_timeout),
						 CANCEL_AGAIN_MS);
}

static void
fence_limit_end(void)
{
	Assert(fence_limit_timer != 0);
	disable_timeout(fence_limit_timer, false);
	if (fence_limit_reached)
		QueryCancelPending = false; /* it was ours */
}

/* ---- What a handler leaves open ---- */

/* The names of the cursors that are open in this session. */
static List *
fence_open_cursors(void)
{
	LOCAL_FCINFO(fcinfo, 0);
	FmgrInfo		flinfo;
	ReturnSetInfo	result = {.type = T_ReturnSetInfo};
	TupleTableSlot *slot;
	List		   *names = NIL;

	fmgr_info(F_PG_CURSOR, &flinfo);
	result.econtext = CreateStandaloneExprContext();
	result.allowedModes = SFRM_Materialize;
	InitFunctionCallInfoData(*fcinfo, &flinfo, 0, InvalidOid, NULL,
							 (Node *) &result);
	(void) FunctionCallInvoke(fcinfo);
	slot = MakeSingleTupleTableSlot(result.setDesc, &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(result.setResult, true, false, slot))
	{
		bool isnull;

		names = lappend(names, makeString(TextDatumGetCString(
								   slot_getattr(slot, 1, &isnull))));
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(result.setResult);
	FreeExprContext(result.econtext, true);
	return names;
}

/*
 * Closes cursors and large objects that the handler has left open: the next
 * one, of another role, could read them.
 */
static void
fence_close_all_but(List *cursors)
{
	ListCell *cell;

	foreach(cell, list_difference(fence_open_cursors(), cursors))
	{
		Portal portal = GetPortalByName(strVal(lfirst(cell)));

		if (PortalIsValid(portal))
			PortalDrop(portal, false);
	}
	AtEOXact_LargeObject(true);
}

/* ---- The call ---- */

/*
 * Fires the triggers that were deferred.  Such a trigger finds each constraint
 * immediate and cannot defer any (fence_outlives_handler), so that none is left
 * for COMMIT, where it would run as the relay's role and without a time limit.
 */
static void
fence_settle_constraints(void)
{
	ConstraintsSetStmt *immediate = makeNode(ConstraintsSetStmt);

	Assert(fence_running != NULL && !fence_settling);
	fence_settling = true;
	/* "deferred" is false as makeNode leaves it */
	AfterTriggerSetState(immediate);
	fence_settling = false;
}

/* Logs why the session ends: the error itself is that of an administrator. */
static void
fence_error_context(void *arg)
{
	const Message *message = arg;

	if (fence_cancels_caught >= CANCELS_CAUGHT_MAX)
		errcontext(
			"handler %s of topic \"%s\", which took longer than %d ms and "
			"caught each cancellation",
			message->try.registered->function, message->record->topic,
			pgstock_handler_timeout);
}

/* A call as a step of savepoint_run. */
typedef struct FencedCall
{
	const Message *message;
	HandlerCall	   call;
} FencedCall;

/*
 * Calls the function under the time limit, and fires what it deferred.  The
 * limit ends with an error too: neither its timer nor its cancel may be left.
 */
static void
fence_call_in_time(const FencedCall *fenced, Oid function, List *cursors)
{
	ErrorContextCallback context = {
		.previous = error_context_stack,
		.callback = fence_error_context,
		.arg = unconstify(Message *, fenced->message),
	};

	Assert(fence_running == fenced->message);
	fence_limit_begin();
	PG_TRY();
	{
		error_context_stack = &context;
		fenced->call(fenced->message, function);
		fence_settle_constraints();
		error_context_stack = context.previous;
		fence_close_all_but(cursors);
	}
	PG_FINALLY();
	{
		fence_limit_end();
	}
	PG_END_TRY();
}

/* The call as the role that registered the handler; restores what it set. */
static void
fence_call_as_registered(void *arg)
{
	const FencedCall		*fenced = arg;
	const char				*topic = fenced->message->record->topic;
	const RegisteredHandler *handler = fenced->message->try.registered;
	Oid						 role = registration_role(handler, topic);
	Oid						 function;
	Oid						 own_role;
	Oid						 present_role;
	int						 own_context;
	int						 present_context;
	int						 settings = NewGUCNestLevel();
	List					*cursors = fence_open_cursors();
	const char				*path;

	GetUserIdAndSecContext(&own_role, &own_context);
	SetUserIdAndSecContext(role, own_context | SECURITY_LOCAL_USERID_CHANGE);
	function = registration_function(handler, topic);
	path = registration_search_path(handler, topic);
	(void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	/* the relay's own is for the locks of pgstock */
	(void) set_config_option("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	fence_call_in_time(fenced, function, cursors);
	if (fence_limit_reached)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
						errmsg("the handler caught its cancellation")));
	/* a handler cannot leave its role: the hook and the context see to it */
	GetUserIdAndSecContext(&present_role, &present_context);
	Assert(present_role == role);
	Assert(present_context & SECURITY_LOCAL_USERID_CHANGE);
	ResetTempTableNamespace();
	AtEOXact_GUC(false, settings);
	SetUserIdAndSecContext(own_role, own_context);
}

/*
 * Has the handler of a message called, by "call" with the handler's function.
 * Returns its error, or NULL.
 */
ErrorData *
handler_fence_call(const Message *message, HandlerCall call)
{
	FencedCall	 fenced = {message, call};
	Cause		 cause = {.role = message->try.registered->role,
						  .event_id = message->parsed.event_id,
						  .traceparent = message->parsed.traceparent,
						  .trace_id = message->parsed.trace_id};
	Oid own_role PG_USED_FOR_ASSERTS_ONLY = GetUserId();
	ErrorData	*error;

	if (fence_running != NULL)
		elog(ERROR, "a handler cannot apply messages");
	fence_running = message;
	/* a call that fails before its time begins has not run out of it */
	fence_limit_reached = false;
	call_set_cause(&cause);
	error = savepoint_run(fence_call_as_registered, &fenced);
	call_set_cause(NULL);
	fence_running = NULL;
	fence_settling = false;
	LockReleaseSession(USER_LOCKMETHOD);
	Assert(GetUserId() == own_role);
	Assert(fence_limit_timer == 0 || !get_timeout_active(fence_limit_timer));
	return error;
}

/* Whether the last call has reached its time limit. */
bool
handler_fence_timed_out(void)
{
	return fence_limit_reached;
}
