/* ---- The views ----------------------------------------------------------- */

/*
 * They use postgres_fdw, which passes conditions on to the shards; PL/Proxy
 * functions cannot.  Each view is the union of one foreign table for each
 * shard, and reads with its owner's rights.
 *
 * name, columns: as pgstock has them; levels: as in call_list().  A test
 * compares the list with pgstock's catalog.
 */
CREATE FUNCTION pgstock_front.view_list()
RETURNS TABLE (name text, columns text, levels text[])
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $list$
VALUES
	('stock_levels', $$product_id text, location text, on_hand bigint,
		reserved bigint, safety bigint, available bigint, version bigint$$,
		'{reader,app}'::text[]),
	('stock_reservations', $$order_id text, product_id text, location text,
		quantity bigint, user_id text, state text, created_at timestamptz,
		expires_at timestamptz, ended_at timestamptz, reason text,
		payment_id text$$, '{reader,app}'),
	('stock_movements', $$id bigint, at timestamptz, kind text,
		product_id text, location text, on_hand_delta bigint,
		reserved_delta bigint, order_id text, actor text, reason text,
		reference text, event_id uuid$$, '{reader}'),
	('stock_outbox', $$seq bigint, event_id uuid, topic text, key text,
		event_type text, payload jsonb, headers jsonb,
		created_at timestamptz$$, '{reader}'),
	('stock_inbox', $$topic text, partition int, "offset" bigint,
		event_id text, key text, order_id text, result text, reason text,
		trace_id text, received_at timestamptz, source text$$, '{reader}'),
	('stock_failed_events', $$id bigint, topic text, event_id text, key text,
		order_id text, attempts int, next_retry_at timestamptz, state text,
		error text, first_failed_at timestamptz, payload text$$, '{reader}'),
	('failed_order_archives', $$id bigint, order_id text, topic text,
		event_id text, reason text, attempts int, payload text, trace_id text,
		archived_at timestamptz, handled boolean, handled_at timestamptz,
		handled_by text$$, '{reader}'),
	('stock_admin_actions', $$at timestamptz, actor text, action text,
		target text, reason text$$, '{reader}'),
	('stock_sales', $$activity_id text, product_id text, location text,
		quantity bigint, per_user_limit bigint, state text, sold bigint,
		remaining bigint, starts_at timestamptz, ends_at timestamptz,
		opened_at timestamptz, closed_at timestamptz$$, '{reader}'),
	('stock_orders', $$order_id text, attempt int, state text, user_id text,
		created_at timestamptz, expires_at timestamptz,
		confirmed_at timestamptz, ended_at timestamptz, lines bigint,
		quantity bigint, reason text, payment_id text$$, '{reader}'),
	('stock_hanging_orders', $$order_id text, kind text, since timestamptz,
		expires_at timestamptz, topic text, event_id text, reason text$$,
		'{reader}'),
	('stock_handlers', $$topic text, event_type text, handler text,
		role text$$, '{reader}'),
	('stock_bindings', $$topic text, event_type text, handler text, role text,
		fields jsonb, options jsonb$$, '{reader}'),
	('stock_event_formats', $$event_type text, topic text, name text,
		members text$$, '{reader}'),
	('stock_statistics', $$function text, calls bigint, refused bigint,
		failed bigint, refusals jsonb, total_time double precision,
		mean_time double precision, p95_time double precision,
		p99_time double precision, stats_since timestamptz$$, '{reader}')
$list$;
COMMENT ON FUNCTION pgstock_front.view_list IS
	'returns the views of the front, their columns, and the levels that may '
	'read them';

/*
 * One row for each order, however many shards it is in.  Its state is that of
 * the shard in which it is furthest from its end, as pgstock does for lines.
 */
