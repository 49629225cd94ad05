/*
 * redrive.c - dead letters, back to the topics that they came from
 *
 * The letters are read from where the last run ended, or from --from, up to
 * where their topic ends now, so that a letter which is given up again
 * meanwhile is the next run's.  Each is sent to its source topic with the key,
 * the value and the headers that the message had, and with how often that was
 * done: a letter that was sent back as often as the limit says is left.  One
 * that is left is named, and the run goes on behind it.
 *
 * What pgstock does with a message that comes back: message_id.c and
 * failed_event.c in extension/inbox.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/redrive_run.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands/commands.h"
#include "common/progress.h"
#include "common/safe_text.h"

#define STALL_TRIES	  20 /* of POLL_MS each, without a message */
#define POLL_MS		  1000
#define DEFAULT_LIMIT 3

/* ---- one letter -------------------------------------------------------- */

/* Shown once its transaction is committed. */
static void PRINTF_LIKE(2, 3)
	redrive_note(Redrive *run, const char *format, ...)
{
	Buf		text = {0};
	va_list args;

	va_start(args, format);
	buf_vline(&text, format, args);
	va_end(args);
	safe_add(&run->notes, buf_str(&text), text.len);
	buf_add_str(&run->notes, "\n");
	buf_free(&text);
}

static void
redrive_leave(Redrive *run, const rd_kafka_message_t *message, const char *why)
{
	run->letters_left++;
	redrive_note(run, "left %s/%" PRId32 "/%" PRId64 ": %s", run->topic,
				 message->partition, message->offset, why);
}

/*
 * Why a letter must be left, whatever its topic is; NULL: it need not.  Freed
 * by the caller.
 */
static char *
redrive_letter_fault(const Redrive *run, const DeadLetter *letter)
{
	if (letter->topic == NULL)
		return xstrdup("no header __dlq.errors.topic names its source topic");
	if (letter->is_incomplete)
		return xstrdup("it lacks the message's value, which was too large for "
					   "it: retry it from the archive, by \"pgstock-relay "
					   "failed retry\"");
	if (letter->redrives < 0)
		return xstrdup("its header __dlq.redrive.count is not a number");
	if (letter->redrives >= run->limit)
		return xasprintf("it was sent back %" PRId64 " times already, and "
						 "--limit is %" PRId64,
						 letter->redrives, run->limit);
	return NULL;
}

static void
redrive_show(Redrive *run, const rd_kafka_message_t *message,
			 const DeadLetter *letter)
{
	run->letter_count++;
	redrive_note(run,
				 "would send %s/%" PRId32 "/%" PRId64 " to %s, key %.*s, sent "
				 "back %" PRId64 " times: %s",
				 run->topic, message->partition, message->offset, letter->topic,
				 (int) Min(message->key_len, (size_t) 255),
				 message->key != NULL ? (const char *) message->key : "",
				 letter->redrives, letter->error);
}

static bool
redrive_take_letter(Redrive *run, const rd_kafka_message_t *message,
					const DeadLetter *letter)
{
	const RedrivePartition *partition = redrive_partition(run,
														  message->partition);
	const RedriveTopic	   *topic = redrive_find_topic(run, letter->topic);
	rd_kafka_resp_err_t		error = RD_KAFKA_RESP_ERR_NO_ERROR;
	char				   *why = NULL;

	if (topic == NULL)
		return false;
	if (topic->fault != NULL)
		why = xasprintf("its source topic \"%s\" %s", topic->name,
						topic->fault);
	else if (partition->refusal != 0 && partition->refused == message->offset)
		error = partition->refusal;
	else if (run->dry_run)
		redrive_show(run, message, letter);
	else
		error = redrive_send(run, message, letter, topic);
	if (run->failed)
		return true; /* why, the commit finds out */
	if (error != 0 && !redrive_is_refusal(error))
	{
		redrive_report_topic(topic->name, error);
		return false;
	}
	if (error != 0)
		why = xasprintf("topic \"%s\" refused it: %s", topic->name,
						rd_kafka_err2str(error));
	if (why != NULL)
		redrive_leave(run, message, why);
	free(why);
	return true;
}

/* False, and reported why, if the run cannot go on. */
static bool
redrive_take(Redrive *run, const rd_kafka_message_t *message)
{
	RedrivePartition   *partition = redrive_partition(run, message->partition);
	rd_kafka_headers_t *headers = NULL;
	DeadLetter			letter;
	char			   *why;

	Assert(partition->committed <= partition->next);
	if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
	{
		/* the last ones may be no records, but the marks of a transaction */
		partition->next = Max(partition->next, partition->end);
		return true;
	}
	if (message->err != 0)
	{
		command_report_broker(run->consumer, "could not read the topic",
							  message->err);
		return false;
	}
	if (message->offset >= partition->end || message->offset < partition->next)
	{
		partition->next = Max(partition->next,
							  Min(message->offset, partition->end));
		return true;
	}
	if (rd_kafka_message_headers(message, &headers) != 0)
		headers = NULL;
	dead_letter_read(headers, &letter);
	why = redrive_letter_fault(run, &letter);
	if (why != NULL)
		redrive_leave(run, message, why);
	else if (!redrive_take_letter(run, message, &letter))
		return false;
	if (!run->failed)
		partition->next = message->offset + 1;
	free(why);
	return true;
}

/* ---- all letters ------------------------------------------------------- */

static bool
redrive_is_complete(const Redrive *run)
{
	if (run->sent + run->letter_count >= run->max)
		return true;
	for (size_t i = 0; i < run->partition_count; i++)
		if (run->partitions[i].next < run->partitions[i].end)
			return false;
	return true;
}

