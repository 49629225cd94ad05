/*-------------------------------------------------------------------------
 *
 * orders/stock_event.c
 *	  Writes a stock event as the JSON that consumers of Kafka read.
 *
 * Written by hand into a buffer: no jsonb is built and torn down.  Key order is
 * the one in docs/events.md.  event_format.c decides the topic, the name of the
 * type and how members are named.
 *
 * No call and no message may fail because its answer is larger than a record
 * may be.  So an order's event that is too large is published in numbered
 * parts, each an event with items of its own; and if the attributes of an
 * incoming message leave no room for items, they are left out.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "utils/rel.h"

#include "orders/orders.h"
#include "outbox/outbox.h"

/* ---- JSON ---- */

/* The JSON of an event, and how the names of its members are written. */
typedef struct EventJson
{
	StringInfoData text;
	bool		   camel; /* orderId, not order_id */
} EventJson;

/* A name with its quotes and colon, from snake_case. */
static void
event_json_name(EventJson *json, const char *name)
{
	appendStringInfoChar(&json->text, '"');
	if (json->camel)
	{
		for (; *name != '\0'; name++)
		{
			if (name[0] == '_' && name[1] != '\0')
				appendStringInfoChar(&json->text, pg_ascii_toupper(*++name));
			else
				appendStringInfoChar(&json->text, *name);
		}
	}
	else
		appendStringInfoString(&json->text, name);
	appendStringInfoString(&json->text, "\":");
}

/* Begins a member that is not the first. */
static void
event_json_member(EventJson *json, const char *name)
{
	appendStringInfoChar(&json->text, ',');
	event_json_name(json, name);
}

static void
event_json_text(EventJson *json, const char *name, const char *value)
{
	if (value == NULL)
		return;
	event_json_member(json, name);
	escape_json(&json->text, value);
}

static void
event_json_int64(EventJson *json, const char *name, int64 value)
{
	event_json_member(json, name);
	appendStringInfo(&json->text, INT64_FORMAT, value);
}

/*
 * JSON of our own, with its names: no string that is a value has a colon
 * behind it.
 */
static void
event_json_own(EventJson *json, const char *name, const char *value)
{
	event_json_member(json, name);
	if (!json->camel)
	{
		appendStringInfoString(&json->text, value);
		return;
	}
	while (*value != '\0')
	{
		const char *end = value + 1;

		CHECK_FOR_INTERRUPTS();
		if (*value == '"')
		{
			for (; *end != '"'; end++)
				end += *end == '\\';
			end++;
		}
		if (*value == '"' && *end == ':')
		{
			event_json_name(json, pnstrdup(value + 1, end - value - 2));
			end++;
		}
		else
			appendBinaryStringInfo(&json->text, value, end - value);
		value = end;
	}
}

static void
event_json_begin(EventJson *json, Call *call, const EventFormat *format,
				 const pg_uuid_t *id)
{
	char hex[2 * UUID_LEN];

	StaticAssertStmt(8 + 3 * 4 + 12 == sizeof(hex), "all digits are written");
	hex_encode((const char *) id->data, UUID_LEN, hex);
	initStringInfo(&json->text);
	json->camel = format->camel;
	appendStringInfoChar(&json->text, '{');
	event_json_name(json, "event_id");
	appendStringInfo(&json->text, "\"%.8s-%.4s-%.4s-%.4s-%.12s\"", hex, hex + 8,
					 hex + 12, hex + 16, hex + 20);
	event_json_text(json, "event_type", format->name);
	event_json_int64(json, "event_version", 1);
	event_json_text(json, "timestamp", rfc3339_from_time(call->now));
}

static void
event_json_end(EventJson *json, Call *call, bool with_attributes)
{
	event_json_text(json, "trace_id", call->trace_id);
	event_json_text(json, "causation_id", call->causation_id);
	if (call->attributes != NULL && with_attributes)
	{
		event_json_member(json, "attributes");
		appendStringInfoString(&json->text, call->attributes);
	}
	appendStringInfoChar(&json->text, '}');
}

