/*
 * consumer_offsets.c - where the consumer begins in each partition
 *
 * The database's next offset is worth what its partition's history is: a topic
 * that was created again, or has lost its tail with a broker, has other records
 * at the same offsets, or none.  So the record before the next one, which was
 * applied, is read once more and compared; only then those behind it are taken.
 * Where that record is gone too, the broker's first and end offset decide,
 * which survey.c queries.
 *
 * librdkafka 2.0.2 does not notice when a topic is created again between two of
 * its requests: it continues at the same offset.  So each partition has a
 * witness while it is read, a record that was applied, which each survey reads
 * again.  If it has changed, the partition is read from its start; messages of
 * the new history that were applied meanwhile are duplicates.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/consumer_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LOG_MODULE "consumer"

/* ---- the database's offsets -------------------------------------------- */

static bool
offsets_database_has(const PGresult *offsets, const char *topic)
{
	for (int row = 0; row < PQntuples(offsets); row++)
		if (strcmp(PQgetvalue(offsets, row, 0), topic) == 0)
			return true;
	return false;
}

static void
offsets_list_unknown(Consumer *consumer, const PGresult *offsets)
{
	MissingTopics unknown = {0};

	strings_free(consumer->unknown);
	for (char *const *topic = consumer->config->topics; *topic != NULL; topic++)
		if (!offsets_database_has(offsets, *topic))
			(void) missing_topics_add(&unknown, *topic);
	consumer->unknown = unknown.topics;
}

static void
offsets_take_offset(Partition *partition, const PGresult *offsets)
{
	int64_t		next = 0;
	const char *fingerprint = NULL;

	partition->proved = partition->fresh = (Proof){0};
	partition->fresh_is_older = false;
	for (int row = 0; row < PQntuples(offsets); row++)
	{
		if (strcmp(PQgetvalue(offsets, row, 0), partition->topic) != 0 ||
			PQgetisnull(offsets, row, 1) ||
			api_int(offsets, row, 1) != partition->id)
			continue;
		next = api_int(offsets, row, 2);
		fingerprint = api_text(offsets, row, 3);
		if (PQgetisnull(offsets, row, 5))
			continue;
		partition->proved.offset = api_int(offsets, row, 4);
		snprintf(partition->proved.fingerprint.text,
				 sizeof(partition->proved.fingerprint.text), "%s",
				 api_text(offsets, row, 5));
	}
	if (fingerprint == NULL)
		fingerprint = "";
	Assert(next >= 0 && partition->proved.offset >= 0);
	partition->moves = false;
	/* it was placed again */
	if (fingerprint[0] == '\0')
		partition->refuted = partition->move_logged = false;
	partition->next = next;
	snprintf(partition->fingerprint.text, sizeof(partition->fingerprint.text),
			 "%s", fingerprint);
	partition->begun = offsets_database_has(offsets, partition->topic);
}

void
consumer_take_offsets(Consumer *consumer, const PGresult *offsets)
{
	offsets_list_unknown(consumer, offsets);
	for (size_t i = 0; i < consumer->partition_count; i++)
		offsets_take_offset(&consumer->partitions[i], offsets);
}

/* ---- the broker's offsets ---------------------------------------------- */

bool
consumer_surveys(const Consumer *consumer)
{
	return survey_runs(consumer->survey);
}

void
consumer_survey(Consumer *consumer, int64_t first_offset)
{
	Assert(consumer->client != NULL && !consumer_surveys(consumer));
	survey_prepare(consumer->survey, first_offset);
	for (char **topic = consumer->unknown; topic && *topic != NULL; topic++)
		survey_add_topic(consumer->survey, *topic);
	for (char **topic = consumer->missing.topics; topic && *topic; topic++)
		survey_add_topic(consumer->survey, *topic);
	for (size_t i = 0; i < consumer->partition_count; i++)
	{
		Partition *partition = &consumer->partitions[i];

		survey_add_partition(consumer->survey, partition->topic, partition->id);
		partition->asked_at = partition->next;
		partition->fresh_is_older = partition->fresh.fingerprint.text[0] !=
									'\0';
		/* a second witness only replaces the first one */
		Assert(!partition->fresh_is_older ||
			   partition->proved.fingerprint.text[0] != '\0');
		if (partition->proved.fingerprint.text[0] != '\0')
			survey_add_witness(consumer->survey, partition->topic,
							   partition->id, partition->proved.offset);
	}
	survey_begin(consumer->survey, consumer->client);
}

