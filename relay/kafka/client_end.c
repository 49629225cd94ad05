/*
 * client_end.c - destroys consumers, beside the loop
 *
 * rd_kafka_destroy() of a consumer waits for the answers to its last requests.
 * A broker that has stopped answering, with its connections open, gives none:
 * then a commit of offsets lasts for socket.timeout.ms, 60 s, and the request
 * to leave the group for 5 s.  So a thread waits.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "common/loop.h"
#include "kafka/client.h"

static pthread_mutex_t client_end_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  client_end_changed = PTHREAD_COND_INITIALIZER;
static unsigned		   client_ends; /* threads under way */

static void *
client_end_run(void *client)
{
	rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	(void) pthread_mutex_lock(&client_end_mutex);
	Assert(client_ends > 0);
	client_ends--;
	(void) pthread_cond_signal(&client_end_changed);
	(void) pthread_mutex_unlock(&client_end_mutex);
	return NULL;
}

void
kafka_consumer_end(rd_kafka_t *client)
{
	pthread_t thread;

	(void) pthread_mutex_lock(&client_end_mutex);
	client_ends++;
	(void) pthread_mutex_unlock(&client_end_mutex);
	loop_thread(&thread, client_end_run, client);
	(void) pthread_detach(thread);
}

bool
kafka_consumers_ended(int seconds)
{
	struct timespec until;
	bool			ended;

	(void) clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += seconds;
	(void) pthread_mutex_lock(&client_end_mutex);
	while (client_ends > 0 &&
		   pthread_cond_clockwait(&client_end_changed, &client_end_mutex,
								  CLOCK_MONOTONIC, &until) != ETIMEDOUT)
		;
	ended = client_ends == 0;
	(void) pthread_mutex_unlock(&client_end_mutex);
	return ended;
}
