/* ---- Many orders in one call --------------------------------------------- */

/*
 * reserve_orders(): the orders of one shard are one call to that shard, and all
 * shards are called at the same time; each order over several shards is a saga.
 * So the call is not one commit: after an error some of the orders may be
 * reserved, and the same call again returns the answer for each.
 */
CREATE FUNCTION pgstock_front.batch_step(shards int[], calls text[])
RETURNS SETOF text
LANGUAGE plproxy
AS $$
	CLUSTER 'pgstock_shards';
	SPLIT shards, calls;
	RUN ON shards;
	SELECT pgstock_shard.reserve_orders_call(($2)[1]);
$$;
COMMENT ON FUNCTION pgstock_front.batch_step IS
	'calls reserve_orders in the given shards, each with its orders';

/* A malformed order is sent to shard 0, which raises the error. */
CREATE FUNCTION pgstock_front.batch_shards(one jsonb)
RETURNS int[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF jsonb_typeof(one) = 'object' THEN
		RETURN pgstock_front.shards_of_items(one -> 'items');
	END IF;
	RETURN '{0}';
END
$$;
COMMENT ON FUNCTION pgstock_front.batch_shards IS
	'returns the shards of one order of reserve_orders';

/* A different request for the order returns a status, as in one shard. */
CREATE FUNCTION pgstock_front.batch_saga(one jsonb, ttl interval,
	shards int[])
RETURNS SETOF pgstock_front.stock_result
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	trace	text := current_setting('pgstock.trace_id', true);
BEGIN
	IF one ? 'trace_id' THEN
		PERFORM set_config('pgstock.trace_id', one ->> 'trace_id', true);
	END IF;
	RETURN QUERY SELECT r.* FROM unnest(pgstock_front.saga_order(
		one ->> 'order_id', one -> 'items', one ->> 'user_id',
		coalesce((one ->> 'ttl')::interval, ttl), 'auto',
		one ->> 'idempotency_key', false, shards)
		::pgstock_front.stock_result[]) r;
	PERFORM set_config('pgstock.trace_id', coalesce(trace, ''), true);
EXCEPTION WHEN SQLSTATE 'SK007' THEN
	IF one ? 'idempotency_key' THEN
		RAISE;
	END IF;
	RETURN QUERY
	SELECT one ->> 'order_id', l ->> 0, l ->> 1, (l ->> 2)::bigint, 0::bigint,
		   'already', 0::bigint, NULL::timestamptz, 0::bigint, true
	  FROM jsonb_array_elements(pgstock_front.saga_lines(one -> 'items')) l;
END
$$;
COMMENT ON FUNCTION pgstock_front.batch_saga IS
	'reserves one order of reserve_orders that has lines in several shards';

CREATE FUNCTION pgstock_front.batch_take(orders jsonb, ttl interval)
RETURNS SETOF pgstock_front.stock_result
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one		jsonb;
	its		int[];
	n		int;
	shards	int[] := '{}';
	parts	jsonb[] := '{}';
	a		pgstock_front.answer;
	answers	pgstock_front.answer[];
BEGIN
	FOR one IN SELECT jsonb_array_elements(orders) LOOP
		its := pgstock_front.batch_shards(one);
		CONTINUE WHEN cardinality(its) > 1;
		n := array_position(shards, its[1]);
		IF n IS NULL THEN
			shards := shards || its;
			n := cardinality(shards);
			parts[n] := '[]';
		END IF;
		parts[n] := parts[n] || jsonb_build_array(one);
	END LOOP;
	IF shards <> '{}' THEN
		answers := pgstock_front.check_answers(ARRAY(
			SELECT b::pgstock_front.answer
			  FROM pgstock_front.batch_step(shards, ARRAY(
				SELECT ROW(ARRAY[s.shard], pgstock_front.caller(),
					nullif(current_setting('pgstock.trace_id', true), ''),
					pgstock_front.actor(), s.part, ttl)::text
				  FROM unnest(shards, parts) WITH ORDINALITY
					   s (shard, part, n)
				 ORDER BY s.n)) b));
		FOREACH a IN ARRAY answers LOOP
			RETURN QUERY SELECT r.*
						   FROM unnest(a.rows::pgstock_front.stock_result[]) r;
		END LOOP;
	END IF;
	FOR one IN SELECT jsonb_array_elements(orders) LOOP
		its := pgstock_front.batch_shards(one);
		IF cardinality(its) > 1 THEN
			RETURN QUERY SELECT * FROM pgstock_front.batch_saga(one, ttl, its);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION pgstock_front.batch_take IS
	'reserves the orders of reserve_orders; returns the rows shard by shard';

/*
 * The rows are sorted by the position of their order, as in one shard.
 *
 * The errors are those of functions.sql without connection_exception: an order
 * over shards raises that itself, with its own detail and hint.
 */
CREATE FUNCTION @extschema@.reserve_orders(orders jsonb,
	ttl interval DEFAULT NULL)
RETURNS SETOF pgstock_front.stock_result
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ids		text[];
BEGIN
	PERFORM pgstock_front.begin_call('reserve_orders');
	BEGIN
		IF jsonb_typeof(orders) IS DISTINCT FROM 'array'
			OR jsonb_array_length(orders) = 0 THEN
			/* shard 0 raises the error */
			PERFORM pgstock_front.check_answers(ARRAY(
				SELECT a::pgstock_front.answer
				  FROM pgstock_front.reserve_orders('{0}',
					pgstock_front.caller(), NULL, NULL, orders, ttl) a));
		END IF;
		ids := ARRAY(SELECT o.one ->> 'order_id'
					   FROM jsonb_array_elements(orders)
							WITH ORDINALITY o (one, n)
					  ORDER BY o.n);
		RETURN QUERY SELECT r.* FROM pgstock_front.batch_take(orders, ttl) r
					  ORDER BY array_position(ids, r.order_id),
							   r.product_id COLLATE "C",
							   r.location COLLATE "C";
	EXCEPTION WHEN internal_error OR undefined_function OR undefined_object
		OR invalid_schema_name OR admin_shutdown OR crash_shutdown
		OR cannot_connect_now THEN
		PERFORM pgstock_front.call_failed('reserve_orders', SQLSTATE, SQLERRM);
	END;
END
$$;
COMMENT ON FUNCTION @extschema@.reserve_orders IS
	'calls reserve_orders of pgstock in the shards of each order';
SELECT pgstock_front.make_shard_calls('reserve_orders', '{jsonb,interval}');
