/*
 * topics.c - the topics that are published to
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/topics.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define LOG_MODULE "topics"

#define TOPIC_BUCKETS	 256 /* a power of two */
#define ADMIN_TIMEOUT_MS 5000
#define CREATE_AGAIN_US	 (5 * SEC_US)
#define CREATE_MAX		 64 /* topics in one request */

#define TOKEN_TEXT(token)	#token
#define NUMBER_TEXT(number) TOKEN_TEXT(number)

struct Topics
{
	Loop			 *loop;
	Metrics			 *metrics;
	LoopTimer		 *create_timer; /* creates topics that may be missing */
	rd_kafka_t		 *producer;		/* NULL while closed */
	rd_kafka_queue_t *queue;		/* the producer's */
	Topic			 *buckets[TOPIC_BUCKETS];
	uint32_t		  count;	  /* of topics in them */
	char			 *compacted;  /* the topic to be compacted, or NULL */
	char			**wanted;	  /* topics to be there with any producer */
	bool			  requesting; /* the broker has not answered yet */
	bool			  unanswered; /* it did not, the last time */
	Buf				  missing;	  /* topics that could not be created */
	LogThrottle		  missing_throttle;
};

static void topics_create_missing(void *arg);

Topics *
topics_new(Loop *loop, Metrics *metrics)
{
	Topics *topics = xcalloc(1, sizeof(Topics));

	topics->loop = loop;
	topics->metrics = metrics;
	topics->wanted = xcalloc(1, sizeof(char *));
	topics->create_timer = loop_timer_new(loop, topics_create_missing, topics);
	return topics;
}

void
topics_free(Topics *topics)
{
	Assert(topics->producer == NULL);
	loop_timer_free(topics->create_timer);
	strings_free(topics->wanted);
	free(topics->compacted);
	buf_free(&topics->missing);
	free(topics);
}

/* ---- by name ----------------------------------------------------------- */

static Topic **
topics_bucket(Topics *topics, Slice name)
{
	uint32_t hash = UINT32_C(2166136261);

	for (size_t i = 0; i < name.len; i++)
		hash = (hash ^ (unsigned char) name.data[i]) * UINT32_C(16777619);
	return &topics->buckets[hash & (TOPIC_BUCKETS - 1)];
}

Topic *
topics_find(Topics *topics, Slice name)
{
	Topic			**bucket = topics_bucket(topics, name);
	Topic			 *topic;
	rd_kafka_topic_t *handle;

	for (topic = *bucket; topic != NULL; topic = topic->next)
		if (topic->len == name.len &&
			memcmp(topic->name, name.data, name.len) == 0)
			return topic;
	Assert(topics->producer != NULL && name.data[name.len] == '\0');
	if (topics_are_full(topics))
		return NULL;
	handle = rd_kafka_topic_new(topics->producer, name.data, NULL);
	if (handle == NULL)
		return NULL;
	topic = xcalloc(1, sizeof(Topic));
	topic->name = xstrdup(name.data);
	topic->len = name.len;
	topic->handle = handle;
	topic->unconfirmed = true;
	if (!topics->requesting)
		loop_timer_set(topics->create_timer, loop_now(topics->loop));
	topic->published = metrics_cell(topics->metrics, METRIC_PUBLISHED, "topic",
									name.data, NULL);
	topic->next = *bucket;
	*bucket = topic;
	topics->count++;
	Assert(topics->count <= TOPICS_MAX);
	return topic;
}

bool
topics_are_full(const Topics *topics)
{
	Assert(topics->count <= TOPICS_MAX);
	return topics->count == TOPICS_MAX;
}

const char *
topics_fault(const Topics *topics)
{
	return topics_are_full(topics)
			   ? "the producer has " NUMBER_TEXT(TOPICS_MAX) " other topics"
			   : "its topic has no legal name";
}

