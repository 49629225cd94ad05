/*-------------------------------------------------------------------------
 *
 * inbox/user_handler.c
 *	  One call of a handler that a user has registered, and its fence.
 *
 * A handler is somebody else's code in our transaction, so a call is fenced in:
 *
 *	- a subtransaction, with SET CONSTRAINTS ALL IMMEDIATE at its end, from
 *	  where on no constraint can be deferred any more: a deferred trigger runs
 *	  there, as the handler's role and in its time, not at COMMIT, where its
 *	  error would cost every other message its effect;
 *	- the role that registered it and a search_path of the handler's schema and
 *	  the extension's (handler_registration.c);
 *	  SECURITY_LOCAL_USERID_CHANGE keeps SET ROLE, RESET ROLE and SET SESSION
 *	  AUTHORIZATION from reaching the relay's role;
 *	- a time limit of our own: statement_timeout is armed once for the relay's
 *	  whole call, and a handler may change it.  The timer fires again and
 *	  again, since a handler can catch a cancel; one that catches them all
 *	  ends with its session, for else it would keep its locks for ever;
 *	- what would outlive it in the session or the transaction is taken back
 *	  (settings, temporary objects, session advisory locks, cursors, large
 *	  objects that are open) or refused (the utility hook).
 *
 * What is left of one call for the next in the same transaction are its locks,
 * the constraint mode and what it notifies of at COMMIT.  So a failure counts only where no handler before
 * it has succeeded in this transaction; else the batch ends before it, and the
 * message comes first in the next one.
 *
 * A SECURITY_RESTRICTED_OPERATION would refuse most of the leftovers too, but
 * also every deferred constraint.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "libpq/be-fsstubs.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/resowner.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/utf8.h"
#include "inbox/inbox.h"

/* A transient failure is tried again at once so often. */
#define HANDLER_TRIES 3

/* Of a timer whose first cancel was caught. */
#define CANCEL_AGAIN_MS 100

/* A handler that catches so many cancels ends with its process. */
#define CANCELS_CAUGHT_MAX 20

/* A batch that has taken so long is committed: the relay takes an answer that
 * is late for lost.  A slow server's tests set it: dev/stage. */
#ifndef BATCH_MS_MAX
#define BATCH_MS_MAX 5000
#endif

/* The message whose handler runs in this backend, or NULL. */
static const Message *running;

/* The handler has returned, and what it deferred is being done. */
static bool settling;

/* ---- What a running handler may not do, and what is known of it ---- */

static ProcessUtility_hook_type next_utility;

/* Whether the command leaves something in the session that no rollback takes
 * back, or takes away what the relay has there. */
static bool
outlives_handler(const Node *command)
{
	switch (nodeTag(command))
	{
		case T_ConstraintsSetStmt:
			return settling && ((const ConstraintsSetStmt *) command)->deferred;
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
on_utility(PlannedStmt *statement, const char *query, bool read_only_tree,
		   ProcessUtilityContext context, ParamListInfo params,
		   QueryEnvironment *environment, DestReceiver *receiver,
		   QueryCompletion *completion)
{
	if (running != NULL && outlives_handler(statement->utilityStmt))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s is not allowed in a handler",
						GetCommandTagName(
							CreateCommandTag(statement->utilityStmt))),
				 settling
					 ? errdetail("A trigger that was deferred to the handler's "
								 "end cannot defer another one.")
					 : errdetail("It would outlive the handler in the relay's "
								 "session.")));
	(next_utility ? next_utility
				  : standard_ProcessUtility)(statement, query, read_only_tree,
											 context, params, environment,
											 receiver, completion);
}

void
user_handler_init(void)
{
	next_utility = ProcessUtility_hook;
	ProcessUtility_hook = on_utility;
}

/* ---- The time limit ---- */

static TimeoutId			 limit_timer; /* 0: not yet registered */
static volatile sig_atomic_t limit_reached;
static volatile sig_atomic_t cancels_caught;

