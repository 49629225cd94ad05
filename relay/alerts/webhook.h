/*
 * webhook.h - sends alerts about messages that were given up
 *
 * The alerts are rows of the database, written by the transaction that gives up
 * the message; the relay that leads sends them, and records which it has sent.
 * So each arrives at least once, whatever is killed at whatever time.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_ALERTS_WEBHOOK_H
#define PGSTOCK_ALERTS_WEBHOOK_H

#include "common/loop.h"
#include "config/config.h"
#include "config/metric_table.h"

/* Between two requests: chats accept 20 a minute. */
#define WEBHOOK_READ_US (3 * SEC_US)

#define WEBHOOK_ALERTS_MAX 100 /* in one request */

typedef struct Webhook Webhook;

Webhook *webhook_new(Loop *loop, const Config *config, Metrics *metrics);
void	 webhook_free(Webhook *webhook);

/* Acts if that is due; the time of the next call at the latest. */
int64_t webhook_turn(Webhook *webhook, bool leads);

/*
 * No new request; one that is under way is completed by then, or left: then its
 * alerts are sent again.
 */
void webhook_stop(Webhook *webhook, int64_t stop_by);
bool webhook_is_done(const Webhook *webhook);

void webhook_status_json(Webhook *webhook, Buf *json);

#endif
