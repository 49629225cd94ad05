/*
 * test_metrics.c - the metrics page
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "common/process_metrics.h"
#include "config/metric_table.h"

static void
expect(const Metrics *metrics, const char *part)
{
	Buf text = {0};

	metrics_render(metrics, &text);
	if (strstr(buf_str(&text), part) == NULL)
		fail_msg("\"%s\" is not in:\n%s", part, buf_str(&text));
	buf_free(&text);
}

static void
cells_stay_where_they_are(void **state UNUSED)
{
	Metrics *metrics = metrics_new(&metric_table);
	double	*cell = metrics_cell(metrics, METRIC_PUBLISHED, "topic", "a", NULL);

	*cell += 2;
	*metrics_cell(metrics, METRIC_PUBLISHED, "topic", "b\"\\\n", NULL) = 1;
	assert_ptr_equal(cell, metrics_cell(metrics, METRIC_PUBLISHED, "topic", "a",
										NULL));
	expect(metrics,
		   "# TYPE pgstock_outbox_published_total counter\n"
		   "pgstock_outbox_published_total{topic=\"a\"} 2\n"
		   "pgstock_outbox_published_total{topic=\"b\\\"\\\\\\n\"} 1\n");
	*metrics_cell(metrics, METRIC_LEADER, NULL) = 1;
	expect(metrics, "\npgstock_leader 1\n");
	metrics_free(metrics);
}

static void
histograms_are_cumulative(void **state UNUSED)
{
	Metrics *metrics = metrics_new(&metric_table);

	metrics_observe(metrics, HISTOGRAM_INBOX, -5);
	metrics_observe(metrics, HISTOGRAM_INBOX, 1000);
	metrics_observe(metrics, HISTOGRAM_INBOX, 1001);
	metrics_observe(metrics, HISTOGRAM_INBOX, 100 * SEC_US);
	expect(metrics, "pgstock_inbox_duration_seconds_bucket{le=\"0.001\"} 2\n"
					"pgstock_inbox_duration_seconds_bucket{le=\"0.002\"} 3\n");
	expect(metrics, "pgstock_inbox_duration_seconds_bucket{le=\"60\"} 3\n"
					"pgstock_inbox_duration_seconds_bucket{le=\"+Inf\"} 4\n"
					"pgstock_inbox_duration_seconds_sum 100.002001\n"
					"pgstock_inbox_duration_seconds_count 4\n");
	metrics_free(metrics);
}

static void
attempts_are_numbers(void **state UNUSED)
{
	Metrics *metrics = metrics_new(&metric_table);

	metrics_observe(metrics, HISTOGRAM_ATTEMPTS, 1);
	metrics_observe(metrics, HISTOGRAM_ATTEMPTS, 4);
	expect(metrics, "pgstock_inbox_attempts_bucket{le=\"1\"} 1\n"
					"pgstock_inbox_attempts_bucket{le=\"2\"} 1\n"
					"pgstock_inbox_attempts_bucket{le=\"3\"} 1\n"
					"pgstock_inbox_attempts_bucket{le=\"4\"} 2\n");
	expect(metrics, "pgstock_inbox_attempts_sum 5.000000\n");
	metrics_free(metrics);
}

/* Values of one name stand together, in whichever order the database gave. */
static void
gauges_are_grouped_and_replaced(void **state UNUSED)
{
	Metrics *metrics = metrics_new(&metric_table);

	metrics_database_add(metrics, "a", "s=\"1\"", 1);
	metrics_database_add(metrics, "b_total", "", 2);
	metrics_database_add(metrics, "a", "s=\"2\"", 3);
	expect(metrics, "# TYPE pgstock_a gauge\npgstock_a{s=\"1\"} 1\n"
					"pgstock_a{s=\"2\"} 3\n"
					"# HELP pgstock_b_total " METRICS_HELP_MISSING "\n"
					"# TYPE pgstock_b_total counter\npgstock_b_total 2\n");
	metrics_database_begin(metrics);
	metrics_database_add(metrics, "c", "", 0.5);
	expect(metrics, "# TYPE pgstock_c gauge\npgstock_c 0.5\n");
	metrics_free(metrics);
}

/*
 * Every family is on the first page.  What the database has not returned yet
 * is unknown, and not 0.
 */
static void
families_are_there_from_the_start(void **state UNUSED)
{
	Metrics *metrics = metrics_new(&metric_table);

	expect(metrics, "# TYPE pgstock_outbox_published_total counter\n");
	expect(metrics, "# TYPE pgstock_call_duration_seconds histogram\n");
	expect(metrics, "\npgstock_reservations_open NaN\n");
	expect(metrics, "# TYPE pgstock_upkeep_failing gauge\n# HELP ");
	metrics_database_add(metrics, "reservations_open", "", 7);
	expect(metrics, "\npgstock_reservations_open 7\n");
	metrics_free(metrics);
}

