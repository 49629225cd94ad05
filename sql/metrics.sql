/* ---- Metrics: docs/relay-protocol.md ------------------------------------- */

CREATE FUNCTION pgstock_internal.relay_metrics()
RETURNS TABLE (name text, labels text, value double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
WITH held AS MATERIALIZED (
	SELECT * FROM pgstock_internal.held_status()
), pending AS MATERIALIZED (
	SELECT sum(e.n) AS n, min(e.oldest) AS oldest
	  FROM (SELECT p.n, p.oldest FROM pgstock_internal.pending() p
			UNION ALL SELECT h.events, h.oldest FROM held h) e
)
SELECT 'outbox_pending_events', '', n::float8 FROM pending
UNION ALL
SELECT 'outbox_oldest_pending_seconds', '',
	   coalesce(extract(epoch FROM clock_timestamp() - oldest), 0)::float8
  FROM pending
UNION ALL
SELECT 'outbox_held_events', format('topic="%s"', h.topic), h.events::float8
  FROM held h
UNION ALL
SELECT 'outbox_held_oldest_seconds', format('topic="%s"', h.topic),
	   coalesce(extract(epoch FROM clock_timestamp() - h.oldest), 0)::float8
  FROM held h
UNION ALL
SELECT 'held_tries_total', format('topic="%s"', h.topic), h.tries::float8
  FROM held h
UNION ALL
SELECT 'outbox_table_bytes', '',
	   sum(pg_total_relation_size(i.inhrelid))::float8
  FROM pg_inherits i WHERE i.inhparent = 'pgstock_internal.outbox'::regclass
UNION ALL
SELECT 'inbox_waiting_keys', '', count(DISTINCT (f.topic, f.key))::float8
  FROM pgstock_internal.failed_event f WHERE f.state = 'waiting'
UNION ALL
SELECT 'archive_open', '', count(*)::float8
  FROM pgstock_internal.failed_event f
 WHERE f.archived_at IS NOT NULL AND NOT f.handled AND f.state <> 'discarded'
UNION ALL
SELECT 'webhook_waiting', '', count(*)::float8
  FROM pgstock_internal.alert a WHERE a.next_try_at IS NOT NULL
UNION ALL
SELECT 'upkeep_failing', format('step="%s"', s.step), count(f.step)::float8
  FROM pgstock_internal.upkeep_steps() s (step)
  LEFT JOIN pgstock_internal.upkeep_failure f USING (step) GROUP BY s.step
UNION ALL
SELECT 'levels_filling', '', count(*)::float8
  FROM pgstock_internal.level_stream l WHERE l.filled_at IS NULL
UNION ALL
SELECT 'reservations_open', '', count(*)::float8
  FROM pgstock_internal.reservation r WHERE r.state = 'r'
UNION ALL
SELECT 'reservations_overdue', '', count(*)::float8
  FROM pgstock_internal.reservation r
 WHERE r.due_at <= clock_timestamp()
UNION ALL
SELECT 'orders_hanging', format('kind="%s"', k.kind), count(h.kind)::float8
  FROM (VALUES ('reservation'), ('message')) k (kind)
  LEFT JOIN pgstock_internal.hanging_order h USING (kind) GROUP BY k.kind
UNION ALL
SELECT m.name, m.labels, m.value FROM pgstock_internal.database_metrics() m
UNION ALL
SELECT m.name, m.labels, m.value FROM pgstock_internal.statistics_metrics() m
$$;
COMMENT ON FUNCTION pgstock_internal.relay_metrics IS
	'returns the metrics that are computed from the database';
