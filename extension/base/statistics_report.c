/*-------------------------------------------------------------------------
 *
 * base/statistics_report.c
 *	  The counters of statistics.c as rows: for the view stock_statistics, for
 *	  the samples of each day, and for the relay's metrics.
 *
 * The counters are read one after another while calls add to them, so a row may
 * show a call's time and not yet its number.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "base/base.h"
#include "base/statistics.h"

PG_FUNCTION_INFO_V1(pgstock_call_statistics);
PG_FUNCTION_INFO_V1(pgstock_call_quantile);
PG_FUNCTION_INFO_V1(pgstock_statistics_metrics);
PG_FUNCTION_INFO_V1(pgstock_statistics_reset);
PG_FUNCTION_INFO_V1(pgstock_note_verification);

#define BIT(status) (1 << (status))

/* Each function can fail in these ways. */
#define ANY (BIT(CALL_INVALID) | BIT(CALL_CONFLICT) | BIT(CALL_ERROR))
#define RESERVES                                                \
	(ANY | BIT(CALL_INSUFFICIENT) | BIT(CALL_UNKNOWN_PRODUCT) | \
	 BIT(CALL_KEY_REUSED) | BIT(CALL_EXPIRED))
#define SETTLES                                              \
	(ANY | BIT(CALL_UNKNOWN_ORDER) | BIT(CALL_WRONG_STATE) | \
	 BIT(CALL_KEY_REUSED))
#define SUPPLIES (ANY | BIT(CALL_INSUFFICIENT) | BIT(CALL_UNKNOWN_PRODUCT))

StaticAssertDecl(CALL_STATUSES <= 31, "a bit for each status");

/*
 * The statuses that a function may have are shown from the start, at 0: the
 * first increase from nothing is not visible to Prometheus.
 */
static const struct
{
	const char *name;
	int			statuses;
} functions[CALL_FUNCTIONS] = {
	[CALL_RESERVE_STOCK] = {"reserve_stock", RESERVES},
	[CALL_TRY_RESERVE_STOCK] = {"try_reserve_stock", RESERVES},
	[CALL_RESERVE_ORDER] = {"reserve_order", RESERVES},
	[CALL_TRY_RESERVE_ORDER] = {"try_reserve_order", RESERVES},
	[CALL_RESERVE_ORDERS] = {"reserve_orders", RESERVES | BIT(CALL_ALREADY)},
	[CALL_CONFIRM_STOCK] = {"confirm_stock", SETTLES | BIT(CALL_SHORTFALL)},
	[CALL_RELEASE_STOCK] = {"release_stock", SETTLES},
	[CALL_ROLLBACK_STOCK] = {"rollback_stock", SETTLES},
	[CALL_RETURN_STOCK] = {"return_stock", SETTLES},
	[CALL_EXTEND_RESERVATION] = {"extend_reservation",
								 SETTLES | BIT(CALL_EXPIRED)},
	[CALL_EXPIRE_RESERVATIONS] = {"expire_reservations", ANY},
	[CALL_OPEN_FLASH_SALE] = {"open_flash_sale", SUPPLIES},
	[CALL_PURCHASE_FLASH_SALE] = {"purchase_flash_sale",
								  ANY | BIT(CALL_INSUFFICIENT) |
									  BIT(CALL_OVER_LIMIT) |
									  BIT(CALL_NOT_OPEN) |
									  BIT(CALL_KEY_REUSED)},
	[CALL_CLOSE_FLASH_SALE] = {"close_flash_sale", ANY | BIT(CALL_NOT_OPEN)},
	[CALL_RECEIVE_STOCK] = {"receive_stock", ANY},
	[CALL_ADJUST_STOCK] = {"adjust_stock", SUPPLIES},
	[CALL_SET_STOCK] = {"set_stock", SUPPLIES | BIT(CALL_STALE_VERSION)},
	[CALL_MOVE_STOCK] = {"move_stock", SUPPLIES},
	[CALL_CONFIGURE_PRODUCT] = {"configure_product", SUPPLIES},
	[CALL_PUBLISH_EVENT] = {"publish_event", ANY},
	[CALL_PUBLISH_BYTES] = {"publish_bytes", ANY},
	[CALL_PUBLISH_OUTBOX_ROW] = {"publish_outbox_row", ANY},
	[CALL_SET_EVENT_TOPIC] = {"set_event_topic", ANY},
	[CALL_REGISTER_HANDLER] = {"register_handler", ANY},
	[CALL_HANDLE_ORDER_CREATED] = {"handle_order_created", ANY},
	[CALL_HANDLE_PAYMENT_SUCCESS] = {"handle_payment_success",
									 ANY | BIT(CALL_UNKNOWN_ORDER)},
	[CALL_HANDLE_PAYMENT_FAILED] = {"handle_payment_failed",
									ANY | BIT(CALL_UNKNOWN_ORDER)},
	[CALL_HANDLE_ORDER_CANCELLED] = {"handle_order_cancelled",
									 ANY | BIT(CALL_UNKNOWN_ORDER)},
	[CALL_HANDLE_ORDER_FAILED] = {"handle_order_failed",
								  ANY | BIT(CALL_UNKNOWN_ORDER)},
};

