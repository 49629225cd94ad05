/*-------------------------------------------------------------------------
 *
 * base/settings.c
 *	  The settings, pgstock.*: docs/sql-api.md has their meaning.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"
#include "utils/memutils.h"

#include "base/base.h"

#define HANDLER_MS_MAX	45000
#define ANSWER_MS_MAX	60000 /* the relay takes a later one for lost */
#define EVENT_BYTES_MIN 1024
#define EVENT_BYTES_MAX (100 * 1024 * 1024)
#define LINES_MAX		100000

StaticAssertDecl(HANDLER_MS_MAX < ANSWER_MS_MAX,
				 "a handler ends before the relay takes its answer for lost");
StaticAssertDecl(EVENT_BYTES_MAX < MaxAllocSize,
				 "the largest event can be built in memory");
StaticAssertDecl(LINES_MAX < MaxAllocSize / sizeof(void *),
				 "the lines of a request fit into a list");

int	  pgstock_reservation_ttl; /* seconds, 0: never ends */
bool  pgstock_early_lock_release;
bool  pgstock_notify;
int	  pgstock_max_lines;
int	  pgstock_max_event_bytes;
int	  pgstock_history_retention;   /* seconds, 0: keeps all */
int	  pgstock_confirmed_retention; /* seconds, 0: keeps all */
int	  pgstock_hanging_after;	   /* seconds */
int	  pgstock_handler_timeout;	   /* milliseconds */
int	  pgstock_clock_tolerance;	   /* milliseconds */
char *pgstock_trace_id;
char *pgstock_actor;
bool  pgstock_track_calls;

/* of pgstock_front, which reads it by its name: see below */
static bool front_autonomous;

static void
settings_define_stock(void)
{
	DefineCustomIntVariable("pgstock.reservation_ttl",
							"How long a reservation without a ttl lasts.",
							"0 means that it never expires.",
							&pgstock_reservation_ttl, 30 * 60, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	/* The lines of a request are locked together: this protects others. */
	DefineCustomIntVariable("pgstock.max_lines",
							"The most lines that one request may have.", NULL,
							&pgstock_max_lines, 1000, 1, LINES_MAX, PGC_SUSET,
							0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgstock.history_retention",
		"How long movements and ended reservations are kept.", "0 keeps all.",
		&pgstock_history_retention, 90 * 86400, 0, INT_MAX, PGC_SIGHUP,
		GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgstock.confirmed_retention",
		"How long orders are kept after they were confirmed.", "0 keeps all.",
		&pgstock_confirmed_retention, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S,
		NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgstock.hanging_after",
		"Age from which an open reservation or a waiting message hangs.",
		"stock_hanging_orders shows them.", &pgstock_hanging_after, 3600, 1,
		INT_MAX, PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	/* At most: the relay takes an answer that is a minute late for lost. */
	DefineCustomIntVariable("pgstock.handler_timeout",
							"How long one call of a registered handler may "
							"take.",
							NULL, &pgstock_handler_timeout, 10000, 1,
							HANDLER_MS_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL,
							NULL);
	DefineCustomIntVariable("pgstock.clock_tolerance",
							"By how much the clocks of services may differ.",
							"An incoming cancellation or failure that is older "
							"than the order's present attempt by more than "
							"this is stale.",
							&pgstock_clock_tolerance, 5000, 0, 86400000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"pgstock.actor", "The actor that the ledger records beside the role.",
		"Appended to the role's name after a slash.", &pgstock_actor, "",
		PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgstock.track_calls",
							 "Counts calls, for stock_statistics.", NULL,
							 &pgstock_track_calls, true, PGC_SUSET, 0, NULL,
							 NULL, NULL);
}

/*
 * The front of several shards is a module of its own.  It is set without being
 * defined where pgstock is not loaded; where it is, it reserves the prefix.
 */
static void
settings_define_front(void)
{
	DefineCustomBoolVariable("pgstock.front_autonomous",
							 "Calls of a front commit by themselves, also in a "
							 "transaction block.",
							 NULL, &front_autonomous, false, PGC_USERSET, 0,
							 NULL, NULL, NULL);
}

static void
settings_define_outbox(void)
{
	DefineCustomBoolVariable("pgstock.early_lock_release",
							 "Releases row locks before the commit is flushed.",
							 "The client still waits for the flush.",
							 &pgstock_early_lock_release, true, PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("pgstock.notify",
							 "Wakes the relay when an event commits.",
							 "When off, the relay finds events by polling.",
							 &pgstock_notify, true, PGC_USERSET, 0, NULL, NULL,
							 NULL);
	DefineCustomIntVariable("pgstock.max_event_bytes",
							"The largest event, with its key and headers.",
							"The topics' max.message.bytes must take it.",
							&pgstock_max_event_bytes, 1000000, EVENT_BYTES_MIN,
							EVENT_BYTES_MAX, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"pgstock.trace_id", "The trace id of every event of the transaction.",
		"A W3C traceparent is recognised.", &pgstock_trace_id, "", PGC_USERSET,
		0, NULL, NULL, NULL);
}

void
settings_init(void)
{
	settings_define_stock();
	settings_define_outbox();
	settings_define_front();
	MarkGUCPrefixReserved("pgstock");
}