/* In a signal handler.  A cancel that is pending no more was raised. */
static void
on_limit(void)
{
	if (limit_reached && !QueryCancelPending)
		cancels_caught++;
	if (cancels_caught >= CANCELS_CAUGHT_MAX)
		ProcDiePending = true;
	limit_reached = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

static void
limit_begin(void)
{
	if (limit_timer == 0)
		limit_timer = RegisterTimeout(USER_TIMEOUT, on_limit);
	limit_reached = false;
	cancels_caught = 0;
	enable_timeout_every(limit_timer,
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													 pgstock_handler_timeout),
						 CANCEL_AGAIN_MS);
}

static void
limit_end(void)
{
	disable_timeout(limit_timer, false);
	if (limit_reached)
		QueryCancelPending = false; /* it was ours */
}

/* ---- The call ---- */

/*
 * The value, which is valid JSON, as the server's parser takes it.  A character
 * that the encoding lacks is an error that no other try mends: of class 22.
 */
static char *
payload_json(const char *utf8, int length)
{
	bool  converts = encoding_has_conversion();
	char *json;

	if (!converts)
	{
		utf8 = json_without_escapes(utf8, length);
		length = strlen(utf8);
	}
	json = text_from_utf8(utf8, length);
	if (json == NULL && !converts)
		ereport(ERROR,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg("the value holds a character that the database's "
						"encoding, %s, lacks",
						GetDatabaseEncodingName())));
	/* jsonb says which character the encoding lacks */
	return json != NULL ? json : json_as_ascii(utf8, length);
}

/* The value as jsonb; NULL for a tombstone. */
static bool
payload_datum(const Message *message, Datum *payload)
{
	if (message->value == NULL)
		return false;
	*payload = DirectFunctionCall1(jsonb_in,
								   CStringGetDatum(
									   payload_json(VARDATA_ANY(message->value),
													VARSIZE_ANY_EXHDR(
														message->value))));
	return true;
}

static void
add_member(StringInfo json, const char *name, const char *value)
{
	appendStringInfo(json, "%s\"%s\":", json->len > 1 ? "," : "", name);
	if (value == NULL)
		appendStringInfoString(json, "null");
	else
		escape_json(json, value);
}

/* What a handler is told of the record besides its value. */
static Datum
message_datum(const Message *message)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	add_member(&json, "topic", message->topic);
	appendStringInfo(&json, ",\"partition\":%d,\"offset\":" INT64_FORMAT,
					 message->partition, message->offset);
	add_member(&json, "key",
			   message->key ? bytes_for_people(VARDATA_ANY(message->key),
											   VARSIZE_ANY_EXHDR(message->key))
							: NULL);
	add_member(&json, "event_id", message->event_id);
	add_member(&json, "event_type", message->event_type);
	add_member(&json, "timestamp",
			   message->sent_at_ms >= 0
				   ? rfc3339_from_time(message_time(message->sent_at_ms))
				   : NULL);
	appendStringInfo(&json, ",\"attempt\":%d,\"headers\":%s}",
					 message->attempts + 1, headers_json(message->headers));
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/*
 * Does what was deferred.  A trigger that is fired here finds each constraint
 * immediate and cannot defer any (outlives_handler), so that none is left for
 * COMMIT, where it would run as the relay's role and without a time limit.
 */
static void
settle_constraints(void)
{
	ConstraintsSetStmt *immediate = makeNode(ConstraintsSetStmt);

	settling = true;
	/* "deferred" is false as makeNode leaves it */
	AfterTriggerSetState(immediate);
	settling = false;
}

/* Why the session ends: the error itself speaks of an administrator. */
static void
say_why_it_ends(void *arg)
{
	const Message *message = arg;

	if (cancels_caught >= CANCELS_CAUGHT_MAX)
		errcontext(
			"handler %s of topic \"%s\", which took longer than %d ms and "
			"caught each cancellation",
			message->user->function, message->topic, pgstock_handler_timeout);
}

/* Calls the function, and does what it deferred. */
static void
call_function(const Message *message, Oid function)
{
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo			 flinfo;
	ErrorContextCallback context = {
		.previous = error_context_stack,
		.callback = say_why_it_ends,
		.arg = unconstify(Message *, message),
	};

	fmgr_info(function, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].isnull = !payload_datum(message, &fcinfo->args[0].value);
	fcinfo->args[1].isnull = false;
	fcinfo->args[1].value = message_datum(message);
	if (fcinfo->args[0].isnull && flinfo.fn_strict)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the message has no value (a tombstone)"),
						errdetail("The handler %s is STRICT.",
								  message->user->function)));
	error_context_stack = &context;
	(void) FunctionCallInvoke(fcinfo);
	settle_constraints();
	error_context_stack = context.previous;
}

