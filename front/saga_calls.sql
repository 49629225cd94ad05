/* ---- Calls to the coordinator, and to an order's parts ------------------- */

/*
 * The functions ask_... call the functions of saga_table.sql.  A saga is
 * transferred as one text, and so are the arguments of the two calls that each
 * order makes: the coordinator parses and plans each call again, and each
 * column adds to the cost.
 */
CREATE FUNCTION pgstock_front.make_ask(function regproc)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name	text := (SELECT proname FROM pg_proc WHERE oid = function);
	ask		text := replace(name, 'saga_', 'ask_');
	args	text := pg_get_function_arguments(function);
	result	text := pg_get_function_result(function);
	numbers	text := (SELECT string_agg('$' || n, ', ' ORDER BY n)
					   FROM pg_proc p, generate_series(1, p.pronargs) n
					  WHERE p.oid = function);
	proxy	text := ask;
	body	text := format('SELECT pgstock_front.%I(%s)', name, numbers);
	is_set	boolean := result LIKE 'SETOF %';
BEGIN
	IF result LIKE '%pgstock\_front.turn' THEN
		result := CASE WHEN is_set THEN 'SETOF text' ELSE 'text' END;
		proxy := ask || '_text';
	ELSIF is_set THEN
		body := 'TARGET pgstock_front.' || name;	/* several columns */
	END IF;
	EXECUTE format($f$
CREATE FUNCTION pgstock_front.%I(%s) RETURNS %s
LANGUAGE plproxy
AS $body$
	CLUSTER 'pgstock_coordinator';
	RUN ON 0;
	%s;
$body$
$f$, proxy, args, result, body);
	EXECUTE format('COMMENT ON FUNCTION pgstock_front.%I IS %L', proxy,
				   'calls ' || name || ' in the coordinator');
	IF proxy <> ask THEN
		EXECUTE format(CASE WHEN is_set THEN $f$
CREATE FUNCTION pgstock_front.%I(%s) RETURNS SETOF pgstock_front.turn
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT t.*
	  FROM pgstock_front.%I(%s) a, unnest(ARRAY[a]::pgstock_front.turn[]) t;
END
$f$ ELSE $f$
CREATE FUNCTION pgstock_front.%I(%s) RETURNS pgstock_front.turn
LANGUAGE sql VOLATILE
RETURN pgstock_front.%I(%s)::pgstock_front.turn
$f$ END, ask, args, proxy, numbers);
		EXECUTE format('COMMENT ON FUNCTION pgstock_front.%I IS %L', ask,
					   'calls ' || name || ' in the coordinator');
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_front.make_ask IS
	'creates the function that calls one in the coordinator''s database';

SELECT pgstock_front.make_ask(('pgstock_front.saga_' || f)::regproc)
  FROM unnest('{reserve_call,settle,follow,end_call,note,due,purge,list,
		abandon}'::text[]) f;

CREATE FUNCTION pgstock_front.ask_reserve(order_id text, step_shards int[],
	places int[], request jsonb, args jsonb, idempotency_key text,
	replaces bigint)
RETURNS pgstock_front.turn
LANGUAGE sql VOLATILE
RETURN pgstock_front.ask_reserve_call(
	ROW($1, $2, $3, $4, $5, $6, $7)::pg_catalog.text)::pgstock_front.turn;
COMMENT ON FUNCTION pgstock_front.ask_reserve IS
	'calls saga_reserve_call in the coordinator';

CREATE FUNCTION pgstock_front.ask_end(order_id text, saga bigint, step int,
	state text, answer text[])
RETURNS boolean
LANGUAGE sql VOLATILE
RETURN pgstock_front.ask_end_call(ROW($1, $2, $3, $4, $5)::pg_catalog.text);
COMMENT ON FUNCTION pgstock_front.ask_end IS
	'calls saga_end_call in the coordinator';

CREATE FUNCTION pgstock_front.has_coordinator()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgstock_front_has_coordinator' LANGUAGE C STABLE;
COMMENT ON FUNCTION pgstock_front.has_coordinator IS
	'returns whether pgstock_front.set_coordinator() was called';

CREATE FUNCTION pgstock_front.saga_check_coordinator(order_id text,
	shards int[])
RETURNS void
LANGUAGE plpgsql STABLE
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
				  HINT = 'Split the order, or choose keys by which all lines '
						 'of an order are in one shard.';
	END IF;
	IF NOT pgstock_front.has_coordinator() THEN
		RAISE EXCEPTION 'order "%" has lines in more than one shard', $1
			USING ERRCODE = 'feature_not_supported',
				  DETAIL = format('Its lines are in the shards %s.',
								  array_to_string(shards, ', ')),
				  HINT = 'Name a database for orders over shards with '
						 'pgstock_front.set_coordinator(), or choose a key '
						 'by which all lines of an order are in one shard.';
	END IF;
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_check_coordinator IS
	'raises 0A000 for an order over shards if there is no coordinator, or if '
	'its id names one shard';

CREATE FUNCTION pgstock_front.saga_check_wait(order_id text,
	since timestamptz)
RETURNS timestamptz
LANGUAGE plpgsql
AS $$
DECLARE
	waits	interval := pgstock_front.longest_wait();
BEGIN
	IF clock_timestamp() > since + waits THEN
		PERFORM pgstock_front.raise('40001',
			format('could not begin a step of order "%s" in time', order_id),
			format('For %s seconds, steps of other sessions were under way.',
				   round(extract(epoch FROM waits), 1)),
			'Nothing was done. Repeat the call; stock_sagas shows the step '
			'that is under way.');
	END IF;
	RETURN coalesce(since, clock_timestamp());
END
$$;
COMMENT ON FUNCTION pgstock_front.saga_check_wait IS
	'returns the time since which a call has waited for other sessions, now if '
	'that is NULL; raises 40001 if it has waited too long';

CREATE FUNCTION pgstock_front.part_step(shards int[], calls text[])
RETURNS SETOF text
LANGUAGE plproxy
AS $$
	CLUSTER 'pgstock_shards';
	SPLIT shards, calls;
	RUN ON shards;
	SELECT pgstock_shard.part_step_call(($2)[1]);
$$;
COMMENT ON FUNCTION pgstock_front.part_step IS
	'calls part_step_call in the given shards, each with its call';

SELECT pgstock_front.make_shard_calls('part_look', '{text}');
SELECT pgstock_front.make_shard_calls('part_kept', '{text,bigint,int}');
SELECT pgstock_front.make_shard_calls('part_past', '{text,bigint,int}');
SELECT pgstock_front.make_shard_calls('part_key', '{text}');
SELECT pgstock_front.make_shard_calls('part_purge', '{timestamptz}');