/* Values of the label "status", and members of column "refusals". */
static const char *const status_names[CALL_STATUSES] = {
	[CALL_INSUFFICIENT] = "insufficient",
	[CALL_UNKNOWN_PRODUCT] = "unknown_product",
	[CALL_UNKNOWN_ORDER] = "unknown_order",
	[CALL_OVER_LIMIT] = "over_limit",
	[CALL_NOT_OPEN] = "not_open",
	[CALL_WRONG_STATE] = "wrong_state",
	[CALL_EXPIRED] = "expired",
	[CALL_SHORTFALL] = "shortfall",
	[CALL_ALREADY] = "already",
	[CALL_KEY_REUSED] = "key_reused",
	[CALL_STALE_VERSION] = "stale_version",
	[CALL_INVALID] = "invalid",
	[CALL_CONFLICT] = "conflict",
	[CALL_ERROR] = "error",
};

static const char *const transaction_names[CALL_TRANSACTIONS] = {
	[CALL_COMMITTED] = "committed",
	[CALL_REFUSED] = "refused",
	[CALL_ROLLED_BACK] = "rolled_back",
};

/* ---- The view ---- */

enum
{
	VIEW_FUNCTION,
	VIEW_CALLS,
	VIEW_REFUSED,
	VIEW_FAILED,
	VIEW_REFUSALS,
	VIEW_TOTAL_TIME,
	VIEW_MEAN_TIME,
	VIEW_P95_TIME,
	VIEW_P99_TIME,
	VIEW_SINCE,
	VIEW_BUCKETS,
	VIEW_COLUMNS
};

/* Counters as they were at one moment, nearly. */
typedef struct CallCounts
{
	uint64 calls;
	uint64 refused;
	uint64 failed;
	uint64 time_us;
	uint64 refusals[CALL_STATUSES];
	uint64 buckets[CALL_BOUNDS + 1];
} CallCounts;

static bool
report_is_failure(int status)
{
	return status == CALL_CONFLICT || status == CALL_ERROR;
}

static CallCounts
report_read_call(Statistics *statistics, int function)
{
	CallCounters *counters = &statistics->calls[function];
	CallCounts	  counts = {0};

	for (int i = 0; i <= CALL_BOUNDS; i++)
	{
		counts.buckets[i] = pg_atomic_read_u64(&counters->buckets[i]);
		counts.calls += counts.buckets[i];
	}
	for (int i = 0; i < CALL_STATUSES; i++)
	{
		counts.refusals[i] = pg_atomic_read_u64(&counters->refusals[i]);
		if (report_is_failure(i))
			counts.failed += counts.refusals[i];
		else
			counts.refused += counts.refusals[i];
	}
	counts.time_us = pg_atomic_read_u64(&counters->time_us);
	return counts;
}

/*
 * Milliseconds that this share of the calls did not exceed, as Prometheus'
 * histogram_quantile estimates them: linear in a bucket, at most the last
 * bound.
 */
static double
report_quantile(const CallCounts *counts, double share)
{
	double rank = share * counts->calls;
	double below = 0;

	Assert(counts->calls > 0 && share > 0 && share < 1);
	for (int i = 0; i < CALL_BOUNDS; i++)
	{
		double lower = i > 0 ? call_bounds_us[i - 1] : 0;

		if (below + counts->buckets[i] >= rank && counts->buckets[i] > 0)
			return (lower + (call_bounds_us[i] - lower) * (rank - below) /
								counts->buckets[i]) /
				   1000;
		below += counts->buckets[i];
	}
	return call_bounds_us[CALL_BOUNDS - 1] / 1000.0;
}

