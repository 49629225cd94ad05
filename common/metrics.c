/*
 * metrics.c - counters, histograms and gauges, as Prometheus reads them
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* More than that are left out: a bound of the page, not of the database. */
#define VALUES_MAX 4096
#define NO_FAMILY  (-1)

typedef struct Cell
{
	char		*labels; /* ready-made, "" without */
	double		 value;
	struct Cell *next;
} Cell;

/* A value of the database's. */
typedef struct Value
{
	int	   family; /* in the table, or NO_FAMILY */
	char  *name;   /* without the prefix */
	char  *labels;
	double value;
} Value;

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
	Value			   *values;		/* the database's */
	size_t				value_count;
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
	for (int i = 0; i < table->database_count; i++)
		Assert(!table->database[i].is_single ||
			   strcmp(table->database[i].type, "gauge") == 0);
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
	metrics_database_begin(metrics);
	free(metrics->cells);
	free(metrics->histograms);
	free(metrics->values);
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

/* Whether a value of this name belongs to the family. */
static bool
metrics_is_of_family(const DatabaseFamily *family, const char *name)
{
	static const char *const suffixes[] = {"_bucket", "_sum", "_count"};
	size_t					 len = strlen(family->name);

	if (strcmp(family->type, "histogram") != 0)
		return strcmp(family->name, name) == 0;
	for (size_t i = 0; i < Lengthof(suffixes); i++)
		if (strncmp(family->name, name, len) == 0 &&
			strcmp(name + len, suffixes[i]) == 0)
			return true;
	return false;
}

static int
metrics_find_family(const MetricsTable *table, const char *name)
{
	for (int i = 0; i < table->database_count; i++)
		if (metrics_is_of_family(&table->database[i], name))
			return i;
	return NO_FAMILY;
}

void
metrics_database_begin(Metrics *metrics)
{
	for (size_t i = 0; i < metrics->value_count; i++)
	{
		free(metrics->values[i].name);
		free(metrics->values[i].labels);
	}
	metrics->value_count = 0;
}

void
metrics_database_add(Metrics *metrics, const char *name, const char *labels,
					 double value)
{
	size_t count = metrics->value_count;

	Assert(count <= VALUES_MAX);
	if (count == VALUES_MAX)
		return;
	metrics->values = xrealloc(metrics->values, (count + 1) * sizeof(Value));
	metrics->values[count] = (Value){
		.family = metrics_find_family(metrics->table, name),
		.name = xstrdup(name),
		.labels = xstrdup(labels),
		.value = value,
	};
	metrics->value_count++;
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
		buf_printf(to, "%s%s{%s} ", prefix, name, labels);
	else
		buf_printf(to, "%s%s ", prefix, name);
	if (isnan(value))
		buf_add_str(to, "NaN\n");
	else
		buf_printf(to, "%.17g\n", value);
}

static void
metrics_render_family(const Metrics *metrics, Buf *to, int id)
{
	const MetricFamily *family = &metrics->table->families[id];

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

static void
metrics_render_database_family(const Metrics *metrics, Buf *to, int id)
{
	const DatabaseFamily *family = &metrics->table->database[id];
	bool				  found = false;

	metrics_render_head(metrics, to, family->name, family->type, family->help);
	for (size_t i = 0; i < metrics->value_count; i++)
	{
		const Value *value = &metrics->values[i];

		if (value->family != id)
			continue;
		found = true;
		metrics_render_value(metrics, to, value->name, value->labels,
							 value->value);
	}
	if (!found && family->is_single)
		metrics_render_value(metrics, to, family->name, "", NAN);
}

/*
 * Values that a later version of the extension returns.  Prometheus wants all
 * values of a name together.
 */
static void
metrics_render_unknown(const Metrics *metrics, Buf *to)
{
	for (size_t i = 0; i < metrics->value_count; i++)
	{
		const Value *first = &metrics->values[i];
		size_t		 len = strlen(first->name);
		bool total = len > 6 && strcmp(first->name + len - 6, "_total") == 0;
		bool seen = first->family != NO_FAMILY;

		for (size_t j = 0; !seen && j < i; j++)
			seen = strcmp(metrics->values[j].name, first->name) == 0;
		if (seen)
			continue;
		metrics_render_head(metrics, to, first->name,
							total ? "counter" : "gauge", METRICS_HELP_MISSING);
		for (size_t j = i; j < metrics->value_count; j++)
		{
			const Value *value = &metrics->values[j];

			if (strcmp(value->name, first->name) == 0)
				metrics_render_value(metrics, to, value->name, value->labels,
									 value->value);
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
	for (int id = 0; id < metrics->table->database_count; id++)
		metrics_render_database_family(metrics, to, id);
	metrics_render_unknown(metrics, to);
}