/* What was left out is named. */
static void
event_json_cut(EventJson *json, const Call *call, const Event *event)
{
	if (call->attributes == NULL && event->differs == NULL)
		return;
	event_json_member(json, "cut");
	appendStringInfo(&json->text, "[%s%s%s]",
					 event->differs ? "\"differs\"" : "",
					 event->differs && call->attributes ? "," : "",
					 call->attributes ? "\"attributes\"" : "");
}

static void
event_json_item(EventJson *json, const Event *event, const Answer *item)
{
	Assert(item->product_id != NULL && item->location != NULL);
	appendStringInfoChar(&json->text, '{');
	event_json_name(json, "product_id");
	escape_json(&json->text, item->product_id);
	event_json_text(json, "location", item->location);
	event_json_int64(json, "quantity", item->requested);
	if (event->wanted)
	{
		event_json_int64(json, "wanted", item->requested);
		event_json_int64(json, "available", item->available);
		event_json_text(json, "status", answer_status_text(item->status));
	}
	event_json_int64(json, "remaining_stock", item->available);
	event_json_int64(json, "version", item->version);
	event_json_text(json, "activity_id", item->activity_id);
	appendStringInfoChar(&json->text, '}');
}

/* What of an event one record holds. */
typedef struct Part
{
	pg_uuid_t id;
	int		  number; /* from 1; of one: it is the whole event */
	int		  count;
	int		  first; /* of the items */
	int		  n;
	bool	  leave_out; /* what an incoming message has brought along */
} Part;

static void
event_json_items(EventJson *json, const Event *event, const Part *part)
{
	Assert(part->first >= 0 && part->n >= 0);
	event_json_member(json, "items");
	appendStringInfoChar(&json->text, '[');
	Assert(part->first + part->n <= list_length(event->items));
	for (int i = part->first; i < part->first + part->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i > part->first)
			appendStringInfoChar(&json->text, ',');
		event_json_item(json, event, list_nth(event->items, i));
	}
	appendStringInfoChar(&json->text, ']');
}

/* The record of an event; false if its type is not written. */
static bool
event_record_new(Call *call, const EventFormat *format, const char *key,
				 const pg_uuid_t *id, const EventJson *json,
				 OutboxRecord *record)
{
	*record = (OutboxRecord){
		.event_id = *id,
		.topic = format->topic,
		.event_type = format->name,
		.key = key,
		.key_len = strlen(key),
		.payload = json->text.data,
		.payload_len = json->text.len,
		.traceparent = call->traceparent,
		.format = 'j',
	};
	outbox_record_to_utf8(record);
	return record->topic != NULL;
}

/* The state in which an event of this type leaves a reservation; 0: none. */
static char
event_ends(const char *type)
{
	static const struct
	{
		const char *type;
		LineState	state;
	} ends[] = {
		{"StockConfirmed", LINE_CONFIRMED},
		{"StockReleased", LINE_RELEASED},
		{"StockRolledBack", LINE_ROLLED_BACK},
		{"StockReturned", LINE_RETURNED},
		{"StockExpired", LINE_EXPIRED},
		{"StockShortfall", LINE_SHORTFALL},
	};

	for (int i = 0; i < lengthof(ends); i++)
	{
		if (strcmp(ends[i].type, type) == 0)
			return (char) ends[i].state;
	}
	return 0;
}

