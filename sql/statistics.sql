/* ---- Statistics of calls ------------------------------------------------- */

/* The counters are in shared memory: extension/base/statistics.c. */
CREATE FUNCTION pgstock_internal.call_statistics()
RETURNS TABLE (function text, calls bigint, refused bigint, failed bigint,
	refusals jsonb, total_time double precision, mean_time double precision,
	p95_time double precision, p99_time double precision,
	stats_since timestamptz)
AS 'MODULE_PATHNAME', 'pgstock_call_statistics' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.call_statistics IS
	'returns the rows of stock_statistics';

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

CREATE FUNCTION @extschema@.reset_stock_statistics()
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.statistics_reset();
SELECT pgstock_internal.audit('reset_stock_statistics', current_database(),
							  NULL)
$$;
COMMENT ON FUNCTION @extschema@.reset_stock_statistics IS
	'sets the counters of stock_statistics to 0';
