/* ---- What people look at: sales, activity, the report -------------------- */

/* The quota of an open sale is a level with the sale's slot. */
CREATE VIEW pgstock_internal.flash_sale AS
SELECT s.activity_id, s.product_id, s.location, s.quantity, s.per_user_limit,
	   CASE WHEN s.closed_at IS NOT NULL THEN 'closed'
			WHEN s.ends_at <= clock_timestamp() THEN 'ended'
			WHEN s.starts_at > clock_timestamp() THEN 'scheduled'
			WHEN l.on_hand <= l.reserved THEN 'sold_out'
			ELSE 'open' END AS state,
	   s.quantity - coalesce(l.on_hand - l.reserved, s.left_at_end) AS sold,
	   coalesce(l.on_hand - l.reserved, s.left_at_end) AS remaining,
	   s.starts_at, s.ends_at, s.opened_at, s.closed_at
  FROM pgstock_internal.sale s
  LEFT JOIN pgstock_internal.level l
	ON l.product_id = s.product_id AND l.location = s.location
   AND l.slot = s.slot AND s.closed_at IS NULL;
COMMENT ON VIEW pgstock_internal.flash_sale IS
	'stock_sales, for functions with the owner''s rights';

CREATE VIEW @extschema@.stock_sales AS
SELECT s.activity_id, s.product_id, s.location, s.quantity, s.per_user_limit,
	   s.state, s.sold, s.remaining, s.starts_at, s.ends_at, s.opened_at,
	   s.closed_at
  FROM pgstock_internal.flash_sale s;
COMMENT ON VIEW @extschema@.stock_sales IS
	'flash sales: quota, pieces sold and left (NULL if a call has closed the '
	'sale), and times';