/* A histogram of the database's is one family, whose suffixes differ. */
static void
histograms_of_the_database_are_one_family(void **state UNUSED)
{
	Metrics *metrics = metrics_new(&metric_table);

	metrics_database_add(metrics, "call_duration_seconds_bucket",
						 "function=\"f\",le=\"+Inf\"", 3);
	metrics_database_add(metrics, "calls_total", "function=\"f\"", 3);
	metrics_database_add(metrics, "call_duration_seconds_sum", "function=\"f\"",
						 0.25);
	metrics_database_add(metrics, "call_duration_seconds_count",
						 "function=\"f\"", 3);
	expect(metrics,
		   "# TYPE pgstock_call_duration_seconds histogram\n"
		   "pgstock_call_duration_seconds_bucket{function=\"f\",le=\"+Inf\"}"
		   " 3\n"
		   "pgstock_call_duration_seconds_sum{function=\"f\"} 0.25\n"
		   "pgstock_call_duration_seconds_count{function=\"f\"} 3\n");
	metrics_free(metrics);
}

/* The name of the metric that a line of values is about. */
static size_t
name_length(const char *line)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz"
								  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:";

	return strspn(line, letters);
}

/* After the labels of a line, which begin at "{"; quotes may be escaped. */
static const char *
after_labels(const char *labels)
{
	bool quoted = false;

	for (; *labels != '\0'; labels++)
		if (quoted && *labels == '\\')
			labels++;
		else if (*labels == '"')
			quoted = !quoted;
		else if (!quoted && *labels == '}')
			return labels + 1;
	fail_msg("labels without an end");
	return labels;
}

/*
 * The rules that promtool checks: for each name HELP, TYPE and then its values,
 * all together and each once.
 */
typedef struct Page
{
	char *name; /* of HELP and TYPE */
	char *type;
	Buf	  names;  /* those that were, each between line ends */
	Buf	  series; /* the same of name and labels */
} Page;

static bool
note(Buf *seen, const char *what, size_t len)
{
	char *entry = xasprintf("\n%.*s\n", (int) len, what);
	bool  fresh = strstr(buf_str(seen), entry) == NULL;

	buf_add_str(seen, entry);
	free(entry);
	return fresh;
}

static void
take_head(Page *page, const char *line, bool help)
{
	size_t len = name_length(line);

	assert_true(strncmp(line, "pgstock_", 8) == 0 && line[len] == ' ' &&
				line[len + 1] != '\0');
	if (!help)
	{
		static const char *const types[] = {"counter", "gauge", "histogram"};
		bool					 known = false;

		if (page->name == NULL)
		{
			fail_msg("TYPE before HELP: %s", line);
			return;
		}
		assert_int_equal(strlen(page->name), len);
		assert_memory_equal(page->name, line, len);
		assert_null(page->type);
		page->type = xstrdup(line + len + 1);
		for (size_t i = 0; i < Lengthof(types); i++)
			known = known || strcmp(types[i], page->type) == 0;
		assert_true(known);
		return;
	}
	if (!note(&page->names, line, len))
		fail_msg("twice: %s", line);
	free(page->name);
	free(page->type);
	page->name = xasprintf("%.*s", (int) len, line);
	page->type = NULL;
}

static void
take_value(Page *page, const char *line)
{
	static const char *const parts[] = {"_bucket", "_sum", "_count"};
	size_t					 len = name_length(line);
	size_t					 base = len;
	const char				*value = line + len;
	char					*end;

	if (page->type == NULL)
	{
		fail_msg("without HELP and TYPE: %s", line);
		return;
	}
	for (size_t i = 0; strcmp(page->type, "histogram") == 0 && i < 3; i++)
		if (len > strlen(parts[i]) && strncmp(line + len - strlen(parts[i]),
											  parts[i], strlen(parts[i])) == 0)
			base = len - strlen(parts[i]);
	if (strlen(page->name) != base || strncmp(page->name, line, base) != 0)
		fail_msg("not of %s: %s", page->name, line);
	if (strcmp(page->type, "counter") == 0)
		assert_string_equal(page->name + base - 6, "_total");
	if (*value == '{')
		value = after_labels(value);
	assert_true(*value == ' ');
	if (!note(&page->series, line, (size_t) (value - line)))
		fail_msg("twice: %s", line);
	(void) strtod(value + 1, &end);
	assert_true(end > value + 1 && *end == '\0');
}

