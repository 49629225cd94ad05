/*
 * metrics.h - counters, histograms and gauges, as Prometheus reads them
 *
 * The daemon lists its metrics in a MetricsTable and names each by its index.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_METRICS_H
#define PGSTOCK_COMMON_METRICS_H

#include "common/util.h"

#define HISTOGRAM_BUCKETS 15

/* Names are without the table's prefix. */
typedef struct MetricFamily
{
	const char *name;
	const char *type; /* counter or gauge */
	const char *help;
} MetricFamily;

typedef struct HistogramFamily
{
	const char	  *name;
	const char	  *help;
	const int64_t *bounds; /* HISTOGRAM_BUCKETS of them, ascending */
	double		   unit;   /* what a bound of 1 stands for */
} HistogramFamily;

/* A family whose values a database returns. */
typedef struct DatabaseFamily
{
	const char *name;
	const char *type; /* counter, gauge or histogram */
	const char *help;
	bool		is_single; /* it has one value, without labels */
} DatabaseFamily;

typedef struct MetricsTable
{
	const char			  *prefix;
	const MetricFamily	  *families;
	int					   family_count;
	const HistogramFamily *histograms;
	int					   histogram_count;
	const DatabaseFamily  *database; /* of metrics_database_add() */
	int					   database_count;
} MetricsTable;

#define METRICS_HELP_MISSING "A value that the database reports."

typedef struct Metrics Metrics;

Metrics *metrics_new(const MetricsTable *table);
void	 metrics_free(Metrics *metrics);

/*
 * The value of a family with these labels, created as 0 by the first call; it
 * stays where it is until metrics_forget().  Pairs of name and value, NULL at
 * the end.
 */
double *metrics_cell(Metrics *metrics, int family, ...)
	__attribute__((sentinel));
void metrics_forget(Metrics *metrics, int family); /* all its values */

/* Of a time: microseconds. */
void metrics_observe(Metrics *metrics, int histogram, int64_t value);

/*
 * Values that are read from a database, replaced as a whole.  A name that ends
 * in _total is a counter; one that the table lacks gets a general HELP.  Of a
 * histogram the names end in _bucket, _sum and _count.
 *
 * Before they are first read, a gauge without labels is NaN: 0 would be a
 * statement about the database.  Counters are absent: they have a value there,
 * and its first appearance must not look like an increase from 0.
 */
void metrics_database_begin(Metrics *metrics);
void metrics_database_add(Metrics *metrics, const char *name,
						  const char *labels, double value);

void metrics_render(const Metrics *metrics, Buf *to);

#endif