CREATE FUNCTION @extschema@.sale_purchases(activity_id text)
RETURNS TABLE (at timestamptz, orders bigint, pieces bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT date_trunc('second', r.created_at), count(DISTINCT r.order_id),
	   sum(r.quantity)::bigint
  FROM pgstock_internal.sale_order o
  JOIN pgstock_internal.reservation r
	ON r.order_id = o.order_id AND r.activity_id = o.activity_id
 WHERE o.activity_id = $1 AND r.state IN ('r', 'c')
 GROUP BY 1 ORDER BY 1
$$;
COMMENT ON FUNCTION @extschema@.sale_purchases IS
	'returns the purchases of a flash sale that are still reserved or '
	'confirmed, by second';

/* ---- The relay ----------------------------------------------------------- */

/* Where another program publishes the outbox, no relay is missing. */
CREATE FUNCTION pgstock_internal.status_problems(leader text,
	position_trouble text, upkeep_trouble text, held_trouble text)
RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(jsonb_agg(p.problem), '[]')
  FROM (VALUES (CASE WHEN leader IS NULL
					  AND pgstock_internal.outbox_retention() IS NULL
					 THEN 'no relay leads the outbox' END),
			   ('the outbox position belongs to another history: '
				|| position_trouble),
			   ('upkeep fails: ' || upkeep_trouble),
			   ('topics are held back: ' || held_trouble)) p (problem)
 WHERE p.problem IS NOT NULL
$$;
COMMENT ON FUNCTION pgstock_internal.status_problems IS
	'returns what is wrong according to the status, as sentences';

CREATE FUNCTION @extschema@.stock_status()
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	status	jsonb;
BEGIN
	SELECT jsonb_object_agg(r.name, r.value) INTO status
	  FROM pgstock_internal.relay_status() r;
	RETURN status || jsonb_build_object(
		'status', CASE status -> 'problems' WHEN '[]' THEN 'ok'
				  ELSE 'failing' END,
		'database', current_database(),
		'relays', (
			SELECT coalesce(jsonb_agg(jsonb_build_object(
					   'name', a.application_name, 'pid', a.pid,
					   'since', pgstock_internal.utc_text(a.backend_start),
					   'leads', to_jsonb(a.pid) = status -> 'leader_pid')
					   ORDER BY a.application_name, a.pid), '[]')
			  FROM pg_stat_activity a
			 WHERE a.datname = current_database()
			   AND a.application_name LIKE 'pgstock-relay %'),
		'offsets', (
			SELECT coalesce(jsonb_agg(to_jsonb(o)), '[]')
			  FROM (SELECT r.topic, r.partition, r.next_offset
					  FROM pgstock_internal.relay_offsets(NULL) r) o));
END
$$;
COMMENT ON FUNCTION @extschema@.stock_status IS
	'returns the relays, the position and the backlog, what is held or '
	'waits, and the problems that follow, from the database alone';

/* ---- Activity ------------------------------------------------------------ */

/* It is called every second, also when the relay is down. */
CREATE FUNCTION pgstock_internal.activity_rows_max()
RETURNS int
LANGUAGE sql IMMUTABLE
RETURN 1000;
COMMENT ON FUNCTION pgstock_internal.activity_rows_max IS
	'returns the number at which stock_activity stops counting rows that wait';

CREATE FUNCTION pgstock_internal.recent_movements(max_rows int)
RETURNS TABLE (id bigint, at timestamptz, kind text, product_id text,
	location text, order_id text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT m.id, m.at, m.kind, m.product_id, m.location, m.order_id
  FROM pgstock_internal.ledger m ORDER BY m.id DESC LIMIT $1
$$;
COMMENT ON FUNCTION pgstock_internal.recent_movements IS
	'returns the latest movements';

CREATE FUNCTION pgstock_internal.activity_of_stock()
RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH recent AS MATERIALIZED (
	SELECT * FROM pgstock_internal.recent_movements(40)
), levels AS (
	SELECT l.product_id, l.location, sum(l.on_hand)::bigint AS on_hand,
		   sum(l.reserved)::bigint AS reserved, sum(l.safety)::bigint AS safety,
		   greatest(0, sum(l.on_hand - l.reserved - l.safety
						   + l.backorder_limit)
						   FILTER (WHERE l.slot >= 0))::bigint AS available,
		   sum(l.version) FILTER (WHERE l.slot >= 0)::bigint AS version
	  FROM pgstock_internal.level l
	 WHERE l.product_id = ANY (ARRAY(SELECT DISTINCT r.product_id
									   FROM recent r))
	 GROUP BY l.product_id, l.location
)
SELECT jsonb_build_object(
	'movement', (SELECT max(r.id) FROM recent r),
	'levels', (SELECT coalesce(jsonb_agg(to_jsonb(l)), '[]') FROM levels l
				WHERE (l.product_id, l.location) IN (
					  SELECT r.product_id, r.location FROM recent r)),
	'orders', (SELECT coalesce(jsonb_agg(jsonb_build_object('order_id',
							o.order_id, 'kind', o.kind,
							'at', pgstock_internal.utc_text(o.at))
						ORDER BY o.id DESC), '[]')
				 FROM (SELECT DISTINCT ON (r.order_id) r.*
						 FROM recent r WHERE r.order_id IS NOT NULL
						ORDER BY r.order_id, r.id DESC) o))
$$;
COMMENT ON FUNCTION pgstock_internal.activity_of_stock IS
	'returns the latest changes of levels and orders, for stock_activity';

CREATE FUNCTION @extschema@.stock_activity()
RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.activity_of_stock() || jsonb_build_object(
	'at', pgstock_internal.utc_text(clock_timestamp()),
	'pending', p.n, 'pending_counted_up_to',
	pgstock_internal.activity_rows_max(),
	'oldest_pending_seconds',
		extract(epoch FROM clock_timestamp() - p.oldest)::float8,
	'leader', (pgstock_internal.leader()).name,
	'held_topics', (SELECT count(*) FROM pgstock_internal.held_topic),
	'failed_waiting', (
		SELECT count(*)
		  FROM (SELECT FROM pgstock_internal.failed_event f
				 WHERE f.state = 'waiting'
				 LIMIT pgstock_internal.activity_rows_max()) w),
	'failed_open', (
		SELECT count(*)
		  FROM (SELECT FROM pgstock_internal.failed_event f
				 WHERE f.archived_at IS NOT NULL AND NOT f.handled
				   AND f.state <> 'discarded'
				 LIMIT pgstock_internal.activity_rows_max()) o),
	'sales', (SELECT coalesce(jsonb_agg(jsonb_build_object(
						 'activity_id', s.activity_id, 'state', s.state,
						 'sold', s.sold, 'remaining', s.remaining)), '[]')
				FROM (SELECT v.* FROM pgstock_internal.flash_sale v
					   WHERE v.closed_at IS NULL
					   ORDER BY v.opened_at DESC LIMIT 100) s))
  FROM pgstock_internal.pending(pgstock_internal.activity_rows_max()) p
$$;
COMMENT ON FUNCTION @extschema@.stock_activity IS
	'returns what has happened last, and what waits: the latest changes of '
	'stock, open sales, events and messages';

/* ---- The report ---------------------------------------------------------- */

CREATE FUNCTION pgstock_internal.report_of_ledger(since timestamptz,
	until timestamptz)
RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH kinds AS MATERIALIZED (
	SELECT date_trunc('day', m.at AT TIME ZONE 'UTC')::date AS day, m.kind,
		   m.product_id, m.order_id,
		   sum(greatest(abs(m.on_hand_delta), abs(m.reserved_delta)))::bigint
			   AS pieces
	  FROM pgstock_internal.ledger m
	 WHERE m.at >= $1 AND m.at < $2
	   /* these only move pieces from one level to another, or none */
	   AND m.kind NOT IN ('opening', 'sale_opened', 'sale_closed', 'moved',
						  'extended')
	 GROUP BY 1, 2, 3, 4
)
SELECT jsonb_build_object(
	'movements', (SELECT coalesce(jsonb_agg(to_jsonb(k) ORDER BY k.kind), '[]')
					FROM (SELECT kind, count(DISTINCT order_id) AS orders,
								 sum(pieces)::bigint AS pieces
							FROM kinds GROUP BY kind) k),
	'days', (SELECT coalesce(jsonb_agg(to_jsonb(d) ORDER BY d.day), '[]')
			   FROM (SELECT day,
							count(DISTINCT order_id)
								FILTER (WHERE kind = 'reserved') AS reserved,
							count(DISTINCT order_id)
								FILTER (WHERE kind = 'confirmed') AS confirmed
					   FROM kinds GROUP BY day) d),
	'products', (SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t.sold DESC,
								t.product_id COLLATE "C"), '[]')
				   FROM (SELECT product_id,
								sum(pieces) FILTER (WHERE kind = 'confirmed')
									::bigint AS sold,
								count(DISTINCT order_id)
									FILTER (WHERE kind = 'confirmed')
									AS orders,
								coalesce(sum(pieces)
									FILTER (WHERE kind = 'returned'), 0)
									::bigint AS returned
						   FROM kinds GROUP BY product_id
						 HAVING bool_or(kind = 'confirmed')
						  ORDER BY 2 DESC, product_id COLLATE "C"
						  LIMIT 20) t))
