/*
 * options.c - the options that relay_apply() and relay_retry() are called with
 *
 * One JSON object (docs/relay-protocol.md), written again when the
 * configuration, the process id or the way of applying messages changes.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox/pump_private.h"

#include <inttypes.h>

#include "common/json.h"

#define LOG_MODULE "inbox"

void
inbox_write_options(Inbox *inbox)
{
	const Config *config = inbox->config;
	Buf			 *json = &inbox->options;

	buf_clear(json);
	buf_add_str(json, "{\"dlq_topic\":");
	json_add_string(json, config->dlq_topic);
	buf_add_str(json, ",\"retry_delays_ms\":[");
	for (unsigned i = 0; i < config->retry_delays.count; i++)
		buf_printf(json, "%s%" PRId64, i > 0 ? "," : "",
				   config->retry_delays.us[i] / MS_US);
	buf_printf(json,
			   "],\"count_attempts\":true,\"careful\":%s,\"alert\":%s,"
			   "\"order_wait_ms\":%" PRId64 ",\"dedup_retention_ms\":%" PRId64
			   ",\"relay\":\"%016" PRIx64 "\",\"group\":",
			   inbox->one_by_one ? "true" : "false",
			   config->webhook_url[0] != '\0' ? "true" : "false",
			   config->order_wait_us / MS_US,
			   config->dedup_retention_us / MS_US, inbox->process_id);
	json_add_string(json, inbox->group);
	buf_add_str(json, "}");
	buf_str(json);
}

const char *
inbox_update_options(Inbox *inbox)
{
	int64_t now = loop_now(inbox->loop);
	bool	one_by_one = inbox_applies_one_by_one(&inbox->state, now);

	if (one_by_one != inbox->one_by_one)
	{
		inbox->one_by_one = one_by_one;
		inbox_write_options(inbox);
		log_info("%s", one_by_one
						   ? "locks time out: applying messages one by one"
						   : "applying messages in batches again");
	}
	Assert(inbox->options.len > 0);
	return buf_str(&inbox->options);
}