/* Topics that are there, or are not, since the last time. */
static void
consumer_recheck_missing(Consumer *consumer)
{
	char **topics = consumer->missing.topics;

	consumer->missing = (MissingTopics){0};
	for (char **topic = topics; topics != NULL && *topic != NULL; topic++)
		if (survey_topic(consumer->survey, *topic) == SURVEY_PRESENT)
			log_info("topic is there now topic=%s", *topic);
		else
			(void) missing_topics_add(&consumer->missing, *topic);
	strings_free(topics);
}

/*
 * A witness that retention has deleted proves nothing, and is replaced.  One
 * that a slow broker did not deliver is kept: the next one may belong to
 * another history already.
 */
static void
offsets_check_witness(const Consumer *consumer, Partition *partition)
{
	const Witness *witness = survey_witness(consumer->survey, partition->topic,
											partition->id);
	bool		   gone;

	if (witness == NULL || witness->offset != partition->proved.offset)
		return;
	gone = survey_range(consumer->survey, partition->topic, partition->id)
			   .first > witness->offset;
	if (witness->found == witness->offset &&
		strcmp(witness->fingerprint.text, partition->proved.fingerprint.text) !=
			0)
	{
		/* proof enough, once: it belongs to a history that is gone */
		partition->refuted = true;
		partition->proved = partition->fresh = (Proof){0};
		return;
	}
	if (!partition->fresh_is_older || (witness->found < 0 && !gone))
		return;
	partition->proved = partition->fresh;
	partition->fresh = (Proof){0};
}

void
consumer_note_witness(Consumer *consumer, Partition *partition,
					  const rd_kafka_message_t *message)
{
	Proof	  *proof = &partition->fresh;
	ApiMessage record;

	if (partition->proved.fingerprint.text[0] == '\0')
		proof = &partition->proved;
	if (proof->fingerprint.text[0] != '\0')
		return;
	Assert(message->err == RD_KAFKA_RESP_ERR_NO_ERROR && message->offset >= 0);
	(void) record_read(message, &consumer->headers, &record);
	*proof = (Proof){message->offset, fingerprint_of(&record)};
}

void
consumer_surveyed(Consumer *consumer)
{
	Assert(!consumer_surveys(consumer));
	consumer_recheck_missing(consumer);
	for (size_t i = 0; i < consumer->partition_count; i++)
	{
		Partition *partition = &consumer->partitions[i];

		partition->end = survey_range(consumer->survey, partition->topic,
									  partition->id)
							 .end;
		offsets_check_witness(consumer, partition);
	}
}

/* ---- deciding ---------------------------------------------------------- */

static StartOffset
offsets_decide(const Consumer *consumer, const Partition *partition)
{
	SurveyRange range = survey_range(consumer->survey, partition->topic,
									 partition->id);

	if (!partition->begun)
		return (StartOffset){.kind = START_WAIT};
	return start_offset_decide(&(StartFacts){
		.next = partition->next,
		.refuted = partition->refuted,
		.first = range.first,
		.end = range.end,
	});
}

/* Whether the broker has answered where each partition of a topic begins. */
static bool
offsets_can_begin(const Consumer *consumer, const char *topic)
{
	SurveyFound found = survey_topic(consumer->survey, topic);

	if (found != SURVEY_PRESENT)
		return found == SURVEY_ABSENT;
	for (int32_t id = 0; id < survey_partitions(consumer->survey, topic); id++)
		if (survey_range(consumer->survey, topic, id).begin < 0)
			return false;
	return true;
}

static void
offsets_begin_topic(const Consumer *consumer, const char *topic,
					ConsumerChange *change)
{
	int32_t count = survey_partitions(consumer->survey, topic);

	Assert(count >= 0);
	*change = (ConsumerChange){
		.kind = CONSUMER_BEGINS,
		.topic = xstrdup(topic),
		.partitions = xcalloc((size_t) count + 1, sizeof(int64_t)),
		.offsets = xcalloc((size_t) count + 1, sizeof(int64_t)),
		.count = (uint32_t) count,
	};
	for (int32_t id = 0; id < count; id++)
	{
		change->partitions[id] = id;
		change->offsets[id] = survey_range(consumer->survey, topic, id).begin;
		Assert(change->offsets[id] >= 0); /* offsets_can_begin() */
		log_debug("begins topic=%s partition=%d offset=%" PRId64, topic, id,
				  change->offsets[id]);
	}
}

