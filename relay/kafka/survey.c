/*
 * survey.c - a broker's topics, partitions and offsets, queried in a thread
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/survey.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct SurveyTopic
{
	char	   *name;
	SurveyFound found;
	int32_t		partitions;
} SurveyTopic;

struct Survey
{
	LoopHandler done;
	void	   *arg;
	LoopWake   *wake;
	pthread_t	thread;
	bool		runs;  /* the thread is to be joined */
	atomic_bool ended; /* set by the thread, its last act but waking */
	atomic_bool stop;  /* set by the loop */

	rd_kafka_conf_t *conf;		/* for the reader, until it is made */
	rd_kafka_t		*reader;	/* of witnesses */
	rd_kafka_conf_t *next_conf; /* in place of both from the next survey on */

	/* the question, and the answer */
	rd_kafka_t						*client;
	int64_t							 first_offset;
	SurveyTopic						*topics;
	size_t							 topic_count;
	rd_kafka_topic_partition_list_t *firsts; /* the same partitions in each */
	rd_kafka_topic_partition_list_t *ends;
	rd_kafka_topic_partition_list_t *begins; /* those of the topics only */
	Witness							*witnesses;
	size_t							 witness_count;
};

/* ---- in the thread ----------------------------------------------------- */

static void
survey_look_up(Survey *survey, SurveyTopic *topic)
{
	const struct rd_kafka_metadata *metadata = NULL;
	rd_kafka_topic_t *handle = rd_kafka_topic_new(survey->client, topic->name,
												  NULL);

	if (rd_kafka_metadata(survey->client, 0, handle, &metadata,
						  SURVEY_CALL_MS) == RD_KAFKA_RESP_ERR_NO_ERROR &&
		metadata->topic_cnt == 1)
	{
		const struct rd_kafka_metadata_topic *found = &metadata->topics[0];

		if (found->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
			topic->found = SURVEY_ABSENT;
		else if (found->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			topic->found = SURVEY_PRESENT;
			topic->partitions = found->partition_cnt;
		}
	}
	if (metadata != NULL)
		rd_kafka_metadata_destroy(metadata);
	rd_kafka_topic_destroy(handle);
}

static void
survey_list_partition(rd_kafka_topic_partition_list_t *list, const char *topic,
					  int32_t id, int64_t offset)
{
	if (rd_kafka_topic_partition_list_find(list, topic, id) == NULL)
		rd_kafka_topic_partition_list_add(list, topic, id)->offset = offset;
}

static void
survey_list_partitions(Survey *survey, const SurveyTopic *topic)
{
	for (int32_t id = 0; id < topic->partitions; id++)
	{
		survey_add_partition(survey, topic->name, id);
		survey_list_partition(survey->begins, topic->name, id,
							  survey->first_offset);
	}
}

/*
 * In place of each offset the one that is found, or RD_KAFKA_OFFSET_INVALID;
 * RD_KAFKA_OFFSET_END: nothing is as late as that.
 */
static void
survey_find_offsets(Survey *survey, rd_kafka_topic_partition_list_t *list)
{
	rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR__STATE;

	if (list->cnt == 0)
		return;
	if (!survey->stop)
		error = rd_kafka_offsets_for_times(survey->client, list,
										   SURVEY_CALL_MS);
	for (int i = 0; i < list->cnt; i++)
		if (error != RD_KAFKA_RESP_ERR_NO_ERROR ||
			list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
			list->elems[i].offset = RD_KAFKA_OFFSET_INVALID;
}

static void
survey_read_witnesses(Survey *survey)
{
	char reason[KAFKA_ERROR_MAX];

	if (survey->witness_count == 0)
		return;
	if (survey->reader == NULL && survey->conf != NULL)
	{
		survey->reader = kafka_client_new(RD_KAFKA_CONSUMER, survey->conf,
										  reason);
		survey->conf = NULL;
	}
	if (survey->reader != NULL && !survey->stop)
		witness_read(survey->reader, survey->witnesses, survey->witness_count,
					 &survey->stop);
}

static void *
survey_run(void *arg)
{
	Survey *survey = arg;

	Assert(survey->client != NULL);
	for (size_t i = 0; i < survey->topic_count && !survey->stop; i++)
	{
		survey_look_up(survey, &survey->topics[i]);
		survey_list_partitions(survey, &survey->topics[i]);
	}
	Assert(survey->firsts->cnt == survey->ends->cnt);
	/* The end first: records that arrive meanwhile only make it too small. */
	survey_find_offsets(survey, survey->ends);
	survey_find_offsets(survey, survey->firsts);
	if (survey->first_offset >= 0)
		survey_find_offsets(survey, survey->begins);
	survey_read_witnesses(survey);
	survey->ended = true;
	loop_wake_up(survey->wake);
	return NULL;
}

/* ---- in the loop ------------------------------------------------------- */

static void
survey_join(Survey *survey)
{
	if (!survey->runs)
		return;
	pthread_join(survey->thread, NULL);
	survey->runs = false;
}

static void
survey_woken(void *arg)
{
	Survey *survey = arg;

	if (!survey->runs || !survey->ended)
		return;
	survey_join(survey);
	survey->done(survey->arg);
}

static void
survey_forget(Survey *survey)
{
	Assert(!survey->runs); /* its thread uses them */
	for (size_t i = 0; i < survey->topic_count; i++)
		free(survey->topics[i].name);
	free(survey->topics);
	survey->topics = NULL;
	survey->topic_count = 0;
	for (size_t i = 0; i < survey->witness_count; i++)
		free(survey->witnesses[i].topic);
	free(survey->witnesses);
	survey->witnesses = NULL;
	survey->witness_count = 0;
	if (survey->firsts != NULL)
	{
		rd_kafka_topic_partition_list_destroy(survey->firsts);
		rd_kafka_topic_partition_list_destroy(survey->ends);
		rd_kafka_topic_partition_list_destroy(survey->begins);
	}
	survey->firsts = survey->ends = survey->begins = NULL;
}

Survey *
survey_new(Loop *loop, LoopHandler done, void *arg)
{
	Survey *survey = xcalloc(1, sizeof(Survey));

	survey->done = done;
	survey->arg = arg;
	survey->wake = loop_wake_new(loop, survey_woken, survey);
	return survey;
}

void
survey_free(Survey *survey)
{
	if (survey == NULL)
		return;
	survey_close(survey);
	survey_forget(survey);
	loop_wake_free(survey->wake);
	free(survey);
}

void
survey_prepare(Survey *survey, int64_t first_offset)
{
	Assert(!survey->runs);
	survey_forget(survey);
	survey->first_offset = first_offset;
	survey->firsts = rd_kafka_topic_partition_list_new(8);
	survey->ends = rd_kafka_topic_partition_list_new(8);
	survey->begins = rd_kafka_topic_partition_list_new(8);
}

void
survey_add_topic(Survey *survey, const char *topic)
{
	Assert(!survey->runs);
	for (size_t i = 0; i < survey->topic_count; i++)
		if (strcmp(survey->topics[i].name, topic) == 0)
			return;
	survey->topics = xrealloc(survey->topics,
							  (survey->topic_count + 1) * sizeof(SurveyTopic));
	survey->topics[survey->topic_count++] = (SurveyTopic){
		.name = xstrdup(topic),
	};
}

void
survey_add_partition(Survey *survey, const char *topic, int32_t id)
{
	survey_list_partition(survey->firsts, topic, id, RD_KAFKA_OFFSET_BEGINNING);
	survey_list_partition(survey->ends, topic, id, RD_KAFKA_OFFSET_END);
}

void
survey_add_witness(Survey *survey, const char *topic, int32_t id,
				   int64_t offset)
{
	Assert(!survey->runs && offset >= 0);
	survey->witnesses = xrealloc(survey->witnesses,
								 (survey->witness_count + 1) * sizeof(Witness));
	survey->witnesses[survey->witness_count++] = (Witness){
		.topic = xstrdup(topic),
		.id = id,
		.offset = offset,
		.found = -1,
	};
}

static void
survey_forget_reader(Survey *survey)
{
	Assert(!survey->runs);
	if (survey->reader != NULL)
		rd_kafka_destroy(survey->reader);
	if (survey->conf != NULL)
		rd_kafka_conf_destroy(survey->conf);
	survey->reader = NULL;
	survey->conf = NULL;
}

void
survey_begin(Survey *survey, rd_kafka_t *client)
{
	Assert(!survey->runs && survey->firsts != NULL);
	survey->client = client;
	if (survey->next_conf != NULL)
	{
		survey_forget_reader(survey);
		survey->conf = survey->next_conf;
		survey->next_conf = NULL;
	}
	survey->stop = survey->ended = false;
	loop_thread(&survey->thread, survey_run, survey);
	survey->runs = true;
}

bool
survey_runs(const Survey *survey)
{
	return survey->runs;
}

void
survey_open(Survey *survey, rd_kafka_conf_t *conf)
{
	Assert(survey->conf == NULL && survey->reader == NULL);
	survey->conf = conf;
}

void
survey_stop(Survey *survey)
{
	survey->stop = true;
}

void
survey_close(Survey *survey)
{
	survey->stop = true;
	survey_join(survey);
	survey_forget_reader(survey);
	if (survey->next_conf != NULL)
		rd_kafka_conf_destroy(survey->next_conf);
	survey->next_conf = NULL;
}

/* Not at once: the thread of a survey that runs may use what is replaced. */
void
survey_reconfigured(Survey *survey, rd_kafka_conf_t *conf)
{
	if (survey->next_conf != NULL)
		rd_kafka_conf_destroy(survey->next_conf);
	survey->next_conf = conf;
}

/* ---- the answers ------------------------------------------------------- */

static const SurveyTopic *
survey_find_topic(const Survey *survey, const char *topic)
{
	Assert(!survey->runs);
	for (size_t i = 0; i < survey->topic_count; i++)
		if (strcmp(survey->topics[i].name, topic) == 0)
			return &survey->topics[i];
	return NULL;
}

SurveyFound
survey_topic(const Survey *survey, const char *topic)
{
	const SurveyTopic *found = survey_find_topic(survey, topic);

	return found != NULL ? found->found : SURVEY_UNKNOWN;
}

int32_t
survey_partitions(const Survey *survey, const char *topic)
{
	const SurveyTopic *found = survey_find_topic(survey, topic);

	return found != NULL ? found->partitions : 0;
}

static int64_t
survey_offset_in(const rd_kafka_topic_partition_list_t *list, const char *topic,
				 int32_t id)
{
	/* librdkafka's lookup changes nothing, but takes no const list */
	const rd_kafka_topic_partition_t
		*found = rd_kafka_topic_partition_list_find(list, topic, id);

	return found != NULL ? found->offset : RD_KAFKA_OFFSET_INVALID;
}

SurveyRange
survey_range(const Survey *survey, const char *topic, int32_t id)
{
	SurveyRange range = {-1, -1, -1};
	int64_t		begin;

	Assert(!survey->runs);
	if (survey->firsts == NULL)
		return range;
	range.first = survey_offset_in(survey->firsts, topic, id);
	range.end = survey_offset_in(survey->ends, topic, id);
	if (range.first < 0 || range.end < 0)
		return (SurveyRange){-1, -1, -1};
	/* queried after the end: retention may have deleted everything */
	range.end = Max(range.end, range.first);
	begin = survey_offset_in(survey->begins, topic, id);
	if (survey->first_offset == FIRST_OFFSET_EARLIEST)
		range.begin = range.first;
	else if (survey->first_offset == FIRST_OFFSET_LATEST ||
			 begin == RD_KAFKA_OFFSET_END)
		range.begin = range.end;
	else
		range.begin = Max(begin, -1);
	return range;
}

const Witness *
survey_witness(const Survey *survey, const char *topic, int32_t id)
{
	Assert(!survey->runs);
	for (size_t i = 0; i < survey->witness_count; i++)
		if (survey->witnesses[i].id == id &&
			strcmp(survey->witnesses[i].topic, topic) == 0)
			return &survey->witnesses[i];
	return NULL;
}
