/*-------------------------------------------------------------------------
 *
 * event.c
 *	  What happened to stock, as the JSON that Kafka's readers see.
 *
 * Written by hand into a buffer: no jsonb is built and torn down.  Key order is
 * the one in docs/events.md.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "utils/rel.h"

#include "pgstock.h"

#define TOPIC_EVENTS   "stock-events"
#define TOPIC_FAILURES "stock-freeze-failed"
#define ID_DRAW		   64

/*
 * A random (version 4) UUID.  The random bytes are drawn for many at once: a
 * draw of 16 costs as much as one of 1,000.
 */
void
event_new_id(pg_uuid_t *id)
{
	static pg_uuid_t drawn[ID_DRAW];
	static int		 left = 0;

	if (left == 0)
	{
		if (!pg_strong_random(drawn, sizeof(drawn)))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
							errmsg("could not generate random values")));
		left = ID_DRAW;
	}
	*id = drawn[--left];
	id->data[6] = (id->data[6] & 0x0f) | 0x40;
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
}

/* ---- JSON ---- */

static void
json_text(StringInfo json, const char *name, const char *value)
{
	if (value == NULL)
		return;
	appendStringInfo(json, ",\"%s\":", name);
	escape_json(json, value);
}

static void
json_int64(StringInfo json, const char *name, int64 value)
{
	appendStringInfo(json, ",\"%s\":" INT64_FORMAT, name, value);
}

/* RFC 3339 in UTC with microseconds. */
char *
event_time(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t		 fsec;

	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("timestamp out of range")));
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year,
					tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
					(int) fsec);
}

static void
json_begin(StringInfo json, Work *work, const pg_uuid_t *id, const char *type)
{
	char hex[2 * UUID_LEN];

	hex_encode((const char *) id->data, UUID_LEN, hex);
	initStringInfo(json);
	appendStringInfo(json,
					 "{\"event_id\":\"%.8s-%.4s-%.4s-%.4s-%.12s\","
					 "\"event_type\":\"%s\",\"event_version\":1,"
					 "\"timestamp\":\"%s\"",
					 hex, hex + 8, hex + 12, hex + 16, hex + 20, type,
					 event_time(work->now));
}

static void
json_end(StringInfo json, Work *work)
{
	json_text(json, "trace_id", work->trace_id);
	json_text(json, "causation_id", work->causation_id);
	if (work->attributes != NULL)
		appendStringInfo(json, ",\"attributes\":%s", work->attributes);
	appendStringInfoChar(json, '}');
}

static void
json_items(StringInfo json, const Event *event)
{
	ListCell *cell;

	appendStringInfoString(json, ",\"items\":[");
	foreach(cell, event->items)
	{
		Answer *item = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		if (foreach_current_index(cell) > 0)
			appendStringInfoChar(json, ',');
		appendStringInfoString(json, "{\"product_id\":");
		escape_json(json, item->product_id);
		json_text(json, "location", item->location);
		json_int64(json, "quantity", item->requested);
		if (event->wanted)
		{
			json_int64(json, "wanted", item->requested);
			json_int64(json, "available", item->available);
			json_text(json, "status", item->status);
		}
		json_int64(json, "remaining_stock", item->available);
		json_int64(json, "version", item->version);
		json_text(json, "activity_id", item->activity_id);
		appendStringInfoChar(json, '}');
	}
	appendStringInfoChar(json, ']');
}

/* Where an event type goes; NULL: it is not written (set_event_topic). */
static const char *
event_topic(Work *work, const char *event_type, const char *otherwise)
{
	Table		   *table = table_use(work, TABLE_EVENT_TOPIC);
	ItemPointerData tid;

	/* As a rule nothing is set, and that is cheap to see. */
	if (RelationGetNumberOfBlocks(table->rel) == 0)
		return otherwise;
	if (table_find_text(work, table, "event_topic_pkey", event_type, &tid) ||
		table_find_text(work, table, "event_topic_pkey", "*", &tid))
		return row_get_text(table->slot, 2);
	return otherwise;
}

static void
event_append(Work *work, const char *topic, const char *type, const char *key,
			 const pg_uuid_t *id, const StringInfo json)
{
	OutboxRecord record = {
		.event_id = *id,
		.topic = event_topic(work, type, topic),
		.event_type = type,
		.key = key,
		.key_len = strlen(key),
		.payload = json->data,
		.payload_len = json->len,
		.traceparent = work->traceparent,
		.format = 'j',
	};

	if (record.topic != NULL)
		outbox_append(work, &record);
}

/* Emits what happened to an order; the id by which others refer to it. */
pg_uuid_t
event_emit(Work *work, const Event *event)
{
	StringInfoData json;
	pg_uuid_t	   id;

	Assert(event->order_id != NULL && event->type != NULL);
	event_new_id(&id);
	json_begin(&json, work, &id, event->type);
	json_text(&json, "order_id", event->order_id);
	json_text(&json, "user_id", event->user_id);
	json_text(&json, "activity_id", event->activity_id);
	json_text(&json, "payment_id", event->payment_id);
	json_text(&json, "reason", event->reason);
	/* Zero is what an initializer leaves out. */
	if (event->expires_at != 0 && event->expires_at != DT_NOEND)
		json_text(&json, "expires_at", event_time(event->expires_at));
	if (event->replayed)
		appendStringInfoString(&json, ",\"replayed\":true");
	json_items(&json, event);
	json_end(&json, work);
	event_append(work, event->topic ? event->topic : TOPIC_EVENTS, event->type,
				 event->order_id, &id, &json);
	return id;
}

/* Emits the level that the movements made of which no event speaks yet. */
void
event_emit_level(Work *work, Level *level, const char *kind,
				 const char *reference)
{
	StringInfoData json;
	pg_uuid_t	   id;
	Level		   sum = level_sum(level);

	event_new_id(&id);
	json_begin(&json, work, &id, "StockLevelChanged");
	json_text(&json, "product_id", level->product_id);
	json_text(&json, "location", level->location);
	json_int64(&json, "on_hand", level_on_hand(work, level));
	json_int64(&json, "available", level_available(level));
	json_int64(&json, "version", sum.version);
	json_text(&json, "kind", kind);
	json_text(&json, "reference", reference);
	json_end(&json, work);
	event_append(work, TOPIC_EVENTS, "StockLevelChanged", level->product_id,
				 &id, &json);
	stock_link_event(work, 0, &id);
}

/* Emits that an incoming order was refused. */
void
event_emit_refusal(Work *work, const char *order_id, const char *user_id,
				   const char *reason, List *results, bool replayed)
{
	Event event = {
		.type = "StockReserveFailed",
		.topic = TOPIC_FAILURES,
		.order_id = order_id,
		.user_id = user_id,
		.reason = reason,
		.replayed = replayed,
		.wanted = true,
		.items = results,
	};

	event_emit(work, &event);
}