CREATE FUNCTION pgstock_front.whole_orders(parts text)
RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $make$
SELECT format($f$
SELECT o.order_id, max(o.attempt) AS attempt, (ARRAY['reserved', 'confirmed',
	   'shortfall', 'returned', 'rolled_back', 'released', 'expired'])[min(
			array_position(ARRAY['reserved', 'confirmed', 'shortfall',
			'returned', 'rolled_back', 'released', 'expired'], o.state))]
	   AS state, max(o.user_id) AS user_id, min(o.created_at) AS created_at,
	   min(o.expires_at) AS expires_at, max(o.confirmed_at) AS confirmed_at,
	   CASE WHEN count(o.ended_at) = count(*) THEN max(o.ended_at) END
	   AS ended_at, sum(o.lines)::int AS lines,
	   sum(o.quantity)::bigint AS quantity,
	   (array_agg(o.reason ORDER BY o.ended_at DESC NULLS LAST)
		FILTER (WHERE o.reason IS NOT NULL))[1] AS reason,
	   max(o.payment_id) AS payment_id,
	   CASE WHEN count(*) = 1 THEN min(o.shard) END AS shard
  FROM (%s) o GROUP BY o.order_id$f$, parts)
$make$;
COMMENT ON FUNCTION pgstock_front.whole_orders IS
	'returns the query of stock_orders, given the query of all shards'' rows';

/*
 * One row for each flash sale.  It is open as long as it is in one shard, and
 * sold out if it is in all of them.  Pieces on the way to a shard are in none.
 */
CREATE FUNCTION pgstock_front.whole_sales(parts text)
RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $make$
SELECT format($f$
SELECT s.activity_id, min(s.product_id) AS product_id,
	   min(s.location) AS location, sum(s.quantity)::bigint AS quantity,
	   min(s.per_user_limit) AS per_user_limit, (ARRAY['open', 'sold_out',
	   'scheduled', 'ended', 'closed'])[min(array_position(ARRAY['open',
			'sold_out', 'scheduled', 'ended', 'closed'], s.state))] AS state,
	   CASE WHEN count(s.sold) = count(*) THEN sum(s.sold)::bigint END AS sold,
	   CASE WHEN count(s.remaining) = count(*) THEN sum(s.remaining)::bigint
			END AS remaining,
	   min(s.starts_at) AS starts_at, min(s.ends_at) AS ends_at,
	   min(s.opened_at) AS opened_at,
	   CASE WHEN count(s.closed_at) = count(*) THEN max(s.closed_at) END
	   AS closed_at, CASE WHEN count(*) = 1 THEN min(s.shard) END AS shard
  FROM (%s) s GROUP BY s.activity_id$f$, parts)
$make$;
COMMENT ON FUNCTION pgstock_front.whole_sales IS
	'returns the query of stock_sales, given the query of all shards'' rows';

CREATE FUNCTION pgstock_front.make_view(name text, columns text, shards int)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	names	text;
	parts	text;
BEGIN
	FOR i IN 0 .. shards - 1 LOOP
		EXECUTE format('CREATE FOREIGN TABLE pgstock_front.%I (%s) '
					   'SERVER pgstock_shard_%s OPTIONS '
					   '(schema_name ''pgstock_shard'', table_name %L)',
					   name || '_' || i, columns, i, name);
	END LOOP;
	/* ids by which functions of the front find the shard: see failed.sql */
	SELECT string_agg(CASE WHEN a.attname = 'id' AND name IN (
						   'stock_failed_events', 'failed_order_archives')
						   THEN format('id * %s + %%1$s AS id', shards)
						   ELSE quote_ident(a.attname) END, ', '
					  ORDER BY a.attnum)
	  INTO names
	  FROM pg_attribute a
	 WHERE a.attrelid = format('pgstock_front.%I', name || '_0')::regclass
	   AND a.attnum > 0;
	SELECT string_agg(format('SELECT ' || names || ', %1$s AS shard '
							 'FROM pgstock_front.%2$I', i, name || '_' || i),
					  ' UNION ALL ' ORDER BY i)
	  INTO parts
	  FROM generate_series(0, shards - 1) i;
	IF name = 'stock_orders' THEN
		parts := pgstock_front.whole_orders(parts);
	ELSIF name = 'stock_sales' THEN
		parts := pgstock_front.whole_sales(parts);
	END IF;
	EXECUTE format('CREATE VIEW @extschema@.%I AS %s', name, parts);
	EXECUTE format('COMMENT ON VIEW @extschema@.%I IS %L', name,
				   name || ' of all shards; shard: number of the shard');
