/*-------------------------------------------------------------------------
 *
 * shard.h
 *	  What the files of the module pgstock_shard share.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef SHARD_H
#define SHARD_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

#include "both.h"

/* The last of the name of a function that a front calls, and of its type. */
#define CALL_SUFFIX "_call"

/* The columns of the type of a call, before the arguments of the function. */
enum
{
	CALL_SHARDS,
	CALL_ROLE,
	CALL_TRACE,
	CALL_ACTOR,
	CALL_ARGS,
};

/* An error which says that the versions of front and shard differ. */
#define VERSION_MESSAGE "the call does not match the function of this shard"
#define VERSION_HINT                                           \
	"pgstock_front.shard_status() shows the versions of each " \
	"shard: ALTER EXTENSION pgstock_shard UPDATE there."

#define COLUMNS_MAX (CALL_ARGS + FUNC_MAX_ARGS)

/* A function of pgstock, as this session calls it. */
typedef struct ShardFunction
{
	Oid		 oid;
	Oid		 result_type;
	int		 nargs;
	FmgrInfo write; /* a row of the result as a text */
} ShardFunction;

/* Takes a row, or a value, that a function has returned. */
typedef void (*ShardTakeRow)(void *taker, ShardFunction *function, Datum value,
							 bool is_null);

/* The type of a call, as this session reads it. */
typedef struct ShardCallType
{
	Oid		 oid;
	int		 ncolumns;
	Oid		 column_types[COLUMNS_MAX];
	FmgrInfo read; /* a text as a row */
} ShardCallType;

/* shard_function.c */
extern uint64 shard_generation;

extern void shard_watch_functions(void);
extern void shard_find_function(ShardFunction *function, const char *name,
								Oid wrapper, const Oid *types, int nargs);
extern void shard_invoke(ShardFunction *function, const NullableDatum *args,
						 ShardTakeRow take, void *taker);

/* shard_type.c */
extern bool shard_has_columns(TupleDesc desc, const Oid *types, int count);
extern void shard_find_type(ShardCallType *type, Oid wrapper);
extern void shard_read_row(ShardCallType *type, char *input,
						   NullableDatum *columns);

/* shard_session.c */
extern const char *shard_own_number(void);
extern void		   shard_check_settings(void);
extern void		   shard_check_number(const NullableDatum *shards);
extern void		   shard_set(const char *name, const char *value);
extern void shard_act_as(const NullableDatum *role, const NullableDatum *trace,
						 const NullableDatum *actor);

/* shard_answer.c */
extern void	 shard_append_field(StringInfo row, const char *value);
extern char *shard_failure(const ErrorData *error, bool is_read);

#endif /* SHARD_H */
