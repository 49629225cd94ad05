/*
 * placement.h - where reading of a partition begins
 *
 * Pure.  The database says which offset is next and what the record before it
 * was; the broker says which offsets there are.  A history that is another one
 * than was read is read from its start: what of it was applied before is a
 * duplicate, for ids without one of their own are made of the record.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_PLACEMENT_H
#define PGSTOCK_KAFKA_PLACEMENT_H

#include "common/util.h"

typedef struct PlacementFacts
{
	int64_t next;	 /* what the database wants; 0: it does not know */
	bool	refuted; /* the record before that is another one */
	int64_t first;	 /* the broker's first offset; -1: not known */
	int64_t end;	 /* ... and the one that comes next */
} PlacementFacts;

typedef enum PlacementKind
{
	PLACEMENT_READ,	 /* from "from" on */
	PLACEMENT_PROVE, /* the same; the first one was applied, and is proof */
	PLACEMENT_MOVE,	 /* the database has to go to "from" */
	PLACEMENT_WAIT,	 /* for what the broker says */
} PlacementKind;

typedef struct Placement
{
	PlacementKind kind;
	int64_t		  from;
	const char	 *reason;		/* to move: "retention" or "history" */
	int64_t		  last_missing; /* ... for retention */
} Placement;

Placement placement_decide(const PlacementFacts *facts);

#endif
