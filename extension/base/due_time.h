/*-------------------------------------------------------------------------
 *
 * base/due_time.h
 *	  Shared memory of due_time.c, which the worker's layer reads too.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef BASE_DUE_TIME_H
#define BASE_DUE_TIME_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/latch.h"

#define DUE_DATABASES_MAX 1024

/*
 * A database.  Only the launcher assigns and frees these entries; a database
 * is stored last, so an entry that is found is filled in.
 */
typedef struct DueDatabase
{
	Oid				 database; /* InvalidOid: the entry is free */
	pg_atomic_uint64 due_at; /* TimestampTz of the next look; DT_NOEND: none */
	TimestampTz		 purge_at; /* written by the worker */
	TimestampTz		 retry_at; /* written by the launcher: no worker before */
	Latch			*worker;   /* of the one that runs, or NULL */
	bool			 looking;  /* a worker has begun a look, not ended it */
} DueDatabase;

typedef struct DueTimes
{
	Latch	   *launcher;	   /* NULL: it does not run */
	bool		list_is_stale; /* a database without an entry has due lines */
	DueDatabase databases[DUE_DATABASES_MAX];
} DueTimes;

extern DueTimes *due_times; /* NULL: the module is not preloaded */

extern DueDatabase *due_time_find(Oid database);
extern TimestampTz	due_time_read(DueDatabase *entry);
extern bool			due_time_lower(DueDatabase *entry, TimestampTz at);

#endif /* BASE_DUE_TIME_H */