static void
offsets_log_move(Consumer *consumer, Partition *partition,
				 const StartOffset *to)
{
	bool gone = to->last_missing >= 0;
	char id[16];

	if (partition->move_logged)
		return;
	partition->move_logged = true;
	snprintf(id, sizeof(id), "%d", partition->id);
	if (gone)
	{
		Assert(to->last_missing >= partition->next);
		*metrics_cell(consumer->metrics, METRIC_MISSING, "topic",
					  partition->topic, "partition", id,
					  NULL) += (double) (to->last_missing - partition->next +
										 1);
		log_warning("messages were deleted before they were read: by the "
					"topic's retention, or by a request topic=%s "
					"partition=%d first_missing=%" PRId64
					" last_missing=%" PRId64,
					partition->topic, partition->id, partition->next,
					to->last_missing);
		return;
	}
	*metrics_cell(consumer->metrics, METRIC_HISTORIES, "topic",
				  partition->topic, "partition", id, NULL) += 1;
	log_warning("partition has another history: the topic was created again, "
				"or lost its end; reading all of it, "
				"messages applied before are duplicates topic=%s partition=%d "
				"next_offset=%" PRId64 " first=%" PRId64 " end=%" PRId64,
				partition->topic, partition->id, partition->next, to->from,
				partition->end);
}

static char *
offsets_next_topic(const Consumer *consumer)
{
	for (char **topic = consumer->unknown; topic && *topic != NULL; topic++)
		if (offsets_can_begin(consumer, *topic))
			return *topic;
	return NULL;
}

static Partition *
offsets_next_move(const Consumer *consumer, StartOffset *to)
{
	for (size_t i = 0; i < consumer->partition_count; i++)
	{
		Partition *partition = &consumer->partitions[i];

		*to = offsets_decide(consumer, partition);
		if (to->kind == START_MOVE && !partition->moves)
			return partition;
	}
	return NULL;
}

bool
consumer_wants_change(const Consumer *consumer)
{
	StartOffset to;

	return offsets_next_topic(consumer) != NULL ||
		   offsets_next_move(consumer, &to) != NULL;
}

bool
consumer_waits(const Consumer *consumer)
{
	if (consumer->unknown != NULL && consumer->unknown[0] != NULL)
		return true;
	for (size_t i = 0; i < consumer->partition_count; i++)
		if (offsets_decide(consumer, &consumer->partitions[i]).kind ==
			START_WAIT)
			return true;
	return false;
}

static void
offsets_forget_unknown(Consumer *consumer, const char *topic)
{
	MissingTopics rest = {0};

	for (char **other = consumer->unknown; *other != NULL; other++)
		if (strcmp(*other, topic) != 0)
			(void) missing_topics_add(&rest, *other);
	strings_free(consumer->unknown);
	consumer->unknown = rest.topics;
}

void
consumer_next_change(Consumer *consumer, ConsumerChange *change)
{
	const char *topic = offsets_next_topic(consumer);
	Partition  *partition;
	StartOffset to;

	if (topic != NULL)
	{
		if (survey_topic(consumer->survey, topic) == SURVEY_ABSENT &&
			missing_topics_add(&consumer->missing, topic))
			log_warning("topic to consume does not exist topic=%s", topic);
		offsets_begin_topic(consumer, topic, change);
		offsets_forget_unknown(consumer, change->topic);
		return;
	}
	partition = offsets_next_move(consumer, &to);
	Assert(partition != NULL && to.kind == START_MOVE && to.from >= 0);
	partition->moves = true;
	offsets_log_move(consumer, partition, &to);
	*change = (ConsumerChange){
		.kind = CONSUMER_MOVES,
		.topic = xstrdup(partition->topic),
		.partition = partition->id,
		.was = partition->next,
		.next = to.from,
		.last_missing = to.last_missing,
		.reason = to.reason,
	};
}

void
consumer_change_free(ConsumerChange *change)
{
	free(change->topic);
	free(change->partitions);
	free(change->offsets);
	*change = (ConsumerChange){0};
}

/*
 * Whether the broker's offsets contradict those it was placed by.  A first
 * offset past the next one does not: that record may be in the batch at hand.
 */
bool
consumer_is_misplaced(const Consumer *consumer)
{
	if (offsets_next_topic(consumer) != NULL)
		return true;
	for (size_t i = 0; i < consumer->partition_count; i++)
	{
		const Partition *partition = &consumer->partitions[i];

		if (partition->hold_to > 0)
		{
			if (loop_now(consumer->loop) >= partition->hold_to)
				return true;
			continue;
		}
		if (partition->waits
				? offsets_decide(consumer, partition).kind != START_WAIT
				: partition->refuted || (partition->end >= 0 &&
										 partition->end < partition->asked_at))
			return true;
	}
	return false;
}

/* ---- reading ----------------------------------------------------------- */

