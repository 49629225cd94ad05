/*-------------------------------------------------------------------------
 *
 * inbox/inbox_row.c
 *	  The rows of table inbox: one for each message, and duplicates by them.
 *
 * A message whose id was seen before from its source is a duplicate, whatever
 * its body.  The row of the first one has the id in its column dedup_id; the
 * row of a duplicate names the first one.  The ids of a batch are locked while
 * it looks for them (batch_lock.c).
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "inbox/inbox.h"

enum
{
	INBOX_TOPIC = 1,
	INBOX_PARTITION,
	INBOX_OFFSET,
	INBOX_EVENT_ID,
	INBOX_DEDUP_ID,
	INBOX_KEY,
	INBOX_ORDER,
	INBOX_RESULT,
	INBOX_REASON,
	INBOX_TRACE_ID,
	INBOX_RECEIVED_AT,
	INBOX_SOURCE,
	INBOX_VALUE_HASH
};

/* ---- Rows ---- */

/* Finds the row of the first message with this source and id. */
static bool
inbox_row_find(Call *call, Table *table, const Parsed *parsed, ItemPointer tid)
{
	ScanKeyData keys[2];

	table_key_text(&keys[0], 1, parsed->event_id);
	table_key_text(&keys[1], 2, parsed->source);
	return table_find(call, table, "inbox_dedup", 2, keys, tid);
}

static void
inbox_row_fill(Call *call, const Message *message, TupleTableSlot *slot)
{
	const Record  *record = message->record;
	const Parsed  *parsed = &message->parsed;
	const Outcome *outcome = &message->outcome;
	int64		   hash = message_id_value_hash(record);

	Assert(parsed->event_id != NULL && parsed->source != NULL);
	Assert(outcome->original == NULL || outcome->kind == OUTCOME_DUPLICATE);
	row_put_text(slot, INBOX_TOPIC, record->topic);
	row_put(slot, INBOX_PARTITION, Int32GetDatum(record->partition));
	row_put(slot, INBOX_OFFSET, Int64GetDatum(record->offset));
	row_put_text(slot, INBOX_EVENT_ID, parsed->event_id);
	if (outcome->kind != OUTCOME_DUPLICATE)
		row_put_text(slot, INBOX_DEDUP_ID, parsed->event_id);
	row_put_bytes(slot, INBOX_KEY, record->key);
	row_put_text(slot, INBOX_ORDER, parsed->order_id);
	row_put_text(slot, INBOX_RESULT, outcome_text(outcome->kind));
	row_put_text(slot, INBOX_REASON,
				 outcome->original ? outcome->original : outcome->reason);
	row_put_text(slot, INBOX_TRACE_ID, parsed->trace_id);
	row_put(slot, INBOX_RECEIVED_AT, TimestampTzGetDatum(call->now));
	row_put_text(slot, INBOX_SOURCE, parsed->source);
	row_put(slot, INBOX_VALUE_HASH, Int64GetDatum(hash));
}

/* Inserts the row of a message that has an outcome. */
void
inbox_row_insert(Call *call, const Message *message)
{
	Table *table = table_use(call, TABLE_INBOX);

	Assert(!message->outcome.has_row);
	inbox_row_fill(call, message, table_new_row(table));
	table_insert(call, table);
}

/* Updates the row of a message that waited; it may be past its retention. */
void
inbox_row_update(Call *call, const Message *message)
{
	Table		   *table = table_use(call, TABLE_INBOX);
	ItemPointerData tid;

	Assert(message->outcome.kind == OUTCOME_APPLIED ||
		   message->outcome.kind == OUTCOME_SKIPPED ||
		   message->outcome.kind == OUTCOME_DEAD);
	if (!inbox_row_find(call, table, &message->parsed, &tid))
		return;
	inbox_row_fill(call, message, table_new_row(table));
	table_update(call, table, &tid);
}

/* ---- Duplicates ---- */

/* Where the first message with an id stands, and the hash of its value. */
typedef struct First
{
	const char *topic;
	int			partition;
	int64		offset;
	int64		value_hash;
} First;

/*
 * The outcome of a duplicate.  The id counts, whatever the value; but if that
 * differs, two producers may number their events alike, so it is notable.
 */
