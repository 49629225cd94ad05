/*
 * redrive_batch.c - the transactions of "redrive"
 *
 * The letters of a transaction and the offsets behind them are committed
 * together: whenever the command ends, a letter was either sent back and is
 * behind the group's offset, or neither.  What a run has left open, the next
 * one aborts before it reads the offsets.
 *
 * A topic that refuses one record fails the transaction, and reports the others
 * of its batch as refused too.  So the same letters are sent once more, each in
 * a transaction of its own, and then the refused one is left.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/redrive_run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/progress.h"
#include "common/safe_text.h"
#include "kafka/producer_conf.h"

#define BATCH_BYTES	 1000000
#define INIT_SLICES	 30 /* of a second */
#define ABORT_MS	 5000
#define ROOM_WAIT_MS 100
#define ROOM_TRIES	 200

#define REPORT_WAIT_MS 100
#define REPORT_TRIES   50

atomic_bool redrive_interrupted;

/* A commit is seen through, whatever happens meanwhile. */
static const atomic_bool redrive_never;

/* ---- the producer ------------------------------------------------------ */

static void
redrive_on_delivery(rd_kafka_t *producer	  UNUSED,
					const rd_kafka_message_t *message, void *arg UNUSED)
{
	RedriveLetter *letter = message->_private;

	Assert(letter != NULL);
	letter->error = message->err;
}

static void
redrive_report(const char *what, WatchedResult *result)
{
	bool fenced = result->code == RD_KAFKA_RESP_ERR__FENCED ||
				  result->code == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH ||
				  result->code == RD_KAFKA_RESP_ERR_PRODUCER_FENCED;

	command_report("%s: %s%s", what,
				   result->error.len > 0 ? buf_str(&result->error)
										 : "timed out",
				   fenced ? ": another redrive of this topic has begun"
						  : "; run it again: it begins where this one ended");
}

static rd_kafka_conf_t *
redrive_conf(const Redrive *run)
{
	char			*id = xasprintf("%s-%s", run->group, run->topic);
	rd_kafka_conf_t *conf;

	conf = producer_conf_new(run->command.config,
							 &(ProducerNeeds){
								 .max_event_bytes = run->command.hello
														.max_event_bytes,
								 .batch_bytes_max = BATCH_BYTES,
								 .transactional_id = id,
								 .probes = true,
							 });
	rd_kafka_conf_set_dr_msg_cb(conf, redrive_on_delivery);
	rd_kafka_conf_set_log_cb(conf, NULL); /* results name the errors */
	free(id);
	return conf;
}