/* The same for a part of an order's event. */
static bool
event_part_record(Call *call, const Event *event, const EventFormat *format,
				  const Part *part, OutboxRecord *record)
{
	EventJson json;

	Assert(part->number >= 1 && part->number <= part->count);
	event_json_begin(&json, call, format, &part->id);
	if (part->count > 1)
	{
		event_json_int64(&json, "part", part->number);
		event_json_int64(&json, "parts", part->count);
	}
	event_json_text(&json, "order_id", event->order_id);
	event_json_text(&json, "user_id", event->user_id);
	event_json_text(&json, "activity_id", event->activity_id);
	event_json_text(&json, "payment_id", event->payment_id);
	event_json_text(&json, "reason", event->reason);
	/* Zero is what an initializer leaves out. */
	if (event->expires_at != 0 && event->expires_at != DT_NOEND)
		event_json_text(&json, "expires_at",
						rfc3339_from_time(event->expires_at));
	if (event->replayed)
	{
		event_json_member(&json, "replayed");
		appendStringInfoString(&json.text, "true");
	}
	if (event->differs != NULL && !part->leave_out)
		event_json_own(&json, "differs", event->differs);
	event_json_items(&json, event, part);
	if (part->leave_out)
		event_json_cut(&json, call, event);
	event_json_end(&json, call, !part->leave_out);
	if (!event_record_new(call, format, event->order_id, &part->id, &json,
						  record))
		return false;
	record->ends = event_ends(event->type);
	return true;
}

/* ---- An event that is too large ---- */

/* What of a record is left for items; of none, room for the numbers is left. */
static int
event_item_room(Call *call, const Event *event, const EventFormat *format,
				bool leave_out)
{
	Part none = {.number = INT_MAX, .count = INT_MAX, .leave_out = leave_out};
	OutboxRecord record;

	(void) event_part_record(call, event, format, &none, &record);
	return pgstock_max_event_bytes - outbox_record_bytes(&record);
}

/* The bytes of each item as published, its comma included; the largest. */
static int
event_item_sizes(const Event *event, const EventFormat *format, int *sizes)
{
	EventJson json = {.camel = format->camel};
	ListCell *cell;
	int		  most = 0;

	initStringInfo(&json.text);
	foreach(cell, event->items)
	{
		int *size = &sizes[foreach_current_index(cell)];

		CHECK_FOR_INTERRUPTS();
		resetStringInfo(&json.text);
		event_json_item(&json, event, lfirst(cell));
		(void) text_to_utf8(json.text.data, json.text.len, size);
		*size += 1;
		most = Max(most, *size);
	}
	return most;
}

/*
 * Cuts the event's items into parts that fit, or that have one item; the
 * number of parts.
 */
static int
event_cut_into_parts(Call *call, const Event *event, const EventFormat *format,
					 Part *parts)
{
	int	 items = list_length(event->items);
	int *sizes = palloc(sizeof(int) * Max(1, items));
	int	 most = event_item_sizes(event, format, sizes);
	int	 room = event_item_room(call, event, format, false);
	bool leave_out = room < most;
	int	 left;
	int	 n = 0;

	if (leave_out)
		room = event_item_room(call, event, format, true);
	left = room;
	parts[0] = (Part){.leave_out = leave_out};
	for (int i = 0; i < items; i++)
	{
		if (parts[n].n > 0 && sizes[i] > left)
		{
			parts[++n] = (Part){.first = i, .leave_out = leave_out};
			left = room;
		}
		parts[n].n++;
		left -= sizes[i];
	}
	Assert(n < Max(1, items));
	Assert(parts[n].first + parts[n].n == items);
	return n + 1;
}

/* Links the movements of a part's items to the part's event. */
static void
event_link_part(Work *work, const Event *event, const Part *part)
{
	const Answer *first = list_nth(event->items, part->first);
	const Answer *last = list_nth(event->items, part->first + part->n - 1);
	ListCell	 *cell;

	Assert(part->n > 0 && part->number > 1);
	CHECK_FOR_INTERRUPTS();
	foreach(cell, work->movements)
	{
		Movement	*movement = lfirst(cell);
		const Level *level = movement->level;

		if (movement->has_event || movement->no_event ||
			level_key_compare(level->product_id, level->location,
							  first->product_id, first->location) < 0 ||
			level_key_compare(level->product_id, level->location,
							  last->product_id, last->location) > 0)
			continue;
		movement_set_event(movement, &part->id);
	}
}

