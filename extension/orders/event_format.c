/*-------------------------------------------------------------------------
 *
 * orders/event_format.c
 *	  How a stock event is published: its topic, the name of its type, and the
 *	  names of its members.
 *
 * What set_event_topic() and set_event_format() have written is kept in memory,
 * because it is needed for every event and hardly ever changes.  Who changes
 * one of the two tables, by these functions, SQL or a restore, also invalidates
 * it in the relation caches of all sessions (event_settings_changed(), by the
 * tables' triggers), and that discards what is kept.  PostgreSQL delivers these
 * invalidations to the session itself after the command, when a transaction or
 * subtransaction is rolled back, and to the others once it has committed.  They
 * are accepted before each use, so a setting holds from the next event on.
 *
 * It is read with the latest snapshot, not that of the call: what is kept
 * outlives the call, and may not be older than the invalidations that were
 * accepted before it was read.
 *
 * A type's own row comes before that of all types ("*"), each setting by
 * itself.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "orders/orders.h"
#include "outbox/outbox.h"

PG_FUNCTION_INFO_V1(pgstock_event_settings_changed);

/* Columns, as sql/outbox_tables.sql has them. */
enum
{
	TOPIC_TYPE = 1,
	TOPIC_TOPIC,
	TOPIC_COLUMNS = TOPIC_TOPIC
};

enum
{
	FORMAT_TYPE = 1,
	FORMAT_NAME,
	FORMAT_MEMBERS,
	FORMAT_COLUMNS = FORMAT_MEMBERS
};
StaticAssertDecl((int) TOPIC_TYPE == (int) FORMAT_TYPE,
				 "both tables are searched by the same column");

#define ALL_TYPES "*"
#define CAMEL	  "camelCase"

/* A row of either table; its texts by column, NULL for null. */
typedef struct Setting
{
	const char *texts[FORMAT_COLUMNS + 1];
} Setting;

static struct
{
	MemoryContext context;
	List		 *topics;  /* of Setting */
	List		 *formats; /* of Setting */
	Oid			  oids[2]; /* of their tables */
	uint64		  changes; /* invalidations so far, and one */
	uint64		  read_at; /* changes, when both lists were read */
} event_settings = {.changes = 1};

/* ---- Kept in memory ---- */

/* Relation oid has changed; InvalidOid: any may have. */
static void
event_settings_on_change(Datum arg, Oid oid)
{
	if (oid == InvalidOid || oid == event_settings.oids[0] ||
		oid == event_settings.oids[1])
		event_settings.changes++;
}

void
event_format_init(void)
{
	CacheRegisterRelcacheCallback(event_settings_on_change, (Datum) 0);
}

/* All rows of a table with so many columns of text. */
static List *
event_settings_read(Oid oid, int columns)
{
	Relation	rel = table_open(oid, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	List	   *settings = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Setting *setting = palloc0(sizeof(Setting));

		for (int i = 1; i <= columns; i++)
		{
			bool  isnull;
			Datum value = heap_getattr(tuple, i, RelationGetDescr(rel),
									   &isnull);

			setting->texts[i] = isnull ? NULL : TextDatumGetCString(value);
		}
		settings = lappend(settings, setting);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return settings;
}

/*
 * Reads both tables again.  What is invalidated meanwhile, or an error, leaves
 * the settings to be read by the next call.
 */
static void
event_settings_load(void)
{
	uint64		  changes = event_settings.changes;
	MemoryContext context;

	if (event_settings.context == NULL)
		event_settings.context = AllocSetContextCreate(TopMemoryContext,
													   "pgstock event settings",
													   ALLOCSET_SMALL_SIZES);
	event_settings.oids[0] = relation_get_oid("event_topic");
	event_settings.oids[1] = relation_get_oid("event_format");
	context = MemoryContextSwitchTo(event_settings.context);
	event_settings.read_at = 0;
	MemoryContextReset(event_settings.context);
	event_settings.topics = event_settings_read(event_settings.oids[0],
												TOPIC_COLUMNS);
	event_settings.formats = event_settings_read(event_settings.oids[1],
												 FORMAT_COLUMNS);
	MemoryContextSwitchTo(context);
	Assert(changes <= event_settings.changes);
	event_settings.read_at = changes;
}

/*
 * event_settings_changed() RETURNS trigger
 *
 * AFTER a statement that changes one of the tables: all sessions read them
 * again, once this transaction has committed.
 */
Datum
pgstock_event_settings_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("event_settings_changed must be a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}

/* ---- The format of an event ---- */

static const Setting *
event_settings_find(List *settings, const char *type)
{
	ListCell *cell;

	foreach(cell, settings)
	{
		const Setting *setting = lfirst(cell);

		Assert(setting->texts[TOPIC_TYPE] != NULL); /* the primary key */
		if (strcmp(setting->texts[TOPIC_TYPE], type) == 0)
			return setting;
	}
	return NULL;
}

/* What a row sets for the members' names, or NULL. */
static const char *
event_format_members(const Setting *setting)
{
	return setting ? setting->texts[FORMAT_MEMBERS] : NULL;
}

/*
 * How an event of a type of ours is published, whose topic is by default the
 * given one.  What it refers to is valid until the next event's format is
 * looked up.
 */
void
event_format_find(const char *type, const char *topic, EventFormat *format)
{
	const Setting *setting;
	const char	  *members;

	AcceptInvalidationMessages();
	if (event_settings.read_at != event_settings.changes)
		event_settings_load();
	*format = (EventFormat){.topic = topic, .name = type};
	if (event_settings.topics != NIL)
	{
		setting = event_settings_find(event_settings.topics, type);
		if (setting == NULL)
			setting = event_settings_find(event_settings.topics, ALL_TYPES);
		if (setting != NULL)
			format->topic = setting->texts[TOPIC_TOPIC];
	}
	if (event_settings.formats != NIL)
	{
		setting = event_settings_find(event_settings.formats, type);
		if (setting != NULL && setting->texts[FORMAT_NAME] != NULL)
			format->name = setting->texts[FORMAT_NAME];
		members = event_format_members(setting);
		if (members == NULL)
			members = event_format_members(
				event_settings_find(event_settings.formats, ALL_TYPES));
		format->camel = members != NULL && strcmp(members, CAMEL) == 0;
	}
}