$$;
COMMENT ON FUNCTION pgstock_internal.report_of_ledger IS
	'returns orders, pieces and the products that sold most in a period, for '
	'stock_report';

CREATE FUNCTION pgstock_internal.report_of_failures(since timestamptz,
	until timestamptz)
RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT jsonb_build_object(
	'failed', (SELECT count(*) FROM pgstock_internal.failed_event f
				WHERE f.first_failed_at >= $1 AND f.first_failed_at < $2),
	'dead_lettered', (SELECT count(*) FROM pgstock_internal.failed_event f
					   WHERE f.archived_at >= $1 AND f.archived_at < $2),
	'open', (SELECT count(*) FROM pgstock_internal.failed_event f
			  WHERE f.archived_at IS NOT NULL AND NOT f.handled
				AND f.state <> 'discarded'),
	'topics', (SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t.messages DESC,
							  t.topic, t.class), '[]')
				 FROM (SELECT f.topic, f.class, count(*) AS messages
						 FROM pgstock_internal.failed_event f
						WHERE f.first_failed_at >= $1
						  AND f.first_failed_at < $2
						GROUP BY f.topic, f.class
						ORDER BY 3 DESC LIMIT 20) t))
$$;
COMMENT ON FUNCTION pgstock_internal.report_of_failures IS
	'returns the messages that failed in a period, for stock_report';

