/*
 * pump.h - from Kafka to stock; and the upkeep of the database
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_INBOX_PUMP_H
#define PGSTOCK_INBOX_PUMP_H

#include "common/loop.h"
#include "config/config.h"
#include "config/metric_table.h"
#include "db/pump_state.h"

typedef struct Inbox Inbox;

/* config is borrowed and may change, by inbox_reconfigured() only */
Inbox *inbox_new(Loop *loop, const Config *config, Metrics *metrics);
void   inbox_free(Inbox *inbox);
void   inbox_reconfigured(Inbox *inbox);

/*
 * Does all that is due; the time of the next call at the latest.  leads: this
 * relay leads the outbox, so it also does the upkeep.
 */
int64_t inbox_turn(Inbox *inbox, bool leads);

void inbox_stop(Inbox *inbox, int64_t stop_by);
bool inbox_is_done(const Inbox *inbox);
int	 inbox_exit_code(const Inbox *inbox);

PumpState inbox_pump_state(const Inbox *inbox);
bool	  inbox_is_overdue(const Inbox *inbox);

/* /metrics is requested: brings those up to date that are not always. */
void inbox_refresh_metrics(Inbox *inbox);
/* False: newer values are being read from the database. */
bool inbox_metrics_are_new(const Inbox *inbox);

/* Whether messages are applied, and a sentence about it for people. */
bool inbox_is_ready(Inbox *inbox, Buf *sentence);
void inbox_status_json(Inbox *inbox, Buf *json);

#endif
