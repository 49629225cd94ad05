/*-------------------------------------------------------------------------
 *
 * user_handler.c
 *	  Handlers that users register for topics: who they are, and one call.
 *
 * A handler is somebody else's code in our transaction, so a call is fenced in:
 *
 *	- a subtransaction, with SET CONSTRAINTS ALL IMMEDIATE at its end: what a
 *	  deferred constraint has to say is said there, not at COMMIT, where it
 *	  would cost every other message its effect;
 *	- the role that registered it and a search_path fixed then;
 *	  SECURITY_LOCAL_USERID_CHANGE keeps SET ROLE, RESET ROLE and SET SESSION
 *	  AUTHORIZATION from reaching the relay's role;
 *	- a time limit of our own: statement_timeout is armed once for the relay's
 *	  whole call, and a handler may change it.  The timer fires again and
 *	  again, since a handler can catch the first cancel;
 *	- what would outlive it in the session is taken back (settings, temporary
 *	  tables, session advisory locks) or refused (the utility hook).
 *
 * What is left of one call for the next in the same transaction are its locks
 * and the constraint mode.  So a failure counts only where no handler before
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
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "pgstock.h"
#include "pgstock_compat.h"

PG_FUNCTION_INFO_V1(pgstock_register_handler);

#define LOCK_CLASS_HANDLER 0x706b

/* A transient failure is tried again at once so often. */
#define HANDLER_TRIES 3

/* Of a timer whose first cancel was caught. */
#define CANCEL_AGAIN_MS 100

/* A batch that has taken so long is committed: the relay takes an answer that
 * is late for lost. */
#define BATCH_MS_MAX 5000

enum
{
	HANDLER_TOPIC = 1,
	HANDLER_EVENT_TYPE,
	HANDLER_FUNCTION,
	HANDLER_ROLE,
	HANDLER_SEARCH_PATH
};

/* The message whose handler runs in this backend, or NULL. */
static const Message *running;

/* ---- The function ---- */

/*
 * The function that a name stands for, in the present search_path and for the
 * present role; an error if it is not a handler or not theirs to call.
 */
static Oid
handler_function(const char *name)
{
	Oid		  types[2] = {JSONBOID, JSONBOID};
	List	 *names = textToQualifiedNameList(cstring_to_text(name));
	Oid		  function = LookupFuncName(names, 2, types, true);
	AclResult access;

	if (!OidIsValid(function))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("function %s(jsonb, jsonb) does not exist", name),
			 errhint(
				 "A handler is f(payload jsonb, message jsonb) RETURNS void.")));
	if (get_func_prokind(function) != PROKIND_FUNCTION ||
		get_func_rettype(function) != VOIDOID || get_func_retset(function))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
			 errmsg("%s cannot be a handler", name),
			 errdetail("It is not a function that returns void."),
			 errhint(
				 "A handler is f(payload jsonb, message jsonb) RETURNS void.")));
	access = compat_function_access(function, GetUserId());
	if (access != ACLCHECK_OK)
		aclcheck_error(access, OBJECT_FUNCTION, name);
	return function;
}

/* ---- Who is registered ---- */

/* The handlers of a topic, a List of UserHandler. */
static List *
topic_handlers(Work *work, const char *topic)
{
	Table		 *table = table_use(work, TABLE_USER_HANDLER);
	List		 *handlers = NIL;
	ScanKeyData	  key;
	IndexScanDesc scan;

	/* As a rule there is none, and that is cheap to see. */
	if (RelationGetNumberOfBlocks(table->rel) == 0)
		return NIL;
	table_key_text(&key, 1, topic);
	scan = table_scan_begin(work, table, "user_handler_pkey", 1, &key);
	while (table_scan_next(scan, table))
	{
		UserHandler *handler = palloc(sizeof(UserHandler));

		handler->event_type = row_get_text(table->slot, HANDLER_EVENT_TYPE);
		handler->function = row_get_text(table->slot, HANDLER_FUNCTION);
		handler->role = row_get_text(table->slot, HANDLER_ROLE);
		handler->search_path = row_get_text(table->slot, HANDLER_SEARCH_PATH);
		handlers = lappend(handlers, handler);
	}
	table_scan_end(table, scan);
	return handlers;
}

/* Gives each message the handlers of its topic. */
void
user_handlers_find(Work *work, List *messages)
{
	const Message *last = NULL;
	ListCell	  *cell;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);

		if (last != NULL && strcmp(last->topic, message->topic) == 0)
			message->user_handlers = last->user_handlers;
		else
			message->user_handlers = topic_handlers(work, message->topic);
		last = message;
	}
}

/* The handler of a message whose type is known: its type's, or the topic's. */
const UserHandler *
user_handler_choose(const Message *message)
{
	const UserHandler *whole_topic = NULL;
	ListCell		  *cell;

	foreach(cell, message->user_handlers)
	{
		const UserHandler *handler = lfirst(cell);

		if (handler->event_type[0] == '\0')
			whole_topic = handler;
		else if (message->event_type != NULL &&
				 strcmp(handler->event_type, message->event_type) == 0)
			return handler;
	}
	return whole_topic;
}

/* ---- What a running handler may not do, and what is known of it ---- */

static ProcessUtility_hook_type next_utility;

/* Whether the command leaves something in the session that no rollback takes
 * back, or takes away what the relay has there. */
static bool
outlives_handler(const Node *command)
{
	switch (nodeTag(command))
	{
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
				 errdetail(
					 "It would outlive the handler in the relay's session.")));
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