END
$$;
COMMENT ON FUNCTION pgstock_front.make_view IS
	'creates a view of all shards, and its foreign tables';

CREATE FUNCTION pgstock_front.set_servers(shards jsonb)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	is_new	boolean := to_regclass('pgstock_front.stock_levels_0') IS NULL;
	s		record;
	options	text;
BEGIN
	FOR s IN SELECT format('pgstock_shard_%s', e.n - 1) AS server, e.value
			   FROM jsonb_array_elements(shards) WITH ORDINALITY e (value, n)
	LOOP
		IF NOT is_new THEN
			SELECT string_agg('DROP ' || quote_ident(o.option_name), ', ')
			  INTO options
			  FROM pg_foreign_server f, pg_options_to_table(f.srvoptions) o
			 WHERE f.srvname = s.server;
			EXECUTE format('ALTER SERVER %I OPTIONS (%s)', s.server, options);
		ELSE
			EXECUTE format('CREATE SERVER %I FOREIGN DATA WRAPPER postgres_fdw',
						   s.server);
		END IF;
		SELECT string_agg(format('ADD %I %L', o.key, o.value), ', ')
		  INTO options
		  FROM jsonb_each_text(pgstock_front.timeouts()
							   || (s.value - 'pooler')
							   || '{"async_capable": "true"}') o;
		EXECUTE format('ALTER SERVER %I OPTIONS (%s)', s.server, options);
	END LOOP;
	IF is_new THEN
		PERFORM pgstock_front.make_view(v.name, v.columns,
										jsonb_array_length(shards))
		   FROM pgstock_front.view_list() v;
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_front.set_servers IS
	'creates the servers and views by which postgres_fdw reads the shards, or '
	'sets the connection parameters of the servers';

/* ---- State of the shards ------------------------------------------------- */

CREATE TYPE pgstock_front.shard_info AS
(
	shard		int,
	shards		int,
	database	text,
	pgstock		text,
	pgstock_shard text,
	standby		boolean,
	key			text[]
);
COMMENT ON TYPE pgstock_front.shard_info IS
	'what a shard reports about itself: see pgstock_shard.about';
SELECT pgstock_front.make_shard_calls('about', '{}');

CREATE FUNCTION pgstock_front.shard_status()
RETURNS TABLE (shard int, database text, pgstock text, pgstock_shard text,
	error text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	a		pgstock_front.answer;
	info	pgstock_front.shard_info;
	own		text := (SELECT extversion FROM pg_extension
					  WHERE extname = 'pgstock_front');
BEGIN
	FOREACH shard IN ARRAY pgstock_front.all_shards() LOOP
		info := NULL;
		BEGIN
			a := pgstock_front.about(ARRAY[shard], NULL, NULL, NULL);
			info := a.rows[1]::pgstock_front.shard_info;
			error := CASE
				WHEN a.error IS NOT NULL
				THEN concat_ws(': ', (a.error::pgstock_front.failure).message,
							   (a.error::pgstock_front.failure).detail)
				WHEN info.shards <> pgstock_front.shard_count()
				THEN format('it is one of %s shards', info.shards)
				WHEN info.pgstock_shard <> own
				THEN format('pgstock_front is version %s', own)
				WHEN info.standby THEN 'it is a standby'
				WHEN info.key IS DISTINCT FROM pgstock_front.own_key()
				THEN format('its key is %s, that of the front is %s', coalesce(
							pgstock_front.key_text(info.key), 'not set'),
							pgstock_front.key_text(pgstock_front.own_key()))
				END;
		EXCEPTION WHEN OTHERS THEN
			error := SQLERRM;
		END;
		database := info.database;
		pgstock := info.pgstock;
		pgstock_shard := info.pgstock_shard;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION pgstock_front.shard_status IS
	'returns database and versions of each shard, and what is wrong with it';
