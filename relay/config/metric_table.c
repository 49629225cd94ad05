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
		 "Errors that replaced the producer or held a topic, by librdkafka's "
		 "name."},
	[METRIC_TRANSACTIONS] = {"outbox_transactions_total", "counter",
							 "Transactions that the relay committed in Kafka."},
	[METRIC_WAKEUPS] = {"wakeups_total", "counter",
						"Why the relay looked for events."},
	[METRIC_INBOX_EVENTS] = {"inbox_events_total", "counter",
							 "Messages that were consumed, by their result."},
	[METRIC_FAILURES] = {"inbox_failures_total", "counter",
						 "Failed tries of messages, by the kind of failure."},
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
		 "Offsets that the broker had deleted before the relay read them."},
	[METRIC_HISTORIES] = {"inbox_histories_total", "counter",
						  "Partitions found to have another history."},
	[METRIC_DAMAGED] = {"inbox_damaged_batches_total", "counter",
						"Fetched batches that did not match their checksum."},
	[METRIC_ENDS] = {"reservation_ends_total", "counter",
					 "Published events that end a reservation."},
	[METRIC_READY] = {"ready", "gauge", "1 if /readyz answers 200."},
	[METRIC_LEADER] = {"leader", "gauge", "1 if this relay leads the outbox."},
	[METRIC_LEADER_CHANGES] = {"leader_changes_total", "counter",
							   "How often this relay began or ceased to lead."},
	[METRIC_LAG] = {"consumer_lag", "gauge",
					"Messages in the partition that are not applied yet."},
	[METRIC_WEBHOOK] = {"webhook_total", "counter",
						"Requests with alerts, by their result."},
	[METRIC_LEVELS_BEHIND] =
		{"levels_behind_seconds", "gauge",
		 "Time since a step of the level stream left no change behind."},
	[METRIC_GAUGES_AGE] = {"gauges_age_seconds", "gauge",
						   "Age of the gauges that come from the database."},
	[METRIC_BUILD_INFO] = {"build_info", "gauge", "Versions; always 1."},
};
_Static_assert(Lengthof(families) == METRICS, "a family for each metric");

/* What relay_metrics() in sql/metrics.sql returns. */
static const DatabaseFamily database[] = {
	{"outbox_pending_events", "gauge",
	 "Events that Kafka has not acknowledged.", true},
	{"outbox_oldest_pending_seconds", "gauge",
	 "Age of the oldest event that Kafka has not acknowledged.", true},
	{"outbox_held_events", "gauge",
	 "Pending events of a topic that the broker refuses.", false},
	{"outbox_held_oldest_seconds", "gauge",
	 "Age of the oldest event of a topic that the broker refuses.", false},
	{"held_tries_total", "counter",
	 "Tries to publish to a topic since the broker has refused it.", false},
	{"outbox_table_bytes", "gauge",
	 "Size of the outbox with its indexes, all parts.", true},
	{"inbox_waiting_keys", "gauge",
	 "Keys with a message that waits for another try.", true},
	{"archive_open", "gauge",
	 "Archived messages that are neither handled nor discarded.", true},
	{"webhook_waiting", "gauge", "Alerts that are not sent yet.", true},
	{"upkeep_failing", "gauge",
	 "1 if the last run of this step of the upkeep failed.", false},
	{"levels_filling", "gauge",
	 "1 until all levels have been written since the level stream began.",
	 true},
	{"reservations_open", "gauge", "Order lines that are reserved.", true},
	{"reservations_overdue", "gauge",
	 "Reserved order lines past their expiry time.", true},
	{"orders_hanging", "gauge",
	 "Reservations and waiting messages older than pgstock.hanging_after.",
	 false},
	{"data_directory_bytes", "gauge",
	 "Size of a part of the data directory: the database or the WAL.", false},
	{"database_info", "gauge", "The database and its versions; always 1.",
	 false},
	{"calls_total", "counter", "Calls of an SQL function.", false},
	{"call_refusals_total", "counter",
	 "Calls that were refused or failed, by status.", false},
	{"call_duration_seconds", "histogram",
	 "Time of a call, without its transaction's commit.", false},
	{"call_transactions_total", "counter",
	 "Transactions with at least one call, by their end.", false},
	{"reservation_confirm_seconds", "histogram",
	 "From an order's reservation to its confirmation.", false},
	{"ledger_differences", "gauge",
	 "Differences that the latest verify_stock() of all products found.", true},
	{"ledger_verified_seconds", "gauge",
	 "Time since the latest verify_stock() of all products, or since the "
	 "server's start.",
	 true},
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
						 "Time of one call for a batch of messages.", bucket_us,
						 1e-6},
	[HISTOGRAM_ORDER] =
		{"order_answer_seconds",
		 "From an order-created's time in Kafka to the commit of its answer.",
		 bucket_us, 1e-6},
	[HISTOGRAM_ATTEMPTS] = {"inbox_attempts",
							"Tries of a message until its final result.",
							bucket_attempts, 1},
};
_Static_assert(Lengthof(histograms) == HISTOGRAMS, "each histogram");

const MetricsTable metric_table = {
	.prefix = "pgstock_",
	.families = families,
	.family_count = METRICS,
	.histograms = histograms,
	.histogram_count = HISTOGRAMS,
	.database = database,
	.database_count = Lengthof(database),
};