static void
offsets_partition(Consumer *consumer, Partition *partition,
				  rd_kafka_topic_partition_list_t *list)
{
	StartOffset to = offsets_decide(consumer, partition);

	if (loop_now(consumer->loop) >= partition->hold_to)
		partition->hold_to = 0;
	partition->waits = to.kind != START_READ && to.kind != START_PROVE;
	partition->ignored = partition->waits || partition->hold_to > 0;
	partition->proving = to.kind == START_PROVE;
	partition->expected = partition->next;
	partition->drained_to = -1;
	partition->learned.text[0] = '\0';
	if (partition->ignored)
		return;
	Assert(to.from >= 0 && to.from <= partition->next);
	rd_kafka_topic_partition_list_add(list, partition->topic, partition->id)
		->offset = to.from;
	log_debug("reads topic=%s partition=%d offset=%" PRId64 "%s",
			  partition->topic, partition->id, to.from,
			  partition->proving ? " as proof" : "");
}

void
consumer_place(Consumer *consumer)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(
		(int) consumer->partition_count);

	consumer->disturbed = consumer->learned = false;
	for (size_t i = 0; i < consumer->partition_count; i++)
		offsets_partition(consumer, &consumer->partitions[i], list);
	consumer_assign(consumer, list);
	rd_kafka_topic_partition_list_destroy(list);
}

/* The record before the next one has arrived. */
static void
offsets_prove(Consumer *consumer, Partition *partition,
			  const rd_kafka_message_t *message)
{
	ApiMessage	record;
	Fingerprint found;

	Assert(partition->proving && message->offset == partition->next - 1);
	(void) record_read(message, &consumer->headers, &record);
	found = fingerprint_of(&record);
	partition->proving = false;
	consumer_note_witness(consumer, partition, message);
	if (partition->fingerprint.text[0] == '\0')
	{
		partition->learned = found;
		consumer->learned = true;
	}
	else if (strcmp(partition->fingerprint.text, found.text) != 0)
	{
		partition->refuted = true;
		consumer_disturb(consumer, partition, "has another history");
	}
}

bool
consumer_expects(Consumer *consumer, const rd_kafka_message_t *message)
{
	Partition *partition = consumer_partition(consumer,
											  rd_kafka_topic_name(message->rkt),
											  message->partition);

	if (partition == NULL || partition->ignored)
		return false;
	Assert(message->offset >= 0 && partition->expected >= partition->next);
	partition->drained_to = -1;
	if (partition->proving && message->offset == partition->next - 1)
	{
		offsets_prove(consumer, partition, message);
		return false;
	}
	if (message->offset < partition->expected)
	{
		consumer_disturb(consumer, partition, "went back");
		return false;
	}
	/* compacted away, or a transaction's mark: there is nothing to compare */
	partition->proving = false;
	partition->failures = 0;
	partition->expected = message->offset + 1;
	return true;
}

bool
consumer_next_learned(Consumer *consumer, ConsumerChange *change)
{
	for (size_t i = 0; i < consumer->partition_count; i++)
	{
		Partition *partition = &consumer->partitions[i];

		if (partition->learned.text[0] == '\0')
			continue;
		*change = (ConsumerChange){
			.kind = CONSUMER_LEARNED,
			.topic = xstrdup(partition->topic),
			.partition = partition->id,
			.next = partition->next,
			.fingerprint = partition->learned,
		};
		partition->learned.text[0] = '\0';
		return true;
	}
	consumer->learned = false;
	return false;
}

/* ---- trouble ----------------------------------------------------------- */

static bool
offsets_holds_any(const Consumer *consumer)
{
	for (size_t i = 0; i < consumer->partition_count; i++)
		if (consumer->partitions[i].hold_to > 0)
			return true;
	return false;
}

bool
consumer_is_disturbed(const Consumer *consumer)
{
	return consumer->disturbed;
}

bool
consumer_has_learned(const Consumer *consumer)
{
	return consumer->learned;
}

void
consumer_clear_trouble(Consumer *consumer)
{
	if (!offsets_holds_any(consumer))
		buf_clear(&consumer->trouble);
}

void
consumer_describe_trouble(const Consumer *consumer, Buf *sentence)
{
	missing_topics_describe(&consumer->missing, sentence);
	if (consumer->trouble.len > 0)
		buf_printf(sentence, ", %s", consumer->trouble.data);
	for (size_t i = 0; i < consumer->partition_count; i++)
		if (consumer->partitions[i].waits)
			buf_printf(sentence, ", %s/%d waits for the broker",
					   consumer->partitions[i].topic,
					   consumer->partitions[i].id);
}
