/*
 * survey.h - a broker's topics, partitions and offsets, queried in a thread
 *
 * librdkafka's calls for it wait.  One survey at a time: it belongs to its
 * thread from survey_begin() until the handler is called, in the loop.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_SURVEY_H
#define PGSTOCK_KAFKA_SURVEY_H

#include "common/loop.h"
#include "kafka/client.h"
#include "kafka/witness.h"

typedef enum SurveyFound
{
	SURVEY_UNKNOWN, /* the broker did not answer */
	SURVEY_ABSENT,
	SURVEY_PRESENT,
} SurveyFound;

typedef struct SurveyRange
{
	int64_t first; /* -1: the broker did not answer; then so are the others */
	int64_t end;   /* the last stable offset */
	int64_t begin; /* by first_offset, in a topic that was looked up */
} SurveyRange;

typedef struct Survey Survey;

Survey *survey_new(Loop *loop, LoopHandler done, void *arg);
void	survey_free(Survey *survey);

/*
 * conf: for a client that reads witnesses; taken.  Between the two there may be
 * surveys.
 */
void survey_open(Survey *survey, rd_kafka_conf_t *conf);
void survey_close(Survey *survey);

/* A survey that runs ends early, and calls the handler as ever. */
void survey_stop(Survey *survey);

/* The same from the next survey on, in place of the conf before; taken. */
void survey_reconfigured(Survey *survey, rd_kafka_conf_t *conf);

/* The queries of the next survey; the results of the last one are forgotten. */
void survey_prepare(Survey *survey, int64_t first_offset);
void survey_add_topic(Survey *survey, const char *topic);
void survey_add_partition(Survey *survey, const char *topic, int32_t id);

void survey_add_witness(Survey *survey, const char *topic, int32_t id,
						int64_t offset);

void survey_begin(Survey *survey, rd_kafka_t *client);
bool survey_runs(const Survey *survey);

/* The longest call of librdkafka here; survey_close() waits for one. */
#define SURVEY_CALL_MS 2000

/* The answers; of a topic that was looked up all its partitions are known. */
SurveyFound survey_topic(const Survey *survey, const char *topic);
int32_t		survey_partitions(const Survey *survey, const char *topic);
SurveyRange survey_range(const Survey *survey, const char *topic, int32_t id);
/* NULL: none was wanted */
const Witness *survey_witness(const Survey *survey, const char *topic,
							  int32_t id);

#endif