static void
topics_forget(Topics *topics)
{
	for (size_t i = 0; i < TOPIC_BUCKETS; i++)
		while (topics->buckets[i] != NULL)
		{
			Topic *topic = topics->buckets[i];

			topics->buckets[i] = topic->next;
			rd_kafka_topic_destroy(topic->handle);
			free(topic->name);
			free(topic);
			topics->count--;
		}
	Assert(topics->count == 0);
}

static void
topics_trust(Topics *topics, const char *name)
{
	Topic *topic = topics_find(topics, (Slice){name, strlen(name)});

	if (topic != NULL)
		topic->trusted = true;
}

void
topics_open(Topics *topics, rd_kafka_t *producer, rd_kafka_queue_t *queue)
{
	Assert(topics->producer == NULL);
	topics->producer = producer;
	topics->queue = queue;
	for (char **name = topics->wanted; *name != NULL; name++)
		topics_trust(topics, *name);
}

void
topics_close(Topics *topics)
{
	loop_timer_set(topics->create_timer, NEVER);
	topics_forget(topics);
	buf_clear(&topics->missing);
	topics->producer = NULL;
	topics->requesting = topics->unanswered = false;
}

void
topics_committed(Topics *topics)
{
	for (size_t i = 0; i < TOPIC_BUCKETS; i++)
		for (Topic *topic = topics->buckets[i]; topic != NULL;
			 topic = topic->next)
		{
			*topic->published += topic->uncommitted;
			topic->uncommitted = 0;
		}
}

/* ---- that they are there ----------------------------------------------- */

void
topics_want(Topics *topics, const char *name, bool compacted)
{
	size_t count = strings_count(topics->wanted);

	if (compacted)
	{
		free(topics->compacted);
		topics->compacted = xstrdup(name);
	}
	for (size_t i = 0; i < count; i++)
		if (strcmp(topics->wanted[i], name) == 0)
			return;
	if (count == TOPICS_MAX)
		return; /* it is found with its first event */
	topics->wanted = xrealloc(topics->wanted, (count + 2) * sizeof(char *));
	topics->wanted[count] = xstrdup(name);
	topics->wanted[count + 1] = NULL;
	/* at 0 before its first event is published */
	(void) metrics_cell(topics->metrics, METRIC_PUBLISHED, "topic", name, NULL);
	if (topics->producer != NULL)
		topics_trust(topics, name);
}

rd_kafka_NewTopic_t *
topics_new_topic(const char *name, bool compacted)
{
	char reason[KAFKA_ERROR_MAX];
	rd_kafka_NewTopic_t *new = rd_kafka_NewTopic_new(name, -1, -1, reason,
													 sizeof(reason));

	Assert(new != NULL); /* the name is legal */
	if (compacted &&
		rd_kafka_NewTopic_set_config(new, "cleanup.policy", "compact") !=
			RD_KAFKA_RESP_ERR_NO_ERROR)
		Assert(!"a legal setting");
	return new;
}

TopicState
topics_state(Topics *topics, Slice name)
{
	const Topic *topic = topics_find(topics, name);

	if (topic == NULL)
		return TOPIC_DOUBTED;
	if (topic->trusted)
		return TOPIC_TRUSTED;
	if (!topic->unconfirmed)
		return TOPIC_PRESENT;
	return topic->answered || topics->unanswered ? TOPIC_DOUBTED : TOPIC_ASKED;
}

/*
 * Topics not yet known to exist, at most CREATE_MAX: those first that the
 * broker has not answered for, so that many missing topics delay no other.
 */
static size_t
topics_list_unconfirmed(Topics *topics, rd_kafka_NewTopic_t **missing)
{
	size_t count = 0;

	for (int answered = 0; answered <= 1; answered++)
		for (size_t i = 0; i < TOPIC_BUCKETS; i++)
			for (Topic *topic = topics->buckets[i]; topic != NULL;
				 topic = topic->next)
			{
				if (!topic->unconfirmed || topic->answered != answered ||
					count == CREATE_MAX)
					continue;
				missing[count++] =
					topics_new_topic(topic->name,
									 topics->compacted != NULL &&
										 strcmp(topic->name,
												topics->compacted) == 0);
			}
	return count;
}

