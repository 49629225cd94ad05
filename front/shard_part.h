/*-------------------------------------------------------------------------
 *
 * shard_part.h
 *	  A step of an order over shards, and its row, pgstock_shard.order_part.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef SHARD_PART_H
#define SHARD_PART_H

#include "postgres.h"

#include "utils/array.h"

/* The columns of pgstock_shard.part_step_call. */
enum
{
	STEP_SHARDS,
	STEP_PARTS,
	STEP_ROLE,
	STEP_TRACE,
	STEP_ACTOR,
	STEP_ORDER,
	STEP_SAGA,
	STEP_NUMBER,
	STEP_ORDER_SHARDS,
	STEP_VERB,
	STEP_ARGS,
	STEP_COLUMNS,
};

typedef enum Verb
{
	VERB_HOLD,
	VERB_KEEP,
	VERB_UNDO,
	VERB_CONFIRM,
	VERB_RELEASE,
	VERB_COMPENSATE,
	VERB_ROLLBACK,
	VERB_RETURN,
	VERB_EXTEND,
	VERBS,
} Verb;

/* What identifies a step of an order. */
typedef struct PartStep
{
	Datum order_id; /* text */
	int64 saga;
	int32 number;
	Datum verb;	  /* text */
	Datum shards; /* all that have a part */
} PartStep;

/* What is stored of the order's latest step. */
typedef struct PartRow
{
	bool  is_found;
	bool  is_held;
	int64 held; /* the saga to which lines here belong, if is_held */
	int64 saga;
	int32 step;
	char *verb;
	bool  is_answered;
	Datum answer; /* if is_answered */
} PartRow;

/* Which row the write of a step may replace. */
typedef enum PartOver
{
	PART_OVER_NONE,	   /* none: the order had no row when it was read */
	PART_OVER_EARLIER, /* that of an earlier step */
	PART_OVER_SAME,	   /* also that of the same step */
} PartOver;

/* What a function returned: its rows as texts, and what the first one says. */
typedef struct Rows
{
	ArrayBuildState *texts; /* NULL: it was not called */
	MemoryContext	 context;
	bool			 is_granted; /* something of its line */
	bool			 is_replayed;
} Rows;

/* A step, as it is taken. */
typedef struct Step
{
	Oid			  wrapper; /* the function that takes it */
	Oid			  answer_type;
	char		 *input; /* the call */
	NullableDatum columns[STEP_COLUMNS];
	PartStep	  id;
	Verb		  verb;
	bool		  is_begun; /* checks passed; before, only SK006 is stored */
	int			  function; /* of pgstock, that is called */
	Rows		  rows;
	Datum		  answer;
} Step;

/* shard_part_args.c */
extern const char	*shard_verb_name(Verb verb);
extern void			 shard_part_read_call(Step *step);
extern NullableDatum shard_part_member(const Step *step, const char *name);
extern bool			 shard_part_is_true(const Step *step, const char *name);
extern NullableDatum shard_part_lines(const Step *step);

/* shard_part_row.c */
extern void shard_part_read(Oid wrapper, const PartStep *step, PartRow *row);
extern void shard_part_touch(Oid wrapper, const PartStep *step);
extern bool shard_part_write(Oid wrapper, const PartStep *step, Datum answer,
							 bool is_held, PartOver over);

/* shard_part_act.c */
extern void shard_part_act(Step *step, const PartRow *row);

#endif /* SHARD_PART_H */