/* The running handler's message, or NULL: what it does is caused by it. */
const Message *
user_handler_message(void)
{
	return running;
}

/* ---- The time limit ---- */

static TimeoutId			 limit_timer; /* 0: not yet registered */
static volatile sig_atomic_t limit_reached;

/* In a signal handler. */
static void
on_limit(void)
{
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

/* The value as jsonb; NULL for a tombstone. */
static bool
payload_datum(const Message *message, Datum *payload)
{
	char *json;

	if (message->value == NULL)
		return false;
	json = text_from_utf8(VARDATA_ANY(message->value),
						  VARSIZE_ANY_EXHDR(message->value));
	if (json == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
			 errmsg(
				 "the value holds a character that the database's encoding lacks")));
	*payload = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
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
				   ? event_time(message_time(message->sent_at_ms))
				   : NULL);
	appendStringInfo(&json, ",\"attempt\":%d,\"headers\":%s}",
					 message->attempts + 1, headers_json(message->headers));
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* Calls the function, and has all constraints say what they have to say. */
static void
call_function(const Message *message)
{
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo			flinfo;
	ConstraintsSetStmt *immediate = makeNode(ConstraintsSetStmt);

	fmgr_info(handler_function(message->user->function), &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].isnull = !payload_datum(message, &fcinfo->args[0].value);
	fcinfo->args[1].isnull = false;
	fcinfo->args[1].value = message_datum(message);
	if (fcinfo->args[0].isnull && flinfo.fn_strict)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the message has no value (a tombstone)"),
						errdetail("The handler %s is STRICT.",
								  message->user->function)));
	(void) FunctionCallInvoke(fcinfo);
	/* "deferred" is false as makeNode leaves it */
	AfterTriggerSetState(immediate);
}

/* The call as the role that registered it, and nothing of it left over. */
static void
call_as_registered(const Message *message)
{
	Oid role = get_role_oid(message->user->role, false);
	Oid own_role;
	int own_context;
	int settings = NewGUCNestLevel();

	GetUserIdAndSecContext(&own_role, &own_context);
	SetUserIdAndSecContext(role, own_context | SECURITY_LOCAL_USERID_CHANGE);
	(void) set_config_option("search_path", message->user->search_path,
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
	/* the relay's own is for the locks of pgstock */
	(void) set_config_option("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	limit_begin();
	call_function(message);
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

	if (running != NULL)
		elog(ERROR, "a handler cannot apply messages");
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	running = message;
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

/* ---- Registering ---- */

/* Puts a handler into the table, or takes it out of it. */
static void
handler_store(Work *work, const char *topic, const char *event_type,
			  const char *function, const char *search_path)
{
	Table		   *table = table_use(work, TABLE_USER_HANDLER);
	ScanKeyData		keys[2];
	ItemPointerData tid;
	bool			found;
	TupleTableSlot *slot;

	lock_name(LOCK_CLASS_HANDLER, topic);
	work_refresh_snapshot();
	table_key_text(&keys[0], 1, topic);
	table_key_text(&keys[1], 2, event_type);
	found = table_find(work, table, "user_handler_pkey", 2, keys, &tid) &&
			table_lock_row(table, &tid);
	if (function == NULL)
	{
		if (found)
			table_delete(table, &tid);
		return;
	}
	slot = table_new_row(table);
	row_put_text(slot, HANDLER_TOPIC, topic);
	row_put_text(slot, HANDLER_EVENT_TYPE, event_type);
	row_put_text(slot, HANDLER_FUNCTION, function);
	row_put_text(slot, HANDLER_ROLE, GetUserNameFromId(GetUserId(), false));
	row_put_text(slot, HANDLER_SEARCH_PATH, search_path);
	if (found)
		table_update(work, table, &tid);
	else
		table_insert(work, table);
}

static void
audit(Work *work, const char *action, const char *target, const char *reason)
{
	Table		   *table = table_use(work, TABLE_ADMIN_ACTION);
	TupleTableSlot *slot = table_new_row(table);

	row_put(slot, 1, TimestampTzGetDatum(work->now));
	row_put_text(slot, 2, work->actor);
	row_put_text(slot, 3, action);
	row_put_text(slot, 4, target);
	row_put_text(slot, 5, reason);
	table_insert(work, table);
}

/* register_handler(topic text, handler text, event_type text) RETURNS void */
Datum
pgstock_register_handler(PG_FUNCTION_ARGS)
{
	char *topic = args_id(fcinfo, 0, "topic");
	char *name = args_text(fcinfo, 1);
	char *event_type = PG_ARGISNULL(2) ? "" : args_id(fcinfo, 2, "event_type");
	const char *fault = outbox_topic_fault(topic);
	char	   *function = NULL;
	char	   *search_path = NULL;
	Work		work;

	if (fault != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("topic %s", fault)));
	if (name != NULL)
	{
		Oid	  oid = handler_function(name);
		char *schema = get_namespace_name(get_func_namespace(oid));
		char *ours = get_namespace_name(
			get_func_namespace(fcinfo->flinfo->fn_oid));

		function = quote_qualified_identifier(schema, get_func_name(oid));
		search_path = psprintf("%s, %s, pg_temp",
							   pstrdup(quote_identifier(schema)),
							   pstrdup(quote_identifier(ours)));
	}
	work_begin(&work, "register_handler()");
	handler_store(&work, topic, event_type, function, search_path);
	audit(&work, "register_handler",
		  event_type[0] ? psprintf("%s %s", topic, event_type) : topic,
		  function ? function : "removed");
	work_end(&work);
	PG_RETURN_VOID();
}
