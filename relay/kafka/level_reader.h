/*
 * level_reader.h - the records of the level stream's topic, as Kafka has them
 *
 * A consumer without a group: the database has the offsets.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_LEVEL_READER_H
#define PGSTOCK_KAFKA_LEVEL_READER_H

#include "common/loop.h"
#include "config/config.h"
#include "db/api.h"

/* Of one batch. */
#define LEVEL_READER_ROWS  1000
#define LEVEL_READER_BYTES (1024 * 1024)

/* No level has a longer key: 255 bytes, "@", and 255 bytes written as "%40". */
#define LEVEL_KEY_BYTES_MAX 1021

typedef struct LevelReader LevelReader;

LevelReader *level_reader_new(Loop *loop);
void		 level_reader_free(LevelReader *reader);

/*
 * Finds the topic's partitions, in the background, and reads each from its
 * first record, unless level_reader_begin() names another one before.
 */
bool level_reader_open(LevelReader *reader, const Config *config,
					   Buf *error) MUST_CHECK;
void level_reader_begin(LevelReader *reader, int32_t partition, int64_t offset);
bool level_reader_is_open(const LevelReader *reader);

/*
 * Does not wait for a survey that runs; until it ends, the reader cannot be
 * opened.
 */
void level_reader_close(LevelReader *reader);
bool level_reader_is_closed(const LevelReader *reader);

/* Takes over the user and the password of the configuration. */
void level_reader_reconfigured(LevelReader *reader, const Config *config);

/*
 * The records that have arrived; how many.  A key that names no level may be
 * left out.  In place of headers each has its ce_incarnation, or none.
 */
uint32_t level_reader_take(LevelReader *reader, ApiBatch *batch) MUST_CHECK;

/* Whether more records are left than the last batch could take. */
bool level_reader_is_behind(const LevelReader *reader);

/* Why records cannot be read; "": they can, as far as is known. */
const char *level_reader_trouble(const LevelReader *reader);

#endif
