/*
 * missing_topics.h - topics to consume that do not exist
 *
 * Pure.  A typo in [inbox] topics must not stay unnoticed: /readyz, /status and
 * the log name the topics listed here.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_MISSING_TOPICS_H
#define PGSTOCK_KAFKA_MISSING_TOPICS_H

#include "common/util.h"

typedef struct MissingTopics
{
	char **topics; /* owned, NULL at the end; NULL while there are none */
} MissingTopics;

/* Whether it was not listed yet. */
bool missing_topics_add(MissingTopics *missing, const char *topic);
void missing_topics_clear(MissingTopics *missing);

/* ", topics are missing: a, b", or nothing */
void missing_topics_describe(const MissingTopics *missing, Buf *sentence);

#endif
