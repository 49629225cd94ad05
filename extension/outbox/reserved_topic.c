/*-------------------------------------------------------------------------
 *
 * outbox/reserved_topic.c
 *	  Topics that an application may not publish its own events to.
 *
 * Consumers of pgstock's topics trust each record: a forged StockConfirmed
 * ships goods, a forged payment-success sells them, and a record in the
 * position topic stops all publishing.  So publishing there needs a right that
 * administrators have; no role may publish to a position topic.  The role that
 * counts is the current one: the definer in a function with SECURITY DEFINER,
 * the registrant in a registered handler.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "outbox/outbox.h"

#define DLQ_SUFFIX "_dlq" /* of [inbox] dlq_topic, as it is by default */

/* EXECUTE on this function is the right; it is never called. */
#define RIGHT "publish_to_any_topic"

StaticAssertDecl(sizeof(RIGHT) <= NAMEDATALEN, "a function can have the name");
StaticAssertDecl(sizeof(TOPIC_POSITION_PREFIX) <= OUTBOX_TOPIC_MAX,
				 "a position topic has a name of its own after the prefix");

PG_FUNCTION_INFO_V1(pgstock_check_level_topic);

void
topic_must_not_be_position(const char *topic)
{
	if (strncmp(topic, TOPIC_POSITION_PREFIX, strlen(TOPIC_POSITION_PREFIX)) ==
		0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("topic \"%s\" is pgstock's own", topic),
				 errdetail("The relay keeps its position in topics that begin "
						   "with \"%s\".",
						   TOPIC_POSITION_PREFIX),
				 errhint("Choose another name.")));
}

static bool
topic_has_right(void)
{
	oidvector *no_arguments = buildoidvector(NULL, 0);
	Oid		   right = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
									   CStringGetDatum(RIGHT),
									   PointerGetDatum(no_arguments),
									   ObjectIdGetDatum(
										   get_namespace_oid("pgstock_internal",
															 false)));

	return OidIsValid(right) &&
		   compat_function_access(right, GetUserId()) == ACLCHECK_OK;
}

static bool
topic_is_known(Call *call, TableId id, const char *index, const char *topic)
{
	ItemPointerData tid;

	return table_find_text(call, table_use(call, id), index, topic, &tid);
}

/* Whether stock events go to a topic, or do by default. */
bool
topic_is_for_stock_events(Call *call, const char *topic)
{
	return strcmp(topic, TOPIC_EVENTS) == 0 ||
		   strcmp(topic, TOPIC_FAILURES) == 0 ||
		   topic_is_known(call, TABLE_EVENT_TOPIC, "event_topic_topic", topic);
}

static bool
topic_is_of_level_stream(Call *call, const char *topic)
{
	return topic_is_known(call, TABLE_LEVEL_STREAM, "level_stream_pkey", topic);
}

static bool
topic_is_consumed(Call *call, const char *topic)
{
	return topic_is_known(call, TABLE_INBOX_OFFSET, "inbox_offset_pkey",
						  topic) ||
		   topic_is_known(call, TABLE_USER_HANDLER, "user_handler_pkey", topic);
}

static bool
topic_is_for_dead_letters(Call *call, const char *topic)
{
	size_t length = strlen(topic);
	size_t suffix = strlen(DLQ_SUFFIX);

	return length > suffix &&
		   strcmp(topic + length - suffix, DLQ_SUFFIX) == 0 &&
		   topic_is_consumed(call, pnstrdup(topic, length - suffix));
}

/* What a topic is for, as a sentence; NULL: records of any kind. */
static const char *
topic_purpose(Call *call, const char *topic)
{
	if (topic_is_for_stock_events(call, topic))
		return "Stock events go to it.";
	if (topic_is_consumed(call, topic))
		return "pgstock consumes it.";
	if (topic_is_for_dead_letters(call, topic))
		return "Dead letters go to it.";
	return NULL;
}

/* To publish there is for an application's own events. */
void
topic_must_not_be_reserved(Call *call, const char *topic)
{
	const char *purpose;

	Assert(ActiveSnapshotSet()); /* the call has begun */
	topic_must_not_be_position(topic);
	if (topic_has_right())
		return;
	purpose = topic_purpose(call, topic);
	if (purpose == NULL && topic_is_of_level_stream(call, topic))
		purpose = "Levels go to it.";
	if (purpose == NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" may not publish to topic \"%s\"",
					GetUserNameFromId(GetUserId(), false), topic),
			 errdetail_internal("%s", purpose),
			 errhint(
				 "Publish to a topic of the application's own, or have GRANT "
				 "EXECUTE ON FUNCTION pgstock_internal." RIGHT
				 "() run for the role.")));
}

/*
 * check_level_topic(topic text) RETURNS void
 *
 * Raises 22023 unless levels may go to the topic, which is compacted: of other
 * records with the same key it would keep only the last one.
 */
Datum
pgstock_check_level_topic(PG_FUNCTION_ARGS)
{
	const char *topic = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const char *fault = outbox_topic_fault(topic);
	const char *purpose;
	Call		call;

	if (fault != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("topic %s", fault)));
	topic_must_not_be_position(topic);
	call_begin_reading(&call);
	purpose = topic_purpose(&call, topic);
	call_end_reading(&call);
	if (purpose != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("levels cannot go to topic \"%s\"", topic),
						errdetail_internal("%s", purpose),
						errhint("Choose another topic.")));
	PG_RETURN_VOID();
}
