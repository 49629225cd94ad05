/*
 * missing_topics.h - topics that are to be consumed and are not there
 *
 * Pure.  A typo in [inbox] topics must not stay silent: what is noted here is
 * told by /readyz, /status and the log.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_MISSING_TOPICS_H
#define PGSTOCK_KAFKA_MISSING_TOPICS_H

#include "common/util.h"

typedef struct Absent
{
	char **topics; /* owned, NULL at the end; NULL while there are none */
} Absent;

/* Whether it was not known yet. */
bool absent_note(Absent *absent, const char *topic);
void absent_forget_all(Absent *absent);

/* ", topics are missing: a, b", or nothing */
void absent_sentence(const Absent *absent, Buf *sentence);

#endif
