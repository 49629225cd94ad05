/*-------------------------------------------------------------------------
 *
 * inbox/event_topic.c
 *	  set_event_topic(): the topic that stock events of a type go to.
 *
 * It must not be one that a built-in handler reads, which would answer each
 * event by another one, without end.  So this function refuses such a topic,
 * and those that bind a topic (binding_table.c) refuse one that stock events go
 * to; all do so under the lock of the topic's bindings.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/inval.h"
#include "utils/rel.h"

#include "base/statistics.h"
#include "inbox/inbox.h"

PGSTOCK_COUNTED_FUNCTION(pgstock_set_event_topic, CALL_SET_EVENT_TOPIC);
PG_FUNCTION_INFO_V1(pgstock_set_topic);

enum
{
	EVENT_TOPIC_TYPE = 1,
	EVENT_TOPIC_TOPIC
};

/* The argument "topic", or NULL. */
static const char *
event_topic_arg(FunctionCallInfo fcinfo, int n)
{
	const char *topic = args_text(fcinfo, n);
	const char *fault = topic ? outbox_topic_fault(topic) : NULL;

	if (fault != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("topic %s", fault)));
	if (topic != NULL)
		topic_must_not_be_position(topic);
	return topic;
}

static void
event_topic_must_not_loop(Call *call, const char *topic)
{
	if (binding_lock_topic(call, topic))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stock events cannot go to topic \"%s\"", topic),
				 errdetail("A built-in handler reads the topic, and would "
						   "answer each stock event with another one."),
				 errhint("Choose another topic, or bind this one to the "
						 "handler \"ignore\" before.")));
}

static void
event_topic_store(Call *call, const char *event_type, const char *topic)
{
	Table		   *table = table_use(call, TABLE_EVENT_TOPIC);
	ItemPointerData tid;
	TupleTableSlot *slot;
	bool			found;

	found = table_find_text(call, table, "event_topic_pkey", event_type,
							&tid) &&
			table_lock_row(table, &tid);
	slot = table_new_row(table);
	row_put_text(slot, EVENT_TOPIC_TYPE, event_type);
	row_put_text(slot, EVENT_TOPIC_TOPIC, topic);
	if (found)
		table_update(call, table, &tid);
	else
		table_insert(call, table);
	/* as the table's trigger does for SQL: orders/event_format.c */
	CacheInvalidateRelcache(table->rel);
}

static void
event_topic_set(FunctionCallInfo fcinfo, bool is_recorded)
{
	const char *event_type = args_id(fcinfo, 0, "event_type");
	const char *topic = event_topic_arg(fcinfo, 1);
	Call		call;

	call_begin(&call, "set_event_topic()");
	if (topic != NULL)
		event_topic_must_not_loop(&call, topic);
	event_topic_store(&call, event_type, topic);
	if (is_recorded)
		admin_action_write(&call, "set_event_topic", event_type,
						   topic ? topic : "not written");
	call_end(&call);
}

/* set_event_topic(event_type text, topic text) RETURNS void */
static Datum
pgstock_set_event_topic_body(PG_FUNCTION_ARGS)
{
	event_topic_set(fcinfo, true);
	PG_RETURN_VOID();
}

/*
 * set_topic(event_type text, topic text) RETURNS void: set_event_profile()
 * records its own call
 */
Datum
pgstock_set_topic(PG_FUNCTION_ARGS)
{
	event_topic_set(fcinfo, false);
	PG_RETURN_VOID();
}