static int
check_page(const Metrics *metrics)
{
	Buf	  text = {0};
	Page  page = {0};
	char *rest;
	int	  lines = 0;

	metrics_render(metrics, &text);
	assert_true(text.data[text.len - 1] == '\n');
	for (char *line =
			 strtok_r((char *) (uintptr_t) buf_str(&text), "\n", &rest);
		 line != NULL; line = strtok_r(NULL, "\n", &rest), lines++)
		if (line[0] != '#')
			take_value(&page, line);
		else if (strncmp(line, "# HELP ", 7) == 0)
			take_head(&page, line + 7, true);
		else if (strncmp(line, "# TYPE ", 7) == 0)
			take_head(&page, line + 7, false);
		else
			fail_msg("%s", line);
	free(page.name);
	free(page.type);
	buf_free(&page.names);
	buf_free(&page.series);
	buf_free(&text);
	return lines;
}

static void
every_line_is_of_prometheus_text_format(void **state UNUSED)
{
	Metrics *metrics = metrics_new(&metric_table);

	*metrics_cell(metrics, METRIC_LAG, "topic", "a} 1 \"\\\n", "partition", "0",
				  NULL) = 1e300;
	*metrics_cell(metrics, METRIC_INBOX_EVENTS, "topic", "", "result", "dead",
				  NULL) = 0.1;
	*metrics_cell(metrics, METRIC_LEADER, NULL) = 1;
	metrics_observe(metrics, HISTOGRAM_COMMIT_TO_ACK, INT64_MAX);
	metrics_database_add(metrics, "outbox_pending_events", "", 12345678901.0);
	metrics_database_add(metrics, "upkeep_failed_total", "step=\"a\"", 3);
	assert_in_range(check_page(metrics), 150, 260);
	metrics_free(metrics);
}

/* Also a metric that only a newer database has. */
static void
every_series_has_help_and_type(void **state UNUSED)
{
	static const char *const gauges[] = {
		"outbox_pending_events", "outbox_held_events",	 "new_total",
		"reservations_open",	 "reservations_overdue", "new_gauge",
	};
	Metrics *metrics = metrics_new(&metric_table);

	for (int id = 0; id < METRICS; id++)
		(void) metrics_cell(metrics, (MetricId) id, "x", "1", NULL);
	for (size_t i = 0; i < Lengthof(gauges); i++)
		metrics_database_add(metrics, gauges[i], "x=\"1\"", 1);
	assert_in_range(check_page(metrics), METRICS * 3, 260);
	expect(metrics, "# HELP pgstock_reservations_overdue Reserved order lines "
					"past their expiry time.\n");
	expect(metrics, "# HELP pgstock_new_gauge " METRICS_HELP_MISSING "\n");
	metrics_free(metrics);
}

static void
what_is_forgotten_is_not_shown_any_more(void **state UNUSED)
{
	Metrics *metrics = metrics_new(&metric_table);
	Buf		 text = {0};

	*metrics_cell(metrics, METRIC_LAG, "topic", "t", "partition", "0",
				  NULL) = 5;
	expect(metrics, "pgstock_consumer_lag{topic=\"t\",partition=\"0\"} 5\n");
	metrics_forget(metrics, METRIC_LAG);
	metrics_render(metrics, &text);
	assert_null(strstr(buf_str(&text), "consumer_lag{"));
	buf_free(&text);
	metrics_free(metrics);
}

/* The line of process_start_time_seconds; the caller frees it. */
static char *
start_time_line(void)
{
	static const char name[] = "\nprocess_start_time_seconds ";
	Buf				  text = {0};
	const char		 *line;
	char			 *copy;

	process_metrics_render(&text);
	line = strstr(buf_str(&text), name);
	assert_non_null(line);
	copy = xasprintf("%.*s", (int) strcspn(line + 1, "\n"), line + 1);
	buf_free(&text);
	return copy;
}

/* One that changes is taken for a restart. */
static void
the_start_time_is_the_same_at_each_scrape(void **state UNUSED)
{
	char *first = start_time_line();

	for (int i = 0; i < 10; i++)
	{
		char *again = start_time_line();

		assert_string_equal(again, first);
		free(again);
	}
	free(first);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cells_stay_where_they_are),
		cmocka_unit_test(histograms_are_cumulative),
		cmocka_unit_test(attempts_are_numbers),
		cmocka_unit_test(gauges_are_grouped_and_replaced),
		cmocka_unit_test(families_are_there_from_the_start),
		cmocka_unit_test(histograms_of_the_database_are_one_family),
		cmocka_unit_test(every_line_is_of_prometheus_text_format),
		cmocka_unit_test(every_series_has_help_and_type),
		cmocka_unit_test(what_is_forgotten_is_not_shown_any_more),
		cmocka_unit_test(the_start_time_is_the_same_at_each_scrape),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
