/*
 * start_offset.h - where reading of a partition begins
 *
 * Pure.  The database has the next offset and the fingerprint of the record
 * before it; the broker has the offsets that exist.  Another history than the
 * one read before is read from its start: messages of it that were applied
 * before are duplicates, because a message without an id gets one made of its
 * record.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_START_OFFSET_H
#define PGSTOCK_KAFKA_START_OFFSET_H

#include "common/util.h"

typedef struct StartFacts
{
	int64_t next;	 /* the database's; 0: it has none */
	bool	refuted; /* the record before that is another one */
	int64_t first;	 /* the broker's first offset; -1: not known */
	int64_t end;	 /* ... and its next one */
} StartFacts;

typedef enum StartKind
{
	START_READ,	 /* from "from" on */
	START_PROVE, /* the same; the first one was applied, and is proof */
	START_MOVE,	 /* the database has to go to "from" */
	START_WAIT,	 /* for the broker's answer */
} StartKind;

typedef struct StartOffset
{
	StartKind	kind;
	int64_t		from;
	const char *reason;		  /* to move: "retention" or "history" */
	int64_t		last_missing; /* ... for retention */
} StartOffset;

StartOffset start_offset_decide(const StartFacts *facts);

#endif