static bool
topics_has_unanswered(const Topics *topics)
{
	for (size_t i = 0; i < TOPIC_BUCKETS; i++)
		for (const Topic *topic = topics->buckets[i]; topic != NULL;
			 topic = topic->next)
			if (topic->unconfirmed && !topic->answered)
				return true;
	return false;
}

/* The broker's own defaults: how many partitions and copies is its affair. */
static void
topics_create_missing(void *arg)
{
	Topics					*topics = arg;
	rd_kafka_NewTopic_t		*missing[CREATE_MAX];
	rd_kafka_AdminOptions_t *admin;
	char					 reason[KAFKA_ERROR_MAX];
	size_t					 count;

	if (topics->producer == NULL || topics->requesting)
		return;
	count = topics_list_unconfirmed(topics, missing);
	if (count == 0)
	{
		buf_clear(&topics->missing);
		return;
	}
	admin = rd_kafka_AdminOptions_new(topics->producer,
									  RD_KAFKA_ADMIN_OP_CREATETOPICS);
	if (rd_kafka_AdminOptions_set_request_timeout(admin, ADMIN_TIMEOUT_MS,
												  reason, sizeof(reason)) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		Assert(!"a legal timeout");
	rd_kafka_CreateTopics(topics->producer, missing, count, admin,
						  topics->queue);
	topics->requesting = true;
	rd_kafka_AdminOptions_destroy(admin);
	rd_kafka_NewTopic_destroy_array(missing, count);
}

/*
 * Without the right to create it, a topic may well exist: if it does not, its
 * first event is refused.
 */
static void
topics_take_forbidden(Topic *topic)
{
	if (!topic->answered)
		log_info("no right to create topic, which must exist topic=%s",
				 topic->name);
	topic->answered = true;
	if (topic->trusted)
		topic->unconfirmed = false;
}

/* One topic of the broker's answer. */
static void
topics_take(Topics *topics, const rd_kafka_topic_result_t *result)
{
	const char		   *name = rd_kafka_topic_result_name(result);
	rd_kafka_resp_err_t error = rd_kafka_topic_result_error(result);
	Topic *topic = topics_find(topics, (Slice){name, strlen(name)});

	if (topic == NULL)
		return;
	if (error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
	{
		topics_take_forbidden(topic);
		return;
	}
	topic->answered = true;
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
		log_info("created topic topic=%s", name);
	else if (error != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
	{
		buf_printf(&topics->missing, "%s%s (%s)",
				   topics->missing.len > 0 ? ", " : "", name,
				   rd_kafka_err2name(error));
		return;
	}
	topic->unconfirmed = false;
}

bool
topics_take_created(Topics *topics, rd_kafka_event_t *event)
{
	const rd_kafka_topic_result_t **results;
	size_t							count = 0;

	Assert(topics->requesting);
	topics->requesting = false;
	loop_timer_set(topics->create_timer,
				   loop_now(topics->loop) + CREATE_AGAIN_US);
	topics->unanswered = rd_kafka_event_error(event) !=
						 RD_KAFKA_RESP_ERR_NO_ERROR;
	if (topics->unanswered)
	{
		log_debug("could not ask for topics: %s",
				  rd_kafka_event_error_string(event));
		return false;
	}
	buf_clear(&topics->missing);
	results =
		rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(
												event),
											&count);
	for (size_t i = 0; i < count; i++)
		topics_take(topics, results[i]);
	if (topics->missing.len > 0)
		log_throttled(&topics->missing_throttle, loop_now(topics->loop),
					  LEVEL_WARNING, LOG_MODULE,
					  "cannot create missing topics: %s",
					  buf_str(&topics->missing));
	if (topics_has_unanswered(topics))
		loop_timer_set(topics->create_timer, loop_now(topics->loop));
	return true;
}

const char *
topics_missing(Topics *topics)
{
	return buf_str(&topics->missing);
}