static Outcome
inbox_row_duplicate(const Record *record, const First *first)
{
	bool is_same = strcmp(first->topic, record->topic) == 0 &&
				   first->value_hash == message_id_value_hash(record);
	Outcome outcome = {.kind = OUTCOME_DUPLICATE};

	Assert(first->topic != NULL);
	outcome.original = psprintf("%s%s %s/%d/" INT64_FORMAT,
								is_same ? ""
										: outcome_reason_text(REASON_ID_REUSED),
								is_same ? "seen before at" : ": it was that of",
								first->topic, first->partition, first->offset);
	if (!is_same)
		outcome_note(&outcome, REASON_ID_REUSED);
	return outcome;
}

static bool
inbox_row_is_of(TupleTableSlot *slot, const Record *record)
{
	return row_get_int64(slot, INBOX_OFFSET) == record->offset &&
		   row_get_int32(slot, INBOX_PARTITION) == record->partition &&
		   strcmp(row_get_text(slot, INBOX_TOPIC), record->topic) == 0;
}

/*
 * Whether a message was applied that is given up unparsed.  Parsing may be what
 * ends the process, so its id may be its place only.  Another relay may have
 * applied it meanwhile under its own id: then it has its row.
 */
static bool
inbox_row_is_past_unparsed(Call *call, const Message *message)
{
	return message->outcome.error_class == ERROR_CLASS_CRASH &&
		   offset_is_past(call, message->record);
}

/* Sets the outcome of a message whose id has a row. */
static void
inbox_row_find_duplicate(Call *call, Table *table, Message *message)
{
	TupleTableSlot *slot;
	ItemPointerData tid;
	First			first;

	if (!inbox_row_find(call, table, &message->parsed, &tid))
	{
		if (!inbox_row_is_past_unparsed(call, message))
			return;
		durability_fence_answer();
		message->outcome = (Outcome){.kind = OUTCOME_DUPLICATE,
									 .has_row = true};
		return;
	}
	durability_fence_answer();
	slot = table->slot;
	first = (First){.topic = row_get_text(slot, INBOX_TOPIC),
					.partition = row_get_int32(slot, INBOX_PARTITION),
					.offset = row_get_int64(slot, INBOX_OFFSET),
					.value_hash = row_get_int64(slot, INBOX_VALUE_HASH)};
	message->outcome = inbox_row_duplicate(message->record, &first);
	/*
	 * The very same record, read again, has its row.  If it was a duplicate
	 * then too, that row is another one than the one found.
	 */
	message->outcome.has_row = inbox_row_is_of(slot, message->record) ||
							   offset_is_past(call, message->record);
}

/* Sets the outcome of messages whose ids were seen in earlier batches. */
void
inbox_row_find_duplicates(Call *call, List *messages)
{
	Table	 *table = table_use(call, TABLE_INBOX);
	ListCell *cell;

	foreach(cell, messages)
	{
		Message *message = lfirst(cell);

		if (!message->parsed.is_redriven ||
			message->outcome.kind == OUTCOME_DUPLICATE ||
			!failed_event_redrive(call, message))
			inbox_row_find_duplicate(call, table, message);
	}
}

/* Sets the outcome of messages whose ids stand twice in this batch. */
void
inbox_row_find_duplicates_in_batch(List *messages)
{
	typedef struct Seen
	{
		char		   id[MESSAGE_ID_TEXT_BYTES];
		const Message *message;
	} Seen;
	HASHCTL control = {.keysize = MESSAGE_ID_TEXT_BYTES,
					   .entrysize = sizeof(Seen)};
	HTAB   *ids = hash_create("ids of a batch", list_length(messages), &control,
							  HASH_ELEM | HASH_STRINGS);
	ListCell *cell;

	foreach(cell, messages)
	{
		Message		 *message = lfirst(cell);
		char		 *id = message_id_text(&message->parsed);
		bool		  found;
		Seen		 *seen = hash_search(ids, id, HASH_ENTER, &found);
		const Record *record;
		First		  first;

		if (!found)
		{
			seen->message = message;
			continue;
		}
		record = seen->message->record;
		first = (First){.topic = record->topic,
						.partition = record->partition,
						.offset = record->offset,
						.value_hash = message_id_value_hash(record)};
		message->outcome = inbox_row_duplicate(message->record, &first);
	}
	hash_destroy(ids);
}
