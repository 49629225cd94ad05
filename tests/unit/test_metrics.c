/*
 * test_metrics.c - what Prometheus reads
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "metrics.h"

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
	Metrics *metrics = metrics_new();
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
	Metrics *metrics = metrics_new();

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
	Metrics *metrics = metrics_new();

	metrics_observe(metrics, HISTOGRAM_ATTEMPTS, 1);
	metrics_observe(metrics, HISTOGRAM_ATTEMPTS, 4);
	expect(metrics, "pgstock_inbox_attempts_bucket{le=\"1\"} 1\n"
					"pgstock_inbox_attempts_bucket{le=\"2\"} 1\n"
					"pgstock_inbox_attempts_bucket{le=\"3\"} 1\n"
					"pgstock_inbox_attempts_bucket{le=\"4\"} 2\n");
	expect(metrics, "pgstock_inbox_attempts_sum 5.000000\n");
	metrics_free(metrics);
}

/* Values of one name stand together, whatever order the database gave. */
static void
gauges_are_grouped_and_replaced(void **state UNUSED)
{
	Metrics *metrics = metrics_new();

	metrics_gauges_add(metrics, "a", "s=\"1\"", 1);
	metrics_gauges_add(metrics, "b_total", "", 2);
	metrics_gauges_add(metrics, "a", "s=\"2\"", 3);
	expect(metrics, "# TYPE pgstock_a gauge\npgstock_a{s=\"1\"} 1\n"
					"pgstock_a{s=\"2\"} 3\n# TYPE pgstock_b_total counter\n"
					"pgstock_b_total 2\n");
	metrics_gauges_begin(metrics);
	metrics_gauges_add(metrics, "c", "", 0.5);
	expect(metrics, "# TYPE pgstock_c gauge\npgstock_c 0.5\n");
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

/* name value, name{labels} value, # HELP name text or # TYPE name type */
static void
check_line(const char *line, char *typed, size_t size)
{
	size_t len;
	char  *end;

	if (strncmp(line, "# HELP pgstock_", 15) == 0)
		return;
	if (strncmp(line, "# TYPE pgstock_", 15) == 0)
	{
		len = name_length(line + 7);
		assert_true(len < size && line[7 + len] == ' ');
		memcpy(typed, line + 7, len);
		typed[len] = '\0';
		return;
	}
	len = name_length(line);
	assert_true(len >= strlen(typed));
	assert_memory_equal(line, typed, strlen(typed));
	line += len;
	if (*line == '{')
		line = after_labels(line);
	assert_true(*line == ' ');
	(void) strtod(line + 1, &end);
	assert_true(end > line + 1 && *end == '\0');
}

static void
every_line_is_of_prometheus_text_format(void **state UNUSED)
{
	Metrics *metrics = metrics_new();
	Buf		 text = {0};
	char	 typed[100] = "";
	char	*rest;
	int		 lines = 0;

	*metrics_cell(metrics, METRIC_LAG, "topic", "a} 1 \"\\\n", "partition", "0",
				  NULL) = 1e300;
	*metrics_cell(metrics, METRIC_INBOX_EVENTS, "topic", "", "result", "dead",
				  NULL) = 0.1;
	*metrics_cell(metrics, METRIC_LEADER, NULL) = 1;
	metrics_observe(metrics, HISTOGRAM_COMMIT_TO_ACK, INT64_MAX);
	metrics_gauges_add(metrics, "outbox_pending_events", "", 12345678901.0);
	metrics_gauges_add(metrics, "reservation_ends_total", "state=\"confirmed\"",
					   3);
	metrics_render(metrics, &text);
	assert_true(text.data[text.len - 1] == '\n');
	for (char *line =
			 strtok_r((char *) (uintptr_t) buf_str(&text), "\n", &rest);
		 line != NULL; line = strtok_r(NULL, "\n", &rest))
	{
		check_line(line, typed, sizeof(typed));
		lines++;
	}
	assert_in_range(lines, 40, 120);
	buf_free(&text);
	metrics_free(metrics);
}

static void
what_is_forgotten_is_not_shown_any_more(void **state UNUSED)
{
	Metrics *metrics = metrics_new();
	Buf		 text = {0};

	*metrics_cell(metrics, METRIC_LAG, "topic", "t", "partition", "0",
				  NULL) = 5;
	expect(metrics, "pgstock_consumer_lag{topic=\"t\",partition=\"0\"} 5\n");
	metrics_forget(metrics, METRIC_LAG);
	metrics_render(metrics, &text);
	assert_null(strstr(buf_str(&text), "consumer_lag"));
	buf_free(&text);
	metrics_free(metrics);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cells_stay_where_they_are),
		cmocka_unit_test(histograms_are_cumulative),
		cmocka_unit_test(attempts_are_numbers),
		cmocka_unit_test(gauges_are_grouped_and_replaced),
		cmocka_unit_test(every_line_is_of_prometheus_text_format),
		cmocka_unit_test(what_is_forgotten_is_not_shown_any_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
