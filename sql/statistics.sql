/* ---- Statistics of calls ------------------------------------------------- */

/* The counters are in shared memory: extension/base/statistics.c. */
CREATE FUNCTION pgstock_internal.call_statistics()
RETURNS TABLE (function text, calls bigint, refused bigint, failed bigint,
	refusals jsonb, total_time double precision, mean_time double precision,
	p95_time double precision, p99_time double precision,
	stats_since timestamptz, buckets bigint[])
AS 'MODULE_PATHNAME', 'pgstock_call_statistics' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.call_statistics IS
	'returns the rows of stock_statistics, with the calls by time';

CREATE FUNCTION pgstock_internal.call_quantile(buckets bigint[],
	share double precision)
RETURNS double precision
AS 'MODULE_PATHNAME', 'pgstock_call_quantile' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION pgstock_internal.call_quantile IS
	'returns the milliseconds that this share of calls did not exceed';

CREATE VIEW @extschema@.stock_statistics AS
SELECT s.function, s.calls, s.refused, s.failed, s.refusals, s.total_time,
	   s.mean_time, s.p95_time, s.p99_time, s.stats_since
  FROM pgstock_internal.call_statistics() s;
COMMENT ON VIEW @extschema@.stock_statistics IS
	'calls of each function in this database since the server''s start or the '
	'last reset: their number, refusals and failures by status, and times in '
	'milliseconds';

CREATE FUNCTION pgstock_internal.statistics_metrics()
RETURNS TABLE (name text, labels text, value double precision)
AS 'MODULE_PATHNAME', 'pgstock_statistics_metrics' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.statistics_metrics IS
	'returns the statistics of calls as rows of relay_metrics';

CREATE FUNCTION pgstock_internal.statistics_reset()
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_statistics_reset' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.statistics_reset IS
	'sets the counters of this database to 0';

CREATE FUNCTION pgstock_internal.note_verification(differences bigint)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_note_verification' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pgstock_internal.note_verification IS
	'records the result of verify_stock() for the metrics';

/* A backslash is written as E'\\', whatever standard_conforming_strings is. */
CREATE FUNCTION pgstock_internal.metric_label(name text, value text)
RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('%s="%s"', name, replace(replace(replace(value,
	E'\\', E'\\\\'), '"', E'\\"'), E'\n', E'\\n'))
$$;
COMMENT ON FUNCTION pgstock_internal.metric_label IS
	'returns a label of a metric, its value escaped';

/* The function that lists the directory may be executed by pg_monitor only. */
CREATE FUNCTION pgstock_internal.wal_bytes()
RETURNS double precision
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT has_function_privilege('pg_catalog.pg_ls_waldir()', 'EXECUTE') THEN
		RETURN NULL;
	END IF;
	RETURN (SELECT sum(w.size)::float8 FROM pg_ls_waldir() w);
END
$$;
COMMENT ON FUNCTION pgstock_internal.wal_bytes IS
	'returns the size of the WAL; NULL if the owner of pgstock may not read it';

CREATE FUNCTION pgstock_internal.database_metrics()
RETURNS TABLE (name text, labels text, value double precision)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'data_directory_bytes', 'part="database"',
	   pg_database_size(d.oid)::float8
  FROM pg_database d WHERE d.datname = current_database()
UNION ALL
SELECT 'data_directory_bytes', 'part="wal"', w.bytes
  FROM pgstock_internal.wal_bytes() w (bytes) WHERE w.bytes IS NOT NULL
UNION ALL
SELECT 'database_info', concat_ws(',',
		   pgstock_internal.metric_label('datname', current_database()),
		   pgstock_internal.metric_label('server_version',
			   current_setting('server_version')),
		   pgstock_internal.metric_label('extension_version', x.extversion)), 1
  FROM pg_extension x WHERE x.extname = 'pgstock'
$$;
COMMENT ON FUNCTION pgstock_internal.database_metrics IS
	'returns the metrics of the database itself as rows of relay_metrics';

/* ---- Calls of a day ------------------------------------------------------ */

/*
 * The counters at the end of each day (UTC).  A report computes the calls of a
 * week as the difference of two rows with the same stats_since, between which
 * the counters only rise.  The upkeep writes the row of the current day at
 * least once a minute, so a crash loses the calls of a minute.
 */
CREATE TABLE pgstock_internal.call_day
(
	stats_since	timestamptz NOT NULL,
	function	text COLLATE "C" NOT NULL,
	day			date NOT NULL,
	calls		bigint NOT NULL,
	refused		bigint NOT NULL,
	failed		bigint NOT NULL,
	refusals	jsonb NOT NULL,
	total_time	double precision NOT NULL,
	buckets		bigint[] NOT NULL,
	CONSTRAINT call_day_pkey PRIMARY KEY (stats_since, function, day)
);
COMMENT ON TABLE pgstock_internal.call_day IS
	'counters of calls since stats_since, at the end of a day';
