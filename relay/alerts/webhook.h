/*
 * webhook.h - tells a person what was given up
 *
 * The alerts are rows of the database, written with what they tell of; the
 * relay that leads sends them, and says which it has sent.  So each arrives at
 * least once, whoever is killed when.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_ALERTS_WEBHOOK_H
#define PGSTOCK_ALERTS_WEBHOOK_H

#include "common/loop.h"
#include "config/config.h"
#include "config/metric_table.h"

/* Between two looks, and so between two requests: chats take 20 a minute. */
#define WEBHOOK_LOOK_US (3 * SEC_US)

#define WEBHOOK_ALERTS_MAX 100 /* told by one request */

typedef struct Webhook Webhook;

Webhook *webhook_new(Loop *loop, const Config *config, Metrics *metrics);
void	 webhook_free(Webhook *webhook);

/* Does what is due; when there will be more. */
int64_t webhook_turn(Webhook *webhook, bool leads);

/* No new request; one that is under way is let end. */
void webhook_stop(Webhook *webhook);
bool webhook_is_done(const Webhook *webhook);

/* Whether alerts get out, and why not; true where none are wanted. */
bool webhook_is_well(const Webhook *webhook);
void webhook_status_json(Webhook *webhook, Buf *json);

#endif
