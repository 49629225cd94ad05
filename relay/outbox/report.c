/*
 * report.c - the outbox pump in the log, the metrics and /status
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/private.h"

#include <inttypes.h>

#include "common/json.h"

#define LOG_MODULE "outbox"

void
outbox_log_state(Outbox *outbox)
{
	bool leads = outbox_leads(&outbox->core);

	pump_log_state(LOG_MODULE, &outbox->logged_state, outbox->core.state,
				   outbox->core.db_retry.failures);
	if (outbox->leading == leads)
		return;
	Assert(!leads || outbox->core.state >= PUMP_LEADER_WAIT);
	outbox->leading = leads;
	*metrics_cell(outbox->metrics, METRIC_LEADER, NULL) = leads;
	*metrics_cell(outbox->metrics, METRIC_LEADER_CHANGES, NULL) += 1;
	log_info("%s epoch=%" PRId64,
			 leads ? "leads the outbox" : "lost the lead of the outbox",
			 outbox->core.epoch);
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
outbox_state(const Outbox *outbox)
{
	return outbox->core.state;
}

bool
outbox_is_leader(const Outbox *outbox)
{
	return outbox_leads(&outbox->core);
}

bool
outbox_is_overdue(const Outbox *outbox)
{
	return !outbox->done &&
		   outbox_overdue(&outbox->core, loop_now(outbox->loop));
}

bool
outbox_is_ready(Outbox *outbox, Buf *sentence)
{
	const char *missing = producer_missing_topics(outbox->producer);
	bool		up = producer_is_known_up(outbox->producer);
	bool		moves = outbox_moves(&outbox->core, loop_now(outbox->loop));

	if (outbox->core.transactional && !outbox_leads(&outbox->core))
		up = true; /* a standby has no producer */
	buf_printf(sentence, "outbox: %s, %u events in flight",
			   pump_state_name(outbox->core.state),
			   in_flight_count(&outbox->core.in_flight));
	if (!up)
		buf_add_str(sentence, ", the broker has not answered");
	else if (outbox->core.producer_opening)
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
			   ready ? "ok" : "failing", pump_state_name(outbox->core.state),
			   outbox->core.transactional ? "transactional" : "idempotent",
			   outbox_leads(&outbox->core) ? "true" : "false",
			   outbox->core.epoch, in_flight_count(&outbox->core.in_flight),
			   producer_is_known_up(outbox->producer) ? "true" : "false");
	json_string(json, buf_str(&sentence));
	buf_add_str(json, "}");
	buf_free(&sentence);
}
