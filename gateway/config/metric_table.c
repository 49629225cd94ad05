/*
 * metric_table.c - the gateway's metrics, with their HELP
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "config/metric_table.h"

static const MetricFamily families[] = {
	[METRIC_REQUESTS] = {"http_requests_total", "counter",
						 "Requests that were answered."},
	[METRIC_CONNECTIONS] = {"http_connections", "gauge", "Open connections."},
	[METRIC_QUEUE] = {"queue_requests", "gauge",
					  "Requests that wait for a session."},
	[METRIC_SESSIONS] = {"sessions", "gauge",
						 "Open sessions with the database, by pool."},
	[METRIC_BUSY_SESSIONS] = {"busy_sessions", "gauge",
							  "Sessions with a statement under way, by pool."},
	[METRIC_BREAKER] = {"breaker", "gauge",
						"Circuit breaker of the database, by pool: 0 closed, 1 "
						"half-open, 2 open."},
	[METRIC_READY] = {"ready", "gauge", "1 if /readyz answers 200."},
	[METRIC_SOLD_OUT] = {"sold_out_answers_total", "counter",
						 "Purchases that were refused from memory."},
	[METRIC_SALE_LOOKS] = {"sale_looks_total", "counter",
						   "Times that the database was asked for the state of "
						   "a flash sale."},
	[METRIC_CERTIFICATE_EXPIRES] = {"tls_certificate_expiry_timestamp_seconds",
									"gauge", "When tls_certificate expires."},
	[METRIC_BUILD_INFO] = {"build_info", "gauge", "Versions; always 1."},
};
_Static_assert(Lengthof(families) == METRICS, "a family for each metric");

/* Microseconds. */
static const int64_t durations[HISTOGRAM_BUCKETS] = {
	100,   250,	   500,	   1000,   2500,	5000,	 10000,	   25000,
	50000, 100000, 250000, 500000, 1000000, 2500000, 10000000,
};
static const int64_t sizes[HISTOGRAM_BUCKETS] = {
	1, 2, 3, 5, 8, 12, 20, 30, 50, 75, 100, 200, 300, 500, 1000,
};

static const HistogramFamily histograms[] = {
	[HISTOGRAM_DURATION] = {"http_request_duration_seconds",
							"From a request's head to its answer.", durations,
							1e-6},
	[HISTOGRAM_BATCH] = {"batch_requests",
						 "Reservations in one call of the database.", sizes, 1},
};
_Static_assert(Lengthof(histograms) == HISTOGRAMS, "a family for each");

const MetricsTable metric_table = {
	.prefix = "pgstock_gateway_",
	.families = families,
	.family_count = METRICS,
	.histograms = histograms,
	.histogram_count = HISTOGRAMS,
};
