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
	Buf			text = {0};

	metrics_render(metrics, &text);
	if (strstr(buf_str(&text), part) == NULL)
		fail_msg("\"%s\" is not in:\n%s", part, buf_str(&text));
	buf_free(&text);
}

static void
cells_stay_where_they_are(void **state UNUSED)
{
	Metrics    *metrics = metrics_new();
	double	   *cell = metrics_cell(metrics, METRIC_PUBLISHED, "topic", "a",
									NULL);

	*cell += 2;
	*metrics_cell(metrics, METRIC_PUBLISHED, "topic", "b\"\\\n", NULL) = 1;
	assert_ptr_equal(cell, metrics_cell(metrics, METRIC_PUBLISHED, "topic",
										"a", NULL));
	expect(metrics, "# TYPE pgstock_outbox_published_total counter\n"
		   "pgstock_outbox_published_total{topic=\"a\"} 2\n"
		   "pgstock_outbox_published_total{topic=\"b\\\"\\\\\\n\"} 1\n");
	*metrics_cell(metrics, METRIC_LEADER, NULL) = 1;
	expect(metrics, "\npgstock_leader 1\n");
	metrics_free(metrics);
}

static void
histograms_are_cumulative(void **state UNUSED)
{
	Metrics    *metrics = metrics_new();

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

/* Values of one name stand together, whatever order the database gave. */
static void
gauges_are_grouped_and_replaced(void **state UNUSED)
{
	Metrics    *metrics = metrics_new();

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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cells_stay_where_they_are),
		cmocka_unit_test(histograms_are_cumulative),
		cmocka_unit_test(gauges_are_grouped_and_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
