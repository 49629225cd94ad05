/* ---- Which shard --------------------------------------------------------- */

/*
 * pgstock_front.set_shards() creates three more functions, from the expressions
 * of the key: line_shard(product_id, location), product_shard(product_id) and
 * order_shard(order_id).  The last two return NULL if their argument does not
 * determine the shard.  They are not members of the extension, so that a dump
 * contains them.
 */
CREATE FUNCTION pgstock_front.shard_count()
RETURNS int
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT count(*)::int
  FROM pg_foreign_server s, unnest(s.srvoptions) o
 WHERE s.srvname = 'pgstock_shards' AND o ~ '^p[0-9]+='
$$;
COMMENT ON FUNCTION pgstock_front.shard_count IS
	'returns the number of shards, 0 before pgstock_front.set_shards()';

CREATE FUNCTION pgstock_front.all_shards()
RETURNS int[]
LANGUAGE plpgsql STABLE
AS $$
DECLARE
	n	int := pgstock_front.shard_count();
BEGIN
	IF n = 0 THEN
		RAISE EXCEPTION 'no shards are configured'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'Call pgstock_front.set_shards() first.';
	END IF;
	RETURN ARRAY(SELECT generate_series(0, n - 1));
END
$$;
COMMENT ON FUNCTION pgstock_front.all_shards IS
	'returns the numbers of all shards';

/* If the key is NULL, shard 0 raises the error of the call. */
CREATE FUNCTION pgstock_front.shards_of_line(product_id text, location text)
RETURNS int[]
LANGUAGE sql IMMUTABLE
AS $$
SELECT ARRAY[coalesce(pgstock_front.line_shard($1, coalesce($2, 'main')), 0)]
$$;
COMMENT ON FUNCTION pgstock_front.shards_of_line IS
	'returns the shard of a product at a location';

