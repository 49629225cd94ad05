/*
 * metrics.c - counters, histograms and gauges, as Prometheus reads them
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/metrics.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX	   "pgstock_"
#define GAUGES_MAX 4096

static const struct
{
	const char *name;
	const char *type;
	const char *help;
} metric_names[METRICS] = {
	[METRIC_PUBLISHED] = {"outbox_published_total", "counter",
						  "Events that Kafka acknowledged."},
	[METRIC_PUBLISH_ERRORS] =
		{"outbox_publish_errors_total", "counter",
		 "Losses of a producer, by librdkafka's name of the error."},
	[METRIC_TRANSACTIONS] = {"outbox_transactions_total", "counter",
							 "Transactions committed, in transactional mode."},
	[METRIC_WAKEUPS] = {"wakeups_total", "counter",
						"What made the relay look for events."},
	[METRIC_INBOX_EVENTS] =
		{"inbox_events_total", "counter",
		 "Messages that were consumed, by what became of them."},
	[METRIC_DLQ] = {"dlq_total", "counter",
					"Messages that went to the dead letter topic."},
	[METRIC_ARCHIVED] = {"archived_total", "counter",
						 "Messages that went to the archive."},
	[METRIC_DIFFERENCES] =
		{"inbox_differences_total", "counter",
		 "Messages that told other items than the ledger has, or had the id of "
		 "another one."},
	[METRIC_PAID_TWICE] =
		{"inbox_paid_twice_total", "counter",
		 "Second payments of orders that are paid: each is to be refunded."},
	[METRIC_MISSING] = {"inbox_missing_messages_total", "counter",
						"Offsets that were gone before they were read."},
	[METRIC_HISTORIES] =
		{"inbox_histories_total", "counter",
		 "Partitions found with other records than those that were read."},
	[METRIC_DAMAGED] = {"inbox_damaged_batches_total", "counter",
						"Batches that did not match their checksum, by fetch."},
	[METRIC_ENDS] = {"reservation_ends_total", "counter",
					 "Events that tell of an order's end, as they went out."},
	[METRIC_LEADER] = {"leader", "gauge", "1 if this relay leads the outbox."},
	[METRIC_LEADER_CHANGES] = {"leader_changes_total", "counter",
							   "How often this relay began or ceased to lead."},
	[METRIC_LAG] = {"consumer_lag", "gauge",
					"Messages in the partition that were not applied."},
	[METRIC_WEBHOOK] = {"webhook_total", "counter",
						"Requests that were to tell alerts, by their end."},
	[METRIC_GAUGES_AGE] = {"gauges_age_seconds", "gauge",
						   "Age of what was read from the database."},
	[METRIC_BUILD_INFO] = {"build_info", "gauge", "Versions; always 1."},
};

/* What relay_metrics() in sql/relay.sql returns; a name that ends in _total is
 * a counter. */
static const char *const gauge_helps[][2] = {
	{"outbox_pending_events", "Events that Kafka has not acknowledged."},
	{"outbox_oldest_pending_seconds",
	 "Age of the oldest event that Kafka has not acknowledged."},
	{"outbox_held_events", "Events of a topic that the broker refuses."},
	{"outbox_table_bytes", "Size of the outbox with its indexes, all parts."},
	{"inbox_waiting_keys", "Keys with a message that waits for another try."},
	{"archive_open", "Messages given up that nobody has handled or discarded."},
	{"webhook_waiting", "Alerts that were not sent yet."},
	{"upkeep_failing", "1 if this step of the upkeep failed when it ran last."},
	{"reservations_open", "Order lines that are reserved."},
	{"reservations_overdue", "Reserved order lines past their time."},
};

static const int64_t bucket_us[HISTOGRAM_BUCKETS] = {
	1000,	2000,	 5000,	  10000,   25000,	 50000,	   100000,	 250000,
	500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000,
};

static const int64_t bucket_attempts[HISTOGRAM_BUCKETS] = {
	1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 30, 50, 100,
};

static const struct
{
	const char	  *name;
	const char	  *help;
	const int64_t *bounds;
	double		   unit; /* what a bound of 1 stands for */
} histogram_names[HISTOGRAMS] = {
	[HISTOGRAM_COMMIT_TO_ACK] =
		{"outbox_commit_to_ack_seconds",
		 "From the writing of an event to Kafka's acknowledgement.", bucket_us,
		 1e-6},
	[HISTOGRAM_INBOX] = {"inbox_duration_seconds",
						 "One call for a batch of messages.", bucket_us, 1e-6},
	[HISTOGRAM_ORDER] =
		{"order_answer_seconds",
		 "From an order-created's time in Kafka to the commit that answered it.",
		 bucket_us, 1e-6},
	[HISTOGRAM_ATTEMPTS] =
		{"inbox_attempts",
		 "How often a message was tried until it came to its end.",
		 bucket_attempts, 1},
};

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