/* The counters are kept for each day, so these are whole days. */
CREATE FUNCTION pgstock_internal.report_of_calls(since timestamptz,
	until timestamptz)
RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
WITH calls AS MATERIALIZED (
	SELECT c.* FROM pgstock_internal.calls_of_days(
		($1 AT TIME ZONE 'UTC')::date,
		(($2 - interval '1 us') AT TIME ZONE 'UTC')::date) c
), functions AS (
	SELECT c.function, sum(c.calls)::bigint AS calls,
		   sum(c.refused)::bigint AS refused, sum(c.failed)::bigint AS failed,
		   sum(c.total_time) / sum(c.calls) AS mean,
		   ARRAY(SELECT sum(b.n)::bigint
				   FROM calls o, unnest(o.buckets) WITH ORDINALITY b (n, i)
				  WHERE o.function = c.function
				  GROUP BY b.i ORDER BY b.i) AS buckets
	  FROM calls c GROUP BY c.function
)
SELECT jsonb_build_object(
	'since', (SELECT pgstock_internal.utc_text(min(c.since)) FROM calls c),
	'functions', (SELECT coalesce(jsonb_agg(jsonb_build_object(
							 'function', f.function, 'calls', f.calls,
							 'refused', f.refused, 'failed', f.failed,
							 'mean_ms', round(f.mean::numeric, 3),
							 'p95_ms', round(pgstock_internal.call_quantile(
										f.buckets, 0.95)::numeric, 3),
							 'p99_ms', round(pgstock_internal.call_quantile(
										f.buckets, 0.99)::numeric, 3))
						 ORDER BY f.calls DESC, f.function COLLATE "C"), '[]')
					FROM functions f),
	'refusals', (SELECT coalesce(jsonb_object_agg(r.status, r.n), '{}')
				   FROM (SELECT e.key AS status, sum(e.value::bigint) AS n
						   FROM calls c, jsonb_each_text(c.refusals) e
						  GROUP BY e.key) r
				  WHERE r.n > 0))
$$;
COMMENT ON FUNCTION pgstock_internal.report_of_calls IS
	'returns refusals and latencies of the days of a period, for stock_report';

CREATE FUNCTION pgstock_internal.report(since timestamptz, until timestamptz)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	/* so that it is the same for all parts */
	upper	timestamptz := coalesce($2, clock_timestamp());
	lower	timestamptz := coalesce($1, upper - interval '7 days');
BEGIN
	IF lower >= upper THEN
		RAISE EXCEPTION 'since must be before until'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Without since, the report is of the seven days '
						 'before until.';
	END IF;
	RETURN jsonb_build_object('since', pgstock_internal.utc_text(lower),
							  'until', pgstock_internal.utc_text(upper))
		   || pgstock_internal.report_of_ledger(lower, upper)
		   || jsonb_build_object(
				'failures', pgstock_internal.report_of_failures(lower, upper),
				'calls', pgstock_internal.report_of_calls(lower, upper));
END
$$;
COMMENT ON FUNCTION pgstock_internal.report IS
	'returns what stock_report returns, with the rights of its caller';

CREATE FUNCTION @extschema@.stock_report(since timestamptz = NULL,
	until timestamptz = NULL)
RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT pgstock_internal.report($1, $2)
$$;
COMMENT ON FUNCTION @extschema@.stock_report IS
	'returns orders, pieces, refusals, failures, latencies and the products '
	'that sold most, as JSON, from since (default: a week before until) to '
	'until (default: now)';

CREATE FUNCTION pgstock_internal.relay_report(since timestamptz,
	until timestamptz)
RETURNS text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT jsonb_pretty(pgstock_internal.report($1, $2))
$$;
COMMENT ON FUNCTION pgstock_internal.relay_report IS
	'returns the report as text, for pgstock-relay report';