static bool
redrive_batch_is_full(const Redrive *run)
{
	int count = run->letter_count + run->letters_left;

	Assert(count <= REDRIVE_BATCH_MAX);
	return count >= (run->singles > 0 ? 1 : REDRIVE_BATCH_MAX);
}

static void
redrive_show_progress(const Redrive *run)
{
	int64_t done = 0;
	int64_t total = 0;

	for (size_t i = 0; i < run->partition_count; i++)
	{
		const RedrivePartition *p = &run->partitions[i];

		done += Min(p->next, p->end) - p->begin;
		total += p->end - p->begin;
	}
	progress_update(run->sent + run->letter_count + run->left,
					command_share(0, done, total));
}

/* Fills one transaction; a pause of the broker ends it early. */
static bool
redrive_fill(Redrive *run)
{
	int	 stalled = 0;
	bool good = true;

	Assert(run->letter_count + run->letters_left == 0);
	while (good && !redrive_interrupted && !run->failed &&
		   !redrive_is_complete(run) && !redrive_batch_is_full(run))
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(run->consumer,
															 POLL_MS);

		if (message == NULL && run->letter_count + run->letters_left > 0)
			break;
		if (message == NULL && ++stalled < STALL_TRIES)
		{
			progress_wait("the broker", stalled * POLL_MS * MS_US);
			continue;
		}
		if (message == NULL)
		{
			command_report_broker(
				run->consumer,
				"the broker returns no more letters, though there are",
				RD_KAFKA_RESP_ERR__TIMED_OUT);
			return false;
		}
		stalled = 0;
		good = redrive_take(run, message);
		rd_kafka_message_destroy(message);
		redrive_show_progress(run);
	}
	return good;
}

static bool
redrive_letters(Redrive *run)
{
	progress_begin(run->dry_run ? "dead letters found" : "dead letters");
	while (!redrive_interrupted && !redrive_is_complete(run))
	{
		if (!redrive_begin(run) || !redrive_fill(run) ||
			redrive_commit(run) == REDRIVE_FAILED)
			return false;
		run->letter_count = run->letters_left = 0;
	}
	progress_end();
	return true;
}

/* ---- the command ------------------------------------------------------- */

static void
redrive_on_signal(int number UNUSED)
{
	redrive_interrupted = true;
}

/* The second Ctrl-C ends the process; nothing is lost or doubled by that. */
static void
redrive_catch_signals(void)
{
	struct sigaction action = {.sa_handler = redrive_on_signal,
							   .sa_flags = SA_RESETHAND | SA_RESTART};

	sigemptyset(&action.sa_mask);
	if (sigaction(SIGINT, &action, NULL) != 0 ||
		sigaction(SIGTERM, &action, NULL) != 0)
		Assert(!"signals that can be caught");
}

static bool
redrive_open_consumer(Redrive *run)
{
	Buf error = {0};

	run->group = xasprintf("%s-redrive", command_group(&run->command));
	run->consumer = command_client_new(run->command.config, run->group,
									   &run->command.trouble, &error);
	if (run->consumer == NULL)
		command_report("broker: %s", buf_str(&error));
	else
		rd_kafka_poll_set_consumer(run->consumer);
	buf_free(&error);
	return run->consumer != NULL;
}

static ExitCode
redrive_report_end(const Redrive *run, bool good)
{
	Assert(!good || run->letter_count == 0); /* each one is counted as sent */
	printf("%s %" PRId64 " dead letters, left %" PRId64 "\n",
		   run->dry_run ? "would send back" : "sent back", run->sent,
		   run->left);
	if (good && redrive_interrupted)
		command_report("interrupted: run it again for the others");
	return good && !redrive_interrupted && run->left == 0 ? EXIT_CLEAN
														  : EXIT_RUNTIME;
}

static ExitCode
redrive_run(Redrive *run)
{
	bool good;

	if (!redrive_find_own_topics(run) || !redrive_open_consumer(run) ||
		!redrive_find_partitions(run) ||
		(!run->dry_run && !redrive_open(run)) || !redrive_seek(run))
		return EXIT_RUNTIME;
	good = redrive_letters(run);
	if (!good)
		redrive_abort(run);
	return redrive_report_end(run, good);
}

static void
redrive_free(Redrive *run)
{
	redrive_close(run);
	if (run->consumer != NULL)
		rd_kafka_destroy(run->consumer);
	redrive_free_topics(run);
	buf_free(&run->notes);
	free(run->partitions);
	free(run->group);
	command_close(&run->command);
	free(run);
}

static int64_t
redrive_number(const char *text, int64_t otherwise)
{
	int64_t number = otherwise;

	if (text != NULL && !parse_number(text, &number))
		Assert(!"a value that the parser accepts");
	return number;
}

ExitCode
cmd_redrive(const Arguments *arguments, const Config *config)
{
	Redrive *run = xcalloc(1, sizeof(Redrive));
	ExitCode code;

	run->topic = arguments->values[ARG_REDRIVE_TOPIC];
	run->max = redrive_number(arguments->values[ARG_MAX], INT64_MAX);
	run->limit = redrive_number(arguments->values[ARG_LIMIT], DEFAULT_LIMIT);
	run->from = command_point(arguments->values[ARG_REDRIVE_FROM]);
	run->only = redrive_number(arguments->values[ARG_PARTITION], -1);
	run->dry_run = arguments->values[ARG_REDRIVE_DRY_RUN] != NULL;
	redrive_catch_signals();
	if (command_open(&run->command, config))
		run->command.code = redrive_run(run);
	code = run->command.code;
	redrive_free(run);
	return code;
}