struct Metrics
{
	Cell	 *cells[METRICS];
	Histogram histograms[HISTOGRAMS];
	Gauge	 *gauges; /* the database's */
	size_t	  gauge_count;
};

Metrics *
metrics_new(void)
{
	return xcalloc(1, sizeof(Metrics));
}

void
metrics_free(Metrics *metrics)
{
	if (metrics == NULL)
		return;
	for (int id = 0; id < METRICS; id++)
		metrics_forget(metrics, id);
	metrics_gauges_begin(metrics);
	free(metrics->gauges);
	free(metrics);
}

void
metrics_forget(Metrics *metrics, MetricId id)
{
	while (metrics->cells[id] != NULL)
	{
		Cell *cell = metrics->cells[id];

		metrics->cells[id] = cell->next;
		free(cell->labels);
		free(cell);
	}
}

static void
add_label(Buf *labels, const char *name, const char *value)
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
metrics_cell(Metrics *metrics, MetricId id, ...)
{
	Buf			labels = {0};
	Cell	  **cell = &metrics->cells[id];
	va_list		pairs;
	const char *name;

	va_start(pairs, id);
	while ((name = va_arg(pairs, const char *)) != NULL)
		add_label(&labels, name, va_arg(pairs, const char *));
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
metrics_observe(Metrics *metrics, HistogramId id, int64_t value)
{
	Histogram	  *histogram = &metrics->histograms[id];
	const int64_t *bounds = histogram_names[id].bounds;
	int			   bucket = 0;

	value = Max(value, 0);
	while (bucket < HISTOGRAM_BUCKETS && value > bounds[bucket])
		bucket++;
	histogram->buckets[bucket]++;
	histogram->sum += (double) value * histogram_names[id].unit;
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
render_head(Buf *to, const char *name, const char *type, const char *help)
{
	buf_printf(to, "# HELP " PREFIX "%s %s\n", name, help);
	buf_printf(to, "# TYPE " PREFIX "%s %s\n", name, type);
}

static void
render_value(Buf *to, const char *name, const char *labels, double value)
{
	buf_printf(to, PREFIX "%s%s%s%s %.17g\n", name, labels[0] ? "{" : "",
			   labels, labels[0] ? "}" : "", value);
}

static void
render_histogram(Buf *to, HistogramId id, const Histogram *histogram)
{
	const char *name = histogram_names[id].name;
	uint64_t	count = 0;

	render_head(to, name, "histogram", histogram_names[id].help);
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
	{
		count += histogram->buckets[i];
		buf_printf(to, PREFIX "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name,
				   (double) histogram_names[id].bounds[i] *
					   histogram_names[id].unit,
				   count);
	}
	count += histogram->buckets[HISTOGRAM_BUCKETS];
	buf_printf(to, PREFIX "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, count);
	buf_printf(to, PREFIX "%s_sum %.6f\n", name, histogram->sum);
	buf_printf(to, PREFIX "%s_count %" PRIu64 "\n", name, count);
}

static const char *
gauge_help(const char *name)
{
	for (size_t i = 0; i < Lengthof(gauge_helps); i++)
		if (strcmp(gauge_helps[i][0], name) == 0)
			return gauge_helps[i][1];
	return METRICS_HELP_MISSING;
}

/* Prometheus wants all values of a name together. */
static void
render_gauges(const Metrics *metrics, Buf *to)
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
		render_head(to, first->name, total ? "counter" : "gauge",
					gauge_help(first->name));
		for (size_t j = i; j < metrics->gauge_count; j++)
			if (strcmp(metrics->gauges[j].name, first->name) == 0)
				render_value(to, first->name, metrics->gauges[j].labels,
							 metrics->gauges[j].value);
	}
}

void
metrics_render(const Metrics *metrics, Buf *to)
{
	for (int id = 0; id < METRICS; id++)
	{
		if (metrics->cells[id] == NULL)
			continue;
		render_head(to, metric_names[id].name, metric_names[id].type,
					metric_names[id].help);
		for (const Cell *cell = metrics->cells[id]; cell; cell = cell->next)
			render_value(to, metric_names[id].name, cell->labels, cell->value);
	}
	for (int id = 0; id < HISTOGRAMS; id++)
		render_histogram(to, id, &metrics->histograms[id]);
	render_gauges(metrics, to);
}
