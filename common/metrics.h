/*
 * metrics.h - counters, histograms and gauges, as Prometheus reads them
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_METRICS_H
#define PGSTOCK_COMMON_METRICS_H

#include "common/util.h"

typedef enum MetricId
{
	METRIC_PUBLISHED,	   /* {topic} */
	METRIC_PUBLISH_ERRORS, /* {class} */
	METRIC_TRANSACTIONS,
	METRIC_WAKEUPS,		 /* {cause} */
	METRIC_INBOX_EVENTS, /* {topic,result} */
	METRIC_DLQ,			 /* {topic} */
	METRIC_ARCHIVED,	 /* {topic} */
	METRIC_DIFFERENCES,	 /* {topic} */
	METRIC_PAID_TWICE,	 /* {topic} */
	METRIC_MISSING,		 /* {topic,partition} */
	METRIC_HISTORIES,	 /* {topic,partition} */
	METRIC_DAMAGED,		 /* {topic} */
	METRIC_ENDS,		 /* {state} */
	METRIC_LEADER,
	METRIC_LEADER_CHANGES,
	METRIC_LAG,		/* {topic,partition} */
	METRIC_WEBHOOK, /* {result} */
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

#define HISTOGRAM_BUCKETS 15

typedef struct Histogram
{
	uint64_t buckets[HISTOGRAM_BUCKETS + 1]; /* the last: above all */
	double	 sum;							 /* in its own unit */
} Histogram;

#define METRICS_HELP_MISSING "As the database has it."

typedef struct Metrics Metrics;

Metrics *metrics_new(void);
void	 metrics_free(Metrics *metrics);

/*
 * The value with these labels, made if new; it stays where it is as long as
 * metrics does.  Pairs of name and value, NULL at the end.
 */
double *metrics_cell(Metrics *metrics, MetricId id, ...)
	__attribute__((sentinel));
void metrics_forget(Metrics *metrics, MetricId id); /* all its values */

/* Of a time, microseconds. */
void metrics_observe(Metrics *metrics, HistogramId id, int64_t value);

/* Gauges that the database knows, renewed as a whole; one that metrics.c has no
 * sentence for gets a general one. */
void metrics_gauges_begin(Metrics *metrics);
void metrics_gauges_add(Metrics *metrics, const char *name, const char *labels,
						double value);

void metrics_render(const Metrics *metrics, Buf *to);

#endif