bool
redrive_open(Redrive *run)
{
	WatchedResult result = {0};
	char		  error[KAFKA_ERROR_MAX];

	Assert(run->producer == NULL && !run->dry_run);
	run->producer = watched_client_new(redrive_conf(run), error);
	if (run->producer == NULL)
	{
		command_report("producer: %s", error);
		return false;
	}
	if (!watched_client_init(run->producer, INIT_SLICES, &redrive_interrupted,
							 &result))
		redrive_report("could not begin a transaction", &result);
	buf_free(&result.error);
	return result.code == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/*
 * What it has open would hide later records of the topics, from consumers that
 * read committed ones only, until the coordinator ends it.
 */
void
redrive_abort(Redrive *run)
{
	rd_kafka_error_t *error;

	if (run->producer == NULL)
		return;
	error = rd_kafka_abort_transaction(watched_client_handle(run->producer),
									   ABORT_MS);
	if (error != NULL) /* none was open, or the next run aborts it */
		rd_kafka_error_destroy(error);
}

void
redrive_close(Redrive *run)
{
	if (run->producer != NULL)
		watched_client_free(run->producer);
	run->producer = NULL;
}

/* ---- a transaction ----------------------------------------------------- */

bool
redrive_begin(Redrive *run)
{
	WatchedResult result = {0};

	Assert(run->dry_run == (run->producer == NULL));
	run->letter_count = run->letters_left = 0;
	run->failed = false;
	buf_clear(&run->notes);
	if (run->dry_run)
		return true;
	watched_client_begin(run->producer, &result);
	if (result.error.len > 0)
		redrive_report("could not begin a transaction", &result);
	buf_free(&result.error);
	return result.code == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/*
 * The partition that the message came from; if that is not known, the one of
 * its key.
 */
static int32_t
redrive_target(const DeadLetter *letter, const RedriveTopic *topic)
{
	return letter->partition >= 0 && letter->partition < topic->partitions
			   ? letter->partition
			   : RD_KAFKA_PARTITION_UA;
}

rd_kafka_resp_err_t
redrive_send(Redrive *run, const rd_kafka_message_t *message,
			 const DeadLetter *letter, const RedriveTopic *topic)
{
	rd_kafka_t		   *producer = watched_client_handle(run->producer);
	RedriveLetter	   *slot = &run->letters[run->letter_count];
	rd_kafka_headers_t *from = NULL;
	rd_kafka_headers_t *headers;
	rd_kafka_resp_err_t error;

	Assert(run->letter_count < REDRIVE_BATCH_MAX);
	/* one that may not be sent back is left */
	Assert(topic->fault == NULL && letter->redrives < run->limit);
	*slot = (RedriveLetter){topic->name, message->partition, message->offset,
							RD_KAFKA_RESP_ERR_NO_ERROR};
	if (rd_kafka_message_headers(message, &from) != 0)
		return RD_KAFKA_RESP_ERR__BAD_MSG; /* a letter without a source */
	headers = dead_letter_headers(from, letter->redrives + 1);
	for (int i = 0; i < ROOM_TRIES; i++)
	{
		error = rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic->name),
								  RD_KAFKA_V_PARTITION(
									  redrive_target(letter, topic)),
								  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
								  RD_KAFKA_V_VALUE(message->payload,
												   message->len),
								  RD_KAFKA_V_KEY(message->key,
												 message->key_len),
								  RD_KAFKA_V_HEADERS(headers),
								  RD_KAFKA_V_OPAQUE(slot), RD_KAFKA_V_END);
		if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			break;
		rd_kafka_poll(producer, ROOM_WAIT_MS);
	}
	if (error == 0)
		run->letter_count++; /* and the headers are taken */
	else
		rd_kafka_headers_destroy(headers);
	/* an earlier letter was refused, or the producer is fenced */
	run->failed = error == RD_KAFKA_RESP_ERR__STATE ||
				  error == RD_KAFKA_RESP_ERR__FATAL;
	rd_kafka_poll(producer, 0);
	return error;
}

/* ---- its end ----------------------------------------------------------- */

/* The group's offset of a partition that is read; it is never set back. */
static int64_t
redrive_offset(const RedrivePartition *partition)
{
	return Max(partition->next, partition->stored);
}

/*
 * The offsets behind the letters, in the same transaction; so it has something
 * to commit where all its letters are left, too.
 */
static void
redrive_send_offsets(Redrive *run, WatchedResult *result)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(
		(int) run->partition_count);
	rd_kafka_consumer_group_metadata_t *group;
	rd_kafka_error_t				   *error = NULL;

	for (size_t i = 0; i < run->partition_count; i++)
		if (run->partitions[i].next > run->partitions[i].begin)
			rd_kafka_topic_partition_list_add(list, run->topic,
											  run->partitions[i].id)
				->offset = redrive_offset(&run->partitions[i]);
	group = rd_kafka_consumer_group_metadata_new(run->group);
	if (list->cnt > 0)
		error = rd_kafka_send_offsets_to_transaction(watched_client_handle(
														 run->producer),
													 list, group,
													 KAFKA_TRANSACTION_MS);
	if (error != NULL)
		watched_result_fail(result, error);
	rd_kafka_consumer_group_metadata_destroy(group);
	rd_kafka_topic_partition_list_destroy(list);
}