static Datum
report_refusals(const CallCounts *counts)
{
	StringInfoData json;

	initStringInfo(&json);
	for (int i = 0; i < CALL_STATUSES; i++)
	{
		if (counts->refusals[i] > 0)
			appendStringInfo(&json, "%s\"%s\": " UINT64_FORMAT,
							 json.len > 0 ? ", " : "{", status_names[i],
							 counts->refusals[i]);
	}
	appendStringInfoString(&json, json.len > 0 ? "}" : "{}");
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

static Datum
report_buckets(const CallCounts *counts)
{
	Datum buckets[CALL_BOUNDS + 1];

	for (int i = 0; i <= CALL_BOUNDS; i++)
		buckets[i] = Int64GetDatum(counts->buckets[i]);
	return PointerGetDatum(construct_array(buckets, CALL_BOUNDS + 1, INT8OID,
										   sizeof(int64), FLOAT8PASSBYVAL,
										   TYPALIGN_DOUBLE));
}

static void
report_put_call(ReturnSetInfo *info, Statistics *statistics, int function)
{
	CallCounts counts = report_read_call(statistics, function);
	Datum	   values[VIEW_COLUMNS];
	bool	   nulls[VIEW_COLUMNS] = {0};

	Assert(info->setDesc->natts == VIEW_COLUMNS);
	values[VIEW_FUNCTION] = CStringGetTextDatum(functions[function].name);
	values[VIEW_CALLS] = Int64GetDatum(counts.calls);
	values[VIEW_REFUSED] = Int64GetDatum(counts.refused);
	values[VIEW_FAILED] = Int64GetDatum(counts.failed);
	values[VIEW_REFUSALS] = report_refusals(&counts);
	values[VIEW_TOTAL_TIME] = Float8GetDatum(counts.time_us / 1000.0);
	nulls[VIEW_MEAN_TIME] = nulls[VIEW_P95_TIME] = nulls[VIEW_P99_TIME] =
		counts.calls == 0;
	if (counts.calls > 0)
	{
		values[VIEW_MEAN_TIME] = Float8GetDatum(counts.time_us / 1000.0 /
												counts.calls);
		values[VIEW_P95_TIME] = Float8GetDatum(report_quantile(&counts, 0.95));
		values[VIEW_P99_TIME] = Float8GetDatum(report_quantile(&counts, 0.99));
	}
	values[VIEW_SINCE] = TimestampTzGetDatum(
		(TimestampTz) pg_atomic_read_u64(&statistics->since));
	values[VIEW_BUCKETS] = report_buckets(&counts);
	tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
}

/*
 * call_statistics() RETURNS TABLE (function text, calls bigint, refused bigint,
 *		failed bigint, refusals jsonb, total_time float8, mean_time float8,
 *		p95_time float8, p99_time float8, stats_since timestamptz,
 *		buckets bigint[])
 *
 * No row if this database is not counted.
 */
Datum
pgstock_call_statistics(PG_FUNCTION_ARGS)
{
	Statistics *statistics = statistics_use();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; statistics != NULL && i < CALL_FUNCTIONS; i++)
		report_put_call((ReturnSetInfo *) fcinfo->resultinfo, statistics, i);
	return (Datum) 0;
}

/*
 * call_quantile(buckets bigint[], share float8) RETURNS float8
 *
 * Milliseconds; NULL without a call, or if an earlier version with other bounds
 * has counted them.
 */
Datum
pgstock_call_quantile(PG_FUNCTION_ARGS)
{
	ArrayType *buckets = PG_GETARG_ARRAYTYPE_P(0);
	double	   share = PG_GETARG_FLOAT8(1);
	CallCounts counts = {0};
	int64	  *values = (int64 *) ARR_DATA_PTR(buckets);

	if (ARR_NDIM(buckets) != 1 || ARR_DIMS(buckets)[0] != CALL_BOUNDS + 1 ||
		array_contains_nulls(buckets) || !(share > 0 && share < 1))
		PG_RETURN_NULL();
	for (int i = 0; i <= CALL_BOUNDS; i++)
	{
		counts.buckets[i] = Max(0, values[i]);
		counts.calls += counts.buckets[i];
	}
	if (counts.calls == 0)
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(report_quantile(&counts, share));
}

/* ---- The metrics ---- */

#define METRIC_COLUMNS 3

static void
report_put_metric(ReturnSetInfo *info, const char *name, const char *labels,
				  double value)
{
	Datum values[METRIC_COLUMNS] = {CStringGetTextDatum(name),
									CStringGetTextDatum(labels),
									Float8GetDatum(value)};
	bool  nulls[METRIC_COLUMNS] = {0};

	Assert(info->setDesc->natts == METRIC_COLUMNS);
	tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
}

