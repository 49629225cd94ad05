/*
 * report.c - the outbox pump in the log, the metrics and /status
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/pump_private.h"

#include <inttypes.h>

#include "common/json.h"

#define LOG_MODULE "outbox"

void
outbox_log_state(Outbox *outbox)
{
	bool leads = outbox_leads(&outbox->state);

	pump_log_state(LOG_MODULE, &outbox->logged_state, outbox->state.pump,
				   outbox->state.db_retry.failures);
	if (outbox->leading == leads)
		return;
	Assert(!leads || outbox->state.pump >= PUMP_LEADER_WAIT);
	outbox->leading = leads;
	*metrics_cell(outbox->metrics, METRIC_LEADER, NULL) = leads;
	*metrics_cell(outbox->metrics, METRIC_LEADER_CHANGES, NULL) += 1;
	log_info("%s epoch=%" PRId64,
			 leads ? "leads the outbox" : "lost the lead of the outbox",
			 outbox->state.epoch);
}

bool
outbox_is_done(const Outbox *outbox)
{
	return outbox->done;
}

int
outbox_exit_code(const Outbox *outbox)
{
	Assert(outbox->done || outbox->exit_code == EXIT_CLEAN);
	return outbox->exit_code;
}

PumpState
outbox_pump_state(const Outbox *outbox)
{
	return outbox->state.pump;
}

bool
outbox_is_leader(const Outbox *outbox)
{
	return outbox_leads(&outbox->state);
}

bool
outbox_is_overdue(const Outbox *outbox)
{
	return !outbox->done &&
		   outbox_overdue(&outbox->state, loop_now(outbox->loop));
}

bool
outbox_is_ready(Outbox *outbox, Buf *sentence)
{
	const char *missing = producer_missing_topics(outbox->producer);
	bool		up = producer_is_known_up(outbox->producer);
	bool moves = outbox_makes_progress(&outbox->state, loop_now(outbox->loop));

	if (outbox->state.transactional && !outbox_leads(&outbox->state))
		up = true; /* a standby has no producer */
	buf_printf(sentence, "outbox: %s, %u events in flight",
			   pump_state_name(outbox->state.pump),
			   in_flight_count(&outbox->state.in_flight));
	if (!up)
		buf_add_str(sentence, ", the broker has not answered");
	else if (outbox->state.producer_opening)
		buf_add_str(sentence, ", the producer is not open yet");
	if (missing[0] != '\0')
		buf_printf(sentence, ", missing topics: %s", missing);
	held_lane_describe(outbox->lane, sentence);
	if (!moves && outbox->trouble.len > 0)
		buf_printf(sentence, ", %s", buf_str(&outbox->trouble));
	return moves && up;
}

void
outbox_status_json(Outbox *outbox, Buf *json)
{
	Buf	 sentence = {0};
	bool ready = outbox_is_ready(outbox, &sentence);

	buf_printf(json,
			   "{\"status\":\"%s\",\"state\":\"%s\",\"mode\":\"%s\","
			   "\"leader\":%s,\"epoch\":%" PRId64
			   ",\"in_flight\":%u,\"broker_up\":%s,"
			   "\"detail\":",
			   ready ? "ok" : "failing", pump_state_name(outbox->state.pump),
			   outbox->state.transactional ? "transactional" : "idempotent",
			   outbox_leads(&outbox->state) ? "true" : "false",
			   outbox->state.epoch, in_flight_count(&outbox->state.in_flight),
			   producer_is_known_up(outbox->producer) ? "true" : "false");
	json_add_string(json, buf_str(&sentence));
	buf_add_str(json, "}");
	buf_free(&sentence);
}