/*
 * Later runs begin behind the group's offset, and so behind what --from passes
 * over too.
 */
static void
redrive_advance(Redrive *run, RedrivePartition *partition)
{
	Assert(partition->begin <= partition->committed &&
		   partition->committed <= partition->next);
	partition->committed = partition->next;
	if (partition->next == partition->begin)
		return;
	if (partition->stored < partition->begin)
		buf_printf(&run->notes,
				   "passed over %s/%" PRId32 "/%" PRId64 " to %" PRId64
				   ": they are before --from\n",
				   run->topic, partition->id, partition->stored,
				   partition->begin - 1);
	partition->stored = redrive_offset(partition);
}

static void
redrive_committed(Redrive *run)
{
	for (size_t i = 0; i < run->partition_count; i++)
		redrive_advance(run, &run->partitions[i]);
	run->sent += run->letter_count;
	run->left += run->letters_left;
	run->singles = Max(run->singles - 1, 0);
	if (run->notes.len > 0)
	{
		progress_hide();
		fwrite(run->notes.data, 1, run->notes.len, stdout);
		fflush(stdout);
	}
}

/*
 * Takes the reports of a transaction that has failed.  A commit takes them only
 * if it failed during that: where a letter was refused earlier, it fails at
 * once.  What was not sent need not be, and what was is soon answered.
 */
static void
redrive_take_reports(Redrive *run)
{
	rd_kafka_t *producer = watched_client_handle(run->producer);

	(void) rd_kafka_purge(producer, RD_KAFKA_PURGE_F_QUEUE |
										RD_KAFKA_PURGE_F_NON_BLOCKING);
	for (int i = 0; i < REPORT_TRIES && rd_kafka_outq_len(producer) > 0; i++)
		rd_kafka_poll(producer, REPORT_WAIT_MS);
}

/* Whether a topic has refused a letter, and which one, as far as is known. */
static bool
redrive_was_refused(Redrive *run)
{
	for (int i = 0; i < run->letter_count; i++)
	{
		const RedriveLetter *letter = &run->letters[i];

		if (!redrive_is_refusal(letter->error))
			continue;
		if (run->letter_count == 1)
		{
			RedrivePartition *partition = redrive_partition(run,
															letter->partition);

			Assert(partition != NULL);
			partition->refused = letter->offset;
			partition->refusal = letter->error;
		}
		run->singles = Max(run->singles, run->letter_count);
		return true;
	}
	return false;
}

static void
redrive_report_commit(const Redrive *run, WatchedResult *result)
{
	for (int i = 0; i < run->letter_count; i++)
	{
		const RedriveLetter *letter = &run->letters[i];

		if (letter->error != RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
			continue;
		redrive_report_topic(letter->topic, letter->error);
		return;
	}
	redrive_report("could not commit", result);
}

/*
 * A producer that is no longer to be used; its transaction is aborted by the
 * next one.
 */
static bool
redrive_reopen(Redrive *run)
{
	redrive_close(run);
	return redrive_open(run) && redrive_seek(run);
}

RedriveEnd
redrive_commit(Redrive *run)
{
	WatchedResult result = {0};
	RedriveEnd	  end = REDRIVE_FAILED;
	bool		  good = run->dry_run;

	if (!run->dry_run)
	{
		redrive_send_offsets(run, &result);
		good = result.error.len == 0 &&
			   watched_client_commit(run->producer, &redrive_never, &result);
	}
	if (good || result.committed)
	{
		redrive_committed(run);
		if (good || redrive_reopen(run))
			end = REDRIVE_COMMITTED;
	}
	else
	{
		redrive_take_reports(run);
		if (!redrive_was_refused(run))
			redrive_report_commit(run, &result);
		else if (redrive_reopen(run))
			end = REDRIVE_AGAIN;
	}
	buf_free(&result.error);
	return end;
}