/* ---- What a handler leaves open ---- */

/* The names of the cursors that are open in this session. */
static List *
open_cursors(void)
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
close_all_but(List *cursors)
{
	ListCell *cell;

	foreach(cell, list_difference(open_cursors(), cursors))
	{
		Portal portal = GetPortalByName(strVal(lfirst(cell)));

		if (PortalIsValid(portal))
			PortalDrop(portal, false);
	}
	AtEOXact_LargeObject(true);
}

/* The call as the role that registered it, and nothing of it left over. */
static void
call_as_registered(const Message *message)
{
	Oid	  role = registered_role(message);
	Oid	  function;
	Oid	  own_role;
	int	  own_context;
	int	  settings = NewGUCNestLevel();
	List *cursors = open_cursors();

	GetUserIdAndSecContext(&own_role, &own_context);
	SetUserIdAndSecContext(role, own_context | SECURITY_LOCAL_USERID_CHANGE);
	function = registered_function(message);
	(void) set_config_option("search_path", registered_search_path(message),
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
	/* the relay's own is for the locks of pgstock */
	(void) set_config_option("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	limit_begin();
	call_function(message, function);
	close_all_but(cursors);
	limit_end();
	if (limit_reached)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
						errmsg("the handler caught its cancellation")));
	ResetTempTableNamespace();
	AtEOXact_GUC(false, settings);
	SetUserIdAndSecContext(own_role, own_context);
}

/*
 * One call, in a subtransaction; its error, or NULL.  An aborted
 * subtransaction gives back role, settings and temporary tables by itself.
 */
static ErrorData *
call_guarded(const Message *message)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile failure = NULL;
	Cause cause = {.role = message->user->role,
				   .event_id = message->event_id,
				   .traceparent = message->traceparent,
				   .trace_id = message->trace_id};

	if (running != NULL)
		elog(ERROR, "a handler cannot apply messages");
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	running = message;
	call_set_cause(&cause);
	PG_TRY();
	{
		call_as_registered(message);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		limit_end();
		MemoryContextSwitchTo(context);
		failure = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	running = NULL;
	call_set_cause(NULL);
	settling = false;
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	LockReleaseSession(USER_LOCKMETHOD);
	return failure;
}

/* What failed, as its dead letter will say. */
static char *
failure_text(const ErrorData *failure)
{
	if (limit_reached)
		return psprintf("the handler took longer than %d ms",
						pgstock_handler_timeout);
	if (failure->detail == NULL)
		return failure->message;
	return psprintf("%s: %s", failure->message, failure->detail);
}

/* Whether the batch has gone on for long enough. */
bool
user_batch_is_over(const UserBatch *batch)
{
	return batch->called >= USER_BATCH_MAX ||
		   (batch->called > 0 &&
			TimestampDifferenceExceeds(batch->began_at, GetCurrentTimestamp(),
									   BATCH_MS_MAX));
}

/*
 * Has the message handled and sets its outcome.  False: it failed where an
 * earlier handler may be to blame; it is to come first in a transaction.
 */
bool
user_handler_apply(UserBatch *batch, const InboxOptions *options,
				   Message *message)
{
	ErrorData *failure;

	Assert(message->user != NULL && message->poison == NULL);
	for (int try = 1;; try++)
	{
		batch->called++;
		failure = call_guarded(message);
		if (failure == NULL)
		{
			/* what it did to rows that are ours to write */
			call_refresh_snapshot();
			batch->succeeded = true;
			message->outcome = (Outcome){.result = "applied"};
			return true;
		}
		if (batch->succeeded)
			return false;
		if (limit_reached || try == HANDLER_TRIES ||
			!failed_is_transient(failure))
			break;
		pg_usleep(20000L << try);
	}
	message->attempts++;
	message->outcome = failed_classify(options, message,
									   unpack_sql_state(failure->sqlerrcode),
									   failure_text(failure));
	return true;
}
