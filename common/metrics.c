/*
 * metrics.c - counters, histograms and gauges, as Prometheus reads them
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/metrics.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* More than that are left out: a bound of the page, not of the database. */
#define GAUGES_MAX 4096

typedef struct Cell
{
	char		*labels; /* ready-made, "" without */
	double		 value;
	struct Cell *next;
} Cell;

typedef struct Gauge
{
	char  *name; /* without the prefix */
	char  *labels;
	double value;
} Gauge;

typedef struct Histogram
{
	uint64_t buckets[HISTOGRAM_BUCKETS + 1]; /* the last: above all bounds */
	double	 sum;							 /* in its own unit */
} Histogram;

struct Metrics
{
	const MetricsTable *table;
	Cell			  **cells;		/* a list for each family */
	Histogram		   *histograms; /* one for each family */
	Gauge			   *gauges;		/* the database's */
	size_t				gauge_count;
};

/* A table is indexed by an enum: a hole in it is a forgotten entry. */
static void
metrics_check_table(const MetricsTable *table)
{
	for (int i = 0; i < table->family_count; i++)
	{
		const MetricFamily *family = &table->families[i];

		Assert(family->name != NULL && family->help != NULL);
		Assert(strcmp(family->type, "counter") == 0 ||
			   strcmp(family->type, "gauge") == 0);
	}
	for (int i = 0; i < table->histogram_count; i++)
	{
		Assert(table->histograms[i].name != NULL);
		Assert(table->histograms[i].bounds != NULL);
		Assert(table->histograms[i].unit > 0);
	}
}

Metrics *
metrics_new(const MetricsTable *table)
{
	Metrics *metrics = xcalloc(1, sizeof(Metrics));

	metrics_check_table(table);
	metrics->table = table;
	metrics->cells = xcalloc((size_t) table->family_count, sizeof(Cell *));
	metrics->histograms = xcalloc((size_t) table->histogram_count,
								  sizeof(Histogram));
	return metrics;
}

void
metrics_free(Metrics *metrics)
{
	if (metrics == NULL)
		return;
	for (int family = 0; family < metrics->table->family_count; family++)
		metrics_forget(metrics, family);
	metrics_gauges_begin(metrics);
	free(metrics->cells);
	free(metrics->histograms);
	free(metrics->gauges);
	free(metrics);
}

void
metrics_forget(Metrics *metrics, int family)
{
	Assert(family >= 0 && family < metrics->table->family_count);
	while (metrics->cells[family] != NULL)
	{
		Cell *cell = metrics->cells[family];

		metrics->cells[family] = cell->next;
		free(cell->labels);
		free(cell);
	}
}

static void
metrics_add_label(Buf *labels, const char *name, const char *value)
{
	buf_printf(labels, "%s%s=\"", labels->len > 0 ? "," : "", name);
	for (; *value != '\0'; value++)
	{
		if (*value == '\n')
			buf_add_str(labels, "\\n");
		else if (*value == '"' || *value == '\\')
			buf_printf(labels, "\\%c", *value);
		else
			buf_add(labels, value, 1);
	}
	buf_add_str(labels, "\"");
}

double *
metrics_cell(Metrics *metrics, int family, ...)
{
	Buf			labels = {0};
	Cell	  **cell = &metrics->cells[family];
	va_list		pairs;
	const char *name;

	Assert(family >= 0 && family < metrics->table->family_count);
	va_start(pairs, family);
	while ((name = va_arg(pairs, const char *)) != NULL)
		metrics_add_label(&labels, name, va_arg(pairs, const char *));
	va_end(pairs);

	while (*cell != NULL && strcmp((*cell)->labels, buf_str(&labels)) != 0)
		cell = &(*cell)->next;
	if (*cell == NULL)
	{
		*cell = xcalloc(1, sizeof(Cell));
		(*cell)->labels = xstrdup(buf_str(&labels));
	}
	buf_free(&labels);
	return &(*cell)->value;
}

void
metrics_observe(Metrics *metrics, int histogram, int64_t value)
{
	const HistogramFamily *family = &metrics->table->histograms[histogram];
	Histogram			  *counts = &metrics->histograms[histogram];
	int					   bucket = 0;

	Assert(histogram >= 0 && histogram < metrics->table->histogram_count);
	value = Max(value, 0);
	while (bucket < HISTOGRAM_BUCKETS && value > family->bounds[bucket])
		bucket++;
	counts->buckets[bucket]++;
	counts->sum += (double) value * family->unit;
}