SELECT pg_catalog.pg_extension_config_dump('pgstock_internal.call_day', '');

CREATE FUNCTION pgstock_internal.calls_today()
RETURNS SETOF pgstock_internal.call_day
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT s.stats_since, s.function,
	   (clock_timestamp() AT TIME ZONE 'UTC')::date, s.calls, s.refused,
	   s.failed, s.refusals, s.total_time, s.buckets
  FROM pgstock_internal.call_statistics() s WHERE s.calls > 0
$$;
COMMENT ON FUNCTION pgstock_internal.calls_today IS
	'returns the counters as they are now';

/* Without calls, nothing is written. */
CREATE FUNCTION pgstock_internal.keep_calls()
RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
INSERT INTO pgstock_internal.call_day
SELECT t.* FROM pgstock_internal.calls_today() t
 WHERE NOT EXISTS (
		SELECT FROM pgstock_internal.call_day d
		 WHERE d.stats_since = t.stats_since AND d.function = t.function
		   AND d.calls >= t.calls)
ON CONFLICT ON CONSTRAINT call_day_pkey DO UPDATE
   SET calls = excluded.calls, refused = excluded.refused,
	   failed = excluded.failed, refusals = excluded.refusals,
	   total_time = excluded.total_time, buckets = excluded.buckets
$$;
COMMENT ON FUNCTION pgstock_internal.keep_calls IS
	'writes the counters of today to call_day';

/*
 * The last row before that time is kept if its counters still count: later
 * rows are compared with it.
 */
CREATE FUNCTION pgstock_internal.purge_calls(before timestamptz)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	first	date := (before AT TIME ZONE 'UTC')::date;
	n		bigint;
BEGIN
	DELETE FROM pgstock_internal.call_day d
	 WHERE d.day < first
	   AND (d.stats_since NOT IN (
				SELECT c.stats_since FROM pgstock_internal.call_statistics() c)
			OR EXISTS (
				SELECT FROM pgstock_internal.call_day later
				 WHERE later.stats_since = d.stats_since
				   AND later.function = d.function
				   AND later.day > d.day AND later.day < first));
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION pgstock_internal.purge_calls IS
	'deletes the counters of days before a time; returns the number of rows';

CREATE FUNCTION pgstock_internal.calls_until(last date)
RETURNS SETOF pgstock_internal.call_day
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT DISTINCT ON (c.stats_since, c.function) c.*
  FROM (TABLE pgstock_internal.call_day
		 UNION ALL SELECT t.* FROM pgstock_internal.calls_today() t) c
 WHERE c.day <= $1
 ORDER BY c.stats_since, c.function, c.day DESC, c.calls DESC
$$;
COMMENT ON FUNCTION pgstock_internal.calls_until IS
	'returns all counters as they were at the end of a day';

/*
 * If a run of the server began before the first day and has no earlier row, all
 * its calls are included; since is then the start of the run.
 */
CREATE FUNCTION pgstock_internal.calls_of_days(first date, last date)
RETURNS TABLE (function text, calls bigint, refused bigint, failed bigint,
	refusals jsonb, total_time double precision, buckets bigint[],
	since timestamptz)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
WITH early AS MATERIALIZED (
	SELECT * FROM pgstock_internal.calls_until($1 - 1)
)
SELECT l.function, l.calls - coalesce(e.calls, 0),
	   l.refused - coalesce(e.refused, 0), l.failed - coalesce(e.failed, 0),
	   (SELECT coalesce(jsonb_object_agg(r.key, r.value::bigint
				- coalesce((e.refusals ->> r.key)::bigint, 0)), '{}')
		  FROM jsonb_each_text(l.refusals) r),
	   l.total_time - coalesce(e.total_time, 0),
	   ARRAY(SELECT b.n - coalesce(e.buckets[b.i], 0)
			   FROM unnest(l.buckets) WITH ORDINALITY b (n, i) ORDER BY b.i),
	   CASE WHEN l.stats_since IN (SELECT o.stats_since FROM early o)
			THEN $1::timestamp AT TIME ZONE 'UTC' ELSE l.stats_since END
  FROM pgstock_internal.calls_until($2) l
  LEFT JOIN early e USING (stats_since, function)
 WHERE l.calls > coalesce(e.calls, 0)
$$;
COMMENT ON FUNCTION pgstock_internal.calls_of_days IS
	'returns the calls of these days, one row for each run of the server, and '
	'the time from which on they are counted';

CREATE FUNCTION @extschema@.reset_stock_statistics()
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.keep_calls();
SELECT pgstock_internal.statistics_reset();
SELECT pgstock_internal.audit('reset_stock_statistics', current_database(),
							  NULL)
$$;
COMMENT ON FUNCTION @extschema@.reset_stock_statistics IS
	'sets the counters of stock_statistics to 0';