/* Each part is an event: its id, the event's key, and in their order. */
static void
event_emit_parts(Work *work, const Event *event, const EventFormat *format,
				 const pg_uuid_t *first_id)
{
	Part *parts = palloc(sizeof(Part) * Max(1, list_length(event->items)));
	int	  count = event_cut_into_parts(&work->call, event, format, parts);

	for (int i = 0; i < count; i++)
	{
		OutboxRecord record;

		parts[i].number = i + 1;
		parts[i].count = count;
		if (i == 0)
			parts[i].id = *first_id;
		else
			uuid_generate(&parts[i].id);
		if (!event_part_record(&work->call, event, format, &parts[i], &record))
			return;
		record.is_minimal = true;
		outbox_append(&work->call, &record);
		/* The caller links those of the first part, by the id it gets. */
		if (i > 0)
			event_link_part(work, event, &parts[i]);
	}
}

/*
 * Emits what happened to an order; the id by which others refer to it, which
 * is that of the first part if there are more.
 */
pg_uuid_t
event_emit(Work *work, const Event *event)
{
	Part whole = {.number = 1, .count = 1, .n = list_length(event->items)};
	OutboxRecord record;
	EventFormat	 format;

	Assert(event->order_id != NULL && event->type != NULL);
	uuid_generate(&whole.id);
	event_format_find(event->type, event->topic ? event->topic : TOPIC_EVENTS,
					  &format);
	if (!event_part_record(&work->call, event, &format, &whole, &record))
		return whole.id;
	if (outbox_record_bytes(&record) <= pgstock_max_event_bytes)
	{
		record.by_movement = event->by_movement;
		outbox_append(&work->call, &record);
	}
	else
		event_emit_parts(work, event, &format, &whole.id);
	return whole.id;
}

/*
 * Emits what happened to an order, and links its movements from the given one
 * on to that event.
 */
void
event_emit_movements(Work *work, Event *event, int first_movement)
{
	pg_uuid_t id;

	event->by_movement = ledger_has_unlinked(work, first_movement,
											 event->order_id);
	id = event_emit(work, event);
	ledger_link_event(work, first_movement, &id);
}

/* Emits the level that the movements made of which no event speaks yet. */
void
event_emit_level(Work *work, Level *level, const char *kind,
				 const char *reference)
{
	EventJson	 json;
	pg_uuid_t	 id;
	OutboxRecord record;
	EventFormat	 format;
	Level		 sum = level_sum(level);

	Assert(work->levels_locked && level->first == level);
	uuid_generate(&id);
	event_format_find("StockLevelChanged", TOPIC_EVENTS, &format);
	event_json_begin(&json, &work->call, &format, &id);
	event_json_text(&json, "product_id", level->product_id);
	event_json_text(&json, "location", level->location);
	event_json_int64(&json, "on_hand", level_on_hand(work, level));
	event_json_int64(&json, "available", level_available(level));
	event_json_int64(&json, "version", sum.version);
	event_json_text(&json, "kind", kind);
	event_json_text(&json, "reference", reference);
	event_json_end(&json, &work->call, true);
	if (event_record_new(&work->call, &format, level->product_id, &id, &json,
						 &record))
	{
		record.is_minimal = true;
		record.by_movement = true;
		outbox_append(&work->call, &record);
	}
	ledger_link_event(work, 0, &id);
}

/* Emits that an incoming order was refused. */
void
event_emit_refusal(Work *work, const char *order_id, const char *user_id,
				   const char *reason, List *results, bool replayed,
				   const char *differs)
{
	Event event = {
		.type = "StockReserveFailed",
		.topic = TOPIC_FAILURES,
		.order_id = order_id,
		.user_id = user_id,
		.reason = reason,
		.differs = differs,
		.replayed = replayed,
		.wanted = true,
		.items = results,
	};

	event_emit(work, &event);
}
