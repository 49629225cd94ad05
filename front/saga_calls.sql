/* ---- Calls to the coordinator, and to an order's parts ------------------- */

/* The PL/Proxy functions ask_... call the functions of saga_table.sql. */
CREATE FUNCTION pgstock_front.make_ask(function regproc)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name	text := (SELECT proname FROM pg_proc WHERE oid = function);
	ask		text := replace(name, 'saga_', 'ask_');
BEGIN
	EXECUTE format($f$
CREATE FUNCTION pgstock_front.%I(%s) RETURNS %s
LANGUAGE plproxy
AS $body$
	CLUSTER 'pgstock_coordinator';
	RUN ON 0;
	TARGET pgstock_front.%I;
$body$
$f$, ask, pg_get_function_arguments(function),
		pg_get_function_result(function), name);
	EXECUTE format('COMMENT ON FUNCTION pgstock_front.%I IS %L', ask,
				   'calls ' || name || ' in the coordinator');
END
$$;
COMMENT ON FUNCTION pgstock_front.make_ask IS
	'creates the function that calls one in the coordinator''s database';

SELECT pgstock_front.make_ask(('pgstock_front.saga_' || f)::regproc)
  FROM unnest('{reserve,settle,follow,end,note,due,purge,list,abandon}'::text[])
	   f;

CREATE FUNCTION pgstock_front.has_coordinator()
RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM pg_foreign_server s
				WHERE s.srvname = 'pgstock_coordinator')
$$;
COMMENT ON FUNCTION pgstock_front.has_coordinator IS
	'returns whether pgstock_front.set_coordinator() was called';

CREATE FUNCTION pgstock_front.saga_check_coordinator(order_id text,
	shards int[])
RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	/* its other calls would reach the shard of its id only */
	IF pgstock_front.order_shard($1) IS NOT NULL THEN
		RAISE EXCEPTION 'order "%" has lines in more than one shard', $1
			USING ERRCODE = 'feature_not_supported',
				  DETAIL = format('Its lines are in the shards %s, but shard '
								  '%s is named by its id.',
								  array_to_string(shards, ', '),
								  pgstock_front.order_shard($1)),
				  HINT = 'Split the order, or choose a key for lines and '
						 'orders that no order crosses.';
	END IF;
	IF NOT pgstock_front.has_coordinator() THEN
		RAISE EXCEPTION 'order "%" has lines in more than one shard', $1
			USING ERRCODE = 'feature_not_supported',
				  DETAIL = format('Its lines are in the shards %s.',
								  array_to_string(shards, ', ')),
				  HINT = 'Name a database for orders over shards with '
						 'pgstock_front.set_coordinator(), or choose a key '
						 'that no order crosses.';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_check_coordinator IS
	'raises 0A000 for an order over shards if there is no coordinator, or if '
	'its id names one shard';

CREATE FUNCTION pgstock_front.part_step(shards int[], parts jsonb[],
	role text, trace text, actor text, order_id text, saga bigint, step int,
	order_shards int[], verb text, args jsonb)
RETURNS SETOF text
LANGUAGE plproxy
AS $$
	CLUSTER 'pgstock_shards';
	SPLIT shards, parts;
	RUN ON shards;
	SELECT pgstock_shard.part_step($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
								   $11);
$$;
COMMENT ON FUNCTION pgstock_front.part_step IS
	'calls part_step in the given shards, each with its part';

SELECT pgstock_front.route('part_look', '{text}');
SELECT pgstock_front.route('part_kept', '{text,bigint,int}');
SELECT pgstock_front.route('part_past', '{text,bigint,int}');
SELECT pgstock_front.route('part_key', '{text}');
SELECT pgstock_front.route('part_purge', '{timestamptz}');
