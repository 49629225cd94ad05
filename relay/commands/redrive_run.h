/*
 * redrive_run.h - one run of "redrive", for its files
 *
 * redrive.c above redrive_batch.c above redrive_topics.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMANDS_REDRIVE_RUN_H
#define PGSTOCK_COMMANDS_REDRIVE_RUN_H

#include "commands/command.h"
#include "kafka/dead_letter.h"
#include "kafka/watched_client.h"

#define REDRIVE_BATCH_MAX 500 /* letters of one transaction */

/* A partition of the dead letters' topic. */
typedef struct RedrivePartition
{
	int32_t id;
	int64_t begin;	   /* where this run began */
	int64_t committed; /* up to it this run sent back or left each */
	int64_t next;	   /* the same, once the open transaction is committed */
	int64_t end;	   /* as it was when this run began */
	int64_t stored;	   /* the group's offset, which is never set back */

	/*
	 * The letter that its topic refused when it was sent alone.  The letters of
	 * other partitions may be read before it is read again.
	 */
	int64_t				refused;
	rd_kafka_resp_err_t refusal; /* 0: there is none */
} RedrivePartition;

/* A topic that letters name as their source. */
typedef struct RedriveTopic
{
	char	   *name;		/* owned */
	int			partitions; /* 0: nothing can be sent to it */
	const char *fault;		/* why; a constant */
} RedriveTopic;

/* A letter that the open transaction sends back. */
typedef struct RedriveLetter
{
	const char		   *topic;	   /* a RedriveTopic's name */
	int32_t				partition; /* its place */
	int64_t				offset;
	rd_kafka_resp_err_t error; /* of its delivery */
} RedriveLetter;

typedef struct Redrive
{
	Command		   command;
	const char	  *topic;
	char		  *group;  /* owned; its offsets are those of the letters */
	int64_t		   max;	   /* letters to send back */
	int64_t		   limit;  /* a letter that was sent back so often is left */
	Point		   from;   /* neither number nor moment: behind the last run */
	int64_t		   only;   /* this partition; -1: all */
	bool		   placed; /* it is known where this run begins */
	bool		   dry_run;
	rd_kafka_t	  *consumer;
	WatchedClient *producer; /* NULL: a dry run, or not open */

	RedrivePartition *partitions;
	size_t			  partition_count;
	RedriveTopic	 *topics;
	size_t			  topic_count;
	PGresult		 *event_topics; /* that pgstock's events go to */

	int64_t sent; /* committed */
	int64_t left;

	/* the open transaction */
	RedriveLetter letters[REDRIVE_BATCH_MAX];
	int			  letter_count;
	int			  letters_left;
	Buf			  notes;   /* lines about them, for standard output */
	bool		  failed;  /* it takes no more letters, and cannot commit */
	int			  singles; /* so many letters get a transaction of their own */
} Redrive;

/* Set by Ctrl-C: the open transaction is committed, and no other begun. */
extern atomic_bool redrive_interrupted;

/* ---- redrive_topics.c ---- */

/*
 * Whether a topic does not take this record; a right that is missing concerns
 * all its records, and ends the run.
 */
static inline bool
redrive_is_refusal(rd_kafka_resp_err_t error)
{
	return kafka_is_refusal(error) &&
		   error != RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
}

/* Reports that nothing can be sent to a topic. */
void redrive_report_topic(const char *name, rd_kafka_resp_err_t error);

/*
 * The topics that no letter gets into; false, and reported why, if the database
 * does not answer.
 */
bool redrive_find_own_topics(Redrive *run) MUST_CHECK;

/* NULL, and reported why, if the broker does not answer. */
const RedriveTopic *redrive_find_topic(Redrive	  *run,
									   const char *name) MUST_CHECK;
void				redrive_free_topics(Redrive *run);

/*
 * The partitions, and where this run begins and ends in each; false, and
 * reported why.
 */
bool redrive_find_partitions(Redrive *run) MUST_CHECK;

/* Reads on behind the letters that are committed; the same. */
bool redrive_seek(Redrive *run) MUST_CHECK;

RedrivePartition *redrive_partition(Redrive *run, int32_t id);

/* ---- redrive_batch.c ---- */

/* How a transaction ended. */
typedef enum RedriveEnd
{
	REDRIVE_COMMITTED,
	REDRIVE_AGAIN, /* a topic refused a letter: the same once more, singly */
	REDRIVE_FAILED /* reported why */
} RedriveEnd;

/*
 * Opens the producer, which ends what an earlier one has left open; reports the
 * error.
 */
bool redrive_open(Redrive *run) MUST_CHECK;
void redrive_abort(Redrive *run);
void redrive_close(Redrive *run);

bool redrive_begin(Redrive *run) MUST_CHECK;

/*
 * Sends a letter to its source; 0, or why the producer did not take it.  Where
 * the transaction has failed, it sets that.
 */
rd_kafka_resp_err_t redrive_send(Redrive				  *run,
								 const rd_kafka_message_t *message,
								 const DeadLetter		  *letter,
								 const RedriveTopic		  *topic) MUST_CHECK;

/* Commits the letters and their offsets. */
RedriveEnd redrive_commit(Redrive *run) MUST_CHECK;

#endif
