/*
 * metric_table.c - the relay's metrics, with their HELP
 *
 * docs/operations.md has a row for each; dev/check-options compares.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "config/metric_table.h"

static const MetricFamily families[] = {
	[METRIC_PUBLISHED] = {"outbox_published_total", "counter",
						  "Events that Kafka acknowledged."},
	[METRIC_PUBLISH_ERRORS] =
		{"outbox_publish_errors_total", "counter",
		 "Lost producers, by librdkafka's name of the error."},
	[METRIC_TRANSACTIONS] = {"outbox_transactions_total", "counter",
							 "Transactions that the relay committed in Kafka."},
	[METRIC_WAKEUPS] = {"wakeups_total", "counter",
						"What made the relay look for events."},
	[METRIC_INBOX_EVENTS] = {"inbox_events_total", "counter",
							 "Messages that were consumed, by their result."},
	[METRIC_DLQ] = {"dlq_total", "counter",
					"Messages sent to a dead letter topic."},
	[METRIC_ARCHIVED] = {"archived_total", "counter",
						 "Messages that were archived."},
	[METRIC_DIFFERENCES] =
		{"inbox_differences_total", "counter",
		 "Messages with other items than the ledger has, or with the id of "
		 "another message."},
	[METRIC_PAID_TWICE] =
		{"inbox_paid_twice_total", "counter",
		 "Second payments of orders that are paid: each must be refunded."},
	[METRIC_MISSING] =
		{"inbox_missing_messages_total", "counter",
		 "Offsets that the broker deleted before they were read."},
	[METRIC_HISTORIES] = {"inbox_histories_total", "counter",
						  "Partitions found to have another history."},
	[METRIC_DAMAGED] = {"inbox_damaged_batches_total", "counter",
						"Batches that did not match their checksum, by fetch."},
	[METRIC_ENDS] = {"reservation_ends_total", "counter",
					 "Published events that end a reservation."},
	[METRIC_LEADER] = {"leader", "gauge", "1 if this relay leads the outbox."},
	[METRIC_LEADER_CHANGES] = {"leader_changes_total", "counter",
							   "How often this relay began or ceased to lead."},
	[METRIC_LAG] = {"consumer_lag", "gauge",
					"Messages in the partition that are not applied yet."},
	[METRIC_WEBHOOK] = {"webhook_total", "counter",
						"Requests with alerts, by their result."},
	[METRIC_GAUGES_AGE] = {"gauges_age_seconds", "gauge",
						   "Age of the gauges that come from the database."},
	[METRIC_BUILD_INFO] = {"build_info", "gauge", "Versions; always 1."},
};
_Static_assert(Lengthof(families) == METRICS, "a family for each metric");

/* What relay_metrics() in sql/relay.sql returns. */
static const GaugeHelp gauges[] = {
	{"outbox_pending_events", "Events that Kafka has not acknowledged."},
	{"outbox_oldest_pending_seconds",
	 "Age of the oldest event that Kafka has not acknowledged."},
	{"outbox_held_events", "Events of a topic that the broker refuses."},
	{"outbox_table_bytes", "Size of the outbox with its indexes, all parts."},
	{"inbox_waiting_keys", "Keys with a message that waits for another try."},
	{"archive_open",
	 "Archived messages that are neither handled nor discarded."},
	{"webhook_waiting", "Alerts that are not sent yet."},
	{"upkeep_failing", "1 if the last run of this step of the upkeep failed."},
	{"reservations_open", "Order lines that are reserved."},
	{"reservations_overdue", "Reserved order lines past their expiry time."},
};

static const int64_t bucket_us[] = {
	1000,	2000,	 5000,	  10000,   25000,	 50000,	   100000,	 250000,
	500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000,
};
_Static_assert(Lengthof(bucket_us) == HISTOGRAM_BUCKETS, "all bounds");

static const int64_t bucket_attempts[] = {
	1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 30, 50, 100,
};
_Static_assert(Lengthof(bucket_attempts) == HISTOGRAM_BUCKETS, "all bounds");

static const HistogramFamily histograms[] = {
	[HISTOGRAM_COMMIT_TO_ACK] =
		{"outbox_commit_to_ack_seconds",
		 "From the writing of an event to Kafka's acknowledgement.", bucket_us,
		 1e-6},
	[HISTOGRAM_INBOX] = {"inbox_duration_seconds",
						 "One call for a batch of messages.", bucket_us, 1e-6},
	[HISTOGRAM_ORDER] =
		{"order_answer_seconds",
		 "From an order-created's time in Kafka to the commit of its answer.",
		 bucket_us, 1e-6},
	[HISTOGRAM_ATTEMPTS] = {"inbox_attempts",
							"Tries of a message up to its result.",
							bucket_attempts, 1},
};
_Static_assert(Lengthof(histograms) == HISTOGRAMS, "each histogram");

const MetricsTable metric_table = {
	.prefix = "pgstock_",
	.families = families,
	.family_count = METRICS,
	.histograms = histograms,
	.histogram_count = HISTOGRAMS,
	.gauges = gauges,
	.gauge_count = Lengthof(gauges),
};
