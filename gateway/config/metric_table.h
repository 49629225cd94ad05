/*
 * metric_table.h - the gateway's metrics
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_METRIC_TABLE_H
#define PGSTOCK_GATEWAY_METRIC_TABLE_H

#include "common/metrics.h"

typedef enum Metric
{
	METRIC_REQUESTS,
	METRIC_CONNECTIONS,
	METRIC_QUEUE,
	METRIC_SESSIONS,
	METRIC_BUSY_SESSIONS,
	METRIC_BREAKER,
	METRIC_READY,
	METRIC_SOLD_OUT,
	METRIC_SALE_LOOKS,
	METRIC_CERTIFICATE_EXPIRES,
	METRIC_BUILD_INFO,
	METRICS, /* their number */
} Metric;

typedef enum HistogramId
{
	HISTOGRAM_DURATION,
	HISTOGRAM_BATCH,
	HISTOGRAMS, /* their number */
} HistogramId;

extern const MetricsTable metric_table;

#endif