CREATE FUNCTION pgstock_front.shards_of_product(product_id text)
RETURNS int[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shard	int := pgstock_front.product_shard($1);
BEGIN
	RETURN CASE WHEN shard IS NULL THEN pgstock_front.all_shards()
				ELSE ARRAY[shard] END;
END
$$;
COMMENT ON FUNCTION pgstock_front.shards_of_product IS
	'returns the shards that may have levels of a product, or all for NULL';

CREATE FUNCTION pgstock_front.shards_of_move(product_id text,
	from_location text, to_location text)
RETURNS int[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	source	int[] := pgstock_front.shards_of_line($1, $2);
BEGIN
	IF source <> pgstock_front.shards_of_line($1, $3) THEN
		RAISE EXCEPTION 'cannot move stock between shards'
			USING ERRCODE = 'feature_not_supported',
				  DETAIL = format('Locations "%s" and "%s" of product "%s" '
								  'are in different shards.', $2, $3, $1),
				  HINT = 'Take it out of one with adjust_stock, then add it '
						 'to the other with receive_stock.';
	END IF;
	RETURN source;
END
$$;
COMMENT ON FUNCTION pgstock_front.shards_of_move IS
	'returns the shard of two locations of a product; 0A000 if they are in two';

/* A malformed element has no shard; that of another element rejects it. */
CREATE FUNCTION pgstock_front.places_of_items(items jsonb)
RETURNS int[]
LANGUAGE plpgsql STABLE
AS $$
DECLARE
	places	int[] := '{}';
BEGIN
	IF jsonb_typeof($1) = 'array' THEN
		FOR i IN 0 .. jsonb_array_length($1) - 1 LOOP
			places := places || coalesce(pgstock_front.line_shard(
				$1 -> i ->> 'product_id',
				coalesce($1 -> i ->> 'location', 'main')), -1);
		END LOOP;
	END IF;
	RETURN places;
END
$$;
COMMENT ON FUNCTION pgstock_front.places_of_items IS
	'returns the shard of each line of an order; -1: it has none';

CREATE FUNCTION pgstock_front.distinct_shards(places int[])
RETURNS int[]
AS 'MODULE_PATHNAME', 'pgstock_front_distinct' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION pgstock_front.distinct_shards IS
	'returns each shard once, or shard 0 if there is none';

CREATE FUNCTION pgstock_front.shards_of_items(items jsonb)
RETURNS int[]
LANGUAGE sql STABLE
RETURN pgstock_front.distinct_shards(pgstock_front.places_of_items($1));
COMMENT ON FUNCTION pgstock_front.shards_of_items IS
	'returns the shards of the lines of an order';

/*
 * A call is one text: a shard parses and plans each call again, and each
 * argument adds to the cost.  A time is written as in JSON, because the
 * session's DateStyle may not be the shard's.
 */
CREATE FUNCTION pgstock_front.call_text(columns text[], types text[])
RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('ROW(%s)::pg_catalog.text', string_agg(
		format(CASE WHEN c.type LIKE 'timestamp%'
					THEN 'pg_catalog.to_json(%s) #>> ''{}''' ELSE '%s' END,
			   c.name), ', ' ORDER BY c.n))
  FROM unnest(columns, types) WITH ORDINALITY c (name, type, n)
$$;
COMMENT ON FUNCTION pgstock_front.call_text IS
	'returns the SQL expression of a call, from its columns and their types';

/*
 * The PL/Proxy functions: for each function of the shard (front/shard.sql), one
 * that calls it in all given shards at the same time, and one for a single
 * shard, which is cheaper.  An answer is one text, as a call is.
 *
 * Sessions keep the oid of the function for a single shard: an upgrade script
 * replaces that function, and does not drop it.
 *
 * The function with the arguments themselves makes the call.  It is STABLE so
 * that it is inlined; what it calls is not, so it runs once in FROM.
 */
CREATE FUNCTION pgstock_front.make_shard_calls(name text, types text[])
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	own		text := format('pgstock_front.%I(%s)', name, array_to_string(
						   '{int[],text,text,text}' || types, ', '));
	proxy	text := format('pgstock_front.%I', name || '_call');
	proxy_one text := format('pgstock_front.%I', name || '_one');
BEGIN
	EXECUTE format($f$
CREATE FUNCTION %s(int[], text)
RETURNS SETOF text
LANGUAGE plproxy
AS $body$
	CLUSTER 'pgstock_shards';
	RUN ON pg_catalog.unnest($1);
	SELECT pgstock_shard.%I($2);
$body$
$f$, proxy, name || '_call');
	EXECUTE format('COMMENT ON FUNCTION %s(int[], text) IS %L', proxy,
		'calls pgstock_shard.' || name || '_call in the given shards; returns '
		'the answer (pgstock_front.answer) of each');
	EXECUTE format($f$
CREATE FUNCTION %s(shard int, call text)
RETURNS text
LANGUAGE plproxy
AS $body$
	CLUSTER 'pgstock_shards';
	RUN ON shard;
	SELECT pgstock_shard.%I($2);
$body$
$f$, proxy_one, name || '_call');
	EXECUTE format('COMMENT ON FUNCTION %s(int, text) IS %L', proxy_one,
		'calls pgstock_shard.' || name || '_call in one shard; returns its '
		'answer (pgstock_front.answer)');
	EXECUTE format($f$
CREATE FUNCTION %s
RETURNS SETOF text
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT * FROM %s($1, %s);
END
$f$, own, proxy, pgstock_front.call_text(
		ARRAY(SELECT '$' || n
				FROM generate_series(1, cardinality(types) + 4) n),
		'{int[],text,text,text}' || types));
	EXECUTE format('COMMENT ON FUNCTION %s IS %L', own,
		'calls ' || name || ' in shards; arguments: shard numbers, role, '
		'trace, actor, those of ' || name);
END
$$;
COMMENT ON FUNCTION pgstock_front.make_shard_calls IS
	'creates the functions that call the function of that name in shards';
SELECT pgstock_front.make_shard_calls('has_order', '{text}');

CREATE TYPE pgstock_front.order_place AS
(
	saga		bigint,
	live		boolean,
	shards		int[]
);
COMMENT ON TYPE pgstock_front.order_place IS
	'where an order is, as a shard reports it (pgstock_shard.order_place)';

/*
 * An order that expired may have been reserved again over other shards.  Lines
 * that its earlier reservation left in a shard do not belong to it any more.
 */
CREATE FUNCTION pgstock_front.order_shards(answers pgstock_front.answer[])
RETURNS int[]
LANGUAGE sql IMMUTABLE
AS $$
WITH places AS MATERIALIZED (
	SELECT a.shard, a.rows[1]::pgstock_front.order_place AS place
	  FROM unnest(answers) a
)
SELECT array_agg(DISTINCT s.shard ORDER BY s.shard)
  FROM places p,
	   unnest(CASE WHEN (p.place).saga IS NULL OR (p.place).saga = (
						SELECT max((q.place).saga) FROM places q)
				   THEN (p.place).shards
				   WHEN (p.place).live THEN ARRAY[p.shard] END) s (shard)
$$;
COMMENT ON FUNCTION pgstock_front.order_shards IS
	'returns the shards of an order, from the reports of shards; NULL: none';

/*
 * A shard that has a part of an order over shards knows all shards of the
 * order, so it does not matter whether the others respond.
 */
CREATE FUNCTION pgstock_front.order_parts(order_id text)
RETURNS int[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answers	pgstock_front.answer[] := '{}';
	shards	int[];
BEGIN
	FOR shard IN 0 .. pgstock_front.shard_count() - 1 LOOP
		BEGIN
			answers := answers || ARRAY(
				SELECT a::pgstock_front.answer
				  FROM pgstock_front.has_order(ARRAY[shard], NULL, NULL, NULL,
											   $1) a);
		EXCEPTION WHEN internal_error OR admin_shutdown OR crash_shutdown
			OR cannot_connect_now OR connection_exception THEN
			CONTINUE;
		END;
	END LOOP;
	shards := pgstock_front.order_shards(answers);
	RETURN CASE WHEN cardinality(shards) > 1 THEN shards END;
END
$$;
COMMENT ON FUNCTION pgstock_front.order_parts IS
	'returns the shards of an order over several shards, from those that '
	'respond; NULL if none of them has a part of it';

/*
 * If an order's id does not determine its shard, all shards are queried for it
 * at the same time.  If none has it, the call goes to the shard of its id,
 * which raises the error.
 */
CREATE FUNCTION pgstock_front.shards_of_order(order_id text)
RETURNS int[]
LANGUAGE plpgsql
AS $$
DECLARE
	shard	int := pgstock_front.order_shard($1);
	shards	int[];
BEGIN
	IF shard IS NOT NULL THEN
		RETURN ARRAY[shard];
	END IF;
	shards := pgstock_front.all_shards();
	BEGIN
		shards := pgstock_front.order_shards(pgstock_front.check_answers(ARRAY(
			SELECT a::pgstock_front.answer
			  FROM pgstock_front.has_order(shards, NULL, NULL, NULL, $1) a)));
	EXCEPTION WHEN internal_error OR admin_shutdown OR crash_shutdown
		OR cannot_connect_now OR connection_exception THEN
		shards := pgstock_front.order_parts($1);
		IF shards IS NULL THEN
			RAISE;
		END IF;
	END;
	RETURN coalesce(shards, pgstock_front.shards_of_key($1));
END
$$;
COMMENT ON FUNCTION pgstock_front.shards_of_order IS
	'returns the shards that have an order; if none has it, that of its id';

CREATE FUNCTION pgstock_front.shards_of_key(key text)
RETURNS int[]
LANGUAGE plpgsql STABLE
AS $$
BEGIN
	RETURN ARRAY[coalesce(pgstock_front.order_shard($1),
		pgstock_front.shard_of($1, pgstock_front.shard_count()), 0)];
END
$$;
COMMENT ON FUNCTION pgstock_front.shards_of_key IS
	'returns the shard that publishes the events of a key';

CREATE FUNCTION pgstock_front.shards_of_event(event_id uuid)
RETURNS int[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shards	int[] := pgstock_front.all_shards();
BEGIN
	SELECT array_agg(a.shard) INTO shards
	  FROM unnest(pgstock_front.check_answers(ARRAY(
			SELECT a::pgstock_front.answer
			  FROM pgstock_front.event_status(shards, NULL, NULL, NULL,
											  $1) a))) AS a
	 WHERE (a.rows[1]::pgstock_front.event_receipt).state <> 'unknown';
	RETURN coalesce(shards, '{0}');
END
$$;
COMMENT ON FUNCTION pgstock_front.shards_of_event IS
	'returns the shard whose outbox has an event; if none has it, shard 0';
