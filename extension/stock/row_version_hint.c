/*-------------------------------------------------------------------------
 *
 * stock/row_version_hint.c
 *	  Where the newest version of a level's row was seen last.
 *
 * While a session holds a snapshot (pg_dump, a report), no version of a hot row
 * can be removed, and the index leads to all of them: a look-up visits
 * thousands.  So this session notes where it locked a level, and begins there:
 * from that version on the table itself leads to the newer ones.  A look that
 * locks nothing (availability.c) notes it too, because to descend the index is
 * a third of its own work.
 *
 * It is only a hint.  A row that the snapshot sees and that has the key is the
 * row, wherever it was found, for the key is unique.  In any other case (the
 * version was cleaned up, its place taken by another row, the table rewritten)
 * the index is searched.  A note is good for a moment only, so that there are
 * few versions to go through, and in READ COMMITTED only, so that SERIALIZABLE
 * sees every read of the index.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "stock/stock.h"

#define NOTES_MAX	1024 /* levels that a session looks at in NOTE_AGE_MS */
#define NOTE_AGE_MS 1000

typedef struct Note
{
	uint32			hash; /* of the level's key */
	ItemPointerData tid;
	TimestampTz		noted_at; /* 0: none */
} Note;

static Note notes[NOTES_MAX];

static uint32
row_version_hint_hash(const Level *level)
{
	uint32 hash = DatumGetUInt32(
		hash_any((const unsigned char *) level->product_id,
				 strlen(level->product_id)));

	return hash_combine(hash,
						DatumGetUInt32(
							hash_any((const unsigned char *) level->location,
									 strlen(level->location)))) +
		   level->slot;
}

/* Notes where a level was just locked, or read. */
void
row_version_hint_note(const Call *call, const Level *level)
{
	uint32 hash = row_version_hint_hash(level);
	Note  *note = &notes[hash % NOTES_MAX];

	Assert(level->known && !level->is_new);
	Assert(ItemPointerIsValid(&level->tid));
	note->hash = hash;
	note->tid = level->tid;
	note->noted_at = call->now;
}

/* Follows a row to the version that the snapshot sees. */
static bool
row_version_hint_follow(Table *table, ItemPointer tid)
{
	Snapshot	  snapshot = GetActiveSnapshot();
	TableScanDesc scan = table_beginscan_tid(table->rel, snapshot);
	bool		  valid = table_tuple_tid_valid(scan, tid);

	if (valid)
		table_tuple_get_latest_tid(scan, tid);
	table_endscan(scan);
	return valid && table_tuple_fetch_row_version(table->rel, tid, snapshot,
												  table->slot);
}

/* Brings the level's row into the table's slot, if we know where it is. */
bool
row_version_hint_find(const Call *call, Table *table, const Level *level)
{
	uint32			hash = row_version_hint_hash(level);
	Note		   *note = &notes[hash % NOTES_MAX];
	ItemPointerData tid = note->tid;

	Assert(!level->locked);
	if (note->noted_at == 0 || note->hash != hash ||
		IsolationUsesXactSnapshot())
		return false;
	if (TimestampDifferenceExceeds(note->noted_at, call->now, NOTE_AGE_MS) ||
		!row_version_hint_follow(table, &tid))
	{
		note->noted_at = 0;
		return false;
	}
	slot_getallattrs(table->slot);
	return level_key_compare(level->product_id, level->location,
							 row_get_text(table->slot, LEVEL_PRODUCT),
							 row_get_text(table->slot, LEVEL_LOCATION)) == 0 &&
		   row_get_int32(table->slot, LEVEL_SLOT) == level->slot;
}
