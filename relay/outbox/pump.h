/*
 * pump.h - from the outbox to Kafka
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_OUTBOX_PUMP_H
#define PGSTOCK_OUTBOX_PUMP_H

#include "common/loop.h"
#include "config/config.h"
#include "config/metric_table.h"
#include "db/pump_state.h"

typedef struct Outbox Outbox;

/* config is borrowed and may change, by outbox_reconfigured() only */
Outbox *outbox_new(Loop *loop, const Config *config, Metrics *metrics);
void	outbox_free(Outbox *outbox);
void	outbox_reconfigured(Outbox *outbox);

/* Does all that is to be done now; the time of the next call at the latest. */
int64_t outbox_turn(Outbox *outbox);

void outbox_stop(Outbox *outbox, int64_t stop_by);
bool outbox_is_done(const Outbox *outbox);

/* EXIT_CLEAN, or why the process has to end. */
int outbox_exit_code(const Outbox *outbox);

PumpState outbox_pump_state(const Outbox *outbox);
bool	  outbox_is_leader(const Outbox *outbox);
bool	  outbox_is_overdue(const Outbox *outbox);

/* Whether it moves, and a sentence about it for people. */
bool outbox_is_ready(Outbox *outbox, Buf *sentence);
void outbox_status_json(Outbox *outbox, Buf *json);

#endif
