/*
 * metric_table.h - the relay's metrics
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_CONFIG_METRIC_TABLE_H
#define PGSTOCK_CONFIG_METRIC_TABLE_H

#include "common/metrics.h"

typedef enum MetricId
{
	METRIC_PUBLISHED,	   /* {topic} */
	METRIC_PUBLISH_ERRORS, /* {class} */
	METRIC_TRANSACTIONS,
	METRIC_WAKEUPS,		 /* {cause} */
	METRIC_INBOX_EVENTS, /* {topic,result} */
	METRIC_FAILURES,	 /* {topic,reason} */
	METRIC_DLQ,			 /* {topic} */
	METRIC_ARCHIVED,	 /* {topic} */
	METRIC_DIFFERENCES,	 /* {topic} */
	METRIC_PAID_TWICE,	 /* {topic} */
	METRIC_MISSING,		 /* {topic,partition} */
	METRIC_HISTORIES,	 /* {topic,partition} */
	METRIC_DAMAGED,		 /* {topic} */
	METRIC_ENDS,		 /* {state} */
	METRIC_READY,
	METRIC_LEADER,
	METRIC_LEADER_CHANGES,
	METRIC_LAG,		/* {topic,partition} */
	METRIC_WEBHOOK, /* {result} */
	METRIC_LEVELS_BEHIND,
	METRIC_GAUGES_AGE,
	METRIC_BUILD_INFO,
	METRICS, /* their number */
} MetricId;

typedef enum HistogramId
{
	HISTOGRAM_COMMIT_TO_ACK,
	HISTOGRAM_INBOX,
	HISTOGRAM_ATTEMPTS, /* not a time but a number */
	HISTOGRAM_ORDER,
	HISTOGRAMS,
} HistogramId;

extern const MetricsTable metric_table;

#endif
