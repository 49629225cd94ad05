/*
 * held_lane.h - what the outbox pump does about held topics (held_topics.h)
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_OUTBOX_HELD_LANE_H
#define PGSTOCK_OUTBOX_HELD_LANE_H

#include "common/loop.h"
#include "config/config.h"
#include "config/metric_table.h"
#include "db/api.h"
#include "kafka/producer.h"
#include "outbox/state.h"

typedef struct HeldLane HeldLane;

/*
 * config is borrowed, and so is state, which the lane reports to, and the
 * outbox's producer, which is informed of resumed topics
 */
HeldLane *held_lane_new(Loop *loop, const Config *config, Metrics *metrics,
						OutboxState *state, Producer *main);
void	  held_lane_free(HeldLane *lane);

void held_lane_reconfigured(HeldLane *lane);

/* Carries out one of the actions of held topics. */
void held_lane_do(HeldLane *lane, OutboxAction action, PgConnection *conn,
				  int max_event_bytes, EventSource source);

/* The answer to one of their questions; true if the result is kept. */
bool held_lane_take_answer(HeldLane *lane, OutboxAction question,
						   PGresult *result) MUST_CHECK;

/* Whether an answer has the columns that its question asks for. */
bool held_lane_is_answer(OutboxAction	 question,
						 const PGresult *result) MUST_CHECK;

/* The held topics and why, for people. */
void held_lane_describe(const HeldLane *lane, Buf *sentence);

#endif