/* A histogram in seconds; the labels, if any, end in a comma. */
static void
report_put_histogram(ReturnSetInfo *info, const char *name, const char *labels,
					 pg_atomic_uint64 *buckets, const int64 *bounds_us, int n,
					 uint64 sum_us)
{
	char  *own = pnstrdup(labels, Max(0, (int) strlen(labels) - 1));
	uint64 count = 0;

	for (int i = 0; i <= n; i++)
	{
		char bound[32] = "+Inf";

		count += pg_atomic_read_u64(&buckets[i]);
		if (i < n)
			snprintf(bound, sizeof(bound), "%g", bounds_us[i] * 1e-6);
		report_put_metric(info, psprintf("%s_bucket", name),
						  psprintf("%sle=\"%s\"", labels, bound), count);
	}
	report_put_metric(info, psprintf("%s_sum", name), own, sum_us * 1e-6);
	report_put_metric(info, psprintf("%s_count", name), own, count);
}

static void
report_put_function(ReturnSetInfo *info, Statistics *statistics, int function)
{
	CallCounters *counters = &statistics->calls[function];
	CallCounts	  counts = report_read_call(statistics, function);
	const char	 *name = functions[function].name;

	report_put_metric(info, "calls_total", psprintf("function=\"%s\"", name),
					  counts.calls);
	for (int i = 0; i < CALL_STATUSES; i++)
	{
		if ((functions[function].statuses & BIT(i)) || counts.refusals[i] > 0)
			report_put_metric(info, "call_refusals_total",
							  psprintf("function=\"%s\",status=\"%s\"", name,
									   status_names[i]),
							  counts.refusals[i]);
	}
	report_put_histogram(info, "call_duration_seconds",
						 psprintf("function=\"%s\",", name), counters->buckets,
						 call_bounds_us, CALL_BOUNDS, counts.time_us);
}

/*
 * Before the first verification the number of differences is unknown; the time
 * runs from the beginning, so that one that never takes place is noticed.
 */
static void
report_put_verification(ReturnSetInfo *info, Statistics *statistics)
{
	uint64 at = pg_atomic_read_u64(&statistics->verified_at);
	uint64 since = at != 0 ? at : pg_atomic_read_u64(&statistics->since);
	double seconds = (GetCurrentTimestamp() - (TimestampTz) since) * 1e-6;

	report_put_metric(info, "ledger_differences", "",
					  at != 0 ? pg_atomic_read_u64(&statistics->differences)
							  : get_float8_nan());
	report_put_metric(info, "ledger_verified_seconds", "", Max(0, seconds));
}

/* statistics_metrics() RETURNS TABLE (name text, labels text, value float8) */
Datum
pgstock_statistics_metrics(PG_FUNCTION_ARGS)
{
	Statistics	  *statistics = statistics_use();
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	if (statistics == NULL)
		return (Datum) 0;
	for (int i = 0; i < CALL_FUNCTIONS; i++)
		report_put_function(info, statistics, i);
	for (int i = 0; i < CALL_TRANSACTIONS; i++)
		report_put_metric(info, "call_transactions_total",
						  psprintf("outcome=\"%s\"", transaction_names[i]),
						  pg_atomic_read_u64(&statistics->transactions[i]));
	report_put_histogram(info, "reservation_confirm_seconds", "",
						 statistics->confirm_buckets, confirm_bounds_us,
						 CONFIRM_BOUNDS,
						 pg_atomic_read_u64(&statistics->confirm_us));
	report_put_verification(info, statistics);
	return (Datum) 0;
}

/* ---- Set by SQL ---- */

/* statistics_reset() RETURNS void */
Datum
pgstock_statistics_reset(PG_FUNCTION_ARGS)
{
	Statistics *statistics = statistics_use();

	if (statistics != NULL)
		statistics_clear(statistics);
	PG_RETURN_VOID();
}

/* note_verification(differences bigint) RETURNS void */
Datum
pgstock_note_verification(PG_FUNCTION_ARGS)
{
	Statistics *statistics = statistics_use();

	if (statistics == NULL)
		PG_RETURN_VOID();
	pg_atomic_write_u64(&statistics->differences, PG_GETARG_INT64(0));
	pg_atomic_write_u64(&statistics->verified_at,
						(uint64) GetCurrentTimestamp());
	PG_RETURN_VOID();
}