void
metrics_gauges_begin(Metrics *metrics)
{
	for (size_t i = 0; i < metrics->gauge_count; i++)
	{
		free(metrics->gauges[i].name);
		free(metrics->gauges[i].labels);
	}
	metrics->gauge_count = 0;
}

void
metrics_gauges_add(Metrics *metrics, const char *name, const char *labels,
				   double value)
{
	size_t count = metrics->gauge_count;

	Assert(count <= GAUGES_MAX);
	if (count == GAUGES_MAX)
		return;
	metrics->gauges = xrealloc(metrics->gauges, (count + 1) * sizeof(Gauge));
	metrics->gauges[count] = (Gauge){
		.name = xstrdup(name),
		.labels = xstrdup(labels),
		.value = value,
	};
	metrics->gauge_count++;
}

/* ---- rendering --------------------------------------------------------- */

static void
metrics_render_head(const Metrics *metrics, Buf *to, const char *name,
					const char *type, const char *help)
{
	const char *prefix = metrics->table->prefix;

	buf_printf(to, "# HELP %s%s %s\n", prefix, name, help);
	buf_printf(to, "# TYPE %s%s %s\n", prefix, name, type);
}

static void
metrics_render_value(const Metrics *metrics, Buf *to, const char *name,
					 const char *labels, double value)
{
	const char *prefix = metrics->table->prefix;

	if (labels[0] != '\0')
		buf_printf(to, "%s%s{%s} %.17g\n", prefix, name, labels, value);
	else
		buf_printf(to, "%s%s %.17g\n", prefix, name, value);
}

static void
metrics_render_family(const Metrics *metrics, Buf *to, int id)
{
	const MetricFamily *family = &metrics->table->families[id];

	if (metrics->cells[id] == NULL)
		return;
	metrics_render_head(metrics, to, family->name, family->type, family->help);
	for (const Cell *cell = metrics->cells[id]; cell; cell = cell->next)
		metrics_render_value(metrics, to, family->name, cell->labels,
							 cell->value);
}

static void
metrics_render_histogram(const Metrics *metrics, Buf *to, int id)
{
	const HistogramFamily *family = &metrics->table->histograms[id];
	const Histogram		  *histogram = &metrics->histograms[id];
	const char			  *prefix = metrics->table->prefix;
	const char			  *name = family->name;
	uint64_t			   count = 0;

	metrics_render_head(metrics, to, name, "histogram", family->help);
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
	{
		Assert(i == 0 || family->bounds[i] > family->bounds[i - 1]);
		count += histogram->buckets[i];
		buf_printf(to, "%s%s_bucket{le=\"%g\"} %" PRIu64 "\n", prefix, name,
				   (double) family->bounds[i] * family->unit, count);
	}
	count += histogram->buckets[HISTOGRAM_BUCKETS];
	buf_printf(to, "%s%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", prefix, name,
			   count);
	buf_printf(to, "%s%s_sum %.6f\n", prefix, name, histogram->sum);
	buf_printf(to, "%s%s_count %" PRIu64 "\n", prefix, name, count);
}

static const char *
metrics_gauge_help(const Metrics *metrics, const char *name)
{
	const MetricsTable *table = metrics->table;

	for (size_t i = 0; i < table->gauge_count; i++)
		if (strcmp(table->gauges[i].name, name) == 0)
			return table->gauges[i].help;
	return METRICS_HELP_MISSING;
}

/* Prometheus wants all values of a name together. */
static void
metrics_render_gauges(const Metrics *metrics, Buf *to)
{
	for (size_t i = 0; i < metrics->gauge_count; i++)
	{
		const Gauge *first = &metrics->gauges[i];
		size_t		 len = strlen(first->name);
		bool total = len > 6 && strcmp(first->name + len - 6, "_total") == 0;
		bool seen = false;

		for (size_t j = 0; j < i; j++)
			seen |= strcmp(metrics->gauges[j].name, first->name) == 0;
		if (seen)
			continue;
		metrics_render_head(metrics, to, first->name,
							total ? "counter" : "gauge",
							metrics_gauge_help(metrics, first->name));
		for (size_t j = i; j < metrics->gauge_count; j++)
		{
			const Gauge *gauge = &metrics->gauges[j];

			if (strcmp(gauge->name, first->name) == 0)
				metrics_render_value(metrics, to, gauge->name, gauge->labels,
									 gauge->value);
		}
	}
}

void
metrics_render(const Metrics *metrics, Buf *to)
{
	for (int id = 0; id < metrics->table->family_count; id++)
		metrics_render_family(metrics, to, id);
	for (int id = 0; id < metrics->table->histogram_count; id++)
		metrics_render_histogram(metrics, to, id);
	metrics_render_gauges(metrics, to);
}
